//! The operators: one file each, and one arm here. `irepair_core::spec::Operator` lists them.

mod bit_flip;
mod head_swap;
mod noise;
mod scale;
mod sign_flip;

use irepair_core::spec::Operator;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

use crate::plant::Planting;
use crate::{Error, Result};

/// Runs the operator of a fault.
pub(crate) fn run(planting: &mut Planting<'_>) -> Result<()> {
    match planting.fault.operator {
        Operator::Noise => noise::run(planting),
        Operator::SignFlip => sign_flip::run(planting),
        Operator::HeadSwap => head_swap::run(planting),
        Operator::ScaleKeys => scale::run(planting, scale::Vectors::Keys),
        Operator::ScaleValues => scale::run(planting, scale::Vectors::Values),
        Operator::BitFlip => bit_flip::run(planting),
        operator @ Operator::TrainIn => Err(Error::Trains { operator }),
    }
}

/// Random draws of their own for every (seed, name): they do not depend on what is drawn elsewhere.
fn draws(seed: u64, name: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize().into())
}
