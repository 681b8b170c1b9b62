//! Settings of `irepair pairs`.

use std::path::PathBuf;

use irepair_core::Columns;

use crate::{Checks, Dtype, Judge, Validate};

options! {
    /// Settings of pairs that a model makes of its own texts (METHOD §21).
    pub struct PairsOptions => PairsPlan(this) {
        /// Directory of the model. It is not written to.
        model: PathBuf as "DIR" [required],
        /// Prompts that bring out the error, JSONL with `prompt`.
        prompts: PathBuf as "FILE" [required],
        /// Names that the keys of pairs and prompts have in the files, such as
        /// `prompt=question,chosen=good,rejected=bad` (docs/FILES.md).
        columns: Columns as "KEY=NAME,...",
        /// Judge of the texts, from 0 (good) to 1 (bad): `words:FILE`, `regex:FILE`, `scorer:FILE`, `classifier:DIR`,
        /// `command:PROGRAM WORDS...`, or a path alone (docs/SCORERS.md). Measure the repaired model with another one
        /// too.
        judge: Judge as "JUDGE" [required],
        /// Labels of a classifier that mean toxic, with commas between them, where their names do not say it.
        toxic_labels: String as "NAME,NAME,...",
        /// Directory for `pairs.jsonl`, `prompts.valid.jsonl`, `prompts.test.jsonl` and `report.json`.
        out: PathBuf as "DIR" [required],
        /// Samples of every prompt (METHOD §21 [O]). Default 16.
        samples: usize as "N" = 16,
        /// Further samples of a prompt that gave no pair; 0 for none (METHOD §21 [O]). Default 32.
        more_samples: usize as "N" = 32,
        /// Least distance between the two scores of a pair (METHOD §21 [O]). Default 0.5.
        min_gap: f64 as "SHARE" = 0.5,
        /// Text put before a prompt whose samples are all bad, to get a good one; it is no part of the pair.
        steer_chosen: String as "TEXT",
        /// Text put before a prompt whose samples are all good, to get a bad one.
        steer_rejected: String as "TEXT",
        /// Share of the prompts that are kept for choosing settings, by a hash of their text; no pair is made of them.
        /// Default 0.2.
        valid_share: f64 as "SHARE" = 0.2,
        /// Share of the prompts that are kept for the final measurement, by the same hash. Default 0.4.
        test_share: f64 as "SHARE" = 0.4,
        /// Most tokens of a sample (METHOD §17 [L,D]). Default 20.
        max_new_tokens: usize as "TOKENS" = 20,
        /// Tokens of each prompt that are kept, from its start (METHOD §17 [L,D]). Default 32.
        prompt_tokens: usize as "TOKENS" = 32,
        /// Texts per batch of a classifier that judges. Default 32.
        batch_size: usize as "N" = 32,
    }
    common: seed device dtype threads json;
}

impl Validate for PairsOptions {
    fn clashes(&self, checks: &mut Checks) {
        checks.clash(self.samples() < 2, "samples", "must be 2 or more: a pair is two samples");
        let kept = self.valid_share() + self.test_share();
        checks.clash(kept >= 1.0, "test_share", "leaves no prompt for pairs: with `valid_share` it must be under 1");
    }
}
