//! Shapes of published models, for measuring what size costs without a download.

use crate::ModelConfig;

/// A published model's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its name, in small letters.
    pub name: &'static str,
    /// Local attention's window; none for GPT-2.
    pub window: Option<usize>,
    /// Blocks.
    pub n_layer: usize,
    /// Width.
    pub n_embd: usize,
    /// Heads.
    pub n_head: usize,
    /// Context.
    pub n_positions: usize,
    /// Vocabulary.
    pub n_vocab: usize,
}

impl ModelConfig {
    /// The shapes of GPT-2 and GPT-Neo that the paper and this project speak of.
    pub const PUBLISHED: [Published; 5] = [
        Published::gpt2("gpt2", 12, 768, 12),
        Published::gpt2("gpt2-large", 36, 1280, 20),
        Published::gpt2("gpt2-xl", 48, 1600, 25),
        Published::gpt_neo("gpt-neo-125m", 12, 768, 12),
        Published::gpt_neo("gpt-neo-1.3b", 24, 2048, 16),
    ];
}

impl Published {
    const fn gpt2(name: &'static str, n_layer: usize, n_embd: usize, n_head: usize) -> Self {
        Self { name, window: None, n_layer, n_embd, n_head, n_positions: 1024, n_vocab: 50_257 }
    }

    const fn gpt_neo(name: &'static str, n_layer: usize, n_embd: usize, n_head: usize) -> Self {
        Self { name, window: Some(256), n_layer, n_embd, n_head, n_positions: 2048, n_vocab: 50_257 }
    }

    /// The shape as settings of a model.
    pub fn config(&self) -> ModelConfig {
        let Self { n_layer, n_embd, n_head, n_positions, n_vocab, .. } = *self;
        match self.window {
            None => ModelConfig::gpt2(n_layer, n_embd, n_head, n_positions, n_vocab),
            Some(window) => ModelConfig::gpt_neo(n_layer, n_embd, n_head, n_positions, n_vocab, window),
        }
    }
}
