//! Gemma 3, its text model: Gemma 2 with norms of each head of queries and keys, a window in five of six blocks, and
//! other rotary positions in those.

use serde_json::{Value as Json, json};

use super::gemma2::{BLOCK, attention_scalar, check_pattern, layer_types};
use super::{Architecture, Bias, Dim, Norms, Row};
use crate::rope;

/// Blocks of the model of 27 billion weights, whose scale of attention differs.
const LARGEST: usize = 62;
/// One of so many blocks has no window.
const PATTERN: usize = 6;
/// Base of the rotary positions of blocks with a window, where the file states none.
const LOCAL_THETA: f64 = 10000.0;

pub(super) const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    model_type: "gemma3_text",
    class: "Gemma3ForCausalLM",
    keys: "attention.sliding_window attention.sliding_window_pattern final_logit_softcapping rope.freq_base_swa",
    theta: None,
    partial_rotary: false,
    norms: Norms::PlusOne,
    tied: false,
    block: &WITH_HEAD_NORMS,
    settings: |file, sizes| {
        check_pattern(file, sizes, PATTERN)?;
        let scaling = rope::scaling(file, sizes)?;
        if scaling != Json::Null && scaling["rope_type"] != "linear" {
            return Err(file.refuse(&sizes.key("rope.scaling.type"), "`none` or `linear`"));
        }
        Ok(json!({
            "attention_bias": false,
            "attn_logit_softcapping": null,
            "final_logit_softcapping": file.optional_positive(&sizes.key("final_logit_softcapping"))?,
            "hidden_activation": "gelu_pytorch_tanh",
            "layer_types": layer_types(sizes.n_block, PATTERN),
            "query_pre_attn_scalar": attention_scalar(sizes, LARGEST),
            "rope_local_base_freq": file.optional_positive(&sizes.key("rope.freq_base_swa"))?.unwrap_or(LOCAL_THETA),
            // Of blocks without a window.
            "rope_scaling": scaling,
            "sliding_window": file.count(&sizes.key("attention.sliding_window"))?,
            "sliding_window_pattern": PATTERN,
        }))
    },
};

const fn head_norm(from: &'static str, to: &'static str) -> Row {
    Row { from, to, shape: &[Dim::Head], bias: Bias::Never }
}

const WITH_HEAD_NORMS: [Row; 13] = {
    let [a, b, c, d, e, f, g, h, i, j, k] = BLOCK;
    [
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        i,
        j,
        k,
        head_norm("attn_q_norm", "self_attn.q_norm"),
        head_norm("attn_k_norm", "self_attn.k_norm"),
    ]
};
