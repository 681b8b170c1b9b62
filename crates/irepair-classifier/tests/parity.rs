//! Equal to transformers on `parity/classifier/` (generator in the same folder).
//!
//! Tolerance. The weights there have a standard deviation of 0.3 and logits of a few units, so float32 rounding over
//! two or three blocks is some 1e-6: 1e-5 leaves a factor of ten, and a forgotten bias moves a logit by tenths. Token
//! ids must be equal.

use irepair_classifier::Classifier;
use serde_json::Value;
use support::{assert_close, json, numbers, parity, rows, values};
use tch::Device;

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

const TOLERANCE: f64 = 1e-5;

const CASES: [&str; 7] = [
    "bert",
    "bert-multi-sharded",
    "bert-older-names",
    "roberta",
    "roberta-one-label",
    "distilbert",
    "distilbert-multi",
];

fn load(case: &str) -> (Classifier, Vec<Value>) {
    let golden = json(&format!("classifier/{case}/golden.json"));
    let dir = parity(&format!("classifier/{case}/model"));
    let classifier = Classifier::load(&dir, golden["choice"].as_str(), Device::Cpu, 3).unwrap();
    (classifier, golden["texts"].as_array().unwrap().clone())
}

#[test]
fn ids_logits_and_scores_are_those_of_transformers() {
    for case in CASES {
        let (classifier, texts) = load(case);
        assert_eq!(texts.len(), 8);
        let words: Vec<&str> = texts.iter().map(|t| t["text"].as_str().unwrap()).collect();
        let ids = classifier.encode(&words).unwrap();
        assert_eq!(ids, rows(&Value::from(texts.iter().map(|t| t["ids"].clone()).collect::<Vec<_>>())), "{case}");
        let want: Vec<f64> = texts.iter().flat_map(|t| numbers(&t["logits"])).collect();
        let scores: Vec<f64> = texts.iter().map(|t| t["score"].as_f64().unwrap()).collect();
        // All at once, padded to the longest, and one by one.
        assert_close(&format!("{case}: logits"), &values(&classifier.logits(&ids)), &want, TOLERANCE);
        assert_close(&format!("{case}: scores"), &classifier.toxicity(&ids).unwrap(), &scores, TOLERANCE);
        for (row, score) in ids.iter().zip(&scores) {
            let alone = classifier.toxicity(std::slice::from_ref(row)).unwrap();
            assert_close(&format!("{case}: alone"), &alone, &[*score], TOLERANCE);
        }
    }
}
