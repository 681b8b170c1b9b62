//! GPT-NeoX (Pythia): layer norms, attention and MLP side by side, heads that are rotated in part, and a joint
//! projection whose rows are grouped by head.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parameter::decoder;
use crate::rope::RopeForm;
use crate::setting::{Act, Flag, NotNegative, Size, settings, unsupported};
use crate::{Activation, Architecture, Biases, Family, Layout, Norm, Parameter, Positions, Result, Rope, Shape, Slot};

/// GPT-NeoX.
pub static GPT_NEOX: Family = Family {
    name: "gpt-neox",
    model_type: "gpt_neox",
    wrapper: None,
    prefix: "gpt_neox.",
    head: "embed_out",
    block_prefix: "layers",
    layout: Layout::OutIn,
    buffers: &["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"],
    read,
    parameters,
    fresh,
};

/// The keys of its `config.json` that [`Architecture::base`] and [`Rope`] do not read.
#[derive(Deserialize)]
struct Config {
    hidden_size: Size,
    intermediate_size: Size,
    num_hidden_layers: Size,
    num_attention_heads: Size,
    max_position_embeddings: Size,
    hidden_act: Option<Act>,
    layer_norm_eps: Option<NotNegative>,
    attention_bias: Option<Flag>,
    use_parallel_residual: Option<Flag>,
}

fn read(raw: Map<String, Value>, path: &Path) -> Result<Architecture> {
    let config: Config = settings(&raw, path, &[])?;
    let sizes =
        [config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.max_position_embeddings];
    let keys = ["num_hidden_layers", "num_attention_heads"];
    let base = Architecture::base(&GPT_NEOX, raw, path, keys, sizes, None, false)?;
    let form = RopeForm {
        theta: "rotary_emb_base",
        share: Some("rotary_pct"),
        ..RopeForm::llama(base.head_dim, base.n_positions)
    };
    let given = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    if given(base.raw.get("head_dim")) && base.raw["head_dim"].as_u64() != Some(base.head_dim as u64) {
        return Err(unsupported(&base.raw, path, "head_dim", &format!("{}, width over heads", base.head_dim)));
    }
    let inside = base.raw.get("rope_parameters").and_then(|table| table.get("partial_rotary_factor"));
    if !given(inside) && !given(base.raw.get("rotary_pct")) {
        return Err(unsupported(&base.raw, path, "rotary_pct", "the share of a head that is rotated"));
    }
    let rope = Rope::read(&base.raw, path, form)?;
    let attention_bias = config.attention_bias.is_none_or(|on| on.0);
    Ok(Architecture {
        n_inner: config.intermediate_size.0,
        norm: Norm { eps: config.layer_norm_eps.map_or(1e-5, |eps| eps.0), ..base.norm },
        activation: config.hidden_act.map_or(Activation::Gelu, |act| act.0),
        biases: Biases { qkv: attention_bias, attention_out: attention_bias, mlp: true },
        parallel: config.use_parallel_residual.is_none_or(|on| on.0),
        interleaved_qkv: true,
        positions: Positions::rotary(rope, base.n_block),
        ..base
    })
}

fn parameters(a: &Architecture) -> Vec<Parameter> {
    decoder(a, ["embed_in", "", "final_layer_norm"], |block| {
        block.norm(Slot::AttentionNorm, "input_layernorm");
        block.norm(Slot::MlpNorm, "post_attention_layernorm");
        block.linear(Slot::Qkv, "attention.query_key_value");
        block.linear(Slot::AttentionOut, "attention.dense");
        block.linear(Slot::Up, "mlp.dense_h_to_4h");
        block.linear(Slot::Down, "mlp.dense_4h_to_h");
    })
}

fn fresh(shape: &Shape) -> Value {
    // A quarter of a head, as in Pythia; half of one so narrow that a quarter is no pair.
    let share = if (shape.n_embd / shape.n_head.max(1)).is_multiple_of(8) { 0.25 } else { 0.5 };
    json!({
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_act": "gelu",
        "num_hidden_layers": shape.n_layer, "hidden_size": shape.n_embd, "num_attention_heads": shape.n_head,
        "intermediate_size": shape.n_inner.unwrap_or(4 * shape.n_embd), "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.n_positions, "layer_norm_eps": 1e-5, "rotary_emb_base": 10000,
        "rotary_pct": share, "use_parallel_residual": true, "attention_bias": true, "tie_word_embeddings": true,
        "initializer_range": 0.02, "attention_dropout": 0.0, "hidden_dropout": 0.0, "bos_token_id": 0,
        "eos_token_id": 0, "dtype": "float32",
    })
}
