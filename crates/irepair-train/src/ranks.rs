//! A run over several processes: they must agree on what they train, and stay in agreement (METHOD §25).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use irepair_core::StepRecord;
use irepair_model::{BlockModel, weights_sha256};
use irepair_ranks::Ranks;

use crate::{Engine, Error, Identity, Localise, Result};

/// The run of `items` that is this process's.
pub(crate) fn share_among<'a, T>(ranks: Option<&dyn Ranks>, items: &'a [T]) -> &'a [T] {
    ranks.map_or(items, |ranks| &items[ranks.share(items.len())])
}

/// The numbers of every rank, in their order.
///
/// # Errors
/// When a rank is gone.
pub(crate) fn gather_numbers(ranks: Option<&dyn Ranks>, mine: Vec<f64>) -> Result<Vec<f64>> {
    let Some(ranks) = ranks else { return Ok(mine) };
    let bytes: Vec<u8> = mine.iter().flat_map(|number| number.to_le_bytes()).collect();
    let found = ranks.gather(&bytes)?;
    let numbers = found.iter().flat_map(|bytes| bytes.as_chunks::<8>().0);
    Ok(numbers.map(|bytes| f64::from_le_bytes(*bytes)).collect())
}

/// Numbers that the first rank finds and tells all others.
///
/// # Errors
/// When it finds none; when a rank is gone.
pub fn first_finds(ranks: Option<&dyn Ranks>, find: impl FnOnce() -> Result<Vec<f64>>) -> Result<Vec<f64>> {
    let finds = ranks.is_none_or(|ranks| ranks.is_first());
    gather_numbers(ranks, if finds { find()? } else { Vec::new() })
}

impl<M: Deref<Target: BlockModel + Sized>, L: DerefMut<Target: Localise>> Engine<M, L> {
    /// Takes the steps together with other ranks, each of which calls this too: a rank works on its share of a step's
    /// micro-batches, and all have the bits of one process that works on all of them.
    ///
    /// `on_this_machine` names what need not be equal in a run that is resumed, and must be among ranks: the program.
    ///
    /// # Errors
    /// [`Error::OtherRank`] when a rank has another model, other data or settings; fewer micro-batches than ranks; when
    /// a rank is gone.
    pub fn among(mut self, ranks: Arc<dyn Ranks>, on_this_machine: Identity) -> Result<Self> {
        let n = ranks.n_ranks();
        if self.settings.accumulation < n {
            let got = format!("{} for {n} ranks", self.settings.accumulation);
            return Err(Error::BadSetting { key: "accumulation", want: "a micro-batch for every rank, or more", got });
        }
        let mine = [self.identity.clone(), on_this_machine];
        let found = ranks.gather(&serde_json::to_vec(&mine).unwrap_or_default())?;
        let read = |bytes: &Vec<u8>| serde_json::from_slice::<[Identity; 2]>(bytes).unwrap_or_default();
        let first = read(&found[0]);
        for (rank, theirs) in found.iter().map(read).enumerate() {
            let changes: Vec<String> = theirs.iter().zip(&first).map(|(its, first)| its.changes_since(first)).collect();
            let changes: Vec<&str> = changes.iter().map(String::as_str).filter(|words| !words.is_empty()).collect();
            if !changes.is_empty() {
                return Err(Error::OtherRank { rank, changes: changes.join(", ") });
            }
        }
        self.localiser.take_ranks(&ranks);
        self.ranks = Some(ranks);
        Ok(self)
    }

    /// The processes that take the steps together.
    pub fn ranks(&self) -> Option<&dyn Ranks> {
        self.ranks.as_deref()
    }

    /// [`Engine::step`], after whose failure for the loss of a rank the run is what it was before: it can be saved.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn step_or_stay(&mut self) -> Result<StepRecord> {
        let memory = self.ranks.as_ref().map(|_| (self.next_step, self.localiser.state()));
        let taken = self.step();
        if let (Err(_), Some((step, memory))) = (&taken, memory)
            && step == self.next_step
        {
            self.localiser.load_state(memory)?;
        }
        taken
    }

    /// The error of a rank that was lost after the last step had changed the weights: the first rank has ended the step
    /// alone, and takes no other.
    pub fn take_lost(&mut self) -> Option<Error> {
        self.lost.take()
    }

    /// `work` once more on the first rank alone, where another rank is why it failed.
    pub(crate) fn alone_after<T>(&mut self, error: Error, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let is_first = self.ranks.as_ref().is_some_and(|ranks| ranks.is_first());
        if !is_first || !error.of_ranks().is_some_and(irepair_ranks::Error::is_of_another) {
            return Err(error);
        }
        self.end_alone();
        self.lost = Some(error);
        work(self)
    }

    /// Leaves the other ranks: what this one does from here on may take as long as it takes.
    pub fn end_alone(&mut self) {
        self.ranks.take().iter().for_each(|ranks| ranks.ends_itself());
    }

    /// True on every rank when any of them says so.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn any_rank(&self, says: bool) -> Result<bool> {
        let Some(ranks) = &self.ranks else { return Ok(says) };
        Ok(ranks.gather(&[u8::from(says)])?.iter().any(|said| said == &[1]))
    }

    /// Refuses weights that are not the same on all ranks: machines that compute differently would drift apart unseen.
    ///
    /// # Errors
    /// [`Error::OtherRank`]; when a rank is gone.
    pub fn agree_on_weights(&self) -> Result<()> {
        let Some(ranks) = &self.ranks else { return Ok(()) };
        let changed = self.best.values.keys().map(|&index| &self.model.parameters()[index]);
        let found = ranks.gather(weights_sha256(changed).as_bytes())?;
        match found.iter().position(|hash| hash != &found[0]) {
            Some(rank) => {
                let changes = format!("its weights have drifted by step {}", self.next_step);
                Err(Error::OtherRank { rank, changes })
            }
            None => Ok(()),
        }
    }
}
