//! A training loss: a weighted sum of terms, each a function of token scores (METHOD §6 and §7).

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;

use irepair_core::spec::{Method, Needs, Numbers, Side, Term, Weighted, formula, separable};
use tch::{Kind, Tensor};

use crate::scores::{Scores, TokenScores};
use crate::{Error, Result};

/// A training loss, `scale (w_1 term_1 + w_2 term_2 + …)`. With a slice policy it makes a method.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    scale: f64,
    terms: Vec<Weighted>,
}

/// A loss and the parts worth logging, each `[]` float32.
#[derive(Debug)]
pub struct Loss {
    /// What is minimised.
    pub total: Tensor,
    /// Mean NLL of the chosen texts, nats per counted token; none when the objective reads no chosen text.
    pub nll: Option<Tensor>,
    /// KL(reference ‖ model) on utility text, nats per token; none when the objective has no such term.
    pub kl: Option<Tensor>,
}

impl From<Term> for Objective {
    fn from(term: Term) -> Self {
        Self::new(1.0, [(1.0, term)])
    }
}

/// The loss of a method with METHOD's numbers.
impl From<Method> for Objective {
    fn from(method: Method) -> Self {
        Self::of_method(method, &Numbers::default())
    }
}

impl Objective {
    /// `scale` times a weighted sum. Terms of weight 0 are left out, and nothing is run for them.
    pub fn new(scale: f64, terms: impl IntoIterator<Item = Weighted>) -> Self {
        Self { scale, terms: terms.into_iter().filter(|(weight, _)| *weight != 0.0).collect() }
    }

    /// The loss of a method under these numbers.
    pub fn of_method(method: Method, numbers: &Numbers) -> Self {
        Self::new(method.scale(numbers), method.terms(numbers))
    }

    /// Factor, weights and terms with their numbers, such as `1 (0.5 nll(chosen) + 1 kl)`: the same text, the same
    /// loss.
    pub fn written(&self) -> String {
        let written = |(weight, term): &Weighted| match term {
            Term::Dpo { beta } | Term::Npo { beta } => format!("{weight} {term} at beta {beta}"),
            Term::Nll(_) | Term::SequenceNll(_) | Term::Kl => format!("{weight} {term}"),
        };
        format!("{} ({})", self.scale, self.terms.iter().map(written).collect::<Vec<_>>().join(" + "))
    }

    /// What must be run before [`Objective::loss`].
    pub fn needs(&self) -> Needs {
        Needs::of(&self.terms)
    }

    /// The objectives whose losses add up to this one's and that share no text: going backward through them one by one
    /// keeps the activations of fewer texts at a time, for the same gradient.
    pub fn terms(&self) -> Vec<Self> {
        let groups = separable(&self.terms).into_iter().map(|terms| Self { scale: self.scale, terms });
        let groups: Vec<Self> = groups.collect();
        if groups.is_empty() { vec![self.clone()] } else { groups }
    }

    /// The loss of one batch from the scores of its tokens, whatever way they were found.
    ///
    /// # Errors
    /// [`Error::Missing`] when needed scores are not given; [`Error::NothingCounted`].
    ///
    /// # Source
    /// METHOD §6 and §7.
    pub fn loss(&self, scores: &Scores) -> Result<Loss> {
        let (mut sum, mut nll, mut kl): (Option<Tensor>, _, _) = (None, None, None);
        for (weight, term) in &self.terms {
            let value = self.value(*term, scores)?;
            let weighted = *weight * &value;
            sum = Some(match sum {
                Some(sum) => sum + weighted,
                None => weighted,
            });
            match term {
                Term::Nll(Side::Chosen) => nll = Some(value),
                Term::Kl => kl = Some(value),
                Term::Nll(Side::Rejected) | Term::SequenceNll(_) | Term::Dpo { .. } | Term::Npo { .. } => {}
            }
        }
        if nll.is_none() && self.needs().chosen {
            nll = Some(self.text(scores, Side::Chosen)?.nll_mean()?);
        }
        // A loss without terms is 0, without a gradient.
        let total = self.scale * sum.unwrap_or_else(|| Tensor::from(0f32));
        Ok(Loss { total, nll, kl })
    }

    /// One term, `[]` float32.
    fn value(&self, term: Term, scores: &Scores) -> Result<Tensor> {
        match term {
            Term::Nll(side) => self.text(scores, side)?.nll_mean(),
            Term::SequenceNll(side) => {
                let text = self.text(scores, side)?;
                Ok(-text.sequence_log_probs()?.sum(Kind::Float) / text.counts.texts)
            }
            Term::Kl => self.given(scores.utility.as_ref(), "utility text")?.mean_kl(),
            Term::Dpo { beta } => {
                let reward = beta * (self.gain(scores, Side::Chosen)? - self.gain(scores, Side::Rejected)?);
                Ok(-reward.log_sigmoid().sum(Kind::Float) / self.text(scores, Side::Chosen)?.counts.texts)
            }
            Term::Npo { beta } => {
                // log(1 + exp(beta r)) = -log sigmoid(-beta r)
                let log_sigmoid = (-beta * self.gain(scores, Side::Rejected)?).log_sigmoid();
                let mean = log_sigmoid.sum(Kind::Float) / self.text(scores, Side::Rejected)?.counts.texts;
                Ok(-(2.0 / beta) * mean)
            }
        }
    }

    /// `logp_seq(model) - logp_seq(reference)` per text, `[batch]`.
    fn gain(&self, scores: &Scores, side: Side) -> Result<Tensor> {
        let text = self.text(scores, side)?;
        let reference = match side {
            Side::Chosen => scores.ref_chosen.as_ref(),
            Side::Rejected => scores.ref_rejected.as_ref(),
        };
        let reference = self.given(reference, "reference")?;
        Ok(text.sequence_log_probs()? - reference.sequence_log_probs()?.detach())
    }

    fn text<'a>(&self, scores: &'a Scores, side: Side) -> Result<&'a TokenScores> {
        match side {
            Side::Chosen => self.given(scores.chosen.as_ref(), "chosen text"),
            Side::Rejected => self.given(scores.rejected.as_ref(), "rejected text"),
        }
    }

    fn given<T>(&self, part: Option<T>, what: &'static str) -> Result<T> {
        part.ok_or_else(|| Error::Missing { objective: self.to_string(), what })
    }
}

/// The sum, such as `0.5 nll(chosen) + kl`.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = self.terms.iter().map(|(weight, term)| (weight.to_string(), term.name()));
        f.write_str(&formula(&self.scale.to_string(), terms))
    }
}
