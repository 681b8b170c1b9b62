//! RMSprop, AdamW and natural steps; a block that is not updated keeps its state as it is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use irepair_model::{Fisher, Parameter, round_stochastically, seed_of};
use tch::{Device, Kind, Tensor, no_grad};

use crate::optimizer_state::{Count, State};
use crate::rows::{Rows, SliceRows};

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptimizerKind {
    /// `v <- alpha v + (1 - alpha) g^2;  theta <- theta - eta g / (sqrt v + eps)` (METHOD §8 [D, L]).
    RmsProp {
        /// Decay of the squared average.
        alpha: f64,
        /// Added to the root.
        eps: f64,
    },
    /// Adam with decoupled weight decay, bias-corrected by the parameter's own number of updates.
    AdamW {
        /// Decay of the average.
        beta1: f64,
        /// Decay of the squared average.
        beta2: f64,
        /// Added to the root.
        eps: f64,
        /// Decay of the weights, times the learning rate.
        weight_decay: f64,
    },
    /// `theta <- theta - c d`, `d = (F + lambda)^-1 m` with `m` the momentum of `g` over what the step updates, and `c`
    /// such that `1/2 (c d)' (F + lambda) (c d)` is the learning rate: the KL that a step may cost, in nats a token
    /// (METHOD §27 [O]).
    Natural {
        /// Decay of the average gradient; 0 takes the gradient itself.
        momentum: f64,
    },
}

impl OptimizerKind {
    /// RMSprop with METHOD §17's constants.
    pub fn rmsprop() -> Self {
        Self::RmsProp { alpha: 0.99, eps: 1e-8 }
    }

    /// Natural steps with the momentum of METHOD §27.
    pub fn natural() -> Self {
        Self::Natural { momentum: 0.9 }
    }

    /// True when a running mean of the gradient is kept, which is always corrected for its start at 0.
    pub(crate) fn has_mean(self) -> bool {
        !matches!(self, Self::RmsProp { .. })
    }

    /// True when a running mean of the squared gradient is kept.
    fn has_square(self) -> bool {
        !matches!(self, Self::Natural { .. })
    }

    /// AdamW with PyTorch's constants and the given decay.
    pub fn adamw(weight_decay: f64) -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay }
    }
}

/// What becomes of the state of a parameter, or of its rows, while its block or unit is not selected (METHOD §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateMode {
    /// Kept as it is and not decayed: the published code's behaviour [D].
    Keep,
    /// Forgotten when the block or unit comes back after a pause [O].
    Reset,
    /// Kept, and the squared average is divided by `1 - alpha^n` with `n` the updates so far [O]. AdamW always does
    /// this, so that [`Settings`](crate::Settings) with both are refused.
    Debias,
}

/// Elements updated at a time on a CPU: few enough for small temporaries, enough to be worth waking the threads for.
const CHUNK: i64 = 1 << 19;

/// On a GPU: few enough for the 8-byte temporaries of a rounded weight, enough for a kernel to be worth its start.
const GPU_CHUNK: i64 = 1 << 24;

/// What a number of updates gives, for a parameter or each of its rows.
type ByUpdates<'a> = dyn Fn(&dyn Fn(f64) -> f64) -> Tensor + 'a;

/// One update of one parameter, or of rows of it, by RMSprop or AdamW.
struct Rule<'a> {
    kind: OptimizerKind,
    mode: StateMode,
    /// [`State::by_updates`], this update included.
    by_updates: &'a ByUpdates<'a>,
    lr: f64,
    /// Of the draws that round weights of a narrow type.
    seed: u64,
}

impl Rule<'_> {
    /// Changes `weights`, `square` and `mean` in place.
    fn update(&self, weights: Tensor, gradient: &Tensor, mut square: Tensor, mean: Option<Tensor>) {
        let (lr, by_updates) = (self.lr, self.by_updates);
        match self.kind {
            // One step over all parameters: `Optimizer::natural_step`.
            OptimizerKind::Natural { .. } => {}
            OptimizerKind::RmsProp { alpha, eps } => {
                let mut squared = gradient.square();
                let _ = square.g_mul_scalar_(alpha).g_add_(&squared.g_mul_scalar_(1.0 - alpha));
                let mut root = match self.mode {
                    StateMode::Debias => (square / by_updates(&|n| debias(alpha, n))).sqrt(),
                    StateMode::Keep | StateMode::Reset => square.sqrt(),
                };
                let step = (gradient * lr).g_div_(&root.g_add_scalar_(eps));
                apply(weights, 1.0, &step, self.seed);
            }
            OptimizerKind::AdamW { beta1, beta2, eps, weight_decay } => {
                let mut mean = mean.unwrap_or_else(|| gradient.zeros_like());
                let _ = mean.g_mul_scalar_(beta1).g_add_(&(gradient * (1.0 - beta1)));
                let _ = square.g_mul_scalar_(beta2).g_add_(&(gradient.square() * (1.0 - beta2)));
                let root = (square / by_updates(&|n| debias(beta2, n))).sqrt() + eps;
                let step = mean * by_updates(&|n| lr / debias(beta1, n)) / root;
                apply(weights, 1.0 - lr * weight_decay, &step, self.seed);
            }
        }
    }
}

/// What corrects a running mean of that rate for its start at 0 after `n` updates.
fn debias(rate: f64, n: f64) -> f64 {
    1.0 - rate.powf(n)
}

/// `weights <- keep weights - step`. Steps are mostly smaller than the spacing of bfloat16 numbers, where plain
/// rounding would drop them: weights of a narrow type are rounded by `seed` so that the mean is kept (DEVIATIONS D13).
fn apply(mut weights: Tensor, keep: f64, step: &Tensor, seed: u64) {
    if weights.kind() == Kind::Float {
        if keep != 1.0 {
            let _ = weights.g_mul_scalar_(keep);
        }
        let _ = weights.g_sub_(step);
    } else {
        let mut exact = weights.to_kind(Kind::Float);
        let _ = exact.g_mul_scalar_(keep).g_sub_(step);
        weights.copy_(&round_stochastically(&exact, weights.kind(), seed));
    }
}

/// An optimizer over a model's parameters, by index. A parameter that gets no gradient is not touched in any way.
#[derive(Debug)]
pub struct Optimizer {
    seed: u64,
    kind: OptimizerKind,
    mode: StateMode,
    pub(crate) states: BTreeMap<usize, State>,
    n_calls: u64,
    /// Whether two parameters lie side by side: found out once, because a no may take milliseconds.
    pub(crate) neighbours: BTreeMap<(usize, usize), bool>,
    /// Read by natural steps.
    fisher: Option<Fisher>,
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

    /// One step that costs `kl` by the quadratic form of the Fisher matrix.
    fn natural_step<'a>(
        &mut self,
        parameters: &[Parameter],
        gradients: &[(usize, Tensor)],
        rows: &dyn Fn(usize) -> Option<&'a Rows>,
        momentum: f64,
        kl: f64,
    ) {
        let Some(fisher) = self.fisher.clone() else { return };
        // `m` and `F + lambda` of what is updated, and the square that it adds.
        let mut parts = Vec::with_capacity(gradients.len());
        for (index, gradient) in gradients {
            let (tensor, rows) = (&parameters[*index].tensor, rows(*index));
            let state = self.woken(*index, tensor, rows);
            let Some(all) = &state.mean else { continue };
            let of_slice = |tensor: &Tensor| rows.map_or_else(|| tensor.shallow_clone(), |rows| rows.take(tensor));
            let (mut mean, damped) = (of_slice(all), of_slice(fisher.damped(*index)));
            let gradient = gradient.to_kind(Kind::Float);
            let _ = mean.g_mul_scalar_(momentum).g_add_(&(gradient * (1.0 - momentum)));
            let by_updates = |of: &dyn Fn(f64) -> f64| state.by_updates(rows.map(|rows| (rows, &mean)), of);
            let square = match rows {
                None => {
                    let of_mean = (mean.square() / &damped).sum(Kind::Float);
                    of_mean / by_updates(&|n| debias(momentum, n).powi(2))
                }
                Some(rows) => {
                    rows.put(all, &mean);
                    ((&mean / by_updates(&|n| debias(momentum, n))).square() / &damped).sum(Kind::Float)
                }
            };
            let debiased = by_updates(&|n| debias(momentum, n));
            parts.push((*index, rows, mean, damped, debiased, square));
        }
        if parts.is_empty() {
            return;
        }
        // 1/2 c^2 m' (F + lambda)^-1 m = kl. Without a gradient there is no step, however long.
        let squares: Vec<&Tensor> = parts.iter().map(|(.., square)| square).collect();
        let square = Tensor::stack(&squares, 0).sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
        let length = (square.reciprocal() * (2.0 * kl)).sqrt();
        for (index, rows, mean, damped, debiased, _) in parts {
            let step = (mean / damped).g_mul_(&(&length / debiased));
            let seed = seed_of(&[self.seed, self.n_calls, index as u64]);
            let all = parameters[index].tensor.detach();
            let weights = rows.map_or_else(|| all.shallow_clone(), |rows| rows.take(&all));
            apply(weights.shallow_clone(), 1.0, &step, seed);
            rows.iter().for_each(|rows| rows.put(&all, &weights));
        }
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

    /// Two parameters, their diagonals and gradients; the weights after one natural step of cost `kl` without momentum.
    fn natural_step(diagonals: [&[f32]; 2], gradients: [&[f32]; 2], starts: [&[f32]; 2], kl: f64) -> Vec<f64> {
        let tensor = |values: &[f32]| Tensor::from_slice(values);
        let named = |start: &[f32]| Parameter { name: "p".into(), block: None, tensor: tensor(start) };
        let (parameters, fisher) = (starts.map(named), Fisher::of(diagonals.map(tensor).into(), 0.0).unwrap());
        let kind = OptimizerKind::Natural { momentum: 0.0 };
        let gradients: Vec<_> = gradients.into_iter().map(tensor).enumerate().collect();
        Optimizer::new(kind, StateMode::Keep, 0).with_fisher(Some(fisher)).update(&parameters, &gradients, kl);
        parameters.iter().flat_map(|p| Vec::<f64>::try_from(p.tensor.to_kind(Kind::Double)).unwrap()).collect()
    }

    #[test]
    fn a_natural_step_is_the_best_of_its_price() {
        let (f, g, kl) = ([2.0, 0.5, 8.0, 1.0], [0.3, -1.0, 2.0, 0.0], 1e-3);
        let narrow = |x: &[f64; 4]| x.map(|x| x as f32);
        let (f32s, g32s) = (narrow(&f), narrow(&g));
        let taken = natural_step([&f32s[..1], &f32s[1..]], [&g32s[..1], &g32s[1..]], [&[0.0], &[0.0; 3]], kl);
        let price = |step: &[f64]| step.iter().zip(f).map(|(d, f)| 0.5 * f * d * d).sum::<f64>();
        let gain = |step: &[f64]| -step.iter().zip(g).map(|(d, g)| d * g).sum::<f64>();
        assert!((price(&taken) / kl - 1.0).abs() < 1e-5);
        // METHOD §27: the best first-order decrease is sqrt(2 eps E).
        let efficiency: f64 = f.iter().zip(g).map(|(f, g)| g * g / f).sum();
        assert!((gain(&taken) / (2.0 * kl * efficiency).sqrt() - 1.0).abs() < 1e-5);
        for other in 0..200 {
            let step: Vec<f64> = (0..4).map(|i| (f64::from(other * 4 + i) * 12.9898).sin()).collect();
            let scale = (kl / price(&step)).sqrt();
            assert!(gain(&step) * scale <= gain(&taken) * (1.0 + 1e-5));
        }
    }

    #[test]
    fn under_the_identity_a_natural_step_is_one_of_sgd() {
        let taken = natural_step([&[1.0], &[1.0; 2]], [&[2.0], &[-1.0, 2.0]], [&[0.0], &[0.0; 2]], 0.02);
        // Length sqrt(2 kl) = 0.2 against the gradient, whose norm is 3.
        for (taken, gradient) in taken.into_iter().zip([2.0, -1.0, 2.0]) {
            assert!((taken + 0.2 * gradient / 3.0).abs() < 1e-6);
        }
    }

    /// `L = 1/2 sum_i h_i x_i^2`, `F = h`: a step leads straight to the minimum and leaves `(1 - sqrt(kl / L))^2 L`.
    #[test]
    fn a_natural_step_on_a_quadratic_bowl_has_a_closed_form() {
        let (h, x) = ([4.0f32, 0.25, 1.0], [0.5f32, -2.0, 1.0]);
        let g: Vec<f32> = h.iter().zip(x).map(|(h, x)| h * x).collect();
        let loss = |x: &[f64]| x.iter().zip(h).map(|(x, h)| 0.5 * f64::from(h) * x * x).sum::<f64>();
        let before = loss(&x.map(f64::from));
        for kl in [1e-3, 0.1, before] {
            let after = natural_step([&h[..1], &h[1..]], [&g[..1], &g[1..]], [&x[..1], &x[1..]], kl);
            let want = (1.0 - (kl / before).sqrt()).powi(2) * before;
            assert!((loss(&after) - want).abs() < 1e-6, "{kl}: {} for {want}", loss(&after));
        }
    }

    #[test]
    fn a_natural_step_without_a_gradient_changes_nothing() {
        assert_eq!(
            natural_step([&[1.0], &[1.0; 2]], [&[0.0], &[0.0; 2]], [&[0.5], &[0.25; 2]], 1.0),
            [0.5, 0.25, 0.25]
        );
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
