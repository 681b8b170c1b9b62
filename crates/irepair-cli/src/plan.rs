//! What a repair is about to do, settled and said before any weight is read: pairs, steps, batches, memory.

use irepair_config::{Memory, RepairOptions, Texts};
use irepair_data::{EpochOrder, Limits, Sides, TokenPair, read_token_pairs, split_validation};
use irepair_model::Architecture;
use irepair_train::Settings;

use crate::memory::{self, gib};
use crate::method;
use crate::refusal::Refusal;
use crate::utility::{documents, max_utility};
use crate::weights::Described;

/// Pairs held out when the user does not say: METHOD §17's 64 [D, L], but no more than a fifth of what there is.
const MOST_VALIDATION: usize = 64;

/// Pairs looked at, over all steps, to find the widest batch.
const MOST_WALKED: usize = 50_000_000;

/// The pairs of a repair, split, and the settings with everything that was left open filled in.
pub(crate) struct Plan {
    pub(crate) options: RepairOptions,
    pub(crate) pairs: Vec<TokenPair>,
    pub(crate) validation: Vec<TokenPair>,
    /// Utility texts given by the user, where the method reads any.
    pub(crate) general: Option<Vec<Vec<u32>>>,
}

impl Plan {
    /// Reads and tokenises the pairs, settles what was left open, says it on stderr, and refuses what cannot fit.
    pub(crate) fn make(described: &Described, options: &RepairOptions) -> anyhow::Result<Self> {
        let mut options = options.clone();
        if !options.method().trains() {
            return Ok(Self { options, pairs: Vec::new(), validation: Vec::new(), general: None });
        }
        let Some(path) = options.pairs.clone() else { unreachable!("validated") };
        let sides = sides(&options);
        let limits = settle_limits(&mut options, &described.config);
        let (pairs, counts) = read_token_pairs(&path, &described.tokenizer, limits, sides)?;
        let n_validation = options.n_validation.unwrap_or_else(|| (pairs.len() / 5).min(MOST_VALIDATION));
        options.n_validation = Some(n_validation);
        let n = pairs.len();
        let (pairs, validation) = split_validation(pairs, n_validation).map_err(|_| Refusal::TooFew {
            what: "pairs",
            path: path.clone(),
            n_held_out: n_validation,
            n,
        })?;
        let held_out = if n_validation == 0 { "none".to_owned() } else { format!("the last {n_validation}") };
        tracing::info!(
            "{}: {} pairs to train on, {held_out} held out; {} prompts and {} continuations cut, {} dropped as empty",
            path.display(),
            pairs.len(),
            counts.n_truncated_prompts,
            counts.n_truncated_continuations,
            counts.n_dropped_empty
        );
        if sides == Sides::Both && counts.n_chosen_ended == 0 {
            tracing::warn!(
                "no chosen text ends with the end-of-text token, so the model may learn to write on: give --append-eos if they \
                 are whole texts"
            );
        }
        let needs_utility = method::objective(&options).is_some_and(|objective| objective.needs().utility);
        let tokenizer = &described.tokenizer;
        let general = options.general.as_deref().filter(|_| needs_utility);
        let general = general
            .map(|path| documents(path, tokenizer, described.eos_id, max_utility(&options, &described.config)))
            .transpose()?;
        let plan = Self { options, pairs, validation, general };
        plan.fit(&described.config)
    }

    /// Chooses batches that fit into the memory there is, and says what the run will do.
    fn fit(mut self, config: &Architecture) -> anyhow::Result<Self> {
        let free = memory::free(self.options.device().as_str(), self.options.memory_budget);
        let chooses = self.options.batch_size.is_none();
        let mut memory = self.memory(config);
        // Half the pairs in twice the micro-batches is the same step (METHOD §8).
        while chooses && free.is_some_and(|free| memory.total() > free) && self.options.batch_size().is_multiple_of(2) {
            self.options.accumulation = Some(self.options.accumulation() * 2);
            self.options.batch_size = Some(self.options.batch_size() / 2);
            memory = self.memory(config);
        }
        let settings = method::settings(&self.options, self.pairs.len());
        tracing::info!(
            "plan: {}, policy {}, {} steps of {} x {} pairs, learning rate {:e}",
            self.options.method(),
            self.options.policy(),
            settings.n_steps,
            settings.accumulation,
            settings.batch_size,
            settings.lr
        );
        tracing::info!(
            "memory: about {} (weights {}, what the run changes {}, passes {}, program {}){}",
            gib(memory.total()),
            gib(memory.weights),
            gib(memory.reference + memory.gradients + memory.optimizer + memory.best),
            gib(memory.activations),
            gib(memory.process),
            free.map_or(String::new(), |free| format!("; {} free", gib(free)))
        );
        let smaller = if self.options.batch_size() == 1 { "" } else { "a smaller --batch-size, " };
        let instead = format!(
            "shorter texts (--max-prompt, --max-continuation), {smaller}--dtype bf16 or a larger --memory-budget"
        );
        memory::fit(memory.total(), free, instead)?;
        Ok(self)
    }

    fn memory(&self, config: &Architecture) -> Memory {
        let settings = method::settings(&self.options, self.pairs.len());
        let (n, n_held_out) = (settings.batch_size, settings.eval_batch_size);
        let held_out: Vec<&TokenPair> = self.validation.iter().collect();
        let longest_utility = match &self.general {
            Some(texts) => texts.iter().map(Vec::len).max().unwrap_or(0),
            None => max_utility(&self.options, config),
        };
        let pairs = self.widest_batch(&settings);
        let held_out = held_out.chunks(n_held_out).map(padded).max().unwrap_or(0);
        let utility = n * longest_utility;
        let texts = Texts {
            pairs: pairs as u64,
            utility: utility as u64,
            held_out: held_out as u64,
            held_out_utility: (n_held_out.min(self.validation.len()) * longest_utility) as u64,
            longest: (pairs.max(utility) / n) as u64,
            accumulation: settings.accumulation as u64,
        };
        Memory::of(config, &self.options, &texts)
    }

    /// Tokens, padding included, of the widest batch that the run will draw: its draws are known beforehand.
    ///
    /// Of runs too long to walk through, that of a batch which holds the longest texts there are.
    fn widest_batch(&self, settings: &Settings) -> usize {
        let n_walked = (MOST_WALKED / self.pairs.len().max(1)) as u64;
        let order = EpochOrder::new(self.pairs.len(), settings.seed, settings.shuffle).ok();
        let Some(order) = order.filter(|_| settings.n_steps <= n_walked) else {
            let all: Vec<&TokenPair> = self.pairs.iter().collect();
            return padded(&all).div_ceil(all.len().max(1)) * settings.batch_size;
        };
        let widest = |step| {
            let drawn = order.batch(step, settings.batch_size * settings.accumulation);
            let drawn: Vec<&TokenPair> = drawn.into_iter().map(|i| &self.pairs[i]).collect();
            drawn.chunks(settings.batch_size).map(padded).max().unwrap_or(0)
        };
        (0..settings.n_steps).map(widest).max().unwrap_or(0)
    }

    /// Utility texts the run can use: one for every pair of every step, and a tenth more to validate on.
    pub(crate) fn n_utility(&self) -> usize {
        let settings = method::settings(&self.options, self.pairs.len());
        let drawn = settings.n_steps as usize * settings.batch_size * settings.accumulation;
        drawn.saturating_add(drawn / 10).saturating_add(self.validation.len().max(1))
    }
}

/// Tokens of a batch of pairs on its longer side, padding included.
fn padded(pairs: &[&TokenPair]) -> usize {
    let longest = |part: fn(&TokenPair) -> usize| pairs.iter().map(|pair| part(pair)).max().unwrap_or(0);
    pairs.len() * (longest(|p| p.prompt.len()) + longest(|p| p.chosen.len().max(p.rejected.len())))
}

/// The sides of pairs that a run reads: chosen texts for its loss, or for a sensitivity that compares.
pub(crate) fn sides(options: &RepairOptions) -> Sides {
    let reads_chosen = method::objective(options).is_none_or(|objective| objective.needs().chosen)
        || (options.policy().is_sliced() && options.sensitivity().reads_chosen());
    if reads_chosen { Sides::Both } else { Sides::Rejected }
}

/// The lengths asked for; where the user did not ask, no more than the model's context holds.
fn settle_limits(options: &mut RepairOptions, config: &Architecture) -> Limits {
    let n = config.n_positions;
    if options.max_prompt.is_none() && options.max_continuation.is_none() {
        options.max_prompt = Some(options.max_prompt().min(n / 2).max(1));
        options.max_continuation = Some(options.max_continuation().min(n / 2).max(1));
    }
    limits(options)
}

/// The lengths that pairs are cut to, and whether they end.
pub(crate) fn limits(options: &RepairOptions) -> Limits {
    let (max_prompt, max_continuation) = (options.max_prompt(), options.max_continuation());
    Limits { max_prompt, max_continuation, append_eos: options.append_eos() }
}
