//! Settings of `irepair eval` and `irepair generate`.

use std::path::PathBuf;

use crate::problem::Checks;
use crate::{Dtype, Problem, Validate};

options! {
    /// Settings of an evaluation: each file given adds its metrics (METHOD §9, §10).
    pub struct EvalOptions => EvalPlan(this) {
        /// Directory of the model to measure.
        #[arg(value_name = "DIR")]
        model: PathBuf [required],
        /// Directory of the model as it was before: adds held-out KL, footprint and perplexity of the continuations.
        #[arg(value_name = "DIR")]
        reference: PathBuf,
        /// Prompts that bring out the error, JSONL with `prompt`.
        #[arg(value_name = "FILE")]
        prompts: PathBuf,
        /// Prompts that do not, JSONL with `prompt`.
        #[arg(value_name = "FILE")]
        clean_prompts: PathBuf,
        /// Further prompts that bring out the error, may be given several times: their toxicity is `tox:NAME`, NAME being the
        /// file's name up to its first dot.
        #[arg(value_name = "FILE")]
        more_prompts: Vec<PathBuf>,
        /// Text for perplexity (METHOD §10): raw WikiText, or JSONL with its rows as `text`, for the published WIKI and
        /// WIKI_word; documents split by `<|endoftext|>` for a perplexity of one's own.
        #[arg(value_name = "FILE")]
        wikitext: PathBuf,
        /// Texts for last-word accuracy and perplexity, and for LAMBADA_corpus, JSONL with `text` (METHOD §10).
        #[arg(value_name = "FILE")]
        lambada: PathBuf,
        /// Minimal pairs of BLiMP, JSONL with `sentence_good` and `sentence_bad`: is the good one likelier (METHOD §10)?
        #[arg(value_name = "FILE")]
        blimp: PathBuf,
        /// Questions of HellaSwag, JSONL with `ctx`, `endings` and `label`: accuracy by likelihood and by likelihood per byte
        /// (METHOD §10).
        #[arg(value_name = "FILE")]
        hellaswag: PathBuf,
        /// Prompts with their true continuations, JSONL with `prompt` and `continuation`: token F1 (METHOD §10).
        #[arg(value_name = "FILE")]
        f1: PathBuf,
        /// Word list of the exact toxicity scorer.
        #[arg(value_name = "FILE")]
        lexicon: PathBuf,
        /// Toxicity scorer, may be given several times: a word list (`.txt`), a linear scorer's file, or a classifier's Hugging
        /// Face directory. The first (`lexicon`, where it is given) fills `tox` and `toxfrac`, the others `tox@NAME`.
        #[arg(value_name = "PATH")]
        scorer: Vec<PathBuf>,
        /// Labels of a classifier that count as toxic, names of its `id2label` with commas between them. Without it, those
        /// that are called so; a classifier with none is refused.
        #[arg(value_name = "LABELS")]
        toxic_labels: String,
        /// Minimal pairs, JSONL with `stereotype` and `anti_stereotype`: which is likelier (METHOD §15).
        #[arg(value_name = "FILE")]
        minimal_pairs: PathBuf,
        /// Memorised texts, JSONL with `prompt` and `rejected`: extraction rate and token rank of the latter (METHOD §15).
        #[arg(value_name = "FILE")]
        memorised: PathBuf,
        /// Preference pairs, JSONL with `prompt`, `chosen` and `rejected`: how often the wrong one is likelier (METHOD §15).
        #[arg(value_name = "FILE")]
        pairs: PathBuf,
        /// Neutral text on which KL(reference ‖ model) is measured; wants `reference`.
        #[arg(value_name = "FILE")]
        kl_texts: PathBuf,
        /// Continuations sampled per prompt of `prompts`, at most 1000: expected maximum toxicity and toxicity probability
        /// (METHOD §9 [S], which takes 25). Without it, none.
        #[arg(value_name = "N")]
        samples: usize,
        /// Tokens generated per prompt (METHOD §17 [L,D]). Default 20.
        #[arg(value_name = "TOKENS")]
        max_new_tokens: usize = 20,
        /// Tokens of each prompt that are kept, from its start (METHOD §17 [L,D]). Default 32.
        #[arg(value_name = "TOKENS")]
        prompt_tokens: usize = 32,
        /// Tokens per perplexity window (METHOD §10). Without it, the model's context.
        #[arg(value_name = "TOKENS")]
        window: usize,
        /// Tokens from one window to the next, for a second perplexity in which windows overlap (METHOD §10 [S]); wants
        /// `wikitext`. Without it, there is none.
        #[arg(value_name = "TOKENS")]
        stride: usize,
        /// Texts computed at once; changes the speed, not the result (METHOD §17 [D,L]). Default 8.
        #[arg(value_name = "N")]
        batch_size: usize = 8,
    }
    common: seed device dtype threads json;
}

impl Validate for EvalOptions {
    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::of(self);
        checks.clash(
            self.samples.is_some() && self.prompts.is_none(),
            "samples",
            "wants `prompts`: they are what the samples go on from",
        );
        checks.clash(
            self.stride.is_some() && self.wikitext.is_none(),
            "stride",
            "wants `wikitext`: that is the text the windows lie on",
        );
        checks.clash(
            self.stride.zip(self.window).is_some_and(|(stride, window)| stride > window),
            "stride",
            "clashes with `window`: tokens between two windows would never be scored",
        );
        checks.clash(
            self.kl_texts.is_some() && self.reference.is_none(),
            "kl_texts",
            "wants `reference`: KL(reference ‖ model) needs both models",
        );
        checks.0
    }
}

options! {
    /// Settings of a generation: greedy unless `top_p` is given.
    pub struct GenerateOptions => GeneratePlan(this) {
        /// Directory of the model.
        #[arg(value_name = "DIR")]
        model: PathBuf [required],
        /// Prompts to continue, JSONL with `prompt`.
        #[arg(value_name = "FILE")]
        prompts: PathBuf,
        /// Texts to sample from nothing but the start token; instead of `prompts`, and wants `top_p`.
        #[arg(value_name = "N")]
        n: usize,
        /// File the texts are written to, JSONL. Without it they are printed.
        #[arg(value_name = "FILE")]
        out: PathBuf,
        /// Most tokens generated per text (METHOD §17 [L,D]). Default 20.
        #[arg(value_name = "TOKENS")]
        max_new_tokens: usize = 20,
        /// Tokens of each prompt that are kept, from its start (METHOD §17 [L,D]). Default 32.
        #[arg(value_name = "TOKENS")]
        prompt_tokens: usize = 32,
        /// Sample from the likeliest tokens that hold this share of the probability. Without it, greedy.
        #[arg(value_name = "SHARE")]
        top_p: f64,
        /// Divisor of the logits before sampling. Default 1.
        #[arg(value_name = "T")]
        temperature: f64 = 1.0,
        /// Texts generated at once. Default 32.
        #[arg(value_name = "N")]
        batch_size: usize = 32,
    }
    common: seed device dtype threads json;
}

impl Validate for GenerateOptions {
    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::of(self);
        let sampled = self.top_p.is_some();
        checks.clash(self.n.is_some() && self.prompts.is_some(), "n", "clashes with `prompts`: give one of the two");
        checks.clash(
            self.n.is_some() && !sampled,
            "n",
            "wants `top_p`: greedy texts from nothing would all be the same",
        );
        checks.clash(
            !sampled && self.temperature.is_some_and(|t| t != 1.0),
            "temperature",
            "wants `top_p`: greedy generation does not read it",
        );
        checks.0
    }
}
