//! The method's loss.

use irepair_objective::Objective;

/// Weights of IRepair's loss `s (beta NLL(chosen) + gamma KL(reference ‖ model; utility))`; METHOD §17's defaults [F].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IRepair {
    /// `beta`.
    pub beta: f64,
    /// `gamma`; 0 is the paper's "IRepair (no KL)".
    pub gamma: f64,
    /// `s`.
    pub scale: f64,
}

impl Default for IRepair {
    fn default() -> Self {
        Self { beta: 0.5, gamma: 1.0, scale: 1.0 }
    }
}

impl IRepair {
    /// The same without the KL constraint; no reference is run.
    #[must_use]
    pub fn without_kl(self) -> Self {
        Self { gamma: 0.0, ..self }
    }

    /// The loss as an objective of the engine (METHOD §6).
    pub fn objective(self) -> Objective {
        Objective::Repair { beta: self.beta, gamma: self.gamma, scale: self.scale }
    }
}
