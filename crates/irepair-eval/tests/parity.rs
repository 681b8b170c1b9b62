//! Equal to transformers, one text at a time, on `parity/eval/` (generator next to it).
//!
//! Tolerances. A log-probability there is known to 2e-6 (the logits' own f32 rounding, `parity/models/gpt2/meta.json`),
//! a mean over hundreds to less; a perplexity of 270 is then off by parts in 10^6 of itself. 2e-5 relative leaves a
//! factor of ten, and one window shifted by a token moves it by parts in a hundred. Weight distances are sums in f64:
//! 1e-6.

use irepair_eval::{
    ClozeTokens, Continuations, Metric, cloze_tokens, continuation_perplexity, footprint, key, kl_heldout,
    strided_perplexity, token_perplexity,
};
use irepair_model::CausalLm;
use serde_json::Value;
use support::{assert_close, json, numbers, parity, rows};
use tch::{Device, Kind};

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

const TOLERANCE: f64 = 2e-5;

fn golden() -> Value {
    json("eval/golden.json")
}

fn load(golden: &Value, which: &str) -> CausalLm {
    let path = parity(golden[which].as_str().unwrap());
    CausalLm::load(&path, Device::Cpu, Kind::Float).unwrap().0
}

fn tokens(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

#[track_caller]
fn assert_metric(metric: &Metric, n: &Value, value: &Value) {
    assert_eq!((metric.n, metric.n_failed), (n.as_u64().unwrap(), 0), "{}", metric.definition);
    assert_close(&metric.definition, &[metric.value.unwrap()], &numbers(value), TOLERANCE);
}

#[test]
fn perplexity_in_windows_at_every_stride() {
    let golden = golden();
    let model = load(&golden, "model");
    let text = tokens(&golden["tokens"]);
    for case in golden["perplexity"].as_array().unwrap() {
        let [n_tokens, window, stride] =
            ["n_tokens", "window", "stride"].map(|key| case[key].as_u64().unwrap() as usize);
        for batch_size in [1, 3, 8] {
            let metric = strided_perplexity(&model, &text[..n_tokens], window, stride, batch_size).unwrap();
            assert_metric(&metric, &case["n"], &case["perplexity"]);
            if window == stride {
                assert_eq!(token_perplexity(&model, &text[..n_tokens], window, batch_size).unwrap(), metric);
            }
        }
    }
}

#[test]
fn last_words() {
    let golden = golden();
    let case = &golden["cloze"];
    let items = case["items"].as_array().unwrap();
    let cloze: Vec<ClozeTokens> = items
        .iter()
        .map(|item| ClozeTokens { context: tokens(&item["context"]), target: tokens(&item["target"]) })
        .collect();
    let eos_id = golden["eos_id"].as_u64().unwrap() as u32;
    for batch_size in [1, 4, 16] {
        let found = cloze_tokens(&load(&golden, "model"), &cloze, eos_id, batch_size).unwrap();
        let correct: Vec<bool> = found.correct.iter().map(|c| c.unwrap()).collect();
        assert_eq!(correct, items.iter().map(|i| i["correct"].as_bool().unwrap()).collect::<Vec<_>>());
        let log_probs: Vec<f64> = found.log_probs.iter().map(|p| p.unwrap()).collect();
        let want: Vec<f64> = items.iter().map(|i| i["log_prob"].as_f64().unwrap()).collect();
        assert_close("log-probabilities of targets", &log_probs, &want, TOLERANCE);
        assert_eq!(found.n_truncated as u64, case["n_truncated"].as_u64().unwrap());
        let n = Value::from(items.len());
        assert_metric(found.metrics.get(key::LAST_WORD_ACCURACY).unwrap(), &n, &case["accuracy_percent"]);
        assert_metric(found.metrics.get(key::LAST_WORD_PERPLEXITY).unwrap(), &n, &case["perplexity"]);
    }
}

#[test]
fn continuations_under_the_reference() {
    let golden = golden();
    let case = &golden["continuation"];
    let continuations = Continuations {
        prompts: rows(&case["prompts"]),
        tokens: rows(&case["continuations"]),
        texts: vec![String::new(); 4],
        how: String::new(),
        cost: 1.0,
        n_truncated_prompts: 0,
        unjudged: (0, None),
    };
    for batch_size in [1, 3] {
        let metric = continuation_perplexity(&load(&golden, "reference"), &continuations, batch_size).unwrap();
        assert_metric(&metric, &case["n"], &case["perplexity"]);
    }
}

#[test]
fn held_out_kl() {
    let golden = golden();
    let case = &golden["kl_heldout"];
    let (reference, model) = (load(&golden, "reference"), load(&golden, "model"));
    for batch_size in [1, 3] {
        let found = kl_heldout(&reference, &model, &rows(&case["texts"]), batch_size).unwrap();
        assert_metric(&found.metric, &case["n"], &case["nats_per_token"]);
    }
}

#[test]
fn relative_weight_change() {
    let golden = golden();
    let case = &golden["relative_change"];
    let change = footprint(&load(&golden, "reference"), &load(&golden, "model")).unwrap();
    assert_close("blocks", &change.weight_change(), &numbers(&case["by_block"]), 1e-6);
    assert_close("other parameters", &[change.non_block.relative_change], &numbers(&case["non_block"]), 1e-6);
}
