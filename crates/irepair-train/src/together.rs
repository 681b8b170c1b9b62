//! Parameters that lie side by side in memory, updated as one: on a GPU, where weights are packed, starting a kernel
//! for each parameter and operation takes longer than the kernels.

use irepair_model::{Parameter, packed, side_by_side};
use tch::Tensor;

use crate::Optimizer;
use crate::optimizer_state::State;
use crate::rows::Rows;

impl Optimizer {
    /// The gradients in runs that can be updated together: those of whole parameters that lie side by side and were
    /// updated as often. Any other is a run of its own.
    pub(crate) fn runs_of<'g, 'r>(
        &mut self,
        parameters: &[Parameter],
        gradients: &'g [(usize, Tensor)],
        rows: &dyn Fn(usize) -> Option<&'r Rows>,
    ) -> Vec<&'g [(usize, Tensor)]> {
        let Self { states, neighbours, .. } = self;
        let counts = |index: usize| states.get(&index).map(|state| &state.counts);
        let weights = |index: usize| parameters[index].tensor.shallow_clone();
        let mut lie_together = |a: usize, b: usize| {
            let found = || side_by_side(&[weights(a), weights(b)]).is_some();
            *neighbours.entry((a, b)).or_insert_with(found)
        };
        let are_one = |(a, _): &(usize, Tensor), (b, _): &(usize, Tensor)| {
            let are_whole = rows(*a).is_none() && rows(*b).is_none();
            are_whole && counts(*a) == counts(*b) && lie_together(*a, *b)
        };
        gradients.chunk_by(are_one).collect()
    }

    /// Updates the parameters of a run of [`Optimizer::runs_of`] as one, to the bits of one after the other in float32;
    /// narrower weights are rounded by other draws. One after the other where their memory was moved since.
    pub(crate) fn update_together(&mut self, parameters: &[Parameter], run: &[(usize, Tensor)], lr: f64) {
        let weights: Vec<Tensor> = run.iter().map(|(index, _)| parameters[*index].tensor.detach()).collect();
        let Some(all) = side_by_side(&weights) else {
            for ((index, gradient), weights) in run.iter().zip(&weights) {
                self.update_one(*index, weights, gradient, lr);
            }
            return;
        };
        for ((index, _), weights) in run.iter().zip(&weights) {
            self.woken(*index, weights, None);
        }
        let mean = self.state_of(run, |state| &mut state.mean);
        let Some(square) = self.state_of(run, |state| &mut state.square) else { return };
        let gradient = Tensor::cat(&run.iter().map(|(_, gradient)| gradient.reshape([-1])).collect::<Vec<_>>(), 0);
        self.update_parts(run[0].0, &all, &gradient, (mean.as_ref(), &square), lr);
    }

    /// Running means of a run as one tensor, which the states of its parameters share from then on; none where this
    /// optimizer keeps none.
    fn state_of(&mut self, run: &[(usize, Tensor)], of: fn(&mut State) -> &mut Option<Tensor>) -> Option<Tensor> {
        let mut part =
            |index: usize| self.states.get_mut(&index).and_then(|state| of(state).as_ref().map(Tensor::detach));
        let parts = run.iter().map(|(index, _)| part(*index)).collect::<Option<Vec<Tensor>>>()?;
        if let Some(all) = side_by_side(&parts) {
            return Some(all);
        }
        let (all, parts) = packed(&parts);
        for ((index, _), part) in run.iter().zip(parts) {
            self.states.get_mut(index).into_iter().for_each(|state| *of(state) = Some(part.shallow_clone()));
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::optimizer::tests::rules;

    const SIZES: [[i64; 2]; 4] = [[3, 4], [1, 5], [2, 2], [6, 1]];

    fn noise(salt: f64, n: i64) -> Tensor {
        ((Tensor::arange(n, (Kind::Float, Device::Cpu)) + salt) * 12.9898).sin()
    }

    /// The same weights, packed or each for itself.
    fn parameters(packed: bool) -> Vec<Parameter> {
        let sizes: Vec<i64> = SIZES.iter().map(|[a, b]| a * b).collect();
        let parts = noise(0.0, sizes.iter().sum()).split_with_sizes(&sizes, 0);
        let own = |part: Tensor| if packed { part } else { part.copy() };
        let named = |(part, size): (Tensor, &[i64; 2])| Parameter {
            name: "p".into(),
            block: None,
            tensor: own(part).view(*size),
        };
        parts.into_iter().zip(&SIZES).map(named).collect()
    }

    /// Weights, state and counters bit for bit, with parameters that sleep and come back, and a state that was read
    /// from a file in between.
    #[test]
    fn packed_parameters_are_updated_as_each_alone() {
        for (kind, mode) in rules() {
            let (alone, packed) = (parameters(false), parameters(true));
            let optimizer = || Optimizer::new(kind, mode, 0);
            let (mut of_alone, mut of_packed) = (optimizer(), optimizer());
            let steps =
                [vec![0, 1, 2, 3], vec![0, 1, 2, 3], vec![1, 2], vec![0, 3], vec![2, 3], vec![0, 1, 2, 3], vec![1]];
            let mut n_together = 0;
            for (step, updated) in steps.into_iter().enumerate() {
                let gradient = |i: usize| noise((step * 10 + i) as f64, SIZES[i].iter().product()).view(SIZES[i]);
                let gradients: Vec<_> = updated.into_iter().map(|i| (i, gradient(i))).collect();
                n_together += gradients.len() - of_packed.runs_of(&packed, &gradients, &|_| None).len();
                assert_eq!(of_alone.runs_of(&alone, &gradients, &|_| None).len(), gradients.len());
                of_alone.update(&alone, &gradients, 0.01);
                of_packed.update(&packed, &gradients, 0.01);
                for (a, b) in alone.iter().zip(&packed) {
                    assert!(a.tensor.equal(&b.tensor), "{kind:?}, {mode:?}, step {step}");
                }
                for (a, b) in of_alone.tensors().zip(of_packed.tensors()) {
                    assert!((a.0, a.1) == (b.0, b.1) && a.2.equal(b.2), "{kind:?}, {mode:?}, step {step}");
                }
                assert_eq!(of_alone.counters(), of_packed.counters());
                if step == 1 {
                    let stored: Vec<_> = of_packed.tensors().map(|(i, part, t)| (i, part, t.copy())).collect();
                    let take = |i, part| stored.iter().find(|t| (t.0, t.1) == (i, part)).map(|t| t.2.copy());
                    of_packed = of_packed.restored(of_packed.counters(), &[], take).unwrap();
                }
            }
            // Three, three and one; then counts differ.
            assert!(n_together >= 7, "{n_together}");
        }
    }

    #[test]
    fn memory_that_moves_after_the_first_step_changes_nothing() {
        for (kind, mode) in rules() {
            let (alone, moved) = (parameters(false), parameters(true));
            let (mut of_alone, mut of_moved) = (Optimizer::new(kind, mode, 0), Optimizer::new(kind, mode, 0));
            for step in 0..3 {
                let gradient = |i: usize| noise((step * 10 + i) as f64, SIZES[i].iter().product()).view(SIZES[i]);
                let gradients: Vec<_> = (0..SIZES.len()).map(|i| (i, gradient(i))).collect();
                of_alone.update(&alone, &gradients, 0.01);
                of_moved.update(&moved, &gradients, 0.01);
                assert!(alone.iter().zip(&moved).all(|(a, b)| a.tensor.equal(&b.tensor)), "{kind:?}, {mode:?}, {step}");
                assert_eq!(of_alone.counters(), of_moved.counters());
                let mut one = moved[1].tensor.shallow_clone();
                tch::no_grad(|| one.set_data(&one.detach().copy()));
            }
        }
    }
}
