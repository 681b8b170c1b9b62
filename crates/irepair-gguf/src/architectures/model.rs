//! `config.json` of a file's model, and the new name of each stored tensor.

use irepair_core::{MAX_BLOCKS, printable};
use serde_json::{Value as Json, json};

use super::{ARCHITECTURES, Architecture, Bias, Dim, Norms, Row, Sizes};
use crate::file::GgufFile;
use crate::layout::Layout;
use crate::value::Value;
use crate::{Error, Result, rope};

/// Keys below the architecture's name that every architecture may have.
pub(super) const KNOWN: &str = "block_count context_length embedding_length feed_forward_length vocab_size \
    attention.head_count attention.head_count_kv attention.key_length attention.value_length \
    attention.layer_norm_rms_epsilon rope.freq_base rope.dimension_count rope.scaling.type rope.scaling.factor \
    rope.scaling.original_context_length rope.scaling.finetuned";

/// A tensor to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name in the safetensors file.
    pub(crate) name: String,
    /// The GGUF tensor it comes from.
    pub(crate) source: String,
    /// How the source stores it.
    pub(crate) layout: Layout,
}

/// A model as Hugging Face has it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) architecture: &'static Architecture,
    /// `config.json`, but for the special tokens.
    pub(crate) config: Json,
    /// Tensors, by their new names.
    pub(crate) targets: Vec<Target>,
    pub(crate) n_block: usize,
    pub(crate) n_vocab: usize,
    pub(crate) n_positions: usize,
    pub(crate) tied: bool,
}

impl Model {
    /// Reads the metadata and finds every tensor.
    ///
    /// # Errors
    /// `Metadata` and `Tensor`, for everything that is missing, not understood or contradictory.
    pub(crate) fn of(file: &GgufFile) -> Result<Self> {
        let architecture = check_kind(file)?;
        let sizes = sizes(file, architecture)?;
        let tied = architecture.tied || !file.tensors().contains_key("output.weight");
        let targets = find(file, &sizes, tied)?;
        let mut config = json!({
            "architectures": [architecture.class],
            "attention_dropout": 0.0,
            "dtype": "float32",
            "head_dim": sizes.head_dim,
            "hidden_size": sizes.hidden,
            "initializer_range": 0.02,
            "intermediate_size": sizes.inner,
            "max_position_embeddings": sizes.n_positions,
            "model_type": architecture.model_type,
            "num_attention_heads": sizes.n_head,
            "num_hidden_layers": sizes.n_block,
            "num_key_value_heads": sizes.n_kv_head,
            "rms_norm_eps": file.positive(&sizes.key("attention.layer_norm_rms_epsilon"))?,
            "rope_theta": sizes.theta,
            "tie_word_embeddings": tied,
            "use_cache": true,
            "vocab_size": sizes.n_vocab,
        });
        for (key, value) in (architecture.settings)(file, &sizes)?.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let Sizes { n_block, n_vocab, n_positions, .. } = sizes;
        Ok(Self { architecture, config, targets, n_block, n_vocab, n_positions, tied })
    }
}

/// Reads the sizes.
fn sizes(file: &GgufFile, architecture: &'static Architecture) -> Result<Sizes> {
    let key = |rest: &str| format!("{}.{rest}", architecture.name);
    let n_block = file.count(&key("block_count"))?;
    if n_block > MAX_BLOCKS {
        return Err(file.refuse(&key("block_count"), format!("at most {MAX_BLOCKS}")));
    }
    let (hidden, inner) = (file.count(&key("embedding_length"))?, file.count(&key("feed_forward_length"))?);
    let n_head = file.count(&key("attention.head_count"))?;
    let n_kv_head = file.optional_count(&key("attention.head_count_kv"))?.unwrap_or(n_head);
    if !n_head.is_multiple_of(n_kv_head) {
        return Err(file.refuse(&key("attention.head_count_kv"), format!("a divisor of the {n_head} heads")));
    }
    let head_dim = head_dim(file, architecture, hidden, n_head)?;
    let theta = match architecture.theta {
        Some(theta) => file.optional_positive(&key("rope.freq_base"))?.unwrap_or(theta),
        None => file.positive(&key("rope.freq_base"))?,
    };
    let n_vocab = file.tensors().get("token_embd.weight").map_or(0, |info| info.shape[0]);
    if file.optional_count(&key("vocab_size"))?.is_some_and(|n| n != n_vocab) {
        return Err(file.refuse(&key("vocab_size"), format!("the {n_vocab} rows of `token_embd.weight`")));
    }
    Ok(Sizes {
        architecture,
        n_block,
        hidden,
        inner,
        n_head,
        n_kv_head,
        head_dim,
        n_positions: file.count(&key("context_length"))?,
        n_vocab,
        theta,
        attention_bias: file.tensors().contains_key("blk.0.attn_q.bias"),
        mlp_bias: file.tensors().contains_key("blk.0.ffn_up.bias"),
    })
}

/// Refuses a file that is not one whole model of a known architecture, and keys that are not understood.
fn check_kind(file: &GgufFile) -> Result<&'static Architecture> {
    let name = file.optional_text("general.architecture")?;
    let Some(architecture) = ARCHITECTURES.into_iter().find(|known| Some(known.name) == name) else {
        let names: Vec<String> = ARCHITECTURES.iter().map(|known| format!("`{}`", known.name)).collect();
        return Err(file.refuse("general.architecture", format!("one of {}", names.join(", "))));
    };
    let (text, zero) = (|text: &str| Value::Text(text.to_owned()), Value::Integer(0));
    let no_experts = "0: mixtures of experts are not supported";
    for (key, want, allowed) in [
        ("general.type", "`model`", vec![text("model")]),
        ("split.count", "one file with the whole model: merge the parts", vec![zero.clone(), Value::Integer(1)]),
        ("general.quantization_version", "2", vec![Value::Integer(2)]),
        ("llama.expert_count", no_experts, vec![zero.clone()]),
        ("llama.expert_used_count", no_experts, vec![zero]),
        // The only layout that converters name: the rows of queries and keys are in pairs.
        ("llama.tensor_data_layout", "`Meta AI original pth`", vec![text("Meta AI original pth")]),
    ] {
        if file.metadata().get(key).is_some_and(|value| !allowed.contains(value)) {
            return Err(file.refuse(key, want));
        }
    }
    let known = || KNOWN.split_whitespace().chain(architecture.keys.split_whitespace());
    let rest = |key: &str| key.strip_prefix(architecture.name)?.strip_prefix('.').map(str::to_owned);
    let unknown = |key: &&String| rest(key).is_some_and(|rest| !known().any(|known| known == rest));
    match file.metadata().keys().find(unknown) {
        Some(key) => Err(file.refuse(key, "no such key: it may change what the model computes")),
        None => Ok(architecture),
    }
}

/// Width of a head: even, the same for keys and values, and rotated whole where the architecture asks for it.
fn head_dim(file: &GgufFile, architecture: &Architecture, hidden: usize, n_head: usize) -> Result<usize> {
    let key = |rest: &str| format!("{}.{rest}", architecture.name);
    let stored = file.optional_count(&key("attention.key_length"))?;
    if stored.is_none() && !hidden.is_multiple_of(n_head) {
        return Err(file.refuse(&key("attention.head_count"), format!("a divisor of the width {hidden}")));
    }
    let head_dim = stored.unwrap_or(hidden / n_head);
    if !head_dim.is_multiple_of(2) || head_dim == 0 {
        return Err(file.refuse(&key("attention.key_length"), format!("an even number, not {head_dim}")));
    }
    if file.optional_count(&key("attention.value_length"))?.is_some_and(|n| n != head_dim) {
        return Err(file.refuse(&key("attention.value_length"), format!("{head_dim}, the width of a head")));
    }
    let rotated = file.optional_count(&key("rope.dimension_count"))?.unwrap_or(head_dim);
    match architecture.partial_rotary {
        true if rotated > head_dim || !rotated.is_multiple_of(2) => {
            Err(file.refuse(&key("rope.dimension_count"), format!("an even number up to {head_dim}")))
        }
        false if rotated != head_dim => {
            Err(file.refuse(&key("rope.dimension_count"), format!("{head_dim}, the width of a head")))
        }
        _ => Ok(head_dim),
    }
}

/// Finds every tensor of the model, and refuses others.
fn find(file: &GgufFile, sizes: &Sizes, tied: bool) -> Result<Vec<Target>> {
    let (hidden, n_vocab) = (sizes.hidden, sizes.n_vocab);
    let norm = match sizes.architecture.norms {
        Norms::Plain => Layout::Plain,
        Norms::PlusOne => Layout::PlusOne,
    };
    let mut finder = Finder { file, targets: Vec::new() };
    finder.take("token_embd.weight", "model.embed_tokens.weight", &[n_vocab, hidden], Layout::Plain)?;
    finder.take("output_norm.weight", "model.norm.weight", &[hidden], norm)?;
    if !tied {
        finder.take("output.weight", "lm_head.weight", &[n_vocab, hidden], Layout::Plain)?;
    }
    for b in 0..sizes.n_block {
        for row in sizes.architecture.block {
            let layout = match row.shape {
                [Dim::PairedQueries, ..] => Layout::Paired { n_head: sizes.n_head },
                [Dim::PairedKeys, ..] => Layout::Paired { n_head: sizes.n_kv_head },
                [_] => norm,
                _ => Layout::Plain,
            };
            finder.block(b, row, sizes, layout)?;
        }
    }
    finder.finish()
}

/// Collects the tensors of a model.
struct Finder<'a> {
    file: &'a GgufFile,
    targets: Vec<Target>,
}

impl Finder<'_> {
    /// Takes the tensor `source` of this shape as `name`.
    fn take(&mut self, source: &str, name: &str, shape: &[usize], layout: Layout) -> Result<()> {
        if self.file.tensors().get(source).is_none_or(|info| info.shape != shape) {
            return Err(self.file.misfit(source, format!("shape {shape:?}")));
        }
        self.targets.push(Target { name: name.to_owned(), source: source.to_owned(), layout });
        Ok(())
    }

    /// Takes the weight, and where there is one the bias, of a tensor of block `b`.
    fn block(&mut self, b: usize, row: &Row, sizes: &Sizes, layout: Layout) -> Result<()> {
        let names = |end: &str| (format!("blk.{b}.{}.{end}", row.from), format!("model.layers.{b}.{}.{end}", row.to));
        let shape: Vec<usize> = row.shape.iter().map(|dim| sizes.of(*dim)).collect();
        let (from, to) = names("weight");
        self.take(&from, &to, &shape, layout)?;
        let has_bias = match row.bias {
            Bias::Never => false,
            Bias::Always => true,
            Bias::Attention => sizes.attention_bias,
            Bias::Mlp => sizes.mlp_bias,
        };
        if has_bias {
            let (from, to) = names("bias");
            self.take(&from, &to, &shape[..1], layout)?;
            if layout != Layout::Plain && self.file.tensors()[&from].kind.n_values() > 1 {
                return Err(self.file.misfit(&from, "a bias that is not quantised"));
            }
        }
        Ok(())
    }

    /// Refuses tensors that were not taken.
    fn finish(mut self) -> Result<Vec<Target>> {
        let taken: std::collections::BTreeSet<&str> = self.targets.iter().map(|t| t.source.as_str()).collect();
        let left = self
            .file
            .tensors()
            .keys()
            .find(|name| !rope::TENSORS.contains(&name.as_str()) && !taken.contains(name.as_str()));
        if let Some(name) = left {
            return Err(self.file.misfit(name, "no such tensor"));
        }
        self.targets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(self.targets)
    }
}

impl GgufFile {
    /// A tensor that is missing or of another shape or type.
    pub(crate) fn misfit(&self, tensor: &str, want: impl Into<String>) -> Error {
        let got = self.tensors().get(tensor);
        Error::Tensor {
            path: self.path().to_owned(),
            tensor: printable(tensor),
            want: want.into(),
            got: got.map_or_else(|| "nothing".to_owned(), |info| format!("shape {:?} of {}", info.shape, info.kind)),
        }
    }
}
