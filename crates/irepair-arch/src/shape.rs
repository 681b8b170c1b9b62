//! Sizes of a model that has no files yet: one to be trained, or a published one that is not here.

use serde::{Deserialize, Serialize};

use crate::{Architecture, FAMILIES, Result};

/// The sizes of a transformer (METHOD §1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Model family, by name.
    pub family: String,
    /// Transformer blocks, called L in METHOD §1.
    pub n_layer: usize,
    /// Width, called d in METHOD §1.
    pub n_embd: usize,
    /// Attention heads; must divide `n_embd`.
    pub n_head: usize,
    /// Heads of keys and values. Without it, `n_head`.
    pub n_kv_head: Option<usize>,
    /// Width inside the MLP. Without it, four times the width.
    pub n_inner: Option<usize>,
    /// Longest text in tokens.
    pub n_positions: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Window of local attention, in families that have it. Without it, 256.
    pub window_size: Option<usize>,
}

impl Shape {
    /// Sizes without grouped queries, with an MLP four times the width.
    pub fn new(family: &str, [n_layer, n_embd, n_head]: [usize; 3], n_positions: usize, vocab_size: usize) -> Self {
        let family = family.to_owned();
        let (n_kv_head, n_inner, window_size) = (None, None, None);
        Self { family, n_layer, n_embd, n_head, n_kv_head, n_inner, n_positions, vocab_size, window_size }
    }

    /// The architecture of these sizes with the family's standard settings.
    ///
    /// # Errors
    /// An unknown family, or sizes that do not fit together: [`crate::Error::Unsupported`], naming the key.
    pub fn architecture(&self) -> Result<Architecture> {
        let family = FAMILIES.iter().find(|family| family.name == self.family);
        let config =
            family.map_or_else(|| serde_json::json!({"model_type": self.family}), |family| (family.fresh)(self));
        Architecture::from_json(config, "shape".as_ref())
    }
}

/// A published model's shape, to measure the cost of its size without a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its name, in small letters.
    pub name: &'static str,
    family: &'static str,
    sizes: [usize; 3],
    /// Heads of keys and values, and width inside the MLP, where they are not the family's.
    grouped: Option<(usize, usize)>,
    n_positions: usize,
    vocab_size: usize,
}

impl Published {
    /// The models that the paper and this project use.
    pub const ALL: [Self; 7] = [
        Self::new("gpt2", "gpt2", [12, 768, 12], None, 1024, 50_257),
        Self::new("gpt2-large", "gpt2", [36, 1280, 20], None, 1024, 50_257),
        Self::new("gpt2-xl", "gpt2", [48, 1600, 25], None, 1024, 50_257),
        Self::new("gpt-neo-125m", "gpt-neo", [12, 768, 12], None, 2048, 50_257),
        Self::new("gpt-neo-1.3b", "gpt-neo", [24, 2048, 16], None, 2048, 50_257),
        Self::new("smollm2-135m", "llama", [30, 576, 9], Some((3, 1536)), 8192, 49_152),
        Self::new("llama-1b", "llama", [16, 2048, 32], Some((8, 8192)), 131_072, 128_256),
    ];

    const fn new(
        name: &'static str,
        family: &'static str,
        sizes: [usize; 3],
        grouped: Option<(usize, usize)>,
        n_positions: usize,
        vocab_size: usize,
    ) -> Self {
        Self { name, family, sizes, grouped, n_positions, vocab_size }
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        let shape = Shape::new(self.family, self.sizes, self.n_positions, self.vocab_size);
        Shape { n_kv_head: self.grouped.map(|of| of.0), n_inner: self.grouped.map(|of| of.1), ..shape }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_models_have_their_published_weights() {
        let weights = |name: &str| {
            let published = Published::ALL.into_iter().find(|p| p.name == name).unwrap();
            let architecture = published.shape().architecture().unwrap();
            (architecture.block_weights(), architecture.n_weights())
        };
        // METHOD §1: 12 d^2 + 13 d for GPT-2, 12 d^2 + 10 d for GPT-Neo.
        assert_eq!(weights("gpt2-large"), (19_677_440, 774_030_080));
        assert_eq!(weights("gpt2-xl"), (30_740_800, 1_557_611_200));
        assert_eq!(weights("gpt-neo-1.3b"), (50_352_128, 1_315_575_808));
        // The counts on their model cards: 134.5 M and 1.24 B.
        assert_eq!(weights("smollm2-135m").1, 134_515_008);
        assert_eq!(weights("llama-1b").1, 1_235_814_400);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_by_key() {
        let error = Shape::new("gpt2", [2, 10, 4], 16, 7).architecture().unwrap_err();
        assert!(matches!(error, crate::Error::Unsupported { key, .. } if key == "n_head"));
        let error = Shape::new("llama", [2, 8, 8], 16, 7).architecture().unwrap_err();
        assert!(
            matches!(&error, crate::Error::Unsupported { key, got, .. } if key == "head_dim" && got == "1"),
            "{error:?}"
        );
        let error = Shape::new("mamba", [2, 8, 4], 16, 7).architecture().unwrap_err();
        assert!(matches!(error, crate::Error::Unsupported { key, .. } if key == "model_type"));
    }
}
