//! GGUF files in, Hugging Face directories out: weights as 32-bit floats, with tokenizer and chat template. A repaired
//! directory goes back to GGUF.
//!
//! ```no_run
//! use irepair_gguf::{Conversion, Export, GgufFile};
//!
//! let file = GgufFile::open("SmolLM2-135M-Instruct.Q4_1.gguf".as_ref())?;
//! for (name, tensor) in file.tensors().iter().take(3) {
//!     println!("{name} {} {:?}", tensor.kind, tensor.shape);
//! }
//! let conversion = Conversion::plan(&file)?;
//! conversion.write("smollm2".as_ref(), &mut |tensor| println!("{tensor}"))?;
//! // After a repair of that directory, into another one:
//! let export = Export::plan(&conversion, "repaired".as_ref(), &mut |_| {})?;
//! export.write("repaired.gguf".as_ref(), &mut |_| {})?;
//! # Ok::<(), irepair_gguf::Error>(())
//! ```
//!
//! Invariants: values equal those of the Python package `gguf` bit for bit; metadata and tensors that would change the
//! model and are not understood are refused by name; a directory with a `config.json` is whole; no tensor is in memory
//! whole.

mod architectures;
mod compare;
mod convert;
mod error;
mod export;
mod file;
mod kind;
mod layout;
mod metadata;
mod read;
mod rope;
mod tokenizer;
mod value;

pub use convert::{Conversion, Summary};
pub use error::{Error, Result};
pub use export::{Export, ExportSummary};
pub use file::{GgufFile, TensorInfo, TensorValues};
pub use kind::Kind;
pub use value::Value;
