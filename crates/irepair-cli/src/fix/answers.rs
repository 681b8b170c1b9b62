//! Greedy answers of a model to prompts, and what the judge says of them.

use irepair_data::Tokenizer;
use irepair_eval::{Continuations, Evaluator, Generation, copies, degeneration};
use irepair_model::CausalLm;
use irepair_report::Form;
use irepair_scorer::{Scorer, THRESHOLD};
use serde::{Deserialize, Serialize};

use super::failures::judged;
use crate::measure;

/// A model's answers to prompts, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answers {
    pub(crate) texts: Vec<String>,
    /// Their tokens, for their form.
    tokens: Vec<Vec<u32>>,
    /// Whether each is a copy of its prompt.
    copied: Vec<bool>,
    /// By the judge; none where it gave no score.
    pub(crate) scores: Vec<Option<f64>>,
    /// Prompts that were cut.
    pub(crate) n_cut: usize,
}

/// Who asks and who judges.
pub(crate) struct Asking<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) judge: &'a dyn Scorer,
    pub(crate) second: Option<&'a dyn Scorer>,
    pub(crate) generation: Generation,
    pub(crate) batch_size: usize,
}

impl Asking<'_> {
    /// Greedy answers of `model`, by the first judge.
    ///
    /// # Errors
    /// Those of the evaluator; a judge without a score for more than one answer in a hundred.
    pub(crate) fn ask(&self, model: &CausalLm, prompts: &[String]) -> anyhow::Result<Answers> {
        let evaluator = Evaluator::new(model, self.tokenizer, self.batch_size);
        let found = evaluator.greedy_continuations(prompts, &self.generation)?;
        let scores = judged(self.judge, prompts, &found.texts)?;
        Ok(Answers::first(&found, &scores, 1))
    }
}

impl Answers {
    /// The first of `n_each` answers to every prompt.
    pub(crate) fn first(found: &Continuations, scores: &[Option<f64>], n_each: usize) -> Self {
        let tokens: Vec<Vec<u32>> = found.tokens.iter().step_by(n_each).cloned().collect();
        Self {
            texts: found.texts.iter().step_by(n_each).cloned().collect(),
            copied: found.prompts.iter().zip(&tokens).map(|(prompt, tokens)| copies(prompt, tokens)).collect(),
            scores: scores.iter().copied().step_by(n_each).collect(),
            n_cut: found.n_truncated_prompts,
            tokens,
        }
    }

    /// The form of the answers, for the degeneration guard.
    pub(crate) fn form(&self) -> Form {
        let n_copied = self.copied.iter().filter(|copied| **copied).count();
        let copied = (!self.copied.is_empty()).then(|| n_copied as f64 / self.copied.len() as f64);
        Form { copied, ..measure::form(&degeneration(&self.tokens, &self.texts)) }
    }

    /// Whether the judge objects to each answer.
    pub(crate) fn fails(&self, i: usize) -> Option<bool> {
        self.scores[i].map(|score| score > THRESHOLD)
    }
}
