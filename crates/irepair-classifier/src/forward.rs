//! The encoder and its head: one forward pass for the three families.

use std::collections::HashMap;

use irepair_model::{Parameter, activate};
use tch::{Kind, Tensor};

use crate::config::{ClassifierConfig, Family};
use crate::params::Names;

/// A text encoder with a classification head; owns its parameters.
#[derive(Debug)]
pub(crate) struct Encoder {
    config: ClassifierConfig,
    parameters: Vec<Parameter>,
    index: HashMap<String, usize>,
}

impl Encoder {
    /// Of parameters in any order; all of [`crate::params::specs`] must be there.
    pub(crate) fn new(config: ClassifierConfig, parameters: Vec<Parameter>) -> Self {
        irepair_model::settle_kernels();
        let index = parameters.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect();
        Self { config, parameters, index }
    }

    pub(crate) fn config(&self) -> &ClassifierConfig {
        &self.config
    }

    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn tensor(&self, name: &str) -> &Tensor {
        &self.parameters[self.index[name]].tensor
    }

    fn linear(&self, name: &str, x: &Tensor) -> Tensor {
        x.linear(self.tensor(&format!("{name}.weight")), Some(self.tensor(&format!("{name}.bias"))))
    }

    fn norm(&self, name: &str, x: &Tensor) -> Tensor {
        let (weight, bias) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        x.layer_norm(weight.size(), Some(weight), Some(bias), self.config.norm_eps, true)
    }

    /// Logits of a batch.
    ///
    /// # Shapes
    /// - `rows`: token ids, start and end token included, each of 1 to `n_positions` tokens
    /// - returns `[rows, labels]`, float32; padding changes nothing
    pub(crate) fn logits(&self, rows: &[Vec<u32>]) -> Tensor {
        let (config, names) = (&self.config, Names::of(self.config.family));
        let (n_rows, n_cols) = (rows.len() as i64, rows.iter().map(Vec::len).max().unwrap_or(1).max(1) as i64);
        let (d, n_head) = (config.n_embd as i64, config.n_head as i64);
        let device = self.parameters[0].tensor.device();
        let mut ids = Vec::with_capacity((n_rows * n_cols) as usize);
        let mut padding = Vec::with_capacity(ids.capacity());
        for row in rows {
            let n_pad = n_cols as usize - row.len();
            ids.extend(row.iter().map(|&id| i64::from(id)).chain(std::iter::repeat_n(i64::from(config.pad_id), n_pad)));
            padding.extend(std::iter::repeat_n(false, row.len()).chain(std::iter::repeat_n(true, n_pad)));
        }
        let ids = Tensor::from_slice(&ids).view([n_rows, n_cols]).to_device(device);
        let padding = Tensor::from_slice(&padding).view([n_rows, 1, 1, n_cols]).to_device(device);

        // Padding is on the right, so a real token's position is its column.
        let embed = |table: &str| self.tensor(&names.embedding(table));
        let mut x = Tensor::embedding(embed("word_embeddings.weight"), &ids, -1, false, false)
            + embed("position_embeddings.weight").narrow(0, config.first_position as i64, n_cols);
        if config.n_segments > 0 {
            // One text is one segment, the first.
            x += embed("token_type_embeddings.weight").narrow(0, 0, 1);
        }
        x = self.norm(&names.embedding("LayerNorm"), &x);
        let scale = (config.n_embd as f64 / config.n_head as f64).powf(-0.5);
        for b in 0..config.n_block {
            let project = |part: &str| {
                self.linear(&names.block(b, part), &x).view([n_rows, n_cols, n_head, d / n_head]).transpose(1, 2)
            };
            let weights = (project(names.q) * scale).matmul(&project(names.k).transpose(2, 3));
            let weights = weights.masked_fill(&padding, f64::NEG_INFINITY).softmax(-1, Kind::Float);
            let mixed = weights.matmul(&project(names.v)).transpose(1, 2).contiguous().view([n_rows, n_cols, d]);
            x = self
                .norm(&names.block(b, names.attention_norm), &(&x + self.linear(&names.block(b, names.out), &mixed)));
            let up = activate(config.activation, &self.linear(&names.block(b, names.up), &x));
            x = self.norm(&names.block(b, names.output_norm), &(&x + self.linear(&names.block(b, names.down), &up)));
        }
        let first = self.linear(names.dense, &x.select(1, 0));
        let first = if config.family == Family::DistilBert { first.relu() } else { first.tanh() };
        self.linear(names.head, &first)
    }
}
