//! GGUF files in, Hugging Face directories out: weights as 32-bit floats, with tokenizer and chat template.
//!
//! ```no_run
//! use irepair_gguf::{Conversion, GgufFile};
//!
//! let file = GgufFile::open("SmolLM2-135M-Instruct.Q4_1.gguf".as_ref())?;
//! for (name, tensor) in file.tensors().iter().take(3) {
//!     println!("{name} {} {:?}", tensor.kind, tensor.shape);
//! }
//! let conversion = Conversion::plan(&file)?;
//! conversion.write("smollm2".as_ref(), &mut |tensor| println!("{tensor}"))?;
//! # Ok::<(), irepair_gguf::Error>(())
//! ```
//!
//! Invariants: values equal those of the Python package `gguf` bit for bit; metadata and tensors that would change the
//! model and are not understood are refused by name; a directory with a `config.json` is whole; no tensor is in memory
//! whole.

mod convert;
mod error;
mod file;
mod kind;
mod llama;
mod metadata;
mod read;
mod rope;
mod tokenizer;
mod value;

pub use convert::{Conversion, Summary};
pub use error::{Error, Result};
pub use file::{GgufFile, TensorInfo, TensorValues};
pub use kind::Kind;
pub use value::Value;
