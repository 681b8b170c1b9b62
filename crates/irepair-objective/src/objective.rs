//! The objectives of METHOD §6 and §7, each a function of the token scores it asks for.

use tch::{Kind, Tensor};

use crate::scores::{Scores, TokenScores, Views};
use crate::{Error, Result};

/// A training loss. With a slice policy it makes a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// `s (beta NLL(chosen) + gamma KL(reference ‖ model; utility))`: IRepair and DAPT+KL (METHOD §6 [D]).
    Repair {
        /// Weight of the NLL, `beta` (METHOD §17: 0.5 [F]).
        beta: f64,
        /// Weight of the KL, `gamma` (METHOD §17: 1.0 [F]); 0 runs no reference, as in "IRepair (no KL)".
        gamma: f64,
        /// Overall factor `s` (METHOD §17: 1.0 [F]).
        scale: f64,
    },
    /// `-mean_b logp_seq(chosen)`: sum over tokens, mean over texts (METHOD §7 [D]).
    Dapt,
    /// Direct preference optimisation (METHOD §7 [D, L]).
    Dpo {
        /// `beta_d` (METHOD §17: 0.1 [D, L]).
        beta: f64,
    },
    /// Negative preference optimisation, with an optional KL term (METHOD §7, arXiv 2404.05868).
    Npo {
        /// `beta_n` (0.1 in that paper).
        beta: f64,
        /// Weight of the KL on utility text; 0 runs none.
        gamma: f64,
    },
    /// `-NLL(rejected)`: unlearning by ascent, a control (METHOD §7).
    GradientAscent,
    /// `NLL(chosen) - NLL(rejected)`, a control (METHOD §7).
    GradientDifference,
}

/// Which texts an objective reads, and under which models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The chosen texts under the model.
    pub chosen: bool,
    /// The rejected texts under the model.
    pub rejected: bool,
    /// The chosen texts under the reference.
    pub ref_chosen: bool,
    /// The rejected texts under the reference.
    pub ref_rejected: bool,
    /// Utility texts under the model and the reference.
    pub utility: bool,
}

impl Needs {
    /// True when a frozen copy of the starting model must be kept.
    pub fn reference(self) -> bool {
        self.ref_chosen || self.ref_rejected || self.utility
    }
}

/// A loss and the parts worth logging, each `[]` float32.
#[derive(Debug)]
pub struct Loss {
    /// What is minimised.
    pub total: Tensor,
    /// Mean NLL of the chosen texts, nats per counted token; none when the objective has no such term.
    pub nll: Option<Tensor>,
    /// KL(reference ‖ model) on utility text, nats per token; none when the objective has no such term.
    pub kl: Option<Tensor>,
}

impl Objective {
    /// The objective's name in logs and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Repair { gamma: 0.0, .. } => "repair-no-kl",
            Self::Repair { .. } => "repair",
            Self::Dapt => "dapt",
            Self::Dpo { .. } => "dpo",
            Self::Npo { .. } => "npo",
            Self::GradientAscent => "gradient-ascent",
            Self::GradientDifference => "gradient-difference",
        }
    }

    /// What must be run before [`Objective::loss`].
    pub fn needs(&self) -> Needs {
        let none = Needs::default();
        match *self {
            Self::Repair { beta, gamma, .. } => Needs { chosen: beta != 0.0, utility: gamma != 0.0, ..none },
            Self::Dapt => Needs { chosen: true, ..none },
            Self::Dpo { .. } => Needs { chosen: true, rejected: true, ref_chosen: true, ref_rejected: true, ..none },
            Self::Npo { gamma, .. } => Needs { rejected: true, ref_rejected: true, utility: gamma != 0.0, ..none },
            Self::GradientAscent => Needs { rejected: true, ..none },
            Self::GradientDifference => Needs { chosen: true, rejected: true, ..none },
        }
    }

    /// The objectives whose losses add up to this one's, each on one text: going backward term by term keeps the activations
    /// of one text at a time, for the same gradient. A loss that is no sum is its own only term.
    pub fn terms(&self) -> Vec<Self> {
        let kl = |gamma: f64, scale: f64| Self::Repair { beta: 0.0, gamma, scale };
        let terms = match *self {
            Self::Repair { beta, gamma, scale } => vec![Self::Repair { beta, gamma: 0.0, scale }, kl(gamma, scale)],
            Self::Npo { beta, gamma } => vec![Self::Npo { beta, gamma: 0.0 }, kl(gamma, 1.0)],
            Self::GradientDifference => {
                vec![Self::Repair { beta: 1.0, gamma: 0.0, scale: 1.0 }, Self::GradientAscent]
            }
            whole => vec![whole],
        };
        let terms: Vec<Self> = terms.into_iter().filter(|term| term.needs() != Needs::default()).collect();
        if terms.is_empty() { vec![*self] } else { terms }
    }

    /// The loss of one batch.
    ///
    /// # Errors
    /// [`Error::Missing`] when a needed view is not given; shape and counting errors of the parts.
    ///
    /// # Source
    /// METHOD §6 and §7.
    pub fn loss(&self, views: &Views<'_>) -> Result<Loss> {
        self.of(&Scores::from_logits(self, views)?)
    }

    /// The loss of one batch from the scores of its tokens, whatever way they were found.
    ///
    /// # Errors
    /// As [`Objective::loss`].
    pub fn of(&self, scores: &Scores) -> Result<Loss> {
        let chosen = || self.given(scores.chosen.as_ref(), "chosen text");
        let rejected = || self.given(scores.rejected.as_ref(), "rejected text");
        match *self {
            Self::Repair { beta, gamma, scale } => {
                let nll = if beta == 0.0 { None } else { Some(chosen()?.nll_mean()?) };
                let kl = self.kl(gamma, scores)?;
                let total = scale * (weighted(beta, nll.as_ref()) + weighted(gamma, kl.as_ref()));
                Ok(Loss { total, nll, kl })
            }
            Self::Dapt => {
                let chosen = chosen()?;
                let total = -chosen.sequence_log_probs()?.sum(Kind::Float) / chosen.counts.texts;
                Ok(Loss { total, nll: Some(chosen.nll_mean()?), kl: None })
            }
            Self::Dpo { beta } => {
                let chosen = chosen()?;
                let gain_chosen = self.gain(chosen, scores.ref_chosen.as_ref())?;
                let gain_rejected = self.gain(rejected()?, scores.ref_rejected.as_ref())?;
                let total =
                    -(beta * (gain_chosen - gain_rejected)).log_sigmoid().sum(Kind::Float) / chosen.counts.texts;
                Ok(Loss { total, nll: Some(chosen.nll_mean()?), kl: None })
            }
            Self::Npo { beta, gamma } => {
                let rejected = rejected()?;
                let gain = self.gain(rejected, scores.ref_rejected.as_ref())?;
                let kl = self.kl(gamma, scores)?;
                // log(1 + exp(beta r)) = -log sigmoid(-beta r)
                let mean = (-beta * gain).log_sigmoid().sum(Kind::Float) / rejected.counts.texts;
                Ok(Loss { total: -(2.0 / beta) * mean + weighted(gamma, kl.as_ref()), nll: None, kl })
            }
            Self::GradientAscent => Ok(Loss { total: -rejected()?.nll_mean()?, nll: None, kl: None }),
            Self::GradientDifference => {
                let nll = chosen()?.nll_mean()?;
                let total = &nll - rejected()?.nll_mean()?;
                Ok(Loss { total, nll: Some(nll), kl: None })
            }
        }
    }

    pub(crate) fn given<T>(&self, part: Option<T>, what: &'static str) -> Result<T> {
        part.ok_or(Error::Missing { objective: self.name(), what })
    }

    /// `logp_seq(model) - logp_seq(reference)` per text, `[batch]`.
    fn gain(&self, text: &TokenScores, reference: Option<&Tensor>) -> Result<Tensor> {
        let reference = TokenScores { values: self.given(reference, "reference")?.detach(), counts: text.counts };
        Ok(text.sequence_log_probs()? - reference.sequence_log_probs()?)
    }

    fn kl(&self, gamma: f64, scores: &Scores) -> Result<Option<Tensor>> {
        if gamma == 0.0 { Ok(None) } else { self.given(scores.utility.as_ref(), "utility text")?.mean_kl().map(Some) }
    }
}

fn weighted(weight: f64, term: Option<&Tensor>) -> Tensor {
    term.map_or_else(|| Tensor::from(0f32), |term| weight * term)
}
