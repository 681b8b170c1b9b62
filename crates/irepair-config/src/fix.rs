//! Settings of `irepair fix`.

use std::path::PathBuf;

use irepair_core::Columns;

use crate::names::entry;
use crate::{Checks, Dtype, Judge, PromptSide, Validate};

options! {
    /// Settings of a repair from prompts and a judge (METHOD §21, §22).
    pub struct FixOptions => FixPlan(this) {
        /// Directory of the model, or a name of the hub that is in its cache on this machine. It is not written to.
        model: PathBuf as "DIR" [required],
        /// Prompts that go wrong, JSONL with `prompt`; some may be fine.
        prompts: PathBuf as "FILE" [required],
        /// Names that the keys of pairs and prompts have in the files, such as
        /// `prompt=question,chosen=good,rejected=bad` (docs/FILES.md).
        columns: Columns as "KEY=NAME,...",
        /// What says that an answer is wrong, from 0 (good) to 1 (bad), over 0.5 fails: `words:FILE`, `regex:FILE`,
        /// `scorer:FILE`, `classifier:DIR`, `command:PROGRAM WORDS...`, or a path alone (docs/SCORERS.md).
        judge: Judge as "JUDGE" [required],
        /// Another judge, which makes no pair and chooses nothing: its failures stand next to those of the first, and
        /// where it finds more than before, nothing is gained.
        second_judge: Judge as "JUDGE",
        /// Labels of a classifier that mean failure, with commas between them, where their names do not say it.
        toxic_labels: String as "NAME,NAME,...",
        /// Directory for the model, the patch, `report.html`, `result.json`, `fix.toml` and the regression suite.
        out: PathBuf as "DIR" [required],
        /// Further pairs of your own with `prompt`, `chosen` and `rejected`; they are trained on with those that the
        /// model makes.
        pairs: PathBuf as "FILE",
        /// Prompts whose answers must not change, JSONL with `prompt`: how many did is measured.
        keep: PathBuf as "FILE",
        /// Neutral text on which the disturbance is measured. Without it, texts are sampled from the model itself.
        utility: PathBuf as "FILE",
        /// Most KL divergence from the model as it was, in nats a token of neutral text (METHOD §22 [O]). Default 0.05.
        budget_kl: f64 as "NATS" = 0.05,
        /// Share of failing answers that counts as repaired. Without it, a quarter of the share before (METHOD §22
        /// [O]).
        target: f64 as "SHARE",
        /// Minutes that the search may take, about: a shorter or longer plan of steps is chosen at the start. Without
        /// it, the plan is the same on every machine.
        minutes: f64 as "MINUTES",
        /// Take this point of the menu instead of the one that the rule takes; the search is not repeated.
        choose: usize as "N",
        /// Write the chosen model even where nothing is gained. Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        write_anyway: bool = false,
        /// Share of the prompts to choose on, by a hash of their text. Default 0.2.
        valid_share: f64 as "SHARE" = 0.2,
        /// Share of the prompts for the final measurement, by the same hash. Default 0.4.
        test_share: f64 as "SHARE" = 0.4,
        /// Text put before a prompt whose samples are all bad, to get a good one; it is no part of the pair.
        steer_chosen: String as "TEXT",
        /// Text put before a prompt whose samples are all good, to get a bad one.
        steer_rejected: String as "TEXT",
        /// Most tokens of an answer. Default 20.
        max_new_tokens: usize as "TOKENS" = 20,
        /// Tokens of each prompt that are kept. Default 32.
        prompt_tokens: usize as "TOKENS" = 32,
        /// End of a longer prompt that is kept: `start`, or `end`, next to the continuation (METHOD §2). Without it,
        /// start.
        #[arg(value_name = "SIDE", value_parser = entry::<PromptSide>())]
        prompt_side: PromptSide,
        /// Answers generated at once; changes the speed. Default 64.
        batch_size: usize as "N" = 64,
        /// Memory the training may take, in GiB. Without it, what the machine has free.
        memory_budget: f64 as "GIB",
    }
    common: seed device dtype threads json;
}

impl Validate for FixOptions {
    fn clashes(&self, checks: &mut Checks) {
        let kept = self.valid_share() + self.test_share();
        checks.clash(kept >= 1.0, "test_share", "leaves no prompt for pairs: with `valid_share` it must be under 1");
    }
}
