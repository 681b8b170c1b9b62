//! Settings of `irepair repair`.

use std::path::PathBuf;

use irepair_arch::{Architecture, UnitMap};
use irepair_core::spec::{Measures, Needs, Number, Numbers, Reach, UnitKind, Weighted};
use irepair_core::{Columns, SliceSize, Unit, UnitList};

use crate::names::entry;
use crate::{
    Checks, Dtype, Localising, Method, Metric, Optimizer, OptimizerState, Policy, Preset, PromptSide, Validate,
};

options! {
    /// Settings of a repair: what to train on, how, and for how long.
    pub struct RepairOptions => RepairPlan(this) {
        /// Directory of the model to repair (`config.json`, `model.safetensors` or its shards, and the tokenizer), or
        /// a name of the hub that is in its cache on this machine.
        model: PathBuf as "DIR" [required],
        /// Preference pairs with `prompt`, `chosen` and `rejected` (METHOD §2): JSONL, a JSON list, CSV or Parquet;
        /// message lists and labelled completions too (docs/FILES.md).
        pairs: PathBuf as "FILE" [required],
        /// Names that the keys of pairs and prompts have in the files, such as
        /// `prompt=question,chosen=good,rejected=bad` (docs/FILES.md).
        columns: Columns as "KEY=NAME,...",
        /// Utility texts: neutral text on which the KL term keeps the model as it was (METHOD §2). Without it, texts
        /// are sampled from the model itself.
        #[arg(value_name = "FILE", alias = "general")]
        #[serde(alias = "general")]
        utility: PathBuf,
        /// Directory the repaired model is written to.
        out: PathBuf as "DIR" [required],
        /// Also write the changed tensors, as a patch file of kind xor that `irepair patch` applies and reverts (METHOD
        /// §14).
        patch: PathBuf as "FILE",
        /// Settings that stand where none are given. Without it, best, or paper where a method is given, or what the
        /// paper's methods alone read: policy, slice, sensitivity, beta, gamma, scale.
        preset: Preset,
        /// What to train (METHOD §6, §7). Default irepair, dpo under preset best.
        #[arg(value_name = "METHOD", value_parser = entry::<Method>())]
        method: Method = Method::Irepair,
        /// Which blocks each step may change (METHOD §5). Default dynamic for irepair, irepair-no-kl and the sliced
        /// methods, all for the others.
        #[arg(value_name = "POLICY", value_parser = entry::<Policy>())]
        policy: Policy = this.method().row().policy,
        /// Kind of units that a slice is made of: of heads and neurons only their rows and columns change (METHOD §23
        /// [O]). Without it, blocks.
        #[arg(value_name = "KIND", value_parser = entry::<UnitKind>())]
        unit: UnitKind,
        /// Blocks, or units of kind `unit`, that a slice may hold, as numbers from 0 and ranges: `0,3-5`, `3.head.0-4`;
        /// a block or a half stands for the units in it (METHOD §5 [O]). Without it, all of them. With policy blocks,
        /// these are changed at every step.
        only: UnitList as "UNITS",
        /// Blocks or units that no slice may hold, written as those of `only` (METHOD §5 [O]).
        exclude: UnitList as "UNITS",
        /// Blocks or units per slice: `3b` is three blocks, `3u` three units of kind `unit`, a bare number or `20%` is
        /// percent of those that may be chosen (METHOD §17 [D]). The most of them under policy coverage, not read by
        /// blocks and all. Default 1b, 1u for units below the block.
        #[arg(value_name = "SIZE", value_parser = slice_size)]
        top_k: SliceSize = if this.slices_blocks() { SliceSize::Blocks(1) } else { SliceSize::Units(1) },
        /// Steps a choice is kept by policies random, cyclic and every-n; half-life of exploring in steps under explore
        /// (METHOD §5 [O]). Default 20.
        policy_every: u64 as "STEPS" = Number::PolicyEvery.row().default as u64,
        /// Weight of the past under policy ema, at least 0 and below 1 (METHOD §5 [O]). Default 0.9.
        policy_rho: f64 as "RHO" = Number::PolicyRho.row().default,
        /// Chance of exploring at step 0 under policy explore, 0 to 1 (METHOD §5 [O]). Default 0.1.
        policy_epsilon: f64 as "EPSILON" = Number::PolicyEpsilon.row().default,
        /// Share of the squared sensitivity that policy coverage must hold, over 0 and up to 1 (METHOD §5 [O]).
        /// Default 0.5.
        policy_quota: f64 as "SHARE" = Number::PolicyQuota.row().default,
        /// How the sensitivity of a block or unit is measured (METHOD §3 [D]). Default grad-l2, density for units below
        /// the block, which may differ in size (METHOD §23 [O]).
        #[arg(value_name = "METRIC", value_parser = entry::<Metric>())]
        sensitivity: Metric = if this.slices_blocks() { Metric::GradL2 } else { Metric::Density },
        /// Micro-batches of a step that its sensitivities are measured on: `exact`, all of them, or `first`, the first
        /// one alone, whose choice then holds for the step: a deviation that saves most of the measuring where there
        /// are many, and most of the bytes between ranks (METHOD §25 [O]). Without it, exact.
        localise: Localising,
        /// Batches of the one estimate policy fixed makes before the first step (METHOD §17 [F]). Default 500.
        fixed_batches: u64 as "N" = 500,
        /// Utility texts that the Fisher matrix of the starting model is made of, for sensitivity efficiency and
        /// optimizer natural (METHOD §27 [O]). Default 64.
        fisher_texts: usize as "N" = 64,
        /// Added to the Fisher matrix, as a share of the mean of its diagonal (METHOD §27 [O]). Default 0.1.
        fisher_damping: f64 as "SHARE" = 0.1,
        /// Weight of the NLL of chosen text (METHOD §17 [F]). Default 0.5.
        beta: f64 as "WEIGHT" = Number::Beta.row().default,
        /// Weight of the KL term (METHOD §17 [F]). Default 1 for the methods that have such a term (irepair, npo and
        /// those named -kl), 0 for the others.
        gamma: f64 as "WEIGHT" = if this.method().has_kl() { Number::Gamma.row().default } else { 0.0 },
        /// Factor on the whole loss of irepair, irepair-no-kl and dapt-kl (METHOD §6, §17 [F]).
        /// Default 1.
        scale: f64 as "FACTOR" = Number::Scale.row().default,
        /// Sharpness of the preference in the DPO loss (METHOD §17 [D,L]). Default 0.1.
        dpo_beta: f64 as "BETA" = Number::DpoBeta.row().default,
        /// Sharpness of the preference in the NPO loss (METHOD §7 [O]). Default 0.1.
        npo_beta: f64 as "BETA" = Number::NpoBeta.row().default,
        /// Update rule (METHOD §17 [D,L]). Default rmsprop.
        optimizer: Optimizer = Optimizer::Rmsprop,
        /// Train low-rank adapters of this rank (LoRA) in the place of the projections of the blocks, and nothing else;
        /// they are part of the weights that are written (METHOD §26 [O]). Without it, the weights themselves.
        lora_rank: usize as "RANK",
        /// Train so many vectors in front of every text (a soft prefix, prompt tuning), and nothing else; they are
        /// written in the place of a model, as the Python package peft stores them. With policy all (METHOD §26 [O]).
        /// Without it, the weights themselves.
        soft_prefix: usize as "N",
        /// Treatment of the optimizer state of a block outside the slice (METHOD §8 [D]). Default keep.
        optimizer_state: OptimizerState = OptimizerState::Keep,
        /// Make every update as long as `lr`, as a share of the weights that it changes: a control, under which two
        /// places of repair differ in nothing but the place (METHOD §23 [O]). Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        equal_step: bool = false,
        /// Learning rate after the warm-up (METHOD §17 [F], [L] for dpo); under optimizer natural the KL on neutral
        /// text, in nats a token, that a step may cost (METHOD §27 [O]); with `equal_step` the norm of a step over that
        /// of the weights that it changes. Default 5e-5, 1e-6 for DPO and NPO losses and for natural, 1e-5 for dpo on
        /// every weight under preset best, 1e-3 with `equal_step`. Models much smaller than GPT-2 need rates 10 to
        /// 100 times larger.
        lr: f64 as "RATE" = match this.optimizer() {
            _ if this.equal_step() => 1e-3,
            Optimizer::Natural => 1e-6,
            Optimizer::Rmsprop | Optimizer::Adamw => this.method().row().lr,
        },
        /// Steps over which the learning rate rises to its value (METHOD §17 [D,L]). Default 150, 10 where preset best
        /// gives the rate.
        warmup_steps: u64 as "STEPS" = 150,
        /// Largest global gradient norm; larger gradients are scaled down to it (METHOD §17 [L]). Default 10.
        clip_norm: f64 as "NORM" = 10.0,
        /// Stop after this many steps. Without it, `epochs` and `patience` decide. Method difference-of-means is at its
        /// full strength after the last of them, and at a share of it before.
        steps: u64 as "STEPS",
        /// Stop after this many passes over the pairs (METHOD §17 [L,O]). Default 5.
        epochs: u64 as "N" = 5,
        /// Pairs per micro-batch (METHOD §17 [D]). Default 4, or 2 or 1 in more micro-batches where memory is short.
        batch_size: usize as "N" = 4,
        /// Micro-batches per step, averaged by tokens (METHOD §8 [O]). Default 1.
        accumulation: usize as "N" = 1,
        /// Longest prompt in tokens; longer ones are cut and counted (METHOD §17 [O]). Default 64.
        max_prompt: usize as "TOKENS" = 64,
        /// End of a longer prompt that is kept: `start`, or `end`, next to the continuation (METHOD §2). Without it,
        /// start.
        #[arg(value_name = "SIDE", value_parser = entry::<PromptSide>())]
        prompt_side: PromptSide,
        /// Longest continuation in tokens; longer ones are cut and counted (METHOD §17 [O]). Default 64.
        max_continuation: usize as "TOKENS" = 64,
        /// Append the end-of-text token to continuations without it, so that the model learns to stop there: for pairs
        /// that are whole texts, not parts of longer ones (METHOD §2 [O]). A continuation that is cut gets none.
        /// Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        append_eos: bool = false,
        /// Leave prompt tokens out of the losses (METHOD §2 [D]). Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        skip_prompt: bool = false,
        /// Take pairs and utility texts in the order of their files instead of drawing them. Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        no_shuffle: bool = false,
        /// Longest utility text in tokens, its start token included: longer ones of `utility` are cut into chunks,
        /// sampled ones end there (METHOD §2 [F]: 101 new tokens). Default 102.
        #[arg(value_name = "TOKENS", alias = "max-general")]
        #[serde(alias = "max_general")]
        max_utility: usize = 102,
        /// Pairs at the end of the file kept for validation, never trained on (METHOD §17 [D,L]); 0 trains on all of
        /// them and keeps the weights of the last step. Default 64, and no more than a fifth of the pairs.
        n_validation: usize as "N" = 64,
        /// KL divergence from the model as it was on held-out utility texts, in nats a token, over which the run ends;
        /// the best weights before are kept (METHOD §8 [O]). Without it, no end; under preset best 0.05.
        budget_kl: f64 as "NATS",
        /// Training examples between two evaluations on the validation pairs (METHOD §17 [L]). Default 100, 40 under
        /// the KL budget of preset best.
        eval_every: u64 as "EXAMPLES" = 100,
        /// Stop after this many evaluations without a new best; the best weights are kept (METHOD §17 [L]). Default 30.
        patience: u64 as "N" = 30,
        /// Memory the run may take, in GiB; smaller micro-batches are chosen to stay below it. Without it, what the
        /// machine has free.
        memory_budget: f64 as "GIB",
        /// Steps between two checkpoints a killed run resumes from. Default 100.
        checkpoint_every: u64 as "STEPS" = 100,
        /// Also write the step log as a TensorBoard event file into `out`, at the end of the run. Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        tensorboard: bool = false,
    }
    common: seed device dtype threads json;
}

impl RepairOptions {
    /// True when a run reads utility texts: for its loss, for a Fisher matrix, or for a KL budget.
    pub fn reads_utility(&self) -> bool {
        let reads = Needs::of(&self.terms()).utility || self.reads_fisher() || self.budget_kl.is_some();
        self.method().trains() && reads
    }

    /// The numbers of policies and methods, as given or their defaults.
    pub fn numbers(&self) -> Numbers {
        Number::ALL.iter().fold(Numbers::default(), |numbers, number| numbers.with(*number, self.number(*number)))
    }

    /// The terms of the loss, those of weight 0 left out.
    pub fn terms(&self) -> Vec<Weighted> {
        self.method().terms(&self.numbers())
    }

    /// The kind of units that a slice is made of.
    pub fn kind(&self) -> UnitKind {
        self.unit.unwrap_or(UnitKind::Block)
    }

    /// True when a slice is made of blocks.
    pub(crate) fn slices_blocks(&self) -> bool {
        self.kind() == UnitKind::Block
    }

    /// Units of a model that may be chosen. Lists that do not fit the model leave it whole here: they are refused where
    /// the repair starts.
    pub fn eligible(&self, of: &Architecture) -> Vec<Unit> {
        let map = UnitMap::new(of);
        let (kind, only, exclude) = (self.kind(), self.only.as_ref(), self.exclude.as_ref());
        map.eligible(kind, only, exclude).unwrap_or_else(|_| map.units(kind).collect())
    }

    /// Units that a step may change, of so many that may be chosen.
    pub fn n_chosen(&self, n_eligible: usize) -> usize {
        match self.policy().row().reach {
            Reach::Everything | Reach::EveryBlock => n_eligible,
            Reach::OneSlice | Reach::AnyBlock => self.top_k().resolve(n_eligible),
        }
    }

    /// True when a run reads the Fisher matrix of the model that it starts from.
    pub fn reads_fisher(&self) -> bool {
        let measures = self.policy().row().measures != Measures::Never;
        let localises = self.sensitivity().reads_fisher() && measures;
        self.method().trains() && (localises || self.optimizer() == Optimizer::Natural)
    }

    /// Micro-batches of a step that its sensitivities are measured on, where a policy measures.
    pub fn n_measured(&self) -> usize {
        match self.localise {
            Some(Localising::First) => 1,
            Some(Localising::Exact) | None => self.accumulation(),
        }
    }

    fn number(&self, number: Number) -> f64 {
        match number {
            Number::PolicyEvery => self.policy_every() as f64,
            Number::PolicyRho => self.policy_rho(),
            Number::PolicyEpsilon => self.policy_epsilon(),
            Number::PolicyQuota => self.policy_quota(),
            Number::Beta => self.beta(),
            Number::Gamma => self.gamma(),
            Number::Scale => self.scale(),
            Number::DpoBeta => self.dpo_beta(),
            Number::NpoBeta => self.npo_beta(),
        }
    }
}

impl RepairPlan {
    /// [`RepairOptions::reads_utility`].
    pub fn reads_utility(&self) -> bool {
        RepairOptions::from(self.clone()).reads_utility()
    }

    /// [`RepairOptions::numbers`].
    pub fn numbers(&self) -> Numbers {
        RepairOptions::from(self.clone()).numbers()
    }

    /// [`RepairOptions::reads_fisher`].
    pub fn reads_fisher(&self) -> bool {
        RepairOptions::from(self.clone()).reads_fisher()
    }

    /// [`RepairOptions::n_measured`].
    pub fn n_measured(&self) -> usize {
        RepairOptions::from(self.clone()).n_measured()
    }
}

impl Validate for RepairOptions {
    fn clashes(&self, checks: &mut Checks) {
        // Only what contradicts itself is a clash. Keys a method does not read may stand in a table shared by many
        // rows.
        let method = self.method();
        let unheld = self.budget_kl.is_some() && self.n_validation == Some(0);
        checks.clash(unheld, "budget_kl", "clashes with `n_validation`: KL is measured where held-out pairs are");
        let no_kl = !method.has_kl() && self.gamma.is_some_and(|gamma| gamma > 0.0);
        checks.clash(no_kl, "gamma", &format!("clashes with `method`: {method} has no KL term"));
        if let Some(other) = method.without_kl().filter(|_| self.gamma == Some(0.0)) {
            let what = format!("clashes with `method`: without its KL term {method} is method {other}");
            checks.clash(true, "gamma", &what);
        }
        let no_gradient = self.policy() == Policy::Fixed && !self.sensitivity().has_weight_gradients();
        let what = "clashes with `policy`: fixed ranks blocks by a mean gradient, which this metric does not have";
        checks.clash(no_gradient, "sensitivity", what);
        let (kind, metric) = (self.kind(), self.sensitivity());
        let measured = self.policy().row().measures != Measures::Never;
        let what = format!(
            "{metric} costs too many passes for a step ({}); `irepair sensitivity --metric {metric}` measures it, and \
             `only` keeps a repair to the blocks that it finds",
            metric.row().passes
        );
        checks.clash(measured && metric.row().at_steps.is_none(), "sensitivity", &what);
        let below = !self.slices_blocks();
        let everything = if method.ablates() {
            format!("clashes with `method`: {method} changes all that writes to the residual stream, and no slice")
        } else {
            let whose = if self.policy.is_none() { format!(", that of {method},") } else { String::new() };
            format!(
                "clashes with `policy`: all{whose} changes every parameter; use dynamic for the most sensitive, or blocks \
                 for those that `only` names"
            )
        };
        for (key, given) in [("unit", below), ("only", self.only.is_some()), ("exclude", self.exclude.is_some())] {
            checks.clash(given && !self.policy().is_sliced(), key, &everything);
        }
        let whole = below && !metric.has_units();
        checks.clash(whole, "unit", &format!("clashes with `sensitivity`: {metric} is of whole blocks alone"));
        let adapted = below && self.lora_rank.is_some();
        checks.clash(adapted, "lora_rank", "clashes with `unit`: adapters change whole projections");
        if let Some(size @ SliceSize::Blocks(k)) = self.top_k.filter(|_| below) {
            let what = format!("clashes with `unit`: {size} counts blocks; `{k}u` counts units of kind {kind}");
            checks.clash(true, "top_k", &what);
        }
        if method.ablates() {
            let mut refuse = |when: bool, key: &str, why: &str| {
                checks.clash(when, key, &format!("clashes with `method`: {method} {why}"));
            };
            let sliced = self.policy() != Policy::All;
            refuse(sliced, "policy", "changes all that writes to the residual stream; use all");
            refuse(self.lora_rank.is_some(), "lora_rank", "trains no adapters");
            refuse(self.optimizer() == Optimizer::Natural, "optimizer", "takes no steps along gradients");
        }
        let what = "clashes with `optimizer`: natural weighs the weights themselves; use rmsprop or adamw";
        checks.clash(self.lora_rank.is_some() && self.optimizer() == Optimizer::Natural, "lora_rank", what);
        let natural = self.optimizer() == Optimizer::Natural;
        for (clashes, what) in [
            (self.policy().is_sliced(), "`policy`: a prefix belongs to no block; use all"),
            (self.lora_rank.is_some(), "`lora_rank`: a run trains one of them"),
            (natural, "`optimizer`: natural weighs the weights themselves; use rmsprop or adamw"),
            (self.budget_kl.is_some(), "`budget_kl`: a prefix changes the model before it has learned anything"),
            (self.patch.is_some(), "`patch`: no tensor of the model changes"),
        ] {
            checks.clash(self.soft_prefix.is_some() && clashes, "soft_prefix", &format!("clashes with {what}"));
        }
        for (clashes, what) in [
            (method.ablates(), format!("`method`: {method} takes no steps along gradients")),
            (natural, "`optimizer`: the length of a natural step is a KL; use rmsprop or adamw".to_owned()),
            (self.lora_rank.is_some(), "`lora_rank`: adapters begin at 0, and have no share".to_owned()),
            (self.soft_prefix.is_some(), "`soft_prefix`: no weight of the model changes".to_owned()),
        ] {
            checks.clash(self.equal_step() && clashes, "equal_step", &format!("clashes with {what}"));
        }
        let corrected = self.optimizer() != Optimizer::Rmsprop && self.optimizer_state() == OptimizerState::Debias;
        let what = "clashes with `optimizer`: adamw and natural always correct for their start at 0; use keep or reset";
        checks.clash(corrected, "optimizer_state", what);
    }
}

/// Reads a slice size for a flag, with a message that names the allowed values.
///
/// # Errors
/// That message.
pub fn slice_size(text: &str) -> Result<SliceSize, String> {
    text.parse().map_err(|error: irepair_core::Error| {
        format!("{error}: `3b` is three blocks, `3u` three units, a bare number is percent, over 0 and up to 100")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    fn problems(options: &RepairOptions) -> Vec<String> {
        options.problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_defaults_of_every_method_agree_with_themselves() {
        for method in Method::ALL {
            let options = RepairOptions { method: Some(*method), ..Default::default() }.with_defaults();
            assert_eq!(problems(&options), [""; 0], "{method}");
        }
    }

    #[test]
    fn a_clash_names_both_keys() {
        let options =
            RepairOptions { method: Some(Method::Dapt), gamma: Some(0.5), lr: Some(-1.0), ..Default::default() };
        assert_eq!(
            problems(&options),
            ["`lr`: must be a number over 0, is -1", "`gamma`: clashes with `method`: dapt has no KL term"]
        );
    }

    #[test]
    fn every_parameter_is_no_choice_among_blocks() {
        let options =
            RepairOptions { method: Some(Method::Dpo), exclude: Some("0".parse().unwrap()), ..Default::default() };
        let said = |policy| problems(&RepairOptions { policy, ..options.clone() }).concat();
        assert!(
            said(None).starts_with("`exclude`: clashes with `policy`: all, that of dpo, changes every parameter; use")
        );
        assert!(
            said(Some(Policy::All)).starts_with("`exclude`: clashes with `policy`: all changes every parameter; use")
        );
        assert_eq!([Policy::Random, Policy::Dynamic, Policy::Blocks].map(|policy| said(Some(policy))).concat(), "");
        // Another policy would be refused: no slice is ablated.
        let ablation = RepairOptions { method: Some(Method::DifferenceOfMeans), ..options.clone() };
        assert!(problems(&ablation).concat().starts_with("`exclude`: clashes with `method`: difference-of-means"));
    }

    #[test]
    fn units_below_the_block_have_sizes_and_defaults_of_their_own() {
        let heads = RepairOptions { unit: Some(UnitKind::Head), ..Default::default() };
        assert_eq!((heads.top_k(), heads.sensitivity()), (SliceSize::Units(1), Metric::Density));
        assert_eq!(problems(&heads), [""; 0]);
        let blocks = RepairOptions { unit: Some(UnitKind::Block), ..Default::default() };
        assert_eq!((blocks.top_k(), blocks.sensitivity()), (SliceSize::Blocks(1), Metric::GradL2));
        let every = RepairOptions {
            method: Some(Method::Dpo),
            lora_rank: Some(8),
            top_k: "3b".parse().ok(),
            sensitivity: Some(Metric::Atp),
            ..heads.clone()
        };
        assert_eq!(
            problems(&every),
            [
                "`unit`: clashes with `policy`: all, that of dpo, changes every parameter; use dynamic for the most sensitive, \
                 or blocks for those that `only` names",
                "`unit`: clashes with `sensitivity`: atp is of whole blocks alone",
                "`lora_rank`: clashes with `unit`: adapters change whole projections",
                "`top_k`: clashes with `unit`: 3b counts blocks; `3u` counts units of kind head",
            ]
        );
        assert_eq!(heads.clone().with_preset().preset, Some(Preset::Paper), "a slice is the paper's");
        assert!(!crate::to_toml(&RepairOptions::default().with_defaults()).contains("unit"), "absent when unset");
    }

    #[test]
    fn a_metric_of_many_passes_is_measured_before_a_repair() {
        let method = Some(Method::Irepair);
        let of = |metric| RepairOptions { method, sensitivity: Some(metric), ..Default::default() };
        assert_eq!(
            problems(&of(Metric::Patching)),
            [
                "`sensitivity`: patching costs too many passes for a step (2 + L / 2 forward); `irepair sensitivity --metric \
              patching` measures it, and `only` keeps a repair to the blocks that it finds"
            ]
        );
        for metric in Metric::ALL {
            assert_eq!(problems(&of(*metric)).is_empty(), metric.row().at_steps.is_some(), "{metric}");
            let unread = RepairOptions { policy: Some(Policy::Random), ..of(*metric) };
            assert!(problems(&unread).is_empty(), "{metric}: nothing measures it");
        }
    }

    #[test]
    fn a_soft_prefix_is_trained_alone() {
        let prefix = RepairOptions { method: Some(Method::Dpo), soft_prefix: Some(20), ..Default::default() };
        assert_eq!(problems(&prefix), [""; 0]);
        assert_eq!(
            problems(&RepairOptions { soft_prefix: Some(0), ..prefix.clone() }),
            ["`soft_prefix`: must be at least 1, is 0"]
        );
        let policy = "`soft_prefix`: clashes with `policy`: a prefix belongs to no block; use all";
        assert_eq!(problems(&RepairOptions { method: None, ..prefix.clone() }), [policy]);
        let every = RepairOptions {
            policy: Some(Policy::Blocks),
            lora_rank: Some(8),
            optimizer: Some(Optimizer::Natural),
            patch: Some("a.patch".into()),
            budget_kl: Some(0.1),
            ..prefix
        };
        let mut found = problems(&every);
        found.retain(|problem| problem.starts_with("`soft_prefix`"));
        let want = [
            policy,
            "`soft_prefix`: clashes with `lora_rank`: a run trains one of them",
            "`soft_prefix`: clashes with `optimizer`: natural weighs the weights themselves; use rmsprop or adamw",
            "`soft_prefix`: clashes with `budget_kl`: a prefix changes the model before it has learned anything",
            "`soft_prefix`: clashes with `patch`: no tensor of the model changes",
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn an_ablation_has_no_slice_no_adapters_and_no_natural_steps() {
        let method = Some(Method::DifferenceOfMeans);
        let options = RepairOptions { method, lr: Some(1e-3), ..Default::default() };
        assert_eq!(problems(&options), [""; 0], "a rate may stand in a table shared by many rows");
        let policy = RepairOptions { policy: Some(Policy::Blocks), ..options.clone() };
        let want = "`policy`: clashes with `method`: difference-of-means changes all that writes to the residual stream; \
             use all";
        assert_eq!(problems(&policy), [want]);
        let others =
            RepairOptions { lora_rank: Some(8), optimizer: Some(Optimizer::Natural), gamma: Some(1.0), ..options };
        assert_eq!(
            problems(&others),
            [
                "`gamma`: clashes with `method`: difference-of-means has no KL term",
                "`lora_rank`: clashes with `method`: difference-of-means trains no adapters",
                "`optimizer`: clashes with `method`: difference-of-means takes no steps along gradients",
                "`lora_rank`: clashes with `optimizer`: natural weighs the weights themselves; use rmsprop or adamw",
            ]
        );
    }

    #[test]
    fn debias_is_for_rmsprop() {
        let options = RepairOptions { optimizer_state: Some(OptimizerState::Debias), ..Default::default() };
        assert_eq!(problems(&options), [""; 0]);
        let options = RepairOptions { optimizer: Some(Optimizer::Adamw), ..options };
        let want = "`optimizer_state`: clashes with `optimizer`: adamw and natural always correct for their start at 0; use \
             keep or reset";
        assert_eq!(problems(&options), [want]);
    }

    #[test]
    fn defaults_follow_the_method() {
        let dpo = RepairOptions { method: Some(Method::Dpo), ..Default::default() }.with_defaults();
        assert_eq!((dpo.policy, dpo.lr, dpo.gamma), (Some(Policy::All), Some(1e-6), Some(0.0)));
        assert_eq!(dpo.steps, None);
        let sliced = RepairOptions { policy: Some(Policy::Dynamic), ..dpo };
        assert_eq!(sliced.policy(), Policy::Dynamic);
        let preset = RepairOptions { method: Some(Method::SlicedDpoKl), ..Default::default() }.with_defaults();
        assert_eq!((preset.policy, preset.lr, preset.gamma), (Some(Policy::Dynamic), Some(1e-6), Some(1.0)));
    }
}
