//! What an optimizer remembers of a parameter, and how often the parameter, or each of its rows, was updated.

use tch::Tensor;

use crate::rows::Rows;

/// State of one parameter, shaped as it is; made at its first update.
#[derive(Debug)]
pub(crate) struct State {
    /// Running mean of the gradient (not for RMSprop).
    pub(crate) mean: Option<Tensor>,
    /// Running mean of the squared gradient (not for natural steps).
    pub(crate) square: Option<Tensor>,
    /// Of all of it; or of each of its rows, where units of them are updated (METHOD §23).
    pub(crate) counts: Vec<Count>,
}

/// How often weights were updated, and in which call last; both 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) n_updates: u64,
    pub(crate) last_update: u64,
}

impl State {
    /// Its running means.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.mean.iter().chain(&self.square)
    }

    /// Sets the state of all of the parameter, or of rows `slept` of it, to 0; changes nothing where there are none.
    pub(crate) fn forget(&mut self, rows: Option<&Rows>, slept: Vec<usize>) {
        if slept.is_empty() {
            return;
        }
        slept.iter().for_each(|row| self.counts[*row] = Count::default());
        let slept = rows.map(|rows| rows.some(slept));
        for tensor in self.tensors() {
            match &slept {
                Some(rows) => rows.put(tensor, &rows.take(tensor).zeros_like()),
                None => drop(tensor.shallow_clone().zero_()),
            }
        }
    }

    /// A number that depends on the updates so far: one for all of the parameter, `[]`, or one for each of the rows
    /// that `taken` holds, shaped to multiply them; float32.
    pub(crate) fn by_updates(&self, rows: Option<(&Rows, &Tensor)>, of: &dyn Fn(f64) -> f64) -> Tensor {
        let of = |row: usize| of(self.counts[row].n_updates as f64);
        rows.map_or_else(|| Tensor::from(of(0) as f32), |(rows, taken)| rows.each(taken, of))
    }
}
