//! Random blocks as pure functions of (seed, turn).

use irepair_core::BlockSlice;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Makes the stream differ from other uses of the same seed.
const DOMAIN: u64 = 0x736c_6963_696e_6721;

/// A generator of its own for every turn.
fn generator(seed: u64, turn: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ DOMAIN);
    rng.set_stream(turn);
    rng
}

/// `k` of `n_blocks` blocks, every subset equally likely.
pub(crate) fn blocks(seed: u64, turn: u64, n_blocks: usize, k: usize) -> BlockSlice {
    BlockSlice::from_indices(rand::seq::index::sample(&mut generator(seed, turn), n_blocks, k))
}

/// Random blocks with probability `epsilon`, else `None`.
pub(crate) fn blocks_with_chance(seed: u64, turn: u64, n_blocks: usize, k: usize, epsilon: f64) -> Option<BlockSlice> {
    let mut rng = generator(seed, turn);
    let explores = rng.random_bool(epsilon);
    explores.then(|| BlockSlice::from_indices(rand::seq::index::sample(&mut rng, n_blocks, k)))
}
