//! Settings of `irepair pretrain`.

use std::path::PathBuf;

use irepair_arch::Shape;

use crate::{Checks, Family, Validate};

options! {
    /// Settings of a pre-training: a small base model made from text.
    pub struct PretrainOptions => PretrainPlan(this) {
        /// Text to train on, documents split by `<|endoftext|>` or JSONL with `text`.
        data: PathBuf as "FILE" [required],
        /// Text to report perplexity on (METHOD §10: WIKI), never trained on.
        valid: PathBuf as "FILE",
        /// Directory the model is written to.
        out: PathBuf as "DIR" [required],
        /// Tokenizer to use, a `tokenizer.json`. Without it, one is trained on the data.
        tokenizer: PathBuf as "FILE",
        /// Tokens of the tokenizer that is trained; not read when `tokenizer` is given. Default 512.
        vocab_size: usize as "N" = 512,
        /// Model family. Default gpt2.
        #[arg(value_name = "FAMILY", value_parser = Family::parser())]
        family: Family = Family::GPT2,
        /// Transformer blocks. Default 12.
        n_layer: usize as "N" = 12,
        /// Width. Default 64.
        n_embd: usize as "N" = 64,
        /// Attention heads; must divide `n_embd`. Default 4.
        n_head: usize as "N" = 4,
        /// Longest text in tokens. Default 128.
        n_positions: usize as "TOKENS" = 128,
        /// Tokens that a block with a window looks back, in families that have such blocks. Default 256.
        window_size: usize as "TOKENS" = 256,
        /// Optimizer steps. Default 2000.
        steps: u64 as "STEPS" = 2000,
        /// Windows per step. Default 16.
        batch_size: usize as "N" = 16,
        /// Tokens per training window. Without it, `n_positions`.
        window: usize as "TOKENS",
        /// Cut the corpus into windows across document ends; `--pack=false` gives every document a row of its own, cut
        /// to one window, which teaches a small model sooner. Default true.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        pack: bool = true,
        /// Largest learning rate of AdamW. Default 1e-3.
        lr: f64 as "RATE" = 1e-3,
        /// Steps over which the learning rate rises. Default 100.
        warmup_steps: u64 as "STEPS" = 100,
        /// Weight decay of AdamW. Default 0.1.
        weight_decay: f64 as "DECAY" = 0.1,
        /// Steps between two checkpoints a killed run resumes from. Default 100.
        checkpoint_every: u64 as "STEPS" = 100,
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
    fn clashes(&self, checks: &mut Checks) {
        checks.heads(self.n_embd(), self.n_head());
        let long = self.window.is_some_and(|window| window > self.n_positions());
        checks.clash(long, "window", "clashes with `n_positions`: a window is at most as long as the longest text");
    }
}
