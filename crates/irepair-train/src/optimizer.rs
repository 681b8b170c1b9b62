//! RMSprop and AdamW over the parameters of a model; a block that is not updated keeps its state as it is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use irepair_model::{Fisher, Parameter, seed_of};
use tch::{Device, Kind, Tensor, no_grad};

use crate::optimizer_state::{Count, State};
use crate::rows::{Rows, SliceRows};
use crate::rule::{OptimizerKind, Rule, StateMode};

/// Elements updated at a time on a CPU: few enough for small temporaries, enough to be worth waking the threads for.
const CHUNK: i64 = 1 << 19;

/// On a GPU: few enough for the 8-byte temporaries of a rounded weight, enough for a kernel to be worth its start.
const GPU_CHUNK: i64 = 1 << 24;

/// An optimizer over a model's parameters, by index. A parameter that gets no gradient is not touched in any way.
#[derive(Debug)]
pub struct Optimizer {
    pub(crate) seed: u64,
    kind: OptimizerKind,
    mode: StateMode,
    pub(crate) states: BTreeMap<usize, State>,
    pub(crate) n_calls: u64,
    /// Whether two parameters lie side by side: found out once, because a no may take milliseconds.
    pub(crate) neighbours: BTreeMap<(usize, usize), bool>,
    /// Read by natural steps.
    pub(crate) fisher: Option<Fisher>,
}

impl Optimizer {
    /// An optimizer without state. `seed` is of the draws that round weights narrower than float32; others read none.
    pub fn new(kind: OptimizerKind, mode: StateMode, seed: u64) -> Self {
        Self { seed, kind, mode, states: BTreeMap::new(), n_calls: 0, neighbours: BTreeMap::new(), fisher: None }
    }

    /// With the Fisher matrix of the model that the run starts from, without which natural steps change nothing.
    #[must_use]
    pub fn with_fisher(self, fisher: Option<Fisher>) -> Self {
        Self { fisher, ..self }
    }

    /// Updates the parameters that have a gradient, in place, with learning rate `lr`.
    ///
    /// `gradients` holds `(parameter index, gradient)` with gradients shaped as their parameters.
    pub fn update(&mut self, parameters: &[Parameter], gradients: &[(usize, Tensor)], lr: f64) {
        self.update_rows(parameters, gradients, None, lr);
    }

    /// [`Optimizer::update`] of rows of the parameters, with a gradient of those rows alone. Weights and state of other
    /// rows are not touched in any way.
    pub(crate) fn update_rows(
        &mut self,
        parameters: &[Parameter],
        gradients: &[(usize, Tensor)],
        rows: Option<&SliceRows>,
        lr: f64,
    ) {
        self.n_calls += 1;
        let rows = |index: usize| rows.and_then(|rows| rows.rows(index));
        no_grad(|| match self.kind {
            OptimizerKind::Natural { momentum } => self.natural_step(parameters, gradients, &rows, momentum, lr),
            OptimizerKind::RmsProp { .. } | OptimizerKind::AdamW { .. } => {
                for run in self.runs_of(parameters, gradients, &rows) {
                    let (index, gradient) = &run[0];
                    let weights = parameters[*index].tensor.detach();
                    match rows(*index) {
                        _ if run.len() > 1 => self.update_together(parameters, run, lr),
                        Some(rows) => self.update_some(*index, &weights, gradient, rows, lr),
                        None => self.update_one(*index, &weights, gradient, lr),
                    }
                }
            }
        });
    }

    /// The seed that rounds what the last update wrote into a parameter besides its own.
    pub(crate) fn seed_of_rounding(&self, index: usize) -> u64 {
        seed_of(&[self.seed, self.n_calls, index as u64])
    }

    /// The state of a parameter that is about to be updated, or rows of it, with this update counted.
    pub(crate) fn woken(&mut self, index: usize, parameter: &Tensor, rows: Option<&Rows>) -> &mut State {
        let (kind, mode, now) = (self.kind, self.mode, self.n_calls);
        let n_counts = rows.map_or(1, Rows::n_all);
        // Squared gradients underflow in half precision: state and arithmetic are float32 there too.
        let zeros = || Tensor::zeros(parameter.size(), (Kind::Float, parameter.device()));
        let fresh = || State {
            mean: kind.has_mean().then(zeros),
            square: kind.has_square().then(zeros),
            counts: vec![Count::default(); n_counts],
        };
        let state = self.states.entry(index).or_insert_with(fresh);
        // One kind of units cuts a parameter along one dimension: only a state file that was changed differs.
        if state.counts.len() != n_counts {
            *state = fresh();
        }
        let all = [0];
        let woken = rows.map_or(&all[..], Rows::numbers);
        if mode == StateMode::Reset {
            let slept = |row: &usize| {
                let Count { n_updates, last_update } = state.counts[*row];
                n_updates > 0 && last_update + 1 < now
            };
            let slept: Vec<usize> = woken.iter().copied().filter(slept).collect();
            state.forget(rows, slept);
        }
        for &row in woken {
            let count = &mut state.counts[row];
            *count = Count { n_updates: count.n_updates + 1, last_update: now };
        }
        state
    }

    pub(crate) fn update_one(&mut self, index: usize, weights: &Tensor, gradient: &Tensor, lr: f64) {
        let State { mean, square, .. } = self.woken(index, weights, None);
        let own = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        let (mean, Some(square)) = (own(mean), own(square)) else { return };
        self.update_parts(index, weights, gradient, (mean.as_ref(), &square), lr);
    }

    /// Updates tensors of one length, with the counts of the parameter `index`, a part at a time: temporaries as large
    /// as an embedding would double the memory.
    pub(crate) fn update_parts(
        &self,
        index: usize,
        weights: &Tensor,
        gradient: &Tensor,
        (mean, square): (Option<&Tensor>, &Tensor),
        lr: f64,
    ) {
        let Some(state) = self.states.get(&index) else { return };
        let by_updates = |of: &dyn Fn(f64) -> f64| state.by_updates(None, of);
        let (kind, mode) = (self.kind, self.mode);
        let rule = |part: usize| {
            let seed = seed_of(&[self.seed, self.n_calls, index as u64, part as u64]);
            Rule { kind, mode, by_updates: &by_updates, lr, seed }
        };
        let n = if weights.device() == Device::Cpu { CHUNK } else { GPU_CHUNK };
        let parts = |tensor: &Tensor| tensor.view(-1).split(n, 0).into_iter();
        let mut means = mean.map(parts);
        let all = parts(weights).zip(parts(&gradient.contiguous())).zip(parts(square));
        for (part, ((weights, gradient), square)) in all.enumerate() {
            rule(part).update(weights, &gradient.to_kind(Kind::Float), square, means.as_mut().and_then(Iterator::next));
        }
    }

    /// Updates rows of a parameter: they and their state are taken out, updated together, and put back.
    fn update_some(&mut self, index: usize, weights: &Tensor, gradient: &Tensor, rows: &Rows, lr: f64) {
        let (kind, mode, seed) = (self.kind, self.mode, seed_of(&[self.seed, self.n_calls, index as u64, 0]));
        let state = self.woken(index, weights, Some(rows));
        let Some(all_squares) = &state.square else { return };
        let taken = rows.take(weights);
        let (square, mean) = (rows.take(all_squares), state.mean.as_ref().map(|mean| rows.take(mean)));
        let by_updates = |of: &dyn Fn(f64) -> f64| state.by_updates(Some((rows, &taken)), of);
        let rule = Rule { kind, mode, by_updates: &by_updates, lr, seed };
        let copy = |tensor: &Tensor| tensor.shallow_clone();
        rule.update(copy(&taken), &gradient.to_kind(Kind::Float), copy(&square), mean.as_ref().map(copy));
        rows.put(weights, &taken);
        rows.put(all_squares, &square);
        state.mean.iter().zip(&mean).for_each(|(all, mean)| rows.put(all, mean));
    }

    /// Parameters that have state, that is, were ever updated.
    pub fn updated(&self) -> impl Iterator<Item = usize> + '_ {
        self.states.keys().copied()
    }

    /// Bytes of optimizer state.
    pub fn n_state_bytes(&self) -> usize {
        self.tensors().map(|(.., tensor)| tensor.numel() * 4).sum()
    }

    /// State tensors by `(parameter, "mean" | "square")`, for a checkpoint.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (usize, &'static str, &Tensor)> + '_ {
        self.states.iter().flat_map(|(&index, state)| {
            let mean = state.mean.as_ref().map(|t| (index, "mean", t));
            mean.into_iter().chain(state.square.as_ref().map(|t| (index, "square", t)))
        })
    }

    /// `(calls, [(parameter, updates, last update)])`, for a checkpoint; of a parameter whose rows are counted apart
    /// one entry for all rows in a row that have the same counts, and how many rows those are, in
    /// [`Optimizer::row_counters`].
    pub(crate) fn counters(&self) -> (u64, Vec<(usize, u64, u64)>) {
        let runs = self.runs().map(|(index, count, _)| (index, count.n_updates, count.last_update));
        (self.n_calls, runs.collect())
    }

    /// How many rows each of [`Optimizer::counters`] is of; empty where all of them are of whole parameters.
    pub(crate) fn row_counters(&self) -> Vec<usize> {
        let are_whole = self.states.values().all(|state| state.counts.len() == 1);
        if are_whole { Vec::new() } else { self.runs().map(|(.., n_rows)| n_rows).collect() }
    }

    fn runs(&self) -> impl Iterator<Item = (usize, Count, usize)> + '_ {
        let of = |(&index, state): (&usize, &'_ State)| {
            state.counts.chunk_by(|a, b| a == b).map(|run| (index, run[0], run.len())).collect::<Vec<_>>()
        };
        self.states.iter().flat_map(of)
    }

    /// This optimizer with the state that [`Optimizer::tensors`], [`Optimizer::counters`] and
    /// [`Optimizer::row_counters`] gave; `take` finds a tensor. None when one is missing, the counters count more
    /// updates than there were, or other rows than a parameter has.
    pub(crate) fn restored(
        &self,
        (n_calls, counters): (u64, Vec<(usize, u64, u64)>),
        n_rows: &[usize],
        mut take: impl FnMut(usize, &'static str) -> Option<Tensor>,
    ) -> Option<Self> {
        if !(n_rows.is_empty() || n_rows.len() == counters.len()) {
            return None;
        }
        let mut states: BTreeMap<usize, State> = BTreeMap::new();
        for (i, (index, n_updates, last_update)) in counters.into_iter().enumerate() {
            if n_updates > n_calls || last_update > n_calls {
                return None;
            }
            let state = match states.entry(index) {
                Entry::Occupied(state) => state.into_mut(),
                Entry::Vacant(place) => {
                    let mean = if self.kind.has_mean() { Some(take(index, "mean")?) } else { None };
                    let square = if self.kind.has_square() { Some(take(index, "square")?) } else { None };
                    place.insert(State { mean, square, counts: Vec::new() })
                }
            };
            let n = n_rows.get(i).copied().unwrap_or(1);
            let most = state.tensors().flat_map(Tensor::size).max().unwrap_or(1).max(1) as usize;
            if n > most.saturating_sub(state.counts.len()) {
                return None;
            }
            state.counts.extend(std::iter::repeat_n(Count { n_updates, last_update }, n));
        }
        let fits = |state: &State| {
            let n = state.counts.len();
            n == 1 || state.tensors().all(|tensor| tensor.size().contains(&(n as i64)))
        };
        if !states.values().all(fits) {
            return None;
        }
        let fisher = self.fisher.clone();
        let neighbours = self.neighbours.clone();
        Some(Self { seed: self.seed, kind: self.kind, mode: self.mode, states, n_calls, neighbours, fisher })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Rules under which parameters do not depend on one another.
    pub(crate) fn rules() -> [(OptimizerKind, StateMode); 5] {
        let (rmsprop, adamw) = (OptimizerKind::rmsprop(), OptimizerKind::adamw(0.5));
        [
            (rmsprop, StateMode::Keep),
            (rmsprop, StateMode::Reset),
            (rmsprop, StateMode::Debias),
            (adamw, StateMode::Keep),
            (adamw, StateMode::Reset),
        ]
    }

    fn parameter(value: f64) -> Vec<Parameter> {
        vec![Parameter { name: "p".into(), block: None, tensor: Tensor::from_slice(&[value as f32]) }]
    }

    fn step(optimizer: &mut Optimizer, parameters: &[Parameter], gradient: Option<f32>) -> f64 {
        let gradients: Vec<_> = gradient.map(|g| (0, Tensor::from_slice(&[g]))).into_iter().collect();
        let before = parameters[0].tensor.double_value(&[0]);
        optimizer.update(parameters, &gradients, 0.01);
        before - parameters[0].tensor.double_value(&[0])
    }

    #[test]
    fn the_first_rmsprop_update_is_ten_learning_rates() {
        // METHOD §8: with v = 0 the first update is eta g / (0.1 |g|).
        let parameters = parameter(1.0);
        let moved = step(&mut Optimizer::new(OptimizerKind::rmsprop(), StateMode::Keep, 0), &parameters, Some(3.0));
        assert!((moved - 0.1).abs() < 1e-6);
        let moved = step(&mut Optimizer::new(OptimizerKind::rmsprop(), StateMode::Debias, 0), &parameters, Some(3.0));
        assert!((moved - 0.01).abs() < 1e-6, "debiased: one learning rate");
    }

    #[test]
    fn sleeping_state_is_kept_or_forgotten_but_never_decayed() {
        let run = |mode, pause: usize| {
            let (parameters, mut optimizer) = (parameter(1.0), Optimizer::new(OptimizerKind::rmsprop(), mode, 0));
            step(&mut optimizer, &parameters, Some(3.0));
            for _ in 0..pause {
                assert_eq!(step(&mut optimizer, &parameters, None), 0.0, "no gradient, no change");
            }
            step(&mut optimizer, &parameters, Some(1.0))
        };
        assert_eq!(run(StateMode::Keep, 0), run(StateMode::Keep, 5));
        assert_eq!(run(StateMode::Reset, 0), run(StateMode::Keep, 0));
        assert!((run(StateMode::Reset, 5) - 0.1).abs() < 1e-6, "a fresh first update");
    }

    /// Columns of one parameter, updated in changing sets, are parameters of their own: weights and state bit for bit.
    #[test]
    fn rows_are_updated_and_sleep_as_parameters_of_their_own() {
        let noise = |salt: f64, shape: [i64; 2]| {
            let n = Tensor::arange(shape[0] * shape[1], (Kind::Float, Device::Cpu));
            ((n + salt) * 12.9898).sin().view(shape)
        };
        let named = |tensor| Parameter { name: "p".into(), block: None, tensor };
        for (kind, mode) in rules() {
            let whole = [named(noise(0.0, [3, 4]))];
            let columns: Vec<Parameter> = (0..4).map(|i| named(whole[0].tensor.narrow(1, i, 1).contiguous())).collect();
            let optimizer = || Optimizer::new(kind, mode, 0);
            let (mut of_whole, mut of_columns) = (optimizer(), optimizer());
            for (step, updated) in [vec![0, 2], vec![2, 3], vec![2], vec![0, 1, 2, 3], vec![0]].into_iter().enumerate()
            {
                let gradient = noise(step as f64, [3, 4]);
                let apart: Vec<(usize, Tensor)> =
                    updated.iter().map(|&i| (i, gradient.narrow(1, i as i64, 1).contiguous())).collect();
                of_columns.update(&columns, &apart, 0.01);
                let rows = SliceRows::one(0, Rows::new(1, 4, updated, Device::Cpu));
                let taken = rows.cut(vec![(0, gradient)]);
                of_whole.update_rows(&whole, &taken, Some(&rows), 0.01);
                let want = Tensor::cat(&columns.iter().map(|p| &p.tensor).collect::<Vec<_>>(), 1);
                assert!(whole[0].tensor.equal(&want), "{kind:?}, {mode:?}, step {step}");
            }
            // A file of the state gives the same state.
            let (counters, n_rows) = (of_whole.counters(), of_whole.row_counters());
            assert_eq!(n_rows.iter().sum::<usize>(), 4);
            let tensors: BTreeMap<(usize, &str), Tensor> =
                of_whole.tensors().map(|(index, part, tensor)| ((index, part), tensor.copy())).collect();
            let take = |index, part| tensors.get(&(index, part)).map(Tensor::copy);
            let restored = of_whole.restored(counters.clone(), &n_rows, take).unwrap();
            assert_eq!(restored.states[&0].counts, of_whole.states[&0].counts);
            for wrong in [vec![usize::MAX; n_rows.len()], vec![9; n_rows.len()], vec![0; n_rows.len()], vec![1]] {
                assert!(of_whole.restored(counters.clone(), &wrong, take).is_none(), "{wrong:?}");
            }
        }
    }

    #[test]
    fn decay_touches_only_what_has_a_gradient() {
        let (parameters, mut optimizer) =
            (parameter(1.0), Optimizer::new(OptimizerKind::adamw(0.5), StateMode::Keep, 0));
        assert_eq!(step(&mut optimizer, &parameters, None), 0.0);
        // One AdamW step: decay eta * 0.5 * theta, then eta.
        assert!((step(&mut optimizer, &parameters, Some(2.0)) - (0.005 + 0.01)).abs() < 1e-6);
    }
}
