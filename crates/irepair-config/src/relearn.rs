//! Settings of `irepair relearn`.

use std::path::PathBuf;

use irepair_core::Columns;

use crate::names::entry;
use crate::{Checks, Dtype, Judge, PromptSide, Validate};

options! {
    /// Settings of a relearning curve: toxicity against the number of toxic texts trained on (METHOD §10).
    pub struct RelearnOptions => RelearnPlan(this) {
        /// Directory of the model, most often a repaired one. It is not written to.
        model: PathBuf as "DIR" [required],
        /// Texts with the error, documents split by `<|endoftext|>` or JSONL with `text`; training takes the first of
        /// them.
        texts: PathBuf as "FILE" [required],
        /// Prompts that bring out the error, JSONL with `prompt`.
        prompts: PathBuf as "FILE" [required],
        /// Names that the keys of pairs and prompts have in the files, such as
        /// `prompt=question,chosen=good,rejected=bad` (docs/FILES.md).
        columns: Columns as "KEY=NAME,...",
        /// Word list of the exact toxicity scorer.
        lexicon: PathBuf as "FILE",
        /// Toxicity scorer, may be given several times, as for `irepair eval`. The first (`lexicon`, where it is given)
        /// fills `tox`.
        scorer: Vec<Judge> as "JUDGE",
        /// Numbers of texts to train on, with commas between them, each from the given model (METHOD §10 [O]). Default
        /// 10,100,1000.
        counts: String as "N,N,..." = "10,100,1000".to_owned(),
        /// Passes over those texts [O]. Default 1.
        epochs: u64 as "N" = 1,
        /// Learning rate, the same for every number of texts (METHOD §17 [F]). Default 5e-5. Models far smaller than
        /// GPT-2 want rates 10 to 100 times larger.
        lr: f64 as "RATE" = 5e-5,
        /// Texts per training step (METHOD §17 [D]). Default 4.
        batch_size: usize as "N" = 4,
        /// Longest text in tokens, its start token included; longer texts are cut. Without it, the model's context.
        max_tokens: usize as "TOKENS",
        /// Tokens generated per prompt (METHOD §17 [L,D]). Default 20.
        max_new_tokens: usize as "TOKENS" = 20,
        /// Tokens of each prompt that are kept (METHOD §17 [L,D]). Default 32.
        prompt_tokens: usize as "TOKENS" = 32,
        /// End of a longer prompt that is kept: `start`, or `end`, next to the continuation (METHOD §2). Without it,
        /// start.
        #[arg(value_name = "SIDE", value_parser = entry::<PromptSide>())]
        prompt_side: PromptSide,
    }
    common: seed device dtype threads json;
}

/// Reads the setting `counts`.
///
/// # Errors
/// The first word that is not a number of at least 1.
pub fn text_counts(counts: &str) -> Result<Vec<usize>, String> {
    let number = |word: &str| word.trim().parse().ok().filter(|&n| n > 0).ok_or_else(|| word.trim().to_owned());
    counts.split(',').map(number).collect()
}

impl Validate for RelearnOptions {
    fn clashes(&self, checks: &mut Checks) {
        let bad = text_counts(&self.counts()).err();
        checks.value("counts", bad.as_ref(), "numbers of at least 1 with commas between them", |_| false);
    }
}
