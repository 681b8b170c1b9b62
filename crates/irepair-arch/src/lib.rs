//! Model families as data: the meaning of a `config.json`, the parameters of a model, and every count that follows.
//!
//! ```
//! use irepair_arch::Architecture;
//!
//! let config = serde_json::json!({
//!     "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
//!     "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "rope_theta": 10000.0,
//!     "max_position_embeddings": 128, "tie_word_embeddings": true,
//! });
//! let architecture = Architecture::from_json(config, "config.json".as_ref())?;
//! assert_eq!((architecture.n_kv_head, architecture.head_dim), (2, 16));
//! assert_eq!(architecture.n_weights(), 100 * 64 + 2 * architecture.block_weights() + 64);
//! # Ok::<(), irepair_arch::Error>(())
//! ```
//!
//! Reading order: [`Architecture`] (everything that decides the mathematics), [`Parameter`] (what a model stores),
//! `counts` (sums over that list), `units` ([`UnitMap`]: which weights are of which part of a block), `setting` (typed
//! reading of a `config.json`), `rope`, and `families/`: one file per family. A new family is one file there and one
//! line in [`FAMILIES`].
//!
//! **Invariants.** A key that would change the model is computed or refused by name, never ignored. Shapes, weights,
//! FLOPs and activations are sums over [`Architecture::parameters`], computed nowhere else.

mod architecture;
mod counts;
mod cut_cache;
mod error;
mod families;
mod family;
mod parameter;
mod rope;
mod rope_table;
pub mod setting;
mod shape;
mod units;
mod wrapper;

pub use architecture::{
    Activation, Architecture, AttentionSpan, Biases, Norm, NormKind, NormWeight, Positions, QueryKeyNorm,
};
pub use counts::Kept;
pub use error::{Error, Result};
pub use families::*;
pub use family::Family;
pub use parameter::{Init, Layout, Parameter, Part, Slot};
pub use rope::{Rope, RopeScaling};
pub use shape::{Published, Shape};
pub use units::{Rows, UnitMap};
