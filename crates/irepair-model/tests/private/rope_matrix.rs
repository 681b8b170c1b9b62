//! Rotary positions of every family, of every type, with the keys in every place: as transformers reads and computes
//! them, or refused by key (`parity/rope/make.py`).

use std::collections::BTreeMap;
use std::path::Path;

use irepair_arch::{Architecture, Error};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::support;
use crate::rotation::frequencies;

/// Both are computed in float32, operation by operation in the same order.
const TOLERANCE: f64 = 1e-6;

/// A case's `config.json`.
fn config(golden: &Value, family: &str, case: &str) -> Value {
    let group = if golden["patches"].get(family).is_some() { family } else { "others" };
    let mut config = golden["base"][family].clone();
    config.as_object_mut().unwrap().extend(golden["patches"][group][case].as_object().unwrap().clone());
    config
}

fn relative(got: f64, want: f64) -> f64 {
    if got == want { 0.0 } else { (got - want).abs() / want.abs() }
}

/// Largest relative difference of frequencies and factors to a result of transformers; infinite where their number
/// differs.
fn difference(of: &Architecture, want: &Value, n_tokens: &[f64]) -> f64 {
    let mut worst = 0.0f64;
    for kind in want.as_array().unwrap() {
        let rope = of.positions.rope(kind["block"].as_u64().unwrap() as usize).unwrap();
        for (n, length) in n_tokens.iter().zip(["short", "long"]) {
            let mask = Tensor::ones([1, *n as i64], (Kind::Bool, Device::Cpu));
            let (frequencies, factor) = frequencies(rope, &mask);
            let want_frequencies = if kind[length].is_null() { &kind["short"] } else { &kind[length] };
            let (got, want) = (support::values(&frequencies), support::numbers(want_frequencies));
            if got.len() != want.len() {
                return f64::INFINITY;
            }
            let each = got.iter().zip(&want).map(|(got, want)| relative(*got, *want));
            worst = each.chain([relative(factor, kind["factor"].as_f64().unwrap())]).fold(worst, f64::max);
        }
    }
    worst
}

#[test]
fn every_configuration_is_computed_as_transformers_does_or_refused_by_key() {
    let golden = support::json("rope/golden.json");
    let n_tokens = support::numbers(&golden["about"]["n_tokens"]);
    let (mut wrong, mut n_equal, mut n_refused_by_both) = (Vec::new(), 0, 0);
    let mut refused: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut more: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (family, cases) in golden["cases"].as_object().unwrap() {
        for (case, want) in cases.as_object().unwrap() {
            match (Architecture::from_json(config(&golden, family, case), Path::new("config.json")), want) {
                (Ok(of), Value::Number(index)) => {
                    let result = &golden["results"][index.as_u64().unwrap() as usize];
                    match difference(&of, result, &n_tokens) {
                        apart if apart <= TOLERANCE => n_equal += 1,
                        apart => wrong.push(format!("{family}, {case}: off by {apart:.1e}")),
                    }
                }
                // As Phi-3's older files, which transformers 4 reads.
                (Ok(_), _) => more.entry(case.as_str()).or_default().push(family.as_str()),
                (Err(Error::Unsupported { .. }), Value::String(_)) => n_refused_by_both += 1,
                (Err(Error::Unsupported { key, .. }), _) => {
                    refused.entry(format!("{case} | {key}")).or_default().push(family);
                }
                (Err(other), _) => wrong.push(format!("{family}, {case}: {other}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), wrong.len() + n_equal, wrong.join("\n"));
    let lines: Vec<String> =
        refused.iter().map(|(case, families)| format!("{case} | {}", families.join(" "))).collect();
    insta::assert_snapshot!(format!(
        "{n_equal} equal, {n_refused_by_both} refused where transformers stops too\nread, where transformers stops: \
         {more:?}\n\ncomputed by transformers | refused key | families\n{}",
        lines.join("\n")
    ));
}
