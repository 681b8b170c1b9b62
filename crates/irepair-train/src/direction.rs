//! The direction of the residual stream in which rejected and chosen texts differ, where they differ most.

use irepair_core::{BlockId, PaddedTokens};
use irepair_data::TokenPair;
use irepair_model::{BlockModel, Probe, TextBatch, host};
use tch::{Kind, Tensor, no_grad};

use crate::{Error, RepairData, Result};

/// A direction of the residual stream.
#[derive(Debug)]
pub(crate) struct Direction {
    /// Its block: the direction is one of what comes out of it.
    pub(crate) block: BlockId,
    /// `[width]` float32, of norm 1.
    pub(crate) values: Tensor,
    /// How far it sets rejected and chosen texts apart, in standard deviations.
    pub(crate) effect: f64,
    /// Tokens of the texts it was made of; each was run twice.
    pub(crate) n_tokens: usize,
}

impl Direction {
    /// The direction from chosen to rejected continuations of the training pairs, in the block where it separates them
    /// best. Prompts are read and do not count, whether or not they count in the loss.
    ///
    /// # Errors
    /// [`Error::TooLittle`] with fewer than two texts on a side; [`Error::NoResidualStream`] for a model that does not
    /// show its blocks to a probe; [`Error::NoDirection`] when both sides have the same mean in every block.
    ///
    /// # Source
    /// METHOD §26 [O]: `r_l = (mu_l(X-) - mu_l(X+)) / |.|` over tokens; of each text its mean is projected on `r_l`,
    /// and the block with the largest effect size of these projections is taken, the lower one of equals.
    pub(crate) fn find(model: &dyn BlockModel, data: &RepairData, batch_size: usize) -> Result<Self> {
        let rejected = Texts::new(data, |pair| &pair.rejected, batch_size, "rejected texts")?;
        let chosen = Texts::new(data, |pair| &pair.chosen, batch_size, "chosen texts")?;
        no_grad(|| {
            let apart = rejected.mean(model)? - chosen.mean(model)?;
            // Where the means are the same this is NaN, and so is the effect size.
            let directions = &apart / apart.norm_scalaropt_dim(2, [-1].as_slice(), true);
            let of_rejected = rejected.projections(model, &directions)?;
            let of_chosen = chosen.projections(model, &directions)?;
            let effects: Vec<f64> = of_rejected.iter().zip(&of_chosen).map(|(a, b)| effect_size(a, b)).collect();
            let block = largest(&effects).ok_or(Error::NoDirection)?;
            let values = directions.select(0, block as i64).to_kind(Kind::Float);
            let n_tokens = rejected.n_tokens() + chosen.n_tokens();
            Ok(Self { block: BlockId(block), values, effect: effects[block], n_tokens })
        })
    }
}

/// Prompts with their continuations on one side of the pairs, in batches; every text has a token that counts.
struct Texts {
    batches: Vec<TextsOfBatch>,
    pad_id: u32,
}

/// Prompts, and continuations.
type TextsOfBatch = (Vec<Vec<u32>>, Vec<Vec<u32>>);

impl Texts {
    fn new(
        data: &RepairData,
        side: fn(&TokenPair) -> &Vec<u32>,
        batch_size: usize,
        what: &'static str,
    ) -> Result<Self> {
        // The first token of a text is predicted by nothing, and does not count.
        let counts = |pair: &&TokenPair| !side(pair).is_empty() && pair.prompt.len() + side(pair).len() > 1;
        let pairs: Vec<&TokenPair> = data.pairs.iter().filter(counts).collect();
        if pairs.len() < 2 {
            return Err(Error::TooLittle { what, want: 2, got: pairs.len() });
        }
        let batch = |pairs: &[&TokenPair]| pairs.iter().map(|p| (p.prompt.clone(), side(p).clone())).unzip();
        Ok(Self { batches: pairs.chunks(batch_size).map(batch).collect(), pad_id: data.pad_id })
    }

    fn n_tokens(&self) -> usize {
        let texts = self.batches.iter().flat_map(|(prompts, continuations)| prompts.iter().chain(continuations));
        texts.map(Vec::len).sum()
    }

    /// Gives `take` of every batch the sums over the tokens that count, `[block, text, width]` float64, and their
    /// numbers, `[text, 1]`.
    fn sums(&self, model: &dyn BlockModel, mut take: impl FnMut(Tensor, Tensor)) -> Result<()> {
        for (prompts, continuations) in &self.batches {
            let padded = PaddedTokens::prompted(prompts, continuations, self.pad_id)?.without_prompt_targets();
            let text = TextBatch::new(padded, model.device());
            let mut sums = CountedSums { not_counted: text.loss_mask.logical_not().unsqueeze(-1), blocks: Vec::new() };
            let _ = model.hidden_states_probed(&text, &mut sums);
            let (want, got) = (model.n_blocks(), sums.blocks.len());
            if want != got {
                let what = format!("the output of every block: its probe was shown {got} of {want}");
                return Err(Error::NoResidualStream { what });
            }
            let counts = text.loss_mask.sum_dim_intlist([1].as_slice(), true, Kind::Double);
            take(Tensor::stack(&sums.blocks, 0), counts);
        }
        Ok(())
    }

    /// Means over all tokens that count, `[block, width]` float64.
    fn mean(&self, model: &dyn BlockModel) -> Result<Tensor> {
        let (mut sum, mut n) = (Tensor::from(0.0), Tensor::from(0.0));
        (sum, n) = (sum.to_device(model.device()), n.to_device(model.device()));
        self.sums(model, |sums, counts| {
            sum = &sum + sums.sum_dim_intlist([1].as_slice(), false, Kind::Double);
            n = &n + counts.sum(Kind::Double);
        })?;
        Ok(sum / n)
    }

    /// By block: the mean of each text on the block's direction; `directions` is `[block, width]`.
    fn projections(&self, model: &dyn BlockModel, directions: &Tensor) -> Result<Vec<Vec<f64>>> {
        let mut batches = Vec::new();
        self.sums(model, |sums, counts| {
            batches.push((sums / counts).matmul(&directions.unsqueeze(-1)).squeeze_dim(-1))
        })?;
        let by_block = Tensor::cat(&batches, 1);
        let n_texts = by_block.size()[1] as usize;
        let values = host::numbers(&by_block.view(-1).unbind(0))?;
        Ok(values.chunks(n_texts).map(<[f64]>::to_vec).collect())
    }
}

/// Sums of the residual stream after each block over the tokens of each text that count.
struct CountedSums {
    /// `[batch, seq, 1]` bool.
    not_counted: Tensor,
    /// `[batch, width]` float64 each.
    blocks: Vec<Tensor>,
}

impl Probe for CountedSums {
    fn block(&mut self, _block: BlockId, _input: &Tensor, hidden: Tensor) -> Tensor {
        // Values at padded positions mean nothing, and may be NaN.
        let counted = hidden.masked_fill(&self.not_counted, 0.0);
        self.blocks.push(counted.sum_dim_intlist([1].as_slice(), false, Kind::Double));
        hidden
    }
}

/// `|mean a - mean b|` over their pooled standard deviation; NaN where both are 0.
fn effect_size(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let squares = |values: &[f64]| values.iter().map(|value| (value - mean(values)).powi(2)).sum::<f64>();
    let pooled = (squares(a) + squares(b)) / (a.len() + b.len()).saturating_sub(2) as f64;
    (mean(a) - mean(b)).abs() / pooled.sqrt()
}

/// The place of the largest number, the first of equals; NaN is none.
fn largest(numbers: &[f64]) -> Option<usize> {
    let numbers = numbers.iter().enumerate().filter(|(_, number)| !number.is_nan());
    let best = numbers.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effect_size_is_in_pooled_standard_deviations() {
        // Means 2 and 5, sums of squares 2 and 8 over 3 + 3 - 2 degrees of freedom.
        let d = effect_size(&[1.0, 2.0, 3.0], &[3.0, 5.0, 7.0]);
        assert!((d - 3.0 / 2.5f64.sqrt()).abs() < 1e-12, "{d}");
        assert_eq!(effect_size(&[1.0, 1.0], &[2.0, 2.0]), f64::INFINITY);
        assert!(effect_size(&[1.0, 1.0], &[1.0, 1.0]).is_nan());
    }

    #[test]
    fn the_block_that_separates_best_is_the_lowest_of_equals() {
        assert_eq!(largest(&[f64::NAN, 0.5, 2.0, 2.0, 1.0]), Some(2));
        assert_eq!(largest(&[0.1, 0.2, f64::INFINITY]), Some(2));
        assert_eq!(largest(&[f64::NAN, f64::NAN]), None);
    }
}
