//! What the parity tests share: golden files in, differences out.
//!
//! Included by path from each crate's `tests/`; it knows libtorch tensors and JSON, none of the project's crates.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Kind, Tensor};

/// The checkpoints under `parity/models/`.
pub(crate) const MODELS: [&str; 50] = [
    "gpt2",
    "gpt2-inner",
    "gpt2-untied",
    "gpt2-scaled",
    "gpt2-sharded",
    "gpt2-bf16",
    "gpt2-f16",
    "gpt2-hub",
    "gpt-neo",
    "gpt-neo-uneven",
    "gpt-neo-hub",
    "llama",
    "llama-linear",
    "llama-llama3",
    "llama-yarn",
    "llama-odd",
    "llama-bf16",
    "llama-older",
    "llama-sharded",
    "llama-by-4",
    "qwen2-by-4",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "qwen3-window",
    "qwen3-by-4",
    "mistral",
    "mistral-full",
    "mistral-by-4",
    "gpt-neox",
    "gpt-neox-serial",
    "gpt-neox-hub",
    "gpt-neox-by-4",
    "olmo2",
    "olmo2-odd",
    "olmo2-by-4",
    "gemma2",
    "gemma2-odd",
    "gemma2-by-4",
    "gemma3",
    "gemma3-linear",
    "gemma3-by-4",
    "gemma3-part",
    "phi3",
    "phi3-short",
    "phi3-long",
    "phi3-by-4",
    "smollm3",
    "smollm3-odd",
    "smollm3-by-4",
];

/// Those of which transformers' logits in bfloat16 are kept (`models/make_bf16.py`).
pub(crate) const BF16: [&str; 19] = [
    "gpt2",
    "gpt2-scaled",
    "gpt-neo",
    "llama",
    "llama-yarn",
    "llama-odd",
    "qwen2",
    "qwen3",
    "mistral",
    "gpt-neox",
    "gpt-neox-serial",
    "olmo2",
    "olmo2-odd",
    "gemma2",
    "gemma3",
    "gemma3-linear",
    "phi3",
    "phi3-long",
    "smollm3",
];

/// A path below `parity/`.
pub(crate) fn parity(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity").join(path)
}

/// A JSON file below `parity/`.
pub(crate) fn json(path: &str) -> Value {
    let path = parity(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A safetensors file below `parity/`.
pub(crate) fn tensors(path: &str) -> HashMap<String, Tensor> {
    let path = parity(path);
    Tensor::read_safetensors(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_iter().collect()
}

/// Every number below `value`, in reading order.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or_else(|| panic!("not a number: {other}"))],
    }
}

/// Rows of token ids.
pub(crate) fn rows(value: &Value) -> Vec<Vec<u32>> {
    let row = |row: &Value| numbers(row).into_iter().map(|id| id as u32).collect();
    value.as_array().expect("rows of ids").iter().map(row).collect()
}

/// `ids` and `real` of a padded batch, `[batch, seq]` int64 and bool.
pub(crate) fn batch(value: &Value) -> (Tensor, Tensor) {
    let ids: Vec<Vec<i64>> = serde_json::from_value(value["ids"].clone()).expect("ids");
    let real: Vec<Vec<bool>> = serde_json::from_value(value["real"].clone()).expect("real");
    let shape = [ids.len() as i64, ids[0].len() as i64];
    (Tensor::from_slice(&ids.concat()).view(shape), Tensor::from_slice(&real.concat()).view(shape))
}

/// The values of a tensor, in order.
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.detach().to_kind(Kind::Double).contiguous().view(-1);
    Vec::<f64>::try_from(flat).expect("a float tensor on the CPU")
}

/// Fails unless every `got` is within `tolerance * max(1, |want|)` of `want`: absolute below 1, relative above.
///
/// The message holds the largest difference and the first five misses.
pub(crate) fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    let delta = |i: usize| (got[i] - want[i]).abs();
    // Written so that a NaN is a miss.
    let misses: Vec<usize> =
        (0..got.len()).filter(|&i| !matches!(delta(i), d if d <= tolerance * want[i].abs().max(1.0))).collect();
    if misses.is_empty() {
        return;
    }
    let worst = (0..got.len()).map(delta).fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) });
    let first: String = misses
        .iter()
        .take(5)
        .map(|&i| format!("\n  [{i}] got {} want {} (off by {:.1e})", got[i], want[i], delta(i)))
        .collect();
    panic!("{what}: {} of {} beyond {tolerance:.0e}, max |Δ| = {worst:.2e}{first}", misses.len(), got.len());
}
