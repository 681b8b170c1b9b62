//! Llama (and SmolLM2, and other models with `model_type = "llama"`): RMS norms, rotary positions, grouped queries,
//! gated MLP.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parameter::{ParameterList, decoder};
use crate::setting::{Act, Flag, NotNegative, Size, settings, unsupported};
use crate::rope::RopeForm;
use crate::{
    Activation, Architecture, AttentionSpan, Biases, Family, Layout, Norm, NormKind, NormWeight, Parameter, Positions,
    Result, Rope, Shape, Slot,
};

/// What families of Llama's form share.
pub(super) const FORM: Family = Family {
    name: "llama",
    model_type: "llama",
    wrapper: None,
    prefix: "model.",
    head: "lm_head",
    block_prefix: "layers",
    layout: Layout::OutIn,
    buffers: &["self_attn.rotary_emb.inv_freq"],
    read,
    parameters,
    fresh: |shape| fresh(shape, "LlamaForCausalLM", "llama", json!({})),
};

/// Llama.
pub static LLAMA: Family = FORM;

/// The keys of its `config.json` that [`Architecture::base`] and [`Rope`] do not read.
#[derive(Deserialize)]
struct Config {
    hidden_size: Size,
    intermediate_size: Size,
    num_hidden_layers: Size,
    num_attention_heads: Size,
    num_key_value_heads: Option<Size>,
    head_dim: Option<Size>,
    max_position_embeddings: Size,
    hidden_act: Option<Act>,
    rms_norm_eps: Option<NotNegative>,
    attention_bias: Option<Flag>,
    mlp_bias: Option<Flag>,
}

/// What families of Llama's form have otherwise, where a file does not say.
pub(super) struct Form {
    pub(super) family: &'static Family,
    /// Whether the head is the token embedding.
    pub(super) tied: bool,
    /// Added to the mean square.
    pub(super) eps: f64,
    /// Width of a head; none: the heads divide the width.
    pub(super) head_dim: Option<usize>,
}

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    read_rotating(raw, path, &Form { family: &LLAMA, tied: false, eps: 1e-6, head_dim: None })
}

/// [`read_form`], and rotary positions that are the same in every block.
pub(super) fn read_rotating(raw: Map<String, Value>, path: &Path, form: &Form) -> Result<Architecture> {
    let a = read_form(raw, path, form)?;
    let rope = Rope::read(&a.raw, path, RopeForm::llama(a.head_dim, a.n_positions))?;
    Ok(Architecture { positions: Positions::rotary(rope, a.n_block), ..a })
}

/// Reads a `config.json` with Llama's keys but for the rotary positions; other families of this form start from it.
pub(super) fn read_form(raw: Map<String, Value>, path: &Path, form: &Form) -> Result<Architecture> {
    let config: Config = settings(&raw, path, &[])?;
    let sizes =
        [config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.max_position_embeddings];
    let keys = ["num_hidden_layers", "num_attention_heads"];
    let head_dim = config.head_dim.or(form.head_dim.map(Size));
    let base = Architecture::base(form.family, raw, path, keys, sizes, head_dim, form.tied)?;
    let (n_head, head_dim) = (base.n_head, base.head_dim);
    let wrong = |key: &str, want: &str| unsupported(&base.raw, path, key, want);
    let n_kv_head = config.num_key_value_heads.map_or(n_head, |n| n.0);
    if !n_head.is_multiple_of(n_kv_head) {
        return Err(wrong("num_key_value_heads", &format!("a divisor of {n_head}")));
    }
    if n_head.saturating_mul(head_dim) > 1 << 24 {
        return Err(wrong("head_dim", "heads of at most 16777216 values in all"));
    }
    let on = |flag: Option<Flag>| flag.is_some_and(|on| on.0);
    let attention_bias = on(config.attention_bias);
    let eps = config.rms_norm_eps.map_or(form.eps, |eps| eps.0);
    Ok(Architecture {
        n_kv_head,
        n_inner: config.intermediate_size.0,
        norm: Norm { kind: NormKind::RmsNorm, eps, weight: NormWeight::AfterRounding },
        activation: config.hidden_act.map_or(Activation::Silu, |act| act.0),
        gated_mlp: true,
        biases: Biases { qkv: attention_bias, attention_out: attention_bias, mlp: on(config.mlp_bias) },
        ..base
    })
}

/// Refuses a file without the number of key and value heads: the class's default is one number, whatever the number of
/// heads.
pub(super) fn need_kv_heads(raw: &Map<String, Value>, path: &Path) -> Result<()> {
    if raw.contains_key("num_key_value_heads") {
        return Ok(());
    }
    let want = "the number of key and value heads, or null for one each";
    Err(unsupported(raw, path, "num_key_value_heads", want))
}

/// The blocks' spans by the keys of Qwen2 and others: `layer_types`, or else a window in every block from
/// `max_window_layers` on. `sliding_window` counts only where `use_sliding_window` is true.
pub(super) fn windows(raw: &Map<String, Value>, path: &Path, n_block: usize) -> Result<Vec<AttentionSpan>> {
    #[derive(Deserialize)]
    struct Config {
        use_sliding_window: Option<Flag>,
        sliding_window: Option<Size>,
        max_window_layers: Option<usize>,
        layer_types: Option<Vec<String>>,
    }
    let config: Config = settings(raw, path, &[])?;
    let wrong = |key: &str, want: &str| Err(unsupported(raw, path, key, want));
    let slides = config.use_sliding_window.is_some_and(|on| on.0);
    let (window, from) = match (slides, config.sliding_window, config.max_window_layers) {
        (false, ..) => (None, 0),
        (true, None, _) => {
            return wrong("sliding_window", "the width of the window that `use_sliding_window` asks for");
        }
        (true, Some(window), from) if from.is_some() || config.layer_types.is_some() => {
            (Some(window.0), from.unwrap_or(0))
        }
        (true, _, _) => return wrong("max_window_layers", "the first block with a window"),
    };
    let default = |b| if window.is_some() && b >= from { SLIDING } else { FULL }.to_owned();
    let kinds = config.layer_types.unwrap_or_else(|| (0..n_block).map(default).collect());
    spans(&kinds, window, n_block).map_or_else(
        || wrong("layer_types", "full_attention or, where `use_sliding_window` is true, sliding_attention per block"),
        Ok,
    )
}

/// A block that sees the whole text, and one that sees a window, in `layer_types`.
pub(super) const FULL: &str = "full_attention";
pub(super) const SLIDING: &str = "sliding_attention";

/// The span of each kind; none for another kind, a window without a width, or another number of blocks.
pub(super) fn spans(kinds: &[String], window: Option<usize>, n_block: usize) -> Option<Vec<AttentionSpan>> {
    let span = |kind: &String| match window {
        _ if kind == FULL => Some(AttentionSpan::Global),
        Some(window) if kind == SLIDING => Some(AttentionSpan::Local(window)),
        _ => None,
    };
    kinds.iter().map(span).collect::<Option<Vec<_>>>().filter(|spans| spans.len() == n_block)
}

/// Llama's parameter list, with norms of queries and keys where a family has them; other families share it.
pub(super) fn parameters(a: &Architecture) -> Vec<Parameter> {
    decoder(a, ["embed_tokens", "", "norm"], |block| {
        block.norm(Slot::AttentionNorm, "input_layernorm");
        attention(block);
        block.norm(Slot::MlpNorm, "post_attention_layernorm");
        mlp(block);
    })
}

/// The projections of attention, and the norms of queries and keys.
pub(super) fn attention(block: &mut ParameterList<'_>) {
    block.linear(Slot::Query, "self_attn.q_proj");
    block.linear(Slot::Key, "self_attn.k_proj");
    block.linear(Slot::Value, "self_attn.v_proj");
    block.query_key_norms(["self_attn.q_norm", "self_attn.k_norm"]);
    block.linear(Slot::AttentionOut, "self_attn.o_proj");
}

/// The projections of a gated MLP.
pub(super) fn mlp(block: &mut ParameterList<'_>) {
    block.linear(Slot::Gate, "mlp.gate_proj");
    block.linear(Slot::Up, "mlp.up_proj");
    block.linear(Slot::Down, "mlp.down_proj");
}

/// The `config.json` of a new model of Llama's form; `more` are the family's own keys.
pub(super) fn fresh(shape: &Shape, class: &str, model_type: &str, more: Value) -> Value {
    let mut config = json!({
        "architectures": [class], "model_type": model_type, "hidden_act": "silu",
        "num_hidden_layers": shape.n_layer, "hidden_size": shape.n_embd, "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_kv_head.unwrap_or(shape.n_head),
        "intermediate_size": shape.n_inner.unwrap_or(4 * shape.n_embd), "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.n_positions, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": null, "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": true,
        "initializer_range": 0.02, "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 0, "dtype": "float32",
    });
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    config
}
