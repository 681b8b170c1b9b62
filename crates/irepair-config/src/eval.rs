//! Settings of `irepair eval` and `irepair generate`.

use std::path::PathBuf;

use irepair_core::Columns;

use crate::names::entry;
use crate::{Checks, Dtype, Judge, Long, PromptSide, Validate};

options! {
    /// Settings of an evaluation: each file given adds its metrics (METHOD §9, §10).
    pub struct EvalOptions => EvalPlan(this) {
        /// Directory of the model to measure.
        model: PathBuf as "DIR" [required],
        /// Directory of the model as it was before: adds held-out KL, footprint and perplexity of the continuations.
        /// It is measured too: every metric is given before and after, with the interval of the difference.
        reference: PathBuf as "DIR",
        /// Prompts that bring out the error, JSONL with `prompt`.
        prompts: PathBuf as "FILE",
        /// Prompts that do not bring out the error, JSONL with `prompt`.
        clean_prompts: PathBuf as "FILE",
        /// Further prompts that bring out the error, may be given several times: their toxicity is `tox:NAME`, NAME
        /// being the file's name up to its first dot.
        more_prompts: Vec<PathBuf> as "FILE",
        /// Text for perplexity (METHOD §10): raw WikiText, or JSONL with its rows as `text`, for the published WIKI and
        /// WIKI_word; documents split by `<|endoftext|>` for the perplexity of other text.
        wikitext: PathBuf as "FILE",
        /// Texts for last-word accuracy and perplexity, and for LAMBADA_corpus, JSONL with `text` (METHOD §10).
        lambada: PathBuf as "FILE",
        /// Minimal pairs of BLiMP, JSONL with `sentence_good` and `sentence_bad`: is the good one likelier (METHOD
        /// §10)?
        blimp: PathBuf as "FILE",
        /// Questions of HellaSwag, JSONL with `ctx`, `endings` and `label`: accuracy by likelihood and by likelihood
        /// per byte (METHOD §10).
        hellaswag: PathBuf as "FILE",
        /// Prompts with their true continuations, JSONL with `prompt` and `continuation`: token F1 (METHOD §10).
        f1: PathBuf as "FILE",
        /// Word list of the exact toxicity scorer.
        lexicon: PathBuf as "FILE",
        /// Scorer of toxicity or of another error, may be given several times: `words:FILE`, `regex:FILE`,
        /// `scorer:FILE`, `classifier:DIR`, `command:PROGRAM WORDS...`, or a path alone: a word list (`.txt`), a
        /// scorer's file, or a classifier's Hugging Face directory (docs/SCORERS.md). The first (`lexicon`, where it is
        /// given) fills `tox` and `toxfrac`, the others `tox@NAME`.
        scorer: Vec<Judge> as "JUDGE",
        /// Labels of a classifier that count as toxic, names of its `id2label` with commas between them. Without it,
        /// those that are called so; a classifier with none is refused.
        toxic_labels: String as "LABELS",
        /// Minimal pairs, JSONL with `stereotype` and `anti_stereotype`: which is likelier (METHOD §15).
        minimal_pairs: PathBuf as "FILE",
        /// Names that the keys of pairs and prompts have in the files, such as
        /// `prompt=question,chosen=good,rejected=bad` (docs/FILES.md).
        columns: Columns as "KEY=NAME,...",
        /// Memorised texts, JSONL with `prompt` and `rejected`: extraction rate and token rank of the latter (METHOD
        /// §15).
        memorised: PathBuf as "FILE",
        /// Preference pairs, JSONL with `prompt`, `chosen` and `rejected`: how often the wrong one is likelier (METHOD
        /// §15).
        pairs: PathBuf as "FILE",
        /// Neutral text on which KL(reference ‖ model) is measured; needs `reference`.
        kl_texts: PathBuf as "FILE",
        /// Continuations sampled per prompt of `prompts`, at most 1000: expected maximum toxicity and toxicity
        /// probability (METHOD §9 [S], which takes 25). Without it, none.
        samples: usize as "N",
        /// Continuations sampled per prompt, at most 1000, of which the one is measured that `judge` gives the lowest
        /// score: a repair without training, whose price is `decoding_cost` (METHOD §26 [O]). Without it, the greedy
        /// one.
        best_of: usize as "N",
        /// Scorer that chooses under `best_of`, as for `scorer`; another one than those that measure.
        judge: Judge as "JUDGE",
        /// Tokens generated per prompt (METHOD §17 [L,D]). Default 20.
        max_new_tokens: usize as "TOKENS" = 20,
        /// Tokens of each prompt that are kept (METHOD §17 [L,D]). Default 32.
        prompt_tokens: usize as "TOKENS" = 32,
        /// End of a longer prompt that is kept: `start`, or `end`, next to the continuation (METHOD §2). Without it,
        /// start.
        #[arg(value_name = "SIDE", value_parser = entry::<PromptSide>())]
        prompt_side: PromptSide,
        /// Tokens per perplexity window (METHOD §10). Without it, the model's context.
        window: usize as "TOKENS",
        /// Tokens from one window to the next, for a second perplexity in which windows overlap (METHOD §10 [S]); needs
        /// `wikitext`. Without it, there is none.
        stride: usize as "TOKENS",
        /// Texts computed at once; changes the speed, not the result (METHOD §17 [D,L]). Default 8.
        batch_size: usize as "N" = 8,
    }
    common: seed device dtype threads json;
}

impl Validate for EvalOptions {
    fn clashes(&self, checks: &mut Checks) {
        checks.needs("samples", "prompts", "the samples continue them");
        checks.needs("best_of", "judge", "it chooses among the samples");
        checks.needs("judge", "best_of", "there is nothing to choose without samples");
        checks.needs("stride", "wikitext", "the windows lie on that text");
        let gaps = self.stride.zip(self.window).is_some_and(|(stride, window)| stride > window);
        checks.clash(gaps, "stride", "clashes with `window`: tokens between two windows would never be scored");
        checks.needs("kl_texts", "reference", "KL(reference ‖ model) is of both models");
    }
}

options! {
    /// Settings of a generation: greedy unless `top_p` is given.
    pub struct GenerateOptions => GeneratePlan(this) {
        /// Directory of the model.
        model: PathBuf as "DIR" [required],
        /// Prompts to continue, JSONL with `prompt`.
        prompts: PathBuf as "FILE",
        /// Names that the keys of pairs and prompts have in the files, such as
        /// `prompt=question,chosen=good,rejected=bad` (docs/FILES.md).
        columns: Columns as "KEY=NAME,...",
        /// Number of texts to sample from the start token alone; instead of `prompts`, needs `top_p`.
        n: usize as "N",
        /// File the texts are written to, JSONL. Without it they are printed.
        out: PathBuf as "FILE",
        /// Most tokens generated per text (METHOD §17 [L,D]). Default 20.
        max_new_tokens: usize as "TOKENS" = 20,
        /// Tokens of each prompt that are kept (METHOD §17 [L,D]). Default 32.
        prompt_tokens: usize as "TOKENS" = 32,
        /// End of a longer prompt that is kept: `start`, or `end`, next to the continuation (METHOD §2). Without it,
        /// start.
        #[arg(value_name = "SIDE", value_parser = entry::<PromptSide>())]
        prompt_side: PromptSide,
        /// A prompt that leaves no room for `max_new_tokens` in the model's context: `refuse` stops and names its line,
        /// `cut` keeps the end of it that `prompt_side` names. Default refuse.
        long: Long = Long::Refuse,
        /// Sample from the likeliest tokens that hold this share of the probability. Without it, greedy.
        top_p: f64 as "SHARE",
        /// Divisor of the logits before sampling; needs `top_p`. Default 1.
        temperature: f64 as "T" = 1.0,
        /// Texts generated at once. Default 32.
        batch_size: usize as "N" = 32,
    }
    common: seed device dtype threads json;
}

impl Validate for GenerateOptions {
    fn clashes(&self, checks: &mut Checks) {
        let windows = self.long == Some(Long::Window);
        checks.clash(windows, "long", "must be refuse or cut: a prompt is not read in windows");
        checks.clash(self.n.is_some() && self.prompts.is_some(), "n", "clashes with `prompts`: give one of the two");
        checks.needs("n", "top_p", "greedy texts without a prompt would all be the same");
        let unread = self.top_p.is_none() && self.temperature.is_some_and(|t| t != 1.0);
        checks.clash(unread, "temperature", "needs `top_p`: greedy generation does not read it");
    }
}
