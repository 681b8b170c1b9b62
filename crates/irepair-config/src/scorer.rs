//! Settings of `irepair scorer train`, `irepair scorer eval` and `irepair scorer apply`.

use std::path::PathBuf;

use crate::{Checks, Judge, ScorerKind, Validate};

options! {
    /// Settings of a toxicity scorer's training (METHOD §9).
    pub struct ScorerTrainOptions => ScorerTrainPlan(this) {
        /// Labelled texts, records with `text`, `toxic` (true, false, 1 or 0) and, if known, `source`.
        data: PathBuf as "FILE" [required],
        /// File of a linear scorer, `.txt` file of a word list, or directory of a transformer, to write.
        out: PathBuf as "PATH" [required],
        /// What to train. Default linear.
        kind: ScorerKind = ScorerKind::Linear,
        /// Inverse strength of the linear scorer's L2 penalty, as scikit-learn's `C`. Default 3.0.
        penalty_c: f64 as "C" = 3.0,
        /// Tokens of the transformer's tokenizer, a byte-level BPE trained on the same texts. Default 4096.
        vocab_size: usize as "N" = 4096,
        /// Blocks of the transformer. Default 2.
        n_layer: usize as "N" = 2,
        /// Width of the transformer. Default 128.
        n_embd: usize as "N" = 128,
        /// Attention heads of the transformer; must divide `n_embd`. Default 4.
        n_head: usize as "N" = 4,
        /// Tokens of a text that the transformer reads, from its start, the two at the ends included. Default 128.
        n_positions: usize as "TOKENS" = 128,
        /// Times the transformer sees every text. Default 1.
        epochs: u64 as "N" = 1,
        /// Texts per step of the transformer. Default 64.
        batch_size: usize as "N" = 64,
        /// Largest learning rate of the transformer's AdamW. Default 1e-3.
        lr: f64 as "RATE" = 1e-3,
    }
    common: seed threads json;
}

impl Validate for ScorerTrainOptions {
    fn clashes(&self, checks: &mut Checks) {
        let text = self.out.as_ref().is_none_or(|out| out.extension().is_some_and(|end| end == "txt"));
        checks.clash(self.kind() == ScorerKind::Words && !text, "out", "must end in `.txt`, as every word list does");
        checks.value("vocab_size", self.vocab_size.as_ref(), "at least 261", |&n| !(2..261).contains(&n));
        checks.value("n_positions", self.n_positions.as_ref(), "at least 3 tokens", |&n| n != 2);
        checks.heads(self.n_embd(), self.n_head());
    }
}

options! {
    /// Settings of a toxicity scorer's evaluation on labelled texts (METHOD §9).
    pub struct ScorerEvalOptions => ScorerEvalPlan(this) {
        /// The scorer: `words:FILE`, `regex:FILE`, `scorer:FILE`, `classifier:DIR`, `command:PROGRAM WORDS...`, or a
        /// path alone: a word list (`.txt`), a scorer's file, or a classifier's Hugging Face directory
        /// (docs/SCORERS.md).
        scorer: Judge as "JUDGE" [required],
        /// Labelled texts, records with `text`, `toxic` (true, false, 1 or 0) and, if known, `source`.
        data: PathBuf as "FILE" [required],
        /// Look for false positives on neutral sentences with identity terms too. Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        identity_terms: bool = false,
        /// File the numbers are written to, JSON.
        out: PathBuf as "FILE",
        /// Labels of a classifier that count as toxic, names of its `id2label` with commas between them. Without it,
        /// those that are called so; a classifier with none is refused.
        toxic_labels: String as "LABELS",
        /// Texts a classifier reads at once; changes the speed, not the result. Default 32.
        batch_size: usize as "N" = 32,
    }
    common: device threads json;
}

impl Validate for ScorerEvalOptions {}

options! {
    /// Settings of a scorer's application to texts without labels (METHOD §9).
    pub struct ScorerApplyOptions => ScorerApplyPlan(this) {
        /// The scorer: `words:FILE`, `regex:FILE`, `scorer:FILE`, `classifier:DIR`, `command:PROGRAM WORDS...`, or a
        /// path alone: a word list (`.txt`), a scorer's file, or a classifier's Hugging Face directory
        /// (docs/SCORERS.md).
        scorer: Judge as "JUDGE" [required],
        /// Texts, JSONL with `text`, or documents split by `<|endoftext|>`.
        input: PathBuf as "FILE" [required],
        /// File the scores are written to, JSONL. Without it they are printed.
        out: PathBuf as "FILE",
        /// Labels of a classifier that count as toxic, names of its `id2label` with commas between them. Without it,
        /// those that are called so; a classifier with none is refused.
        toxic_labels: String as "LABELS",
        /// Texts a classifier reads at once; changes the speed, not the result. Default 32.
        batch_size: usize as "N" = 32,
    }
    common: device threads;
}

impl Validate for ScorerApplyOptions {}
