//! Gemma 2: Llama's projections between norms on both sides, weights of norms around 0, scaled embeddings, windows in
//! every second block, and caps on attention scores and logits.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::llama::{self, FULL, Form, SLIDING};
use crate::parameter::decoder;
use crate::rope::RopeForm;
use crate::setting::{Act, Positive, Size, refuse_on, settings, unsupported};
use crate::{
    Activation, Architecture, Biases, Family, Norm, NormWeight, Parameter, Positions, Result, Rope, Shape, Slot,
};

/// Gemma 2.
pub static GEMMA2: Family = Family {
    name: "gemma2",
    model_type: "gemma2",
    read,
    parameters,
    fresh: |shape| fresh(shape, "Gemma2ForCausalLM", "gemma2", json!({})),
    ..llama::FORM
};

/// The keys of both families that [`llama::read_form`] does not read.
#[derive(Deserialize)]
struct Config {
    hidden_activation: Option<Act>,
    query_pre_attn_scalar: Option<Positive>,
    sliding_window: Option<Size>,
    layer_types: Option<Vec<String>>,
    attn_logit_softcapping: Option<Positive>,
    final_logit_softcapping: Option<Positive>,
}

/// What a file without these keys means, as in the published files and the class of transformers.
const DEFAULTS: &[(&str, u32)] = &[
    ("head_dim", 256),
    ("query_pre_attn_scalar", 256),
    ("sliding_window", 4096),
    ("attn_logit_softcapping", 50),
    ("final_logit_softcapping", 30),
];

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    llama::need_kv_heads(&raw, path)?;
    let a = read_form(&GEMMA2, raw, path, DEFAULTS, 2)?;
    let rope = Rope::read(&a.raw, path, RopeForm::llama(a.head_dim, a.n_positions))?;
    Ok(Architecture { positions: Positions::rotary(rope, a.n_block), ..a })
}

/// What Gemma 2 and 3 share. Blocks have windows but for every `pattern`-th, where `layer_types` is not given.
pub(super) fn read_form(
    family: &'static Family,
    raw: Map<String, Value>,
    path: &Path,
    defaults: &[(&str, u32)],
    pattern: usize,
) -> Result<Architecture> {
    refuse_on(&raw, path, "use_bidirectional_attention", "attention to earlier tokens only")?;
    let mut whole = raw.clone();
    for &(key, value) in defaults {
        whole.entry(key).or_insert(json!(value));
    }
    let config: Config = settings(&whole, path, &[])?;
    let a = llama::read_form(whole, path, &Form { family, tied: true, eps: 1e-6, head_dim: None })?;
    let kind = |b: usize| if b.is_multiple_of(pattern) { FULL } else { SLIDING }.to_owned();
    let kinds = config.layer_types.unwrap_or_else(|| (1..=a.n_block).map(kind).collect());
    let Some(spans) = llama::spans(&kinds, config.sliding_window.map(|n| n.0), a.n_block) else {
        return Err(match config.sliding_window {
            None => unsupported(&raw, path, "sliding_window", "the width of the window that some blocks have"),
            Some(_) => unsupported(&raw, path, "layer_types", "full_attention or sliding_attention per block"),
        });
    };
    let scalar = config.query_pre_attn_scalar.map_or(256.0, |scalar| scalar.0);
    Ok(Architecture {
        norm: Norm { weight: NormWeight::OnePlus, ..a.norm },
        activation: config.hidden_activation.map_or(Activation::GeluTanh, |act| act.0),
        biases: Biases { mlp: false, ..a.biases },
        attention_scales: vec![scalar.powf(-0.5); a.n_block],
        attention_softcap: config.attn_logit_softcapping.map(|cap| cap.0),
        logit_softcap: config.final_logit_softcapping.map(|cap| cap.0),
        embedding_scale: Some((a.n_embd as f64).sqrt()),
        spans,
        raw,
        ..a
    })
}

/// The parameter list of Gemma 2 and 3.
pub(super) fn parameters(a: &Architecture) -> Vec<Parameter> {
    decoder(a, ["embed_tokens", "", "norm"], |block| {
        block.norm(Slot::AttentionNorm, "input_layernorm");
        llama::attention(block);
        block.norm(Slot::AttentionOutNorm, "post_attention_layernorm");
        block.norm(Slot::MlpNorm, "pre_feedforward_layernorm");
        llama::mlp(block);
        block.norm(Slot::MlpOutNorm, "post_feedforward_layernorm");
    })
}

/// The `config.json` of a new model of this form.
pub(super) fn fresh(shape: &Shape, class: &str, model_type: &str, more: Value) -> Value {
    let head_dim = shape.n_embd / shape.n_head;
    let mut config = llama::fresh(shape, class, model_type, json!({
        "head_dim": head_dim, "query_pre_attn_scalar": head_dim, "sliding_window": shape.window_size.unwrap_or(256),
        "hidden_activation": "gelu_pytorch_tanh", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "rms_norm_eps": 1e-6,
    }));
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}
