//! Causal language models on libtorch: load, run, generate, freeze by block, write back.
//!
//! ```no_run,standalone_crate
//! use irepair_core::{BlockSlice, PaddedTokens, Scope};
//! use irepair_model::{BlockModel, CausalLm, TextBatch};
//! use tch::{Device, Kind};
//!
//! let (model, report) = CausalLm::load("gpt2".as_ref(), Device::Cpu, Kind::Float)?;
//! println!("{report}");
//! model.train_only(&Scope::Blocks(BlockSlice::from_indices([3])));
//! let batch = TextBatch::new(PaddedTokens::right_padded(&[vec![15496, 995]], 50256)?, Device::Cpu);
//! let logits = model.logits(&batch); // [1, 2, 50257]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reading order: `block_model` (what any model offers to be measured, repaired and evaluated), `params` (every tensor
//! by name, block and slot), `layers`, `attention`, `rotation` and `block` (the arithmetic, once for every family),
//! `forward` (the whole model), `soft_prefix`, `generate` (key-value cache), `checkpoint` (files in and out).
//! Which families there are and what they store is in `irepair-arch`.
//!
//! **Invariants.** A parameter belongs to block `b` exactly when its stored name carries that number (METHOD §1 [D]);
//! embeddings, the final norm and the head belong to none. Logits at real tokens do not depend on padding. Gradients
//! are values returned by [`BlockModel::gradients`]; no tensor ever holds a `.grad`, so nothing stale can leak into a
//! later step.

mod attention;
mod batch;
mod bf16;
mod block;
mod block_model;
mod checkpoint;
mod device;
mod error;
mod fisher;
mod forward;
mod generate;
mod gradients;
mod hash;
pub mod host;
mod kernels;
mod layers;
mod nucleus;
mod params;
#[cfg(test)]
#[path = "../tests/private/mod.rs"]
mod private;
mod probe;
mod rank_sum;
mod rotation;
mod soft_prefix;
mod stochastic;
mod sys;

pub use batch::TextBatch;
pub use block::activate;
pub use block_model::{BlockMap, BlockModel, GradFlags, first_block_apart, states_at};
pub use checkpoint::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, LoadReport, LowRank, Rounded, StoredTensors, read_checkpoint, read_tensors,
    save_low_rank, write_tensors,
};
pub use device::{parse_device, parse_dtype};
pub use error::{Error, Result};
pub use fisher::Fisher;
pub use forward::{CausalLm, PrefixStates};
pub use generate::{Decoding, Nucleus};
pub use gradients::{Gradients, add_gradients};
pub use hash::weights_sha256;
pub use irepair_arch::{Architecture, Error as ArchitectureError, FAMILIES, Part, Rows, Shape, Slot, UnitMap};
pub use kernels::settle_kernels;
pub use params::{Parameter, first_not_finite, normal, packed, side_by_side};
pub use probe::{Layer, Probe};
pub use rank_sum::sum_over_ranks;
pub use soft_prefix::SOFT_PREFIX;
pub use stochastic::{round_stochastically, seed_of};
pub use sys::{exit_at_once, keep_freed_memory, libtorch_version, return_freed_memory};
