//! Settings of `irepair pretrain`.

use std::path::PathBuf;

use irepair_arch::Shape;

use crate::problem::Checks;
use crate::{Family, Problem, Validate};

options! {
    /// Settings of a pre-training: a small base model made from text.
    pub struct PretrainOptions => PretrainPlan(this) {
        /// Text to train on, documents split by `<|endoftext|>` or JSONL with `text`.
        #[arg(value_name = "FILE")]
        data: PathBuf [required],
        /// Text to report perplexity on (METHOD §10: WIKI), never trained on.
        #[arg(value_name = "FILE")]
        valid: PathBuf,
        /// Directory the model is written to.
        #[arg(value_name = "DIR")]
        out: PathBuf [required],
        /// Tokenizer to use, a `tokenizer.json`. Without it, one is trained on the data.
        #[arg(value_name = "FILE")]
        tokenizer: PathBuf,
        /// Tokens of the tokenizer that is trained; not read when `tokenizer` is given. Default 512.
        #[arg(value_name = "N")]
        vocab_size: usize = 512,
        /// Model family. Default gpt2.
        family: Family = Family::GPT2,
        /// Transformer blocks, called L in METHOD §1. Default 12.
        #[arg(value_name = "N")]
        n_layer: usize = 12,
        /// Width, called d in METHOD §1. Default 64.
        #[arg(value_name = "N")]
        n_embd: usize = 64,
        /// Attention heads; must divide `n_embd`. Default 4.
        #[arg(value_name = "N")]
        n_head: usize = 4,
        /// Longest text in tokens. Default 128.
        #[arg(value_name = "TOKENS")]
        n_positions: usize = 128,
        /// Tokens a local-attention block of gpt-neo looks back; not read for other families. Default 256.
        #[arg(value_name = "TOKENS")]
        window_size: usize = 256,
        /// Optimizer steps. Default 2000.
        #[arg(value_name = "STEPS")]
        steps: u64 = 2000,
        /// Windows per step. Default 16.
        #[arg(value_name = "N")]
        batch_size: usize = 16,
        /// Tokens per training window. Without it, `n_positions`.
        #[arg(value_name = "TOKENS")]
        window: usize,
        /// Cut the corpus into windows across document ends; `--pack=false` gives every document a row of its own, cut to
        /// one window, which teaches a small model sooner. Default true.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        pack: bool = true,
        /// Largest learning rate of AdamW. Default 1e-3.
        #[arg(value_name = "RATE")]
        lr: f64 = 1e-3,
        /// Steps over which the learning rate rises. Default 100.
        #[arg(value_name = "STEPS")]
        warmup_steps: u64 = 100,
        /// Weight decay of AdamW. Default 0.1.
        #[arg(value_name = "DECAY")]
        weight_decay: f64 = 0.1,
        /// Steps between two checkpoints a killed run resumes from. Default 100.
        #[arg(value_name = "STEPS")]
        checkpoint_every: u64 = 100,
    }
    common: seed device threads json;
}

impl PretrainOptions {
    /// The sizes of the model to be trained, with a vocabulary of its own.
    pub fn shape(&self, vocab_size: usize) -> Shape {
        let sizes = [self.n_layer(), self.n_embd(), self.n_head()];
        let shape = Shape::new(self.family().0.name, sizes, self.n_positions(), vocab_size);
        Shape { window_size: Some(self.window_size()), ..shape }
    }
}

impl Validate for PretrainOptions {
    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::of(self);

        let (n_embd, n_head) = (self.n_embd(), self.n_head());
        if n_head > 0 && !n_embd.is_multiple_of(n_head) {
            let what = format!("clashes with `n_embd`: {n_embd} is not a multiple of {n_head}");
            checks.clash(true, "n_head", &what);
        }
        checks.clash(
            self.window.is_some_and(|window| window > self.n_positions()),
            "window",
            "clashes with `n_positions`: a window is at most as long as the longest text",
        );
        checks.0
    }
}
