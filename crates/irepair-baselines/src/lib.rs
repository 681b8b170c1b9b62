//! What IRepair is measured against: an objective, and the policy `all`.
//!
//! ```no_run,standalone_crate
//! # fn demo(model: &irepair_model::CausalLm, data: &irepair_train::RepairData) -> irepair_train::Result<()> {
//! use irepair_baselines::{Baseline, Unsliced};
//! use irepair_train::{Engine, Settings};
//!
//! let mut unsliced = Unsliced;
//! let mut engine = Engine::new(model, Baseline::Dpo { beta: 0.1 }.objective(), &mut unsliced, data, Settings::default())?;
//! engine.step()?;
//! # Ok(()) }
//! ```
//!
//! **Invariants.** A baseline takes no sensitivity pass and changes every parameter, embeddings included (METHOD §7 [D]).
//! **Boundary.** No loop: that is `irepair_train::Engine`, the same for every method.

use irepair_core::Scope;
use irepair_model::CausalLm;
use irepair_objective::Objective;
use irepair_train::{Identity, Localise, Result, StepBatch};

/// The methods of METHOD §7.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Baseline {
    /// Domain-adaptive training on the chosen texts.
    Dapt,
    /// DAPT under IRepair's loss, KL term and all, but unsliced.
    DaptKl {
        /// Weight of the NLL.
        beta: f64,
        /// Weight of the KL.
        gamma: f64,
        /// Overall factor.
        scale: f64,
    },
    /// Direct preference optimisation.
    Dpo {
        /// `beta_d`; 0.1 in the paper.
        beta: f64,
    },
    /// Negative preference optimisation.
    Npo {
        /// `beta_n`.
        beta: f64,
        /// Weight of the KL; 0 runs none.
        gamma: f64,
    },
    /// Ascent on the rejected texts.
    GradientAscent,
    /// Descent on the chosen, ascent on the rejected texts.
    GradientDifference,
}

impl Baseline {
    /// The baseline's loss.
    pub fn objective(self) -> Objective {
        match self {
            Self::Dapt => Objective::Dapt,
            Self::DaptKl { beta, gamma, scale } => Objective::Repair { beta, gamma, scale },
            Self::Dpo { beta } => Objective::Dpo { beta },
            Self::Npo { beta, gamma } => Objective::Npo { beta, gamma },
            Self::GradientAscent => Objective::GradientAscent,
            Self::GradientDifference => Objective::GradientDifference,
        }
    }
}

/// The policy `all`: every parameter at every step, and no pass to choose them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsliced;

impl Localise for Unsliced {
    fn localise(&mut self, _model: &CausalLm, _batch: &StepBatch, _step: u64) -> Result<Scope> {
        Ok(Scope::Everything)
    }
    fn identity(&self) -> Identity {
        Identity::default().with("the policy", "all")
    }
}
