//! Architecture `llama`: `config.json`, and the new name of each stored tensor.

use irepair_core::{MAX_BLOCKS, printable};
use serde_json::{Value as Json, json};

use crate::file::GgufFile;
use crate::value::Value;
use crate::{Error, Result, rope};

/// Keys below `llama.` that are understood. Any other may change the model.
const KNOWN: &str = "block_count context_length embedding_length feed_forward_length vocab_size attention.head_count \
    attention.head_count_kv attention.key_length attention.value_length attention.layer_norm_rms_epsilon rope.freq_base \
    rope.dimension_count rope.scaling.type rope.scaling.factor rope.scaling.original_context_length \
    rope.scaling.finetuned expert_count expert_used_count tensor_data_layout";

/// A tensor to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name in the safetensors file.
    pub(crate) name: String,
    /// The GGUF tensor it comes from.
    pub(crate) source: String,
    /// Heads whose rows are interleaved in the source; none where rows keep their places.
    pub(crate) n_head: Option<usize>,
}

/// A llama model as Hugging Face has it.
#[derive(Debug)]
pub(crate) struct Llama {
    /// `config.json`, but for the special tokens.
    pub(crate) config: Json,
    /// Tensors, by their new names.
    pub(crate) targets: Vec<Target>,
    pub(crate) n_block: usize,
    pub(crate) n_vocab: usize,
    pub(crate) n_positions: usize,
    pub(crate) tied: bool,
}

impl Llama {
    /// Reads the metadata and finds every tensor.
    ///
    /// # Errors
    /// `Metadata` and `Tensor`, for everything that is missing, not understood or contradictory.
    pub(crate) fn of(file: &GgufFile) -> Result<Self> {
        check_kind(file)?;
        let n_block = file.count("llama.block_count")?;
        if n_block > MAX_BLOCKS {
            return Err(file.refuse("llama.block_count", format!("at most {MAX_BLOCKS}")));
        }
        let (hidden, inner) = (file.count("llama.embedding_length")?, file.count("llama.feed_forward_length")?);
        let n_head = file.count("llama.attention.head_count")?;
        let n_kv_head = file.optional_count("llama.attention.head_count_kv")?.unwrap_or(n_head);
        if !n_head.is_multiple_of(n_kv_head) {
            return Err(file.refuse("llama.attention.head_count_kv", format!("a divisor of the {n_head} heads")));
        }
        let head_dim = head_dim(file, hidden, n_head)?;
        let theta = file.positive("llama.rope.freq_base")?;
        let n_positions = file.count("llama.context_length")?;

        let has = |name: &str| file.tensors().contains_key(name);
        let n_vocab = file.tensors().get("token_embd.weight").map_or(0, |info| info.shape[0]);
        if file.optional_count("llama.vocab_size")?.is_some_and(|n| n != n_vocab) {
            return Err(file.refuse("llama.vocab_size", format!("the {n_vocab} rows of `token_embd.weight`")));
        }
        let tied = !has("output.weight");
        let (attention_bias, mlp_bias) = (has("blk.0.attn_q.bias"), has("blk.0.ffn_up.bias"));
        let mut finder = Finder { file, targets: Vec::new() };
        finder.take("token_embd.weight", "model.embed_tokens.weight", &[n_vocab, hidden], None)?;
        finder.take("output_norm.weight", "model.norm.weight", &[hidden], None)?;
        if !tied {
            finder.take("output.weight", "lm_head.weight", &[n_vocab, hidden], None)?;
        }
        let (q, kv) = (n_head * head_dim, n_kv_head * head_dim);
        for b in 0..n_block {
            finder.block(b, ["attn_norm", "input_layernorm"], &[hidden], None, false)?;
            finder.block(b, ["attn_q", "self_attn.q_proj"], &[q, hidden], Some(n_head), attention_bias)?;
            finder.block(b, ["attn_k", "self_attn.k_proj"], &[kv, hidden], Some(n_kv_head), attention_bias)?;
            finder.block(b, ["attn_v", "self_attn.v_proj"], &[kv, hidden], None, attention_bias)?;
            finder.block(b, ["attn_output", "self_attn.o_proj"], &[hidden, q], None, attention_bias)?;
            finder.block(b, ["ffn_norm", "post_attention_layernorm"], &[hidden], None, false)?;
            finder.block(b, ["ffn_gate", "mlp.gate_proj"], &[inner, hidden], None, mlp_bias)?;
            finder.block(b, ["ffn_up", "mlp.up_proj"], &[inner, hidden], None, mlp_bias)?;
            finder.block(b, ["ffn_down", "mlp.down_proj"], &[hidden, inner], None, mlp_bias)?;
        }
        let targets = finder.finish()?;
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": attention_bias,
            "attention_dropout": 0.0,
            "dtype": "float32",
            "head_dim": head_dim,
            "hidden_act": "silu",
            "hidden_size": hidden,
            "initializer_range": 0.02,
            "intermediate_size": inner,
            "max_position_embeddings": n_positions,
            "mlp_bias": mlp_bias,
            "model_type": "llama",
            "num_attention_heads": n_head,
            "num_hidden_layers": n_block,
            "num_key_value_heads": n_kv_head,
            "pretraining_tp": 1,
            "rms_norm_eps": file.positive("llama.attention.layer_norm_rms_epsilon")?,
            "rope_scaling": rope::scaling(file, theta, head_dim)?,
            "rope_theta": theta,
            "tie_word_embeddings": tied,
            "use_cache": true,
            "vocab_size": n_vocab,
        });
        Ok(Self { config, targets, n_block, n_vocab, n_positions, tied })
    }
}

/// Refuses a file that is not one whole llama model, and keys that are not understood.
fn check_kind(file: &GgufFile) -> Result<()> {
    if file.optional_text("general.architecture")? != Some("llama") {
        return Err(file.refuse("general.architecture", "`llama`"));
    }
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
    let unknown =
        |key: &&String| key.strip_prefix("llama.").is_some_and(|rest| !KNOWN.split(' ').any(|known| known == rest));
    match file.metadata().keys().find(unknown) {
        Some(key) => Err(file.refuse(key, "no such key: it may change what the model computes")),
        None => Ok(()),
    }
}

/// Width of a head: even, the same for keys and values, and rotated whole.
fn head_dim(file: &GgufFile, hidden: usize, n_head: usize) -> Result<usize> {
    let stored = file.optional_count("llama.attention.key_length")?;
    if stored.is_none() && !hidden.is_multiple_of(n_head) {
        return Err(file.refuse("llama.attention.head_count", format!("a divisor of the width {hidden}")));
    }
    let head_dim = stored.unwrap_or(hidden / n_head);
    if !head_dim.is_multiple_of(2) || head_dim == 0 {
        return Err(file.refuse("llama.attention.key_length", format!("an even number, not {head_dim}")));
    }
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if file.optional_count(key)?.is_some_and(|n| n != head_dim) {
            return Err(file.refuse(key, format!("{head_dim}, the width of a head")));
        }
    }
    Ok(head_dim)
}

/// Collects the tensors of a model.
struct Finder<'a> {
    file: &'a GgufFile,
    targets: Vec<Target>,
}

impl Finder<'_> {
    /// Takes the tensor `source` of this shape as `name`.
    fn take(&mut self, source: &str, name: &str, shape: &[usize], n_head: Option<usize>) -> Result<()> {
        if self.file.tensors().get(source).is_none_or(|info| info.shape != shape) {
            return Err(self.file.misfit(source, format!("shape {shape:?}")));
        }
        self.targets.push(Target { name: name.to_owned(), source: source.to_owned(), n_head });
        Ok(())
    }

    /// Takes the weight, and where there is one the bias, of block `b`; `names` are the old and the new one.
    fn block(
        &mut self,
        b: usize,
        names: [&str; 2],
        shape: &[usize],
        n_head: Option<usize>,
        has_bias: bool,
    ) -> Result<()> {
        let [from, to] = names;
        self.take(&format!("blk.{b}.{from}.weight"), &format!("model.layers.{b}.{to}.weight"), shape, n_head)?;
        if has_bias {
            let names = (format!("blk.{b}.{from}.bias"), format!("model.layers.{b}.{to}.bias"));
            self.take(&names.0, &names.1, &shape[..1], n_head)?;
            if n_head.is_some() && self.file.tensors()[&names.0].kind.n_values() > 1 {
                return Err(self.file.misfit(&names.0, "a bias that is not quantised"));
            }
        }
        Ok(())
    }

    /// Refuses tensors that were not taken.
    fn finish(mut self) -> Result<Vec<Target>> {
        let taken: std::collections::BTreeSet<&str> = self.targets.iter().map(|t| t.source.as_str()).collect();
        let left = self.file.tensors().keys().find(|name| *name != rope::FACTORS && !taken.contains(name.as_str()));
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
