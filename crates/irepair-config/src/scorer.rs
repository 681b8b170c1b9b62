//! Settings of `irepair scorer train` and `irepair scorer eval`.

use std::path::PathBuf;

use crate::problem::Checks;
use crate::{Problem, ScorerKind, Validate};

options! {
    /// Settings of a toxicity scorer's training (METHOD §9).
    pub struct ScorerTrainOptions => ScorerTrainPlan(this) {
        /// Labelled texts, JSONL with `text`, `toxic` (true, false, 1 or 0) and, if known, `source`.
        #[arg(value_name = "FILE")]
        data: PathBuf [required],
        /// File of a linear scorer, `.txt` file of a word list, or directory of a transformer, to write.
        #[arg(value_name = "PATH")]
        out: PathBuf [required],
        /// What to train. Default linear.
        kind: ScorerKind = ScorerKind::Linear,
        /// Inverse strength of the linear scorer's L2 penalty, as scikit-learn's `C`. Default 3.0.
        #[arg(value_name = "C")]
        penalty_c: f64 = 3.0,
        /// Tokens of the transformer's tokenizer, a byte-level BPE trained on the same texts. Default 4096.
        #[arg(value_name = "N")]
        vocab_size: usize = 4096,
        /// Blocks of the transformer. Default 2.
        #[arg(value_name = "N")]
        n_layer: usize = 2,
        /// Width of the transformer. Default 128.
        #[arg(value_name = "N")]
        n_embd: usize = 128,
        /// Attention heads of the transformer; must divide `n_embd`. Default 4.
        #[arg(value_name = "N")]
        n_head: usize = 4,
        /// Tokens of a text that the transformer reads, from its start, the two at the ends included. Default 128.
        #[arg(value_name = "TOKENS")]
        n_positions: usize = 128,
        /// Times the transformer sees every text. Default 1.
        #[arg(value_name = "N")]
        epochs: u64 = 1,
        /// Texts per step of the transformer. Default 64.
        #[arg(value_name = "N")]
        batch_size: usize = 64,
        /// Largest learning rate of the transformer's AdamW. Default 1e-3.
        #[arg(value_name = "RATE")]
        lr: f64 = 1e-3,
    }
    common: seed threads json;
}

impl Validate for ScorerTrainOptions {
    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::of(self);
        let text = self.out.as_ref().is_none_or(|out| out.extension().is_some_and(|end| end == "txt"));
        checks.clash(
            self.kind() == ScorerKind::Words && !text,
            "out",
            "must end in `.txt`: that is what makes a word list",
        );
        checks.value("vocab_size", self.vocab_size.as_ref(), "at least 261", |&n| n < 2 || n >= 261);
        checks.value("n_positions", self.n_positions.as_ref(), "at least 3 tokens", |&n| n != 2);
        let (n_embd, n_head) = (self.n_embd(), self.n_head());
        if n_head > 0 && !n_embd.is_multiple_of(n_head) {
            let what = format!("clashes with `n_embd`: {n_embd} is not a multiple of {n_head}");
            checks.clash(true, "n_head", &what);
        }
        checks.0
    }
}

options! {
    /// Settings of a toxicity scorer's evaluation on labelled texts (METHOD §9).
    pub struct ScorerEvalOptions => ScorerEvalPlan(this) {
        /// The scorer: a word list (`.txt`), a linear scorer's file, or a classifier's Hugging Face directory.
        #[arg(value_name = "PATH")]
        scorer: PathBuf [required],
        /// Labelled texts, JSONL with `text`, `toxic` (true, false, 1 or 0) and, if known, `source`.
        #[arg(value_name = "FILE")]
        data: PathBuf [required],
        /// Look for false positives on neutral sentences with identity terms too. Default false.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        identity_terms: bool = false,
        /// File the numbers are written to, JSON.
        #[arg(value_name = "FILE")]
        out: PathBuf,
        /// Labels of a classifier that count as toxic, names of its `id2label` with commas between them. Without it, those
        /// that are called so; a classifier with none is refused.
        #[arg(value_name = "LABELS")]
        toxic_labels: String,
        /// Texts a classifier reads at once; changes the speed, not the result. Default 32.
        #[arg(value_name = "N")]
        batch_size: usize = 32,
    }
    common: device threads json;
}

impl Validate for ScorerEvalOptions {
    fn problems(&self) -> Vec<Problem> {
        Checks::of(self).0
    }
}
