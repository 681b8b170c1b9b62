//! The parameters of a classifier: names, shapes, and values from a file or a generator.

use std::collections::HashMap;
use std::path::Path;

use irepair_model::{Parameter, StoredTensors, normal};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::config::{ClassifierConfig, Family};
use crate::{Error, Result};

/// A parameter to make: its name as transformers stores it, and its shape.
pub(crate) type Spec = (String, Vec<i64>);

/// Names of the parts of a block, and of what is before and after the blocks.
pub(crate) struct Names {
    pub(crate) root: &'static str,
    pub(crate) blocks: &'static str,
    pub(crate) q: &'static str,
    pub(crate) k: &'static str,
    pub(crate) v: &'static str,
    pub(crate) out: &'static str,
    pub(crate) attention_norm: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) output_norm: &'static str,
    /// Between the first token's state and the last projection.
    pub(crate) dense: &'static str,
    pub(crate) head: &'static str,
}

impl Names {
    pub(crate) fn of(family: Family) -> Self {
        let bert = |root, dense, head| Self {
            root,
            blocks: "encoder.layer",
            q: "attention.self.query",
            k: "attention.self.key",
            v: "attention.self.value",
            out: "attention.output.dense",
            attention_norm: "attention.output.LayerNorm",
            up: "intermediate.dense",
            down: "output.dense",
            output_norm: "output.LayerNorm",
            dense,
            head,
        };
        match family {
            Family::Bert => bert("bert", "bert.pooler.dense", "classifier"),
            Family::Roberta => bert("roberta", "classifier.dense", "classifier.out_proj"),
            Family::DistilBert => Self {
                root: "distilbert",
                blocks: "transformer.layer",
                q: "attention.q_lin",
                k: "attention.k_lin",
                v: "attention.v_lin",
                out: "attention.out_lin",
                attention_norm: "sa_layer_norm",
                up: "ffn.lin1",
                down: "ffn.lin2",
                output_norm: "output_layer_norm",
                dense: "pre_classifier",
                head: "classifier",
            },
        }
    }

    /// Full name of a part of block `b`.
    pub(crate) fn block(&self, b: usize, part: &str) -> String {
        format!("{}.{}.{b}.{part}", self.root, self.blocks)
    }

    /// Full name of a table or norm before the blocks.
    pub(crate) fn embedding(&self, part: &str) -> String {
        format!("{}.embeddings.{part}", self.root)
    }
}

/// The parameters in the order of the forward pass.
pub(crate) fn specs(config: &ClassifierConfig) -> Vec<Spec> {
    let names = Names::of(config.family);
    let (d, inner, n_labels) = (config.n_embd as i64, config.n_inner as i64, config.labels.len() as i64);
    let mut specs = Vec::new();
    let mut add = |name: String, shape: &[i64]| specs.push((name, shape.to_vec()));
    add(names.embedding("word_embeddings.weight"), &[config.n_vocab as i64, d]);
    add(names.embedding("position_embeddings.weight"), &[config.n_rows as i64, d]);
    if config.n_segments > 0 {
        add(names.embedding("token_type_embeddings.weight"), &[config.n_segments as i64, d]);
    }
    let mut pair = |name: String, weight: &[i64]| {
        add(format!("{name}.weight"), weight);
        add(format!("{name}.bias"), &weight[..1]);
    };
    pair(names.embedding("LayerNorm"), &[d]);
    for b in 0..config.n_block {
        for part in [names.q, names.k, names.v, names.out] {
            pair(names.block(b, part), &[d, d]);
        }
        pair(names.block(b, names.attention_norm), &[d]);
        pair(names.block(b, names.up), &[inner, d]);
        pair(names.block(b, names.down), &[d, inner]);
        pair(names.block(b, names.output_norm), &[d]);
    }
    pair(names.dense.to_owned(), &[d, d]);
    pair(names.head.to_owned(), &[n_labels, d]);
    specs
}

/// The current name of a stored tensor: LayerNorm's two had others in the first BERT checkpoints.
pub(crate) fn current_name(stored: &str) -> String {
    match stored.rsplit_once('.') {
        Some((module, "gamma")) => format!("{module}.weight"),
        Some((module, "beta")) => format!("{module}.bias"),
        _ => stored.to_owned(),
    }
}

/// Parameters from stored tensors, in float32 on `device`.
///
/// # Errors
/// [`Error::MissingTensors`] naming all of them; [`Error::WrongShape`].
pub(crate) fn from_stored(specs: &[Spec], stored: StoredTensors, dir: &Path, device: Device) -> Result<Vec<Parameter>> {
    let mut tensors: HashMap<String, Tensor> =
        stored.tensors.into_iter().map(|(name, tensor)| (current_name(&name), tensor)).collect();
    let missing: Vec<String> =
        specs.iter().map(|(name, _)| name).filter(|name| !tensors.contains_key(*name)).cloned().collect();
    if !missing.is_empty() {
        return Err(Error::MissingTensors { path: dir.to_owned(), tensors: missing });
    }
    let mut parameters = Vec::with_capacity(specs.len());
    for (name, shape) in specs {
        let Some(tensor) = tensors.remove(name) else { continue };
        if tensor.size() != *shape {
            let (path, tensor, got) = (dir.to_owned(), name.clone(), tensor.size());
            return Err(Error::WrongShape { path, tensor, want: shape.clone(), got });
        }
        let tensor = tensor.to_device(device).to_kind(Kind::Float);
        parameters.push(Parameter { name: name.clone(), block: None, tensor });
    }
    Ok(parameters)
}

/// Parameters to train from nothing: norms at one, biases at zero, the rest normal with BERT's 0.02 [S]. The same bits
/// for one seed.
pub(crate) fn random(specs: &[Spec], seed: u64) -> Vec<Parameter> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |(name, shape): &Spec| {
        let options = (Kind::Float, Device::Cpu);
        let tensor = match shape[..] {
            [n] if name.ends_with(".bias") => Tensor::zeros([n], options),
            [n] => Tensor::ones([n], options),
            _ => normal(&mut generator, shape, 0.02),
        };
        Parameter { name: name.clone(), block: None, tensor: tensor.set_requires_grad(true) }
    };
    specs.iter().map(&mut draw).collect()
}
