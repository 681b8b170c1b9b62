//! Ranks: processes that train one model together (METHOD §25).
//!
//! Each rank holds the whole model and works on its share of a step's micro-batches. What they find travels over TCP, a
//! connection between any two of them; [`Ranks::exchange`] is the only thing that is ever sent. What is added up is
//! added in the order of the ranks, so that n ranks give the bits of one process that takes n micro-batches in turn.
//!
//! ```no_run
//! use irepair_ranks::{Place, Ranks, TcpRanks};
//!
//! # fn demo() -> irepair_ranks::Result<()> {
//! let place = Place::from_environment()?.expect("torchrun, srun or `--ranks` started this process");
//! let ranks = TcpRanks::join(&place)?;
//! let numbers_of_all = ranks.gather(b"mine")?;
//! # Ok(()) }
//! ```
//!
//! **Invariants.** All ranks call the same exchanges in the same order. A rank that dies or falls silent is an error of
//! all others within [`MOST_SECONDS`] seconds. Others who connect are turned away.
//! **Boundary.** Bytes only: no tensor, no model.

mod alarm;
mod error;
mod group;
mod join;
mod place;
mod wire;

use std::fmt::Debug;
use std::ops::Range;

pub use alarm::{LATEST_SECONDS, MOST_SECONDS};
pub use error::{Error, Result};
pub use group::TcpRanks;
pub use place::{Place, SECRET};

/// A process among those that train together.
pub trait Ranks: Debug + Send + Sync {
    /// Which of them this one is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn n_ranks(&self) -> usize;

    /// Sends `to[r]` to every other rank `r`; returns what each of them sent here, in their order, with `to[rank]`
    /// itself in this rank's place.
    ///
    /// # Errors
    /// When a rank is gone, or failed and said so.
    fn exchange(&self, to: &[&[u8]]) -> Result<Vec<Vec<u8>>>;

    /// What every rank gives, in their order.
    ///
    /// # Errors
    /// As [`Ranks::exchange`].
    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.exchange(&vec![mine; self.n_ranks()])
    }

    /// Says that this rank ends by itself, however long it takes: it saves what it has.
    fn ends_itself(&self) {}

    /// Bytes sent to others so far.
    fn n_bytes_sent(&self) -> u64;

    /// True on the rank that writes files and talks to people.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// This rank's run of `n` things.
    fn share(&self, n: usize) -> Range<usize> {
        share_of(self.rank(), n, self.n_ranks())
    }
}

/// The run of `n` things that is `rank`'s, of `n_ranks` nearly equal ones.
pub fn share_of(rank: usize, n: usize, n_ranks: usize) -> Range<usize> {
    n * rank / n_ranks..n * (rank + 1) / n_ranks
}
