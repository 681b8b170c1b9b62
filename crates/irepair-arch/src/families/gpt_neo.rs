//! GPT-Neo: GPT-2's shape with separate projections, `[out, in]` storage and local attention in some blocks.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parameter::ParameterList;
use crate::setting::{Act, Flag, Ids, NotNegative, Size, settings, unsupported};
use crate::{
    Activation, Architecture, AttentionSpan, Biases, Family, Init, Layout, Norm, NormKind, Parameter, Positions,
    Result, Shape, Slot,
};

/// GPT-Neo.
pub static GPT_NEO: Family = Family {
    name: "gpt-neo",
    model_type: "gpt_neo",
    prefix: "transformer.",
    block_prefix: "h",
    layout: Layout::OutIn,
    buffers: crate::GPT2.buffers,
    read,
    parameters,
    fresh,
};

/// Its `config.json`.
#[derive(Deserialize)]
struct Config {
    num_layers: Size,
    hidden_size: Size,
    num_heads: Size,
    max_position_embeddings: Size,
    vocab_size: Size,
    intermediate_size: Option<Size>,
    activation_function: Option<Act>,
    layer_norm_epsilon: Option<NotNegative>,
    window_size: Option<Size>,
    attention_types: Value,
    attention_layers: Option<Value>,
    tie_word_embeddings: Option<Flag>,
    eos_token_id: Option<Ids>,
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
    let (n_block, n_embd, n_head) = (config.num_layers.0, config.hidden_size.0, config.num_heads.0);
    if n_block > crate::architecture::MAX_BLOCKS {
        return Err(unsupported(&raw, path, "num_layers", "at most 10000 blocks"));
    }
    if n_embd % n_head != 0 {
        return Err(unsupported(&raw, path, "num_heads", &format!("a divisor of {n_embd}")));
    }
    let spans = spans(&config, n_block).map_err(|(key, want)| unsupported(&raw, path, key, want))?;
    Ok(Architecture {
        family: &GPT_NEO,
        n_block,
        n_embd,
        n_head,
        n_kv_head: n_head,
        head_dim: n_embd / n_head,
        n_inner: config.intermediate_size.map_or(4 * n_embd, |n| n.0),
        n_positions: config.max_position_embeddings.0,
        n_vocab: config.vocab_size.0,
        norm: Norm { kind: NormKind::LayerNorm, eps: config.layer_norm_epsilon.map_or(1e-5, |eps| eps.0) },
        activation: config.activation_function.map_or(Activation::GeluTanh, |act| act.0),
        gated_mlp: false,
        biases: Biases { qkv: false, attention_out: true, mlp: true },
        positions: Positions::Learned,
        tied_head: config.tie_word_embeddings.is_none_or(|tied| tied.0),
        spans,
        // GPT-Neo does not divide by the root of the head width (METHOD §1).
        attention_scales: vec![1.0; n_block],
        eos_ids: config.eos_token_id.unwrap_or_default().0,
        raw,
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
    let mut list = ParameterList::new(a);
    let normal = Init::Normal(list.sd());
    // As GPT-2: tokens start further apart than positions.
    list.table(Slot::TokenEmbedding, "wte", a.n_vocab, Init::Normal(4.0 * list.sd()));
    list.table(Slot::PositionEmbedding, "wpe", a.n_positions, normal);
    list.blocks("h", |block| {
        block.norm(Slot::AttentionNorm, "ln_1");
        block.norm(Slot::MlpNorm, "ln_2");
        block.linear(Slot::Query, "attn.attention.q_proj");
        block.linear(Slot::Key, "attn.attention.k_proj");
        block.linear(Slot::Value, "attn.attention.v_proj");
        block.linear(Slot::AttentionOut, "attn.attention.out_proj");
        block.linear(Slot::Up, "mlp.c_fc");
        block.linear(Slot::Down, "mlp.c_proj");
    });
    list.norm(Slot::FinalNorm, "ln_f");
    if !a.tied_head {
        list.table(Slot::Head, "lm_head", a.n_vocab, normal);
    }
    list.into_list()
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
