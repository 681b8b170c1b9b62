//! The families: one file each, and one line here.

mod gpt2;
mod gpt_neo;
mod llama;

pub use gpt_neo::GPT_NEO;
pub use gpt2::GPT2;
pub use llama::LLAMA;

use crate::Family;

/// Every family that is read, in the order of messages and flags.
pub static FAMILIES: &[&Family] = &[&GPT2, &GPT_NEO, &LLAMA];
