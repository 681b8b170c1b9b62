//! GPT-Neo: GPT-2's shape with separate projections, `[out, in]` storage and local attention in some blocks.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parameter::decoder;
use crate::setting::{Size, settings, unsupported};
use crate::{Architecture, AttentionSpan, Biases, Family, Layout, Parameter, Result, Shape, Slot};

/// GPT-Neo.
pub static GPT_NEO: Family = Family {
    name: "gpt-neo",
    model_type: "gpt_neo",
    wrapper: None,
    prefix: "transformer.",
    head: "lm_head",
    block_prefix: "h",
    layout: Layout::OutIn,
    buffers: crate::GPT2.buffers,
    read,
    parameters,
    fresh,
};

/// The keys of its `config.json` that [`Architecture::base`] does not read.
#[derive(Deserialize)]
struct Config {
    num_layers: Size,
    hidden_size: Size,
    num_heads: Size,
    max_position_embeddings: Size,
    intermediate_size: Option<Size>,
    window_size: Option<Size>,
    attention_types: Value,
    attention_layers: Option<Value>,
}

const ALIASES: &[(&str, &str)] = &[("num_hidden_layers", "num_layers"), ("num_attention_heads", "num_heads")];

impl Architecture {
    /// A GPT-Neo of these sizes with standard settings: even blocks global, odd blocks local with `window`.
    ///
    /// # Panics
    /// As [`Architecture::gpt2`].
    pub fn gpt_neo(
        n_layer: usize,
        n_embd: usize,
        n_head: usize,
        n_positions: usize,
        n_vocab: usize,
        window: usize,
    ) -> Self {
        let shape = Shape::new(GPT_NEO.name, [n_layer, n_embd, n_head], n_positions, n_vocab);
        let shape = Shape { window_size: Some(window), ..shape };
        shape.architecture().unwrap_or_else(|e| panic!("{e}: {shape:?}"))
    }
}

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let config: Config = settings(&raw, path, ALIASES)?;
    let sizes = [config.num_layers, config.hidden_size, config.num_heads, config.max_position_embeddings];
    let base = Architecture::base(&GPT_NEO, raw, path, ["num_layers", "num_heads"], sizes, None, true)?;
    let spans = spans(&config, base.n_block).map_err(|(key, want)| unsupported(&base.raw, path, key, want))?;
    Ok(Architecture {
        n_inner: config.intermediate_size.map_or(base.n_inner, |n| n.0),
        biases: Biases { qkv: false, ..base.biases },
        spans,
        // GPT-Neo does not divide by the root of the head width (METHOD §1).
        attention_scales: vec![1.0; base.n_block],
        ..base
    })
}

/// The attention pattern: `[[["global", "local"], 12]]` means that pair twelve times.
fn spans(config: &Config, n_block: usize) -> Result<Vec<AttentionSpan>, (&'static str, &'static str)> {
    let want = ("attention_types", "a list like [[[\"global\", \"local\"], 12]] that covers every block");
    let mut kinds: Vec<&str> = Vec::new();
    for group in config.attention_types.as_array().ok_or(want)? {
        let names = group.get(0).and_then(Value::as_array).ok_or(want)?;
        for _ in 0..group.get(1).and_then(Value::as_u64).ok_or(want)? {
            for name in names {
                kinds.push(name.as_str().ok_or(("attention_types", "global or local attention"))?);
            }
            if names.is_empty() || kinds.len() > n_block {
                return Err(want);
            }
        }
    }
    if kinds.len() != n_block {
        return Err(want);
    }
    let span = |kind: &&str| match *kind {
        "global" => Ok(AttentionSpan::Global),
        "local" => match config.window_size {
            Some(window) => Ok(AttentionSpan::Local(window.0)),
            None => Err(("window_size", "the width of local attention")),
        },
        _ => Err(("attention_types", "global or local attention")),
    };
    let spans = kinds.iter().map(span).collect::<Result<_, _>>()?;
    // transformers lets a stored `attention_layers` win over the pattern it follows from.
    match &config.attention_layers {
        Some(layers) if *layers != Value::from(kinds) => Err(("attention_layers", "what `attention_types` unfolds to")),
        _ => Ok(spans),
    }
}

fn parameters(a: &Architecture) -> Vec<Parameter> {
    decoder(a, ["wte", "wpe", "ln_f"], |block| {
        block.norm(Slot::AttentionNorm, "ln_1");
        block.norm(Slot::MlpNorm, "ln_2");
        block.linear(Slot::Query, "attn.attention.q_proj");
        block.linear(Slot::Key, "attn.attention.k_proj");
        block.linear(Slot::Value, "attn.attention.v_proj");
        block.linear(Slot::AttentionOut, "attn.attention.out_proj");
        block.linear(Slot::Up, "mlp.c_fc");
        block.linear(Slot::Down, "mlp.c_proj");
    })
}

fn fresh(shape: &Shape) -> Value {
    let kinds: Vec<&str> = (0..shape.n_layer).map(|b| if b % 2 == 0 { "global" } else { "local" }).collect();
    json!({
        "architectures": ["GPTNeoForCausalLM"], "model_type": "gpt_neo", "activation_function": "gelu_new",
        "num_layers": shape.n_layer, "hidden_size": shape.n_embd, "num_heads": shape.n_head,
        "max_position_embeddings": shape.n_positions, "intermediate_size": shape.n_inner,
        "vocab_size": shape.vocab_size, "window_size": shape.window_size.unwrap_or(256),
        "attention_types": [[kinds, 1]], "attention_layers": kinds,
        "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "tie_word_embeddings": true,
        "attention_dropout": 0.0, "embed_dropout": 0.0, "resid_dropout": 0.0, "classifier_dropout": 0.0,
        "bos_token_id": 0, "eos_token_id": 0, "dtype": "float32",
    })
}
