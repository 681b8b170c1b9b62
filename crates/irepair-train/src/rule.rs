//! The rules by which an optimizer changes weights, and what becomes of its state.

use irepair_model::round_stochastically;
use tch::{Kind, Tensor};

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
    pub(crate) fn has_square(self) -> bool {
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

/// What a number of updates gives, for a parameter or each of its rows.
pub(crate) type ByUpdates<'a> = dyn Fn(&dyn Fn(f64) -> f64) -> Tensor + 'a;

/// One update of one parameter, or of rows of it, by RMSprop or AdamW.
pub(crate) struct Rule<'a> {
    pub(crate) kind: OptimizerKind,
    pub(crate) mode: StateMode,
    /// [`State::by_updates`], this update included.
    pub(crate) by_updates: &'a ByUpdates<'a>,
    pub(crate) lr: f64,
    /// Of the draws that round weights of a narrow type.
    pub(crate) seed: u64,
}

impl Rule<'_> {
    /// Changes `weights`, `square` and `mean` in place.
    pub(crate) fn update(&self, weights: Tensor, gradient: &Tensor, mut square: Tensor, mean: Option<Tensor>) {
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
pub(crate) fn debias(rate: f64, n: f64) -> f64 {
    1.0 - rate.powf(n)
}

/// `weights <- keep weights - step`. Steps are mostly smaller than the spacing of bfloat16 numbers, where plain
/// rounding would drop them: weights of a narrow type are rounded by `seed` so that the mean is kept (DEVIATIONS D13).
pub(crate) fn apply(mut weights: Tensor, keep: f64, step: &Tensor, seed: u64) {
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
