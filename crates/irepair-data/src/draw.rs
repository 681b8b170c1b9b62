//! Which examples a step sees: pure functions of seed and step, so that resuming a run needs no saved state.

use rand::SeedableRng;
use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;

use crate::{Error, Result};

/// The order in which training walks over `n` examples: epoch after epoch, each a permutation of its own.
///
/// When `n` is no multiple of the batch size a batch runs on into the next epoch, so that no example is repeated or
/// left out within an epoch and every batch is full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochOrder {
    n: usize,
    seed: u64,
    shuffle: bool,
}

impl EpochOrder {
    /// An order over `n` examples; without `shuffle` every epoch runs 0, 1, …, n - 1.
    ///
    /// # Errors
    /// `TooFew` when there are no examples.
    pub fn new(n: usize, seed: u64, shuffle: bool) -> Result<Self> {
        if n == 0 {
            return Err(Error::TooFew { wanted: 1, n });
        }
        Ok(Self { n, seed, shuffle })
    }

    /// The examples of step `step` (from 0), `batch_size` of them.
    pub fn batch(&self, step: u64, batch_size: usize) -> Vec<usize> {
        let first = u128::from(step) * batch_size as u128;
        let mut epoch = (first / self.n as u128) as u64;
        let mut at = (first % self.n as u128) as usize;
        let mut batch = Vec::with_capacity(batch_size);
        while batch.len() < batch_size {
            let order = self.epoch(epoch);
            let n_taken = (batch_size - batch.len()).min(self.n - at);
            batch.extend_from_slice(&order[at..at + n_taken]);
            (epoch, at) = (epoch + 1, 0);
        }
        batch
    }

    fn epoch(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.n).collect();
        if self.shuffle {
            order.shuffle(&mut stream(self.seed, Purpose::Epoch, epoch));
        }
        order
    }
}

/// `n_drawn` different examples out of `n` for step `step`, uniformly: the utility texts of a batch (METHOD §2 [D]).
///
/// # Errors
/// `TooFew` when `n_drawn` is over `n`.
pub fn without_replacement(seed: u64, step: u64, n: usize, n_drawn: usize) -> Result<Vec<usize>> {
    if n_drawn > n {
        return Err(Error::TooFew { wanted: n_drawn, n });
    }
    Ok(index::sample(&mut stream(seed, Purpose::Utility, step), n, n_drawn).into_vec())
}

#[derive(Clone, Copy)]
enum Purpose {
    Epoch = 1,
    Utility = 2,
}

/// A generator of its own for every (seed, purpose, index): no draw depends on an earlier one.
fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_shuffle_the_order_is_the_files_and_wraps() {
        let order = EpochOrder::new(5, 0, false).unwrap();
        assert_eq!(order.batch(0, 3), [0, 1, 2]);
        assert_eq!(order.batch(1, 3), [3, 4, 0]);
        assert_eq!(order.batch(0, 7), [0, 1, 2, 3, 4, 0, 1]);
    }

    #[test]
    fn the_published_draws_do_not_change() {
        // Recorded once: a change here changes every result made with a seed.
        assert_eq!(EpochOrder::new(10, 7, true).unwrap().batch(3, 4), RECORDED_EPOCH);
        assert_eq!(without_replacement(7, 3, 100, 4).unwrap(), RECORDED_DRAW);
    }

    const RECORDED_EPOCH: [usize; 4] = [9, 8, 7, 4];
    const RECORDED_DRAW: [usize; 4] = [83, 54, 19, 68];

    #[test]
    fn nothing_to_draw_from_is_an_error() {
        assert!(EpochOrder::new(0, 0, true).is_err());
        assert!(matches!(without_replacement(0, 0, 3, 4), Err(Error::TooFew { wanted: 4, n: 3 })));
    }
}
