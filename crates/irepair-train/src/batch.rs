//! What a step draws: pairs, and utility text when the objective reads it.

use irepair_core::PaddedTokens;
use irepair_data::{EpochOrder, TokenPair, without_replacement};
use irepair_model::TokenBatch;
use irepair_objective::{Counts, Targets, TextLogits};
use tch::{Device, Tensor};

use crate::{Error, Result, Settings};

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
    /// Tokens of the longest text, prompt and continuation together.
    pub fn longest(&self) -> usize {
        let pairs = self.pairs.iter().chain(&self.validation);
        let pairs = pairs.map(|p| p.prompt.len() + p.chosen.len().max(p.rejected.len()));
        let utility = self.utility.iter().chain(&self.validation_utility).map(Vec::len);
        pairs.chain(utility).max().unwrap_or(0)
    }
}

/// A batch of texts on the device, with what may be scored.
#[derive(Debug)]
pub struct Text {
    /// Ids and real tokens.
    pub tokens: TokenBatch,
    /// `[batch, seq]` bool: tokens whose prediction may count.
    pub scored: Tensor,
    /// What sums over this text are divided by.
    pub counts: Counts,
    /// Where a prediction counts, and of which token.
    pub targets: Targets,
    /// Positions of the real tokens, into `[batch * seq]` laid flat; `[n]` int64.
    pub real_at: Tensor,
    /// Columns of prompt (with its left padding) before the continuations start.
    pub n_prompt_cols: usize,
}

impl Text {
    /// Lays out `prompt | continuation` rows (METHOD §2); with `skip_prompt` only continuation tokens are scored.
    ///
    /// # Errors
    /// When there is no token at all.
    pub fn new(
        prompts: &[Vec<u32>],
        continuations: &[Vec<u32>],
        pad_id: u32,
        skip_prompt: bool,
        device: Device,
    ) -> Result<Self> {
        let padded = PaddedTokens::prompted(prompts, continuations, pad_id)?;
        let n_cols = padded.n_cols();
        let n_prompt_cols = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let first_scored = if skip_prompt { n_prompt_cols } else { 0 };
        let scored: Vec<bool> =
            padded.real().iter().enumerate().map(|(i, &r)| r && i % n_cols >= first_scored).collect();
        let targets: Vec<usize> =
            (0..scored.len()).filter(|&i| i % n_cols != 0 && scored[i] && padded.real()[i - 1]).collect();
        let counts =
            Counts { targets: targets.len() as f64, tokens: padded.n_real() as f64, texts: padded.n_rows() as f64 };
        let on_device = |values: Vec<i64>| Tensor::from_slice(&values).to_device(device);
        let real_at = on_device((0i64..).zip(padded.real()).filter(|(_, real)| **real).map(|(i, _)| i).collect());
        let targets = Targets {
            at: on_device(targets.iter().map(|&i| i as i64 - 1).collect()),
            ids: on_device(targets.iter().map(|&i| padded.ids()[i]).collect()),
        };
        let scored = Tensor::from_slice(&scored).view([padded.n_rows() as i64, n_cols as i64]).to_device(device);
        Ok(Self { tokens: TokenBatch::new(&padded, device), scored, counts, targets, real_at, n_prompt_cols })
    }

    /// Texts without a prompt.
    ///
    /// # Errors
    /// As [`Text::new`].
    pub fn plain(texts: &[Vec<u32>], pad_id: u32, device: Device) -> Result<Self> {
        Self::new(&vec![Vec::new(); texts.len()], texts, pad_id, false, device)
    }

    /// Scores of positions `at` as `[batch, seq]`, 0 elsewhere.
    pub(crate) fn laid_out(&self, at: &Tensor, values: &Tensor) -> Tensor {
        let (n_rows, n_cols) = self.tokens.dims();
        let zeros = Tensor::zeros([n_rows * n_cols], (values.kind(), values.device()));
        zeros.index_copy(0, at, values).view([n_rows, n_cols])
    }

    /// The text beside some model's logits.
    pub fn with<'a>(&'a self, logits: &'a Tensor) -> TextLogits<'a> {
        TextLogits { ids: &self.tokens.ids, real: &self.tokens.real, scored: &self.scored, counts: self.counts, logits }
    }
}

/// One micro-batch.
#[derive(Debug)]
pub struct MicroBatch {
    /// Prompts with their chosen continuations, `X+`; none when the data have no chosen side.
    pub chosen: Option<Text>,
    /// The same prompts with their rejected continuations, `X-`; none when the data have no rejected side.
    pub rejected: Option<Text>,
    /// Utility text, `U`.
    pub utility: Option<Text>,
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
}

/// Lays out pairs and utility texts as a micro-batch.
pub(crate) fn micro_batch(
    pairs: &[&TokenPair],
    utility: &[Vec<u32>],
    pad_id: u32,
    skip_prompt: bool,
    device: Device,
) -> Result<MicroBatch> {
    let prompts: Vec<_> = pairs.iter().map(|p| p.prompt.clone()).collect();
    let side = |pick: fn(&TokenPair) -> &Vec<u32>| {
        let continuations: Vec<_> = pairs.iter().map(|p| pick(p).clone()).collect();
        let absent = continuations.iter().all(Vec::is_empty);
        if absent { Ok(None) } else { Text::new(&prompts, &continuations, pad_id, skip_prompt, device).map(Some) }
    };
    let utility = if utility.is_empty() { None } else { Some(Text::plain(utility, pad_id, device)?) };
    Ok(MicroBatch { chosen: side(|p| &p.chosen)?, rejected: side(|p| &p.rejected)?, utility })
}

/// Which texts a step draws, as indices into the `pairs` and `utility` of its [`RepairData`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Pairs, in the order of the batch.
    pub pairs: Vec<usize>,
    /// Utility texts.
    pub utility: Vec<usize>,
}

/// Draws step batches: a pure function of the step number.
pub struct Draw<'a> {
    data: &'a RepairData,
    order: EpochOrder,
    needs_utility: bool,
    device: Device,
}

impl<'a> Draw<'a> {
    /// A drawer over `data`; `needs_utility` says whether batches hold utility text.
    ///
    /// # Errors
    /// [`Error::TooLittle`] when there are no pairs, or fewer utility texts than one step takes.
    pub fn new(data: &'a RepairData, needs_utility: bool, settings: &Settings, device: Device) -> Result<Self> {
        if data.pairs.is_empty() {
            return Err(Error::TooLittle { what: "training pairs", want: 1, got: 0 });
        }
        let n = settings.n_utility() * settings.accumulation;
        if needs_utility && data.utility.len() < n {
            return Err(Error::TooLittle { what: "utility texts", want: n, got: data.utility.len() });
        }
        let order = EpochOrder::new(data.pairs.len(), settings.seed, settings.shuffle)?;
        Ok(Self { data, order, needs_utility, device })
    }

    /// `B` pairs without repeats within an epoch; `B` utility texts without repeats within the batch (METHOD §2 [D]).
    ///
    /// # Errors
    /// When there are too few utility texts, which [`Draw::new`] refuses.
    pub fn indices(&self, step: u64, settings: &Settings) -> Result<Drawn> {
        let pairs = self.order.batch(step, settings.batch_size * settings.accumulation);
        let utility = if self.needs_utility {
            let n_drawn = settings.n_utility() * settings.accumulation;
            if settings.shuffle {
                without_replacement(settings.seed, step, self.data.utility.len(), n_drawn)?
            } else {
                EpochOrder::new(self.data.utility.len(), settings.seed, false)?.batch(step, n_drawn)
            }
        } else {
            Vec::new()
        };
        Ok(Drawn { pairs, utility })
    }

    /// The texts of [`Draw::indices`], laid out.
    ///
    /// # Errors
    /// Only for batches without any token.
    pub fn at(&self, step: u64, settings: &Settings) -> Result<StepBatch> {
        let n_micro = settings.accumulation;
        let Drawn { pairs, utility } = self.indices(step, settings)?;
        let mut micro = Vec::with_capacity(n_micro);
        for m in 0..n_micro {
            let pairs: Vec<_> = share(&pairs, m, n_micro).iter().map(|&i| &self.data.pairs[i]).collect();
            let texts: Vec<_> = share(&utility, m, n_micro).iter().map(|&i| self.data.utility[i].clone()).collect();
            micro.push(micro_batch(&pairs, &texts, self.data.pad_id, settings.skip_prompt, self.device)?);
        }
        Ok(StepBatch::joined(micro))
    }
}

/// The `part`-th of `n_parts` nearly equal runs of `items`.
pub(crate) fn share<T>(items: &[T], part: usize, n_parts: usize) -> &[T] {
    &items[items.len() * part / n_parts..items.len() * (part + 1) / n_parts]
}
