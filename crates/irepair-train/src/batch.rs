//! The texts of a run, and the batches that a step works on.

use irepair_core::{Counts, PaddedTokens};
use irepair_data::TokenPair;
use irepair_model::TextBatch;
use tch::Device;

use crate::Result;

/// Tokenised training and validation data of a run. No text stands in both halves of a kind.
#[derive(Clone, Debug, Default)]
pub struct RepairData {
    /// Pairs to train on.
    pub pairs: Vec<TokenPair>,
    /// Held-out pairs (METHOD §2: the last 64).
    pub validation: Vec<TokenPair>,
    /// Utility texts for the KL term.
    pub utility: Vec<Vec<u32>>,
    /// Held-out utility texts.
    pub validation_utility: Vec<Vec<u32>>,
    /// Token that fills padding; never scored.
    pub pad_id: u32,
}

impl RepairData {
    /// Texts to train on, each the chosen side of a pair without prompt; nothing is held out.
    pub fn of_texts(texts: impl IntoIterator<Item = Vec<u32>>, pad_id: u32) -> Self {
        let pair = |chosen| TokenPair { prompt: Vec::new(), chosen, rejected: Vec::new() };
        Self { pairs: texts.into_iter().map(pair).collect(), pad_id, ..Self::default() }
    }

    /// Tokens of the longest text, prompt and continuation together.
    pub fn longest(&self) -> usize {
        let pairs = self.pairs.iter().chain(&self.validation);
        let pairs = pairs.map(|p| p.prompt.len() + p.chosen.len().max(p.rejected.len()));
        let utility = self.utility.iter().chain(&self.validation_utility).map(Vec::len);
        pairs.chain(utility).max().unwrap_or(0)
    }
}

/// One micro-batch.
#[derive(Debug)]
pub struct MicroBatch {
    /// Prompts with their chosen continuations, `X+`; none when the data have no chosen side.
    pub chosen: Option<TextBatch>,
    /// The same prompts with their rejected continuations, `X-`; none when the data have no rejected side.
    pub rejected: Option<TextBatch>,
    /// Utility text, `U`.
    pub utility: Option<TextBatch>,
}

/// Everything one step works on: one micro-batch, or several whose gradients add up.
#[derive(Debug)]
pub struct StepBatch {
    /// The micro-batches; their counts are those of the whole step.
    pub micro: Vec<MicroBatch>,
}

impl StepBatch {
    /// Makes every micro-batch divide by the counts of all of them together (METHOD §8).
    pub(crate) fn joined(mut micro: Vec<MicroBatch>) -> Self {
        let mut totals = [Counts::default(); 3];
        for m in &micro {
            for (total, text) in totals.iter_mut().zip([&m.chosen, &m.rejected, &m.utility]) {
                *total += text.as_ref().map_or(Counts::default(), |t| t.counts);
            }
        }
        for m in &mut micro {
            for (total, text) in totals.iter().zip([&mut m.chosen, &mut m.rejected, &mut m.utility]) {
                if let Some(text) = text {
                    text.counts = *total;
                }
            }
        }
        Self { micro }
    }

    /// The first micro-batch as a step of its own, with its own counts.
    #[must_use]
    pub fn first(&self) -> Self {
        let alone = |text: &Option<TextBatch>| text.as_ref().map(|text| TextBatch::stacked(&[text]));
        let first = self.micro.first().map(|MicroBatch { chosen, rejected, utility }| MicroBatch {
            chosen: alone(chosen),
            rejected: alone(rejected),
            utility: alone(utility),
        });
        Self { micro: first.into_iter().collect() }
    }
}

/// Lays out pairs and utility texts as a micro-batch on `device`.
pub(crate) fn micro_batch(
    pairs: &[&TokenPair],
    utility: &[Vec<u32>],
    pad_id: u32,
    skip_prompt: bool,
    device: Device,
) -> Result<MicroBatch> {
    let prompts: Vec<_> = pairs.iter().map(|p| p.prompt.clone()).collect();
    let side = |pick: fn(&TokenPair) -> &Vec<u32>| -> Result<Option<TextBatch>> {
        let continuations: Vec<_> = pairs.iter().map(|p| pick(p).clone()).collect();
        if continuations.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let padded = PaddedTokens::prompted(&prompts, &continuations, pad_id)?;
        let padded = if skip_prompt { padded.without_prompt_targets() } else { padded };
        Ok(Some(TextBatch::new(padded, device)))
    };
    let utility = if utility.is_empty() { None } else { Some(PaddedTokens::right_padded(utility, pad_id)?) };
    let utility = utility.map(|padded| TextBatch::new(padded, device));
    Ok(MicroBatch { chosen: side(|p| &p.chosen)?, rejected: side(|p| &p.rejected)?, utility })
}
