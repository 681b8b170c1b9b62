//! What a `config.json` means: GPT-2 and GPT-Neo settings, read strictly.

use std::path::Path;

use irepair_core::weights::not_json;
use serde_json::{Map, Value, json};

use crate::keys::Keys;
use crate::{Error, Result};

/// Model family; it decides names, weight layout and attention scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `model_type = "gpt2"`.
    Gpt2,
    /// `model_type = "gpt_neo"`.
    GptNeo,
}

/// The non-linearity between the two projections of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU in its tanh approximation (`gelu_new`, `gelu_pytorch_tanh`, `gelu_fast` are this function).
    GeluTanh,
    /// Exact GELU.
    Gelu,
    /// ReLU.
    Relu,
    /// SiLU (`swish`).
    Silu,
    /// tanh.
    Tanh,
}

/// How far back a block's attention reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionSpan {
    /// The whole text so far.
    Global,
    /// The last so many tokens, the current one included.
    Local(usize),
}

/// Everything the forward pass needs to know, and the original JSON to write back.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// Family.
    pub family: Family,
    /// Number of transformer blocks (METHOD §1: `L`).
    pub n_block: usize,
    /// Width (METHOD §1: `d`).
    pub n_embd: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Longest text in tokens.
    pub n_positions: usize,
    /// Vocabulary size.
    pub n_vocab: usize,
    /// Width between the two MLP projections.
    pub n_inner: usize,
    /// MLP non-linearity.
    pub activation: Activation,
    /// Added to variances in layer norms.
    pub norm_eps: f64,
    /// True when the head is the token embedding.
    pub tied_head: bool,
    /// Per block: attention span.
    pub spans: Vec<AttentionSpan>,
    /// Per block: factor on query-key products.
    pub attention_scales: Vec<f64>,
    /// End-of-text token, also used as start and pad.
    pub eos_id: Option<u32>,
    raw: Map<String, Value>,
}

impl ModelConfig {
    /// A GPT-2 of the given shape with standard settings.
    pub fn gpt2(n_layer: usize, n_embd: usize, n_head: usize, n_positions: usize, n_vocab: usize) -> Self {
        Self::standard(json!({
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
            "n_layer": n_layer, "n_embd": n_embd, "n_head": n_head, "n_positions": n_positions, "n_inner": null,
            "vocab_size": n_vocab, "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "scale_attn_weights": true,
            "scale_attn_by_inverse_layer_idx": false, "reorder_and_upcast_attn": false, "tie_word_embeddings": true,
            "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0,
            "dtype": "float32",
        }))
    }

    /// A GPT-Neo of the given shape with standard settings: even blocks global, odd blocks local with `window`.
    pub fn gpt_neo(
        n_layer: usize,
        n_embd: usize,
        n_head: usize,
        n_positions: usize,
        n_vocab: usize,
        window: usize,
    ) -> Self {
        let kinds: Vec<&str> = (0..n_layer).map(|b| if b % 2 == 0 { "global" } else { "local" }).collect();
        Self::standard(json!({
            "architectures": ["GPTNeoForCausalLM"], "model_type": "gpt_neo", "activation_function": "gelu_new",
            "num_layers": n_layer, "hidden_size": n_embd, "num_heads": n_head, "max_position_embeddings": n_positions,
            "intermediate_size": null, "vocab_size": n_vocab, "window_size": window,
            "attention_types": [[kinds, 1]], "attention_layers": kinds,
            "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "tie_word_embeddings": true,
            "attention_dropout": 0.0, "embed_dropout": 0.0, "resid_dropout": 0.0, "classifier_dropout": 0.0,
            "bos_token_id": 0, "eos_token_id": 0, "dtype": "float32",
        }))
    }

    fn standard(value: Value) -> Self {
        let Value::Object(raw) = value else { unreachable!("built from an object literal") };
        Self::from_json(raw, Path::new("config.json")).unwrap_or_else(|e| unreachable!("standard settings: {e}"))
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for broken JSON or missing keys, [`Error::Unsupported`] for settings we do not compute.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Error::MissingFile { path: path.to_owned() });
        }
        let text = irepair_core::fs::read_to_string(path)?;
        match serde_json::from_str(&text) {
            Ok(Value::Object(raw)) => Self::from_json(raw, path),
            Ok(_) => Err(Error::Unreadable { path: path.to_owned(), reason: "not a JSON object".into() }),
            Err(e) => Err(Error::Unreadable { path: path.to_owned(), reason: not_json(&text, e) }),
        }
    }

    fn from_json(raw: Map<String, Value>, path: &Path) -> Result<Self> {
        let keys = Keys { raw: &raw, path };
        let family = match keys.text("model_type")?.unwrap_or_default() {
            "gpt2" => Family::Gpt2,
            "gpt_neo" => Family::GptNeo,
            other => return Err(keys.unsupported("model_type", "gpt2 or gpt_neo", other)),
        };
        keys.refuse_what_would_change_the_model()?;
        let gpt2 = family == Family::Gpt2;
        let pick = |neo: &'static str, two: &'static str| if gpt2 { two } else { neo };
        let n_block = keys.size_or(pick("num_layers", "n_layer"), "num_hidden_layers")?;
        if n_block > 10_000 {
            return Err(keys.wrong(pick("num_layers", "n_layer"), "at most 10000 blocks"));
        }
        let n_embd = keys.size_or(pick("hidden_size", "n_embd"), "hidden_size")?;
        let n_head = keys.size_or(pick("num_heads", "n_head"), "num_attention_heads")?;
        if n_embd % n_head != 0 {
            return Err(keys.unsupported(
                pick("num_heads", "n_head"),
                &format!("a divisor of {n_embd}"),
                &n_head.to_string(),
            ));
        }
        let inner_key = pick("intermediate_size", "n_inner");
        let n_inner = if raw.get(inner_key).is_none_or(Value::is_null) { 4 * n_embd } else { keys.size(inner_key)? };
        let activation = match keys.text("activation_function")?.unwrap_or("gelu_new") {
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "tanh" => Activation::Tanh,
            other => {
                let want = "gelu_new, gelu_pytorch_tanh, gelu_fast, gelu, relu, silu, swish or tanh";
                return Err(keys.unsupported("activation_function", want, other));
            }
        };
        let (spans, attention_scales) = if gpt2 {
            let head_width = (n_embd / n_head) as f64;
            let base = if keys.flag("scale_attn_weights", true)? { head_width.powf(-0.5) } else { 1.0 };
            let by_block = keys.flag("scale_attn_by_inverse_layer_idx", false)?;
            // `reorder_and_upcast_attn` only moves the scaling and the float32 cast; in float32 the value is the same.
            keys.flag("reorder_and_upcast_attn", false)?;
            let scale = |b: usize| if by_block { base / (b + 1) as f64 } else { base };
            (vec![AttentionSpan::Global; n_block], (0..n_block).map(scale).collect())
        } else {
            // GPT-Neo does not divide by the root of the head width (METHOD §1).
            (keys.spans(n_block)?, vec![1.0; n_block])
        };
        Ok(Self {
            family,
            n_block,
            n_embd,
            n_head,
            n_positions: keys.size_or(pick("max_position_embeddings", "n_positions"), "max_position_embeddings")?,
            n_vocab: keys.size("vocab_size")?,
            n_inner,
            activation,
            norm_eps: keys.not_negative("layer_norm_epsilon", 1e-5)?,
            tied_head: keys.flag("tie_word_embeddings", true)?,
            spans,
            attention_scales,
            eos_id: raw.get("eos_token_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()),
            raw,
        })
    }

    /// The JSON as read (or as built), for writing back unchanged.
    pub fn to_json(&self) -> String {
        // A map of strings and numbers always serialises.
        serde_json::to_string_pretty(&self.raw).unwrap_or_default() + "\n"
    }

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.n_embd / self.n_head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<ModelConfig> {
        let Value::Object(raw) = value else { unreachable!() };
        ModelConfig::from_json(raw, Path::new("m/config.json"))
    }

    fn neo(types: Value) -> Value {
        json!({"model_type": "gpt_neo", "num_layers": 4, "hidden_size": 8, "num_heads": 2, "window_size": 5,
               "max_position_embeddings": 16, "vocab_size": 7, "attention_types": types})
    }

    #[test]
    fn attention_types_unfold() {
        let config = read(neo(json!([[["global", "local"], 1], [["local"], 2]]))).unwrap();
        let local = AttentionSpan::Local(5);
        assert_eq!(config.spans, [AttentionSpan::Global, local, local, local]);
        assert_eq!(config.attention_scales, [1.0; 4]);
    }

    #[test]
    fn the_unfolded_list_beside_a_pattern_must_agree_with_it() {
        let mut config = neo(json!([[["global", "local"], 2]]));
        config["attention_layers"] = json!(["global", "local", "global", "local"]);
        assert!(read(config.clone()).is_ok());
        config["attention_layers"] = json!(["local", "local", "global", "local"]);
        let error = read(config).unwrap_err();
        assert!(matches!(error, Error::Unsupported { ref key, .. } if key == "attention_layers"));
    }

    #[test]
    fn sizes_go_by_both_of_their_names() {
        let mut raw = ModelConfig::gpt2(2, 8, 2, 16, 7).raw;
        let pairs = [
            ("n_layer", "num_hidden_layers"),
            ("n_embd", "hidden_size"),
            ("n_head", "num_attention_heads"),
            ("n_positions", "max_position_embeddings"),
        ];
        for (own, other) in pairs {
            let value = raw.remove(own).unwrap();
            raw.insert(other.into(), value);
        }
        let config = ModelConfig::from_json(raw, Path::new("c")).unwrap();
        assert_eq!((config.n_block, config.n_embd, config.n_head, config.n_positions), (2, 8, 2, 16));
    }

    #[test]
    fn hostile_patterns_are_refused_without_work() {
        for types in [json!(7), json!([[["global"], 3]]), json!([[[], 1_000_000_000_000_u64]]), json!([[["near"], 4]])]
        {
            assert!(matches!(read(neo(types)), Err(Error::Unsupported { .. })));
        }
    }

    #[test]
    fn an_unsupported_setting_is_refused_by_name() {
        let error = read(json!({"model_type": "llama"})).unwrap_err();
        assert!(matches!(error, Error::Unsupported { ref key, .. } if key == "model_type"));
        let mut gpt2 = ModelConfig::gpt2(2, 8, 2, 16, 7).raw;
        gpt2.insert("activation_function".into(), json!("mish"));
        let error = ModelConfig::from_json(gpt2, Path::new("c")).unwrap_err();
        assert!(matches!(error, Error::Unsupported { ref key, .. } if key == "activation_function"));
    }

    #[test]
    fn inverse_layer_scaling_counts_from_one() {
        let mut raw = ModelConfig::gpt2(2, 8, 2, 16, 7).raw;
        raw.insert("scale_attn_by_inverse_layer_idx".into(), json!(true));
        let config = ModelConfig::from_json(raw, Path::new("c")).unwrap();
        assert_eq!(config.attention_scales, [0.5, 0.25]);
    }
}
