//! The preparation of a repair, before any weight is read: pairs, steps, batches, memory.

use irepair_config::{Memory, Preset, RepairOptions, RepairPlan, Texts};
use irepair_core::SliceSize;
use irepair_core::spec::UnitKind;
use irepair_data::{
    Counts, EpochOrder, Limits, RecordFile, Sides, TextKind, TokenPair, read_token_pairs, split_validation,
};
use irepair_model::{Architecture, UnitMap};
use irepair_train::{Settings, division_of_state};

use crate::error::CliError;
use crate::memory::{self, gib};
use crate::model_dir::ModelDir;
use crate::run_dir::STATE;
use crate::utility::{documents, max_utility, room};
use crate::{method, notes};

/// Pairs held out when the user does not say: METHOD §17's 64 [D, L], but no more than a fifth of what there is.
const MOST_VALIDATION: usize = 64;

/// Longest prompt and longest continuation of chats, when the user does not say: the prompt of plain text is far
/// shorter (METHOD §17), and a chat's is not cut.
const CHAT_TOKENS: usize = 512;

/// Pairs looked at, over all steps, to find the widest batch.
const MOST_WALKED: usize = 50_000_000;

/// The texts of a repair, and its plan with what the user left open settled.
pub(crate) struct Prepared {
    pub(crate) plan: RepairPlan,
    pub(crate) pairs: Vec<TokenPair>,
    pub(crate) validation: Vec<TokenPair>,
    /// Utility texts given by the user, where the method reads any.
    pub(crate) utility: Option<Vec<Vec<u32>>>,
    /// What may be in memory, in bytes, where the weights do not fit and stay in their files.
    pub(crate) most_resident: Option<u64>,
}

impl Prepared {
    /// Reads and tokenises the texts, settles what `given` leaves open, says it on stderr, and refuses what cannot fit
    /// into the memory that `n_local` such processes share.
    pub(crate) fn new(
        dir: &ModelDir,
        given: &RepairOptions,
        mut plan: RepairPlan,
        n_local: usize,
    ) -> anyhow::Result<Self> {
        if !plan.method.trains() {
            return Ok(Self { plan, pairs: Vec::new(), validation: Vec::new(), utility: None, most_resident: None });
        }
        method::eligible(&plan, &dir.config)?;
        let n_positions = room(&plan, &dir.config);
        if let Some(got) = plan.soft_prefix.filter(|_| n_positions < 2) {
            // A text needs two positions: a token, and one that follows it.
            return Err(CliError::LongPrefix { n_positions: dir.config.n_positions, got }.into());
        }
        let path = plan.pairs.clone();
        let sides = sides(&plan);
        let columns = plan.columns.clone().unwrap_or_default();
        let file = RecordFile { path: &path, columns: &columns };
        let records = file.pairs(Some(&dir.tokenizer), sides)?;
        if records.kind() == TextKind::Chat {
            plan.max_prompt = given.max_prompt.unwrap_or(CHAT_TOKENS);
            plan.max_continuation = given.max_continuation.unwrap_or(CHAT_TOKENS);
        }
        if given.max_prompt.is_none() && given.max_continuation.is_none() {
            let half = (n_positions / 2).max(1);
            plan.max_prompt = plan.max_prompt.min(half);
            plan.max_continuation = plan.max_continuation.min(half);
            if records.kind() == TextKind::Chat && half < CHAT_TOKENS {
                tracing::info!(
                    "limits of chats: {half} tokens of a prompt and {half} of a continuation, half of the model's \
                     {n_positions} positions each, instead of {CHAT_TOKENS}; --max-prompt and --max-continuation divide them \
                     otherwise"
                );
            }
        }
        let unread = notes::of_unread(&path, records.unread_texts());
        let (pairs, counts) = read_token_pairs(records, &dir.tokenizer, limits(&plan))?;
        let n = pairs.len();
        // A KL budget is looked at where held-out pairs are: it needs one.
        let least = usize::from(plan.budget_kl.is_some() && n > 1);
        let n_held_out = given.n_validation.unwrap_or_else(|| (n / 5).clamp(least, MOST_VALIDATION));
        plan.n_validation = n_held_out;
        if n_held_out == 0 && (plan.budget_kl.take().is_some() || plan.preset == Some(Preset::Best)) {
            tracing::warn!("no pairs are held out, so no KL budget ends the run");
        }
        let (pairs, validation) = split_validation(pairs, n_held_out).map_err(|_| CliError::TooFew {
            what: "pairs",
            path: path.clone(),
            n_held_out,
            n,
            n_empty: counts.n_dropped_empty,
        })?;
        let held_out = if n_held_out == 0 { "none".to_owned() } else { format!("the last {n_held_out}") };
        tracing::info!(
            "{}: {} pairs to train on, {held_out} held out; {} prompts and {} continuations cut, {} dropped as empty",
            path.display(),
            pairs.len(),
            counts.n_truncated_prompts,
            counts.n_truncated_continuations,
            counts.n_dropped_empty
        );
        let Limits { max_prompt, prompt_side, .. } = limits(&plan);
        let cut = notes::of_cut_prompts(counts.n_truncated_prompts, counts.n_total, max_prompt, prompt_side);
        cut.iter().for_each(|note| tracing::info!("{note}"));
        say_forms(&counts, plan.append_eos);
        unread.iter().for_each(|note| tracing::warn!("{note}"));
        let compares = method::compares(&plan);
        notes::of_pairs(&path, &counts, sides, compares)?.iter().for_each(|note| tracing::warn!("{note}"));
        let path = plan.utility.as_deref().filter(|_| plan.reads_utility());
        let read = |path| documents(path, &dir.tokenizer, max_utility(&plan, &dir.config));
        let utility = path.map(read).transpose()?;
        let stays = !plan.policy.is_sliced() || plan.device != "cpu" || !dir.stores(plan.dtype);
        let prepared = Self { plan, pairs, validation, utility, most_resident: None };
        prepared.fit(&dir.config, given.batch_size.is_none(), !stays, n_local)
    }

    /// Chooses batches that fit into the memory there is, and says what the run will do.
    fn fit(
        mut self,
        config: &Architecture,
        batches_are_open: bool,
        may_stay: bool,
        n_local: usize,
    ) -> anyhow::Result<Self> {
        let free = memory::free(&self.plan.device, self.plan.memory_budget);
        // A budget is of one process.
        let n_sharing = if self.plan.memory_budget.is_none() { n_local as u64 } else { 1 };
        let free = free.map(|free| free / n_sharing);
        let mut memory = self.memory(config);
        // A run that continues keeps the division that it began with, whatever is free by now.
        let begun = division_of_state(&self.plan.out.join(STATE));
        let begun = begun.filter(|[pairs, parts]| pairs * parts == self.plan.batch_size * self.plan.accumulation);
        if let Some([pairs, parts]) = begun.filter(|_| batches_are_open) {
            (self.plan.batch_size, self.plan.accumulation) = (pairs, parts);
            memory = self.memory(config);
        }
        let batches_are_open = batches_are_open && begun.is_none();
        // Half the pairs in twice the micro-batches is the same step (METHOD §8).
        let halves = |plan: &RepairPlan| batches_are_open && plan.batch_size.is_multiple_of(2);
        while let Some(free) = free.filter(|&free| memory.total() > free) {
            let in_files = Memory { weights: least(config, &self.plan), ..memory };
            if may_stay && in_files.total() <= free {
                tracing::info!(
                    "memory: the weights ({}) do not fit and stay in their files, which are read block by block in every pass",
                    gib(memory.weights)
                );
                self.most_resident = Some(free - free / 16);
                memory = in_files;
                break;
            }
            if !halves(&self.plan) {
                break;
            }
            self.plan.accumulation *= 2;
            self.plan.batch_size /= 2;
            memory = self.memory(config);
        }
        let settings = method::settings(&self.plan, self.pairs.len());
        tracing::info!(
            "plan: {}, policy {}{}, {} steps of {} x {} pairs, learning rate {:e}",
            self.plan.method,
            self.plan.policy,
            self.slice(config),
            settings.n_steps,
            settings.accumulation,
            settings.batch_size,
            settings.lr
        );
        tracing::info!(
            "memory: about {} (weights {}, what the run changes {}, passes {}, program {}){}",
            gib(memory.total()),
            gib(memory.weights),
            gib(memory.reference + memory.gradients + memory.optimizer + memory.fisher + memory.best),
            gib(memory.activations),
            gib(memory.process),
            free.map_or(String::new(), |free| match n_sharing {
                1 => format!("; {} free", gib(free)),
                n => format!("; {} free for each of {n} ranks on this machine", gib(free)),
            })
        );
        let smaller = if self.plan.batch_size == 1 { "" } else { "a smaller --batch-size, " };
        let instead = format!(
            "shorter texts (--max-prompt, --max-continuation), {smaller}--dtype bf16 or a larger --memory-budget"
        );
        memory::fit(memory.total(), free, instead)?;
        Ok(self)
    }

    /// The number of blocks or units that a step may change, where it is a choice; a size that is no number of them is
    /// rounded.
    fn slice(&self, config: &Architecture) -> String {
        let options = RepairOptions::from(self.plan.clone());
        if !self.plan.policy.is_sliced() {
            return String::new();
        }
        let (kind, n_eligible) = (options.kind(), options.eligible(config).len());
        let (n, n_all) = (options.n_chosen(n_eligible), UnitMap::new(config).units(kind).count());
        let counted = if kind == UnitKind::Block { "blocks".to_owned() } else { format!("units of kind {kind}") };
        if let SliceSize::Blocks(asked) | SliceSize::Units(asked) = self.plan.top_k
            && asked > n_eligible
        {
            tracing::warn!(
                "--top-k {}: only {n_eligible} {counted} may be chosen, and each step changes all of them",
                self.plan.top_k
            );
        }
        let of = if n_eligible < n_all { format!("{n_eligible} that may be chosen") } else { n_all.to_string() };
        format!(" ({n} of {of} {counted} a step)")
    }

    fn memory(&self, config: &Architecture) -> Memory {
        let settings = method::settings(&self.plan, self.pairs.len());
        let (n, n_held_out) = (settings.batch_size, settings.eval_batch_size);
        let held_out: Vec<&TokenPair> = self.validation.iter().collect();
        let longest_utility = match &self.utility {
            Some(texts) => texts.iter().map(Vec::len).max().unwrap_or(0),
            None => max_utility(&self.plan, config),
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
        Memory::of(config, &RepairOptions::from(self.plan.clone()), &texts)
    }

    /// Tokens, padding included, of the widest batch that the run will draw.
    ///
    /// Where there are too many draws to look at them all, of a batch of the longest texts.
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

    /// Utility texts the run can use: one for every pair of every step, and a tenth more to validate on; or those of a
    /// Fisher matrix.
    pub(crate) fn n_utility(&self) -> usize {
        let settings = method::settings(&self.plan, self.pairs.len());
        let drawn = settings.n_steps as usize * settings.batch_size * settings.accumulation;
        let n_held_out = self.validation.len().max(1);
        let fisher = if self.plan.reads_fisher() { settings.fisher_texts + n_held_out } else { 0 };
        let reads = method::objective(&self.plan).is_some_and(|objective| objective.needs().utility);
        let drawn = if reads { drawn } else { 0 };
        drawn.saturating_add(drawn / 10).saturating_add(n_held_out).max(fisher)
    }
}

/// Says how pairs were read that are not three texts.
pub(crate) fn say_forms(counts: &Counts, append_eos: bool) {
    if counts.n_implicit > 0 {
        tracing::info!("each prompt is what both sides of its pair begin with");
    }
    let [n_desirable, n_undesirable] = counts.n_without_partner;
    if counts.n_labelled > 0 {
        tracing::info!(
            "labelled completions: {} pairs of equal prompts; without a partner: {n_desirable} desirable, {n_undesirable} \
             undesirable",
            counts.n_labelled
        );
    }
    if counts.n_dropped_long > 0 {
        tracing::warn!("{} chats left out: their prompts are longer than --max-prompt", counts.n_dropped_long);
    }
    if counts.n_chats > 0 {
        let ends = if append_eos { "; --append-eos adds nothing to them" } else { "" };
        tracing::info!("message lists, rendered by the model's chat template, which writes begin and end tokens{ends}");
    }
}

/// Tokens of a batch of pairs on its longer side, padding included.
fn padded(pairs: &[&TokenPair]) -> usize {
    let longest = |part: fn(&TokenPair) -> usize| pairs.iter().map(|pair| part(pair)).max().unwrap_or(0);
    pairs.len() * (longest(|p| p.prompt.len()) + longest(|p| p.chosen.len().max(p.rejected.len())))
}

/// The sides of pairs that a run reads: those of its loss, and those of a sensitivity, which measures rejected text.
pub(crate) fn sides(plan: &RepairPlan) -> Sides {
    let needs = method::objective(plan).map(|objective| objective.needs());
    let (chosen, rejected) = needs.map_or((true, true), |needs| (needs.chosen, needs.rejected));
    let measures = plan.policy.is_sliced();
    match (chosen || (measures && plan.sensitivity.reads_chosen()), rejected || measures) {
        (true, false) => Sides::Chosen,
        (false, true) => Sides::Rejected,
        _ => Sides::Both,
    }
}

/// The lengths that pairs are cut to, and whether they end.
pub(crate) fn limits(plan: &RepairPlan) -> Limits {
    Limits {
        max_prompt: plan.max_prompt,
        max_continuation: plan.max_continuation,
        append_eos: plan.append_eos,
        prompt_side: plan.prompt_side.unwrap_or_default(),
    }
}

/// Bytes of the weights that a pass needs at once, where all stay in their files: two blocks, and what is in no block.
fn least(config: &Architecture, plan: &RepairPlan) -> u64 {
    let (all, blocks) = (config.n_weights(), config.block_weights());
    let outside = all.saturating_sub(blocks.saturating_mul(config.n_block as u64));
    outside.saturating_add(blocks.saturating_mul(2)).saturating_mul(plan.dtype.n_bytes())
}
