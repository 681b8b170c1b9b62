//! RMSprop and AdamW; a block that is not updated keeps its state as it is.

use std::collections::BTreeMap;

use irepair_model::{Parameter, round_stochastically, seed_of};
use tch::{Device, Kind, Tensor, no_grad};

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
}

impl OptimizerKind {
    /// RMSprop with METHOD §17's constants.
    pub fn rmsprop() -> Self {
        Self::RmsProp { alpha: 0.99, eps: 1e-8 }
    }

    /// AdamW with PyTorch's constants and the given decay.
    pub fn adamw(weight_decay: f64) -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay }
    }
}

/// What becomes of a parameter's state while its block is not selected (METHOD §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateMode {
    /// Kept as it is and not decayed: the published code's behaviour [D].
    Keep,
    /// Forgotten when the block comes back after a pause [O].
    Reset,
    /// Kept, and the squared average is divided by `1 - alpha^n` with `n` the updates so far [O]. AdamW always does
    /// this, so that [`Settings`](crate::Settings) with both are refused.
    Debias,
}

/// State of one parameter; made at its first update.
#[derive(Debug)]
struct State {
    /// Running mean of the gradient (AdamW only).
    mean: Option<Tensor>,
    /// Running mean of the squared gradient.
    square: Tensor,
    n_updates: u64,
    last_update: u64,
}

/// Elements updated at a time on a CPU: few enough for small temporaries, enough to be worth waking the threads for.
const CHUNK: i64 = 1 << 19;

/// One update of one parameter.
struct Rule {
    kind: OptimizerKind,
    mode: StateMode,
    /// Updates of this parameter, this one included.
    n_updates: f64,
    lr: f64,
    /// Of the draws that round weights of a narrow type.
    seed: u64,
}

impl Rule {
    /// Changes `weights`, `square` and `mean` in place.
    fn update(&self, weights: Tensor, gradient: &Tensor, mut square: Tensor, mean: Option<Tensor>) {
        let lr = self.lr;
        let debias = |rate: f64| 1.0 - rate.powf(self.n_updates);
        match self.kind {
            OptimizerKind::RmsProp { alpha, eps } => {
                let mut squared = gradient.square();
                let _ = square.g_mul_scalar_(alpha).g_add_(&squared.g_mul_scalar_(1.0 - alpha));
                let mut root = match self.mode {
                    StateMode::Debias => (square / debias(alpha)).sqrt(),
                    StateMode::Keep | StateMode::Reset => square.sqrt(),
                };
                let step = (gradient * lr).g_div_(&root.g_add_scalar_(eps));
                self.apply(weights, 1.0, &step);
            }
            OptimizerKind::AdamW { beta1, beta2, eps, weight_decay } => {
                let mut mean = mean.unwrap_or_else(|| gradient.zeros_like());
                let _ = mean.g_mul_scalar_(beta1).g_add_(&(gradient * (1.0 - beta1)));
                let _ = square.g_mul_scalar_(beta2).g_add_(&(gradient.square() * (1.0 - beta2)));
                let root = (square / debias(beta2)).sqrt() + eps;
                self.apply(weights, 1.0 - lr * weight_decay, &(mean * (lr / debias(beta1)) / root));
            }
        }
    }

    /// `weights <- keep weights - step`. Steps are mostly smaller than the spacing of bfloat16 numbers, where plain
    /// rounding would drop them: weights of a narrow type are rounded so that the mean is kept (DEVIATIONS D13).
    fn apply(&self, mut weights: Tensor, keep: f64, step: &Tensor) {
        if weights.kind() == Kind::Float {
            if keep != 1.0 {
                let _ = weights.g_mul_scalar_(keep);
            }
            let _ = weights.g_sub_(step);
        } else {
            let mut exact = weights.to_kind(Kind::Float);
            let _ = exact.g_mul_scalar_(keep).g_sub_(step);
            weights.copy_(&round_stochastically(&exact, weights.kind(), self.seed));
        }
    }
}

/// An optimizer over a model's parameters, by index. A parameter that gets no gradient is not touched in any way.
#[derive(Debug)]
pub struct Optimizer {
    seed: u64,
    kind: OptimizerKind,
    mode: StateMode,
    states: BTreeMap<usize, State>,
    n_calls: u64,
}

impl Optimizer {
    /// An optimizer without state. `seed` is of the draws that round weights narrower than float32; others read none.
    pub fn new(kind: OptimizerKind, mode: StateMode, seed: u64) -> Self {
        Self { seed, kind, mode, states: BTreeMap::new(), n_calls: 0 }
    }

    /// Updates the parameters that have a gradient, in place, with learning rate `lr`.
    ///
    /// `gradients` holds `(parameter index, gradient)` with gradients shaped as their parameters.
    pub fn update(&mut self, parameters: &[Parameter], gradients: &[(usize, Tensor)], lr: f64) {
        self.n_calls += 1;
        no_grad(|| {
            for (index, gradient) in gradients {
                let mut weights = parameters[*index].tensor.detach();
                self.update_one(*index, &mut weights, gradient, lr);
            }
        });
    }

    fn update_one(&mut self, index: usize, weights: &mut Tensor, gradient: &Tensor, lr: f64) {
        let (kind, mode, now) = (self.kind, self.mode, self.n_calls);
        // Squared gradients underflow in half precision: state and arithmetic are float32 there too.
        let zeros = || Tensor::zeros(gradient.size(), (Kind::Float, gradient.device()));
        let fresh = || State {
            mean: matches!(kind, OptimizerKind::AdamW { .. }).then(zeros),
            square: zeros(),
            n_updates: 0,
            last_update: now,
        };
        let state = self.states.entry(index).or_insert_with(fresh);
        if mode == StateMode::Reset && state.last_update + 1 < now {
            *state = fresh();
        }
        state.n_updates += 1;
        state.last_update = now;
        let rule = |part: usize| {
            let seed = seed_of(&[self.seed, now, index as u64, part as u64]);
            Rule { kind, mode, n_updates: state.n_updates as f64, lr, seed }
        };
        // A chunk at a time: temporaries as large as an embedding would double the memory.
        let n = if weights.device() == Device::Cpu { CHUNK } else { weights.numel().max(1) as i64 };
        let parts = |tensor: &Tensor| tensor.view(-1).split(n, 0).into_iter();
        let mut means = state.mean.as_ref().map(parts);
        let all = parts(weights).zip(parts(&gradient.contiguous())).zip(parts(&state.square));
        for (part, ((weights, gradient), square)) in all.enumerate() {
            rule(part).update(weights, &gradient.to_kind(Kind::Float), square, means.as_mut().and_then(Iterator::next));
        }
    }

    /// Parameters that have state, that is, were ever updated.
    pub fn updated(&self) -> impl Iterator<Item = usize> + '_ {
        self.states.keys().copied()
    }

    /// Bytes of optimizer state.
    pub fn n_state_bytes(&self) -> usize {
        self.states.values().map(|s| s.square.numel() * 4 * (1 + usize::from(s.mean.is_some()))).sum()
    }

    /// State tensors by `(parameter, "mean" | "square")`, for a checkpoint.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (usize, &'static str, &Tensor)> + '_ {
        self.states.iter().flat_map(|(&index, state)| {
            let mean = state.mean.as_ref().map(|t| (index, "mean", t));
            mean.into_iter().chain([(index, "square", &state.square)])
        })
    }

    /// `(calls, [(parameter, updates, last update)])`, for a checkpoint.
    pub(crate) fn counters(&self) -> (u64, Vec<(usize, u64, u64)>) {
        (self.n_calls, self.states.iter().map(|(&i, s)| (i, s.n_updates, s.last_update)).collect())
    }

    /// This optimizer with the state that [`Optimizer::tensors`] and [`Optimizer::counters`] gave; `take` finds a
    /// tensor. None when one is missing, or the counters count more updates than there were.
    pub(crate) fn restored(
        &self,
        (n_calls, counters): (u64, Vec<(usize, u64, u64)>),
        mut take: impl FnMut(usize, &'static str) -> Option<Tensor>,
    ) -> Option<Self> {
        let mut states = BTreeMap::new();
        for (index, n_updates, last_update) in counters {
            if n_updates > n_calls || last_update > n_calls {
                return None;
            }
            let mean = match self.kind {
                OptimizerKind::AdamW { .. } => Some(take(index, "mean")?),
                OptimizerKind::RmsProp { .. } => None,
            };
            states.insert(index, State { mean, square: take(index, "square")?, n_updates, last_update });
        }
        Some(Self { seed: self.seed, kind: self.kind, mode: self.mode, states, n_calls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn decay_touches_only_what_has_a_gradient() {
        let (parameters, mut optimizer) =
            (parameter(1.0), Optimizer::new(OptimizerKind::adamw(0.5), StateMode::Keep, 0));
        assert_eq!(step(&mut optimizer, &parameters, None), 0.0);
        // One AdamW step: decay eta * 0.5 * theta, then eta.
        assert!((step(&mut optimizer, &parameters, Some(2.0)) - (0.005 + 0.01)).abs() < 1e-6);
    }
}
