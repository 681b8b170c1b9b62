//! Equal to scikit-learn on `parity/scorer/` and `parity/tfidf/` (generators in the same folders).
//!
//! Tolerances. Both sides compute in f64: a mean over 300 numbers is known to parts in 10^15, and 1e-12 leaves three
//! digits for another order of summing. Counts must be equal. Both Platt fits stop at a gradient far under 1e-6, which
//! leaves the two numbers equal to about that: 1e-5.

use irepair_scorer::{Platt, Quality, read_scorer};
use serde_json::Value;

const EXACT: f64 = 1e-12;
const FITTED: f64 = 1e-5;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../parity/scorer/golden.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn flags(value: &Value) -> Vec<bool> {
    value.as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect()
}

#[track_caller]
fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: how many");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= tolerance, "{what}: got {got}, want {want}");
    }
}

#[test]
fn quality_is_that_of_scikit_learn() {
    let golden = golden();
    let cases = golden["quality"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let scores: Vec<Option<f64>> = numbers(&case["scores"]).into_iter().map(Some).collect();
        let quality = Quality::of(&scores, &flags(&case["toxic"]));
        for (key, got) in [
            ("auc", quality.auc),
            ("accuracy", quality.accuracy),
            ("brier", quality.brier),
            ("ece", quality.ece),
            ("f1", quality.f1),
            ("precision", quality.precision),
            ("recall", quality.recall),
        ] {
            // scikit-learn gives no number where nothing is called toxic; ours for precision is none, for F1 0.
            if let Some(want) = case[key].as_f64() {
                assert_close(&format!("{}: {key}", case["name"]), &[got.unwrap()], &[want], EXACT);
            }
        }
        let full = |number: fn(&irepair_scorer::Bin) -> Option<f64>| {
            quality.bins.iter().filter_map(number).collect::<Vec<_>>()
        };
        assert_close("bins: n", &full(|b| Some(b.n as f64)), &numbers(&case["bin_counts"]), 0.0);
        assert_close("bins: mean score", &full(|b| b.mean_score), &numbers(&case["bin_mean_score"]), EXACT);
        assert_close("bins: toxic share", &full(|b| b.toxic_share), &numbers(&case["bin_toxic_share"]), EXACT);
    }
}

#[test]
fn calibration_is_that_of_scikit_learn() {
    for case in golden()["platt"].as_array().unwrap() {
        let platt = Platt::fit(&numbers(&case["margins"]), &flags(&case["toxic"])).unwrap();
        let want = [case["slope"].as_f64().unwrap(), case["offset"].as_f64().unwrap()];
        assert_close("platt", &[platt.slope, platt.offset], &want, FITTED);
    }
}

/// Scores of `parity/tfidf/` by a scorer file. Both sides sum a few products and take a mean of five in f64.
#[track_caller]
fn assert_tfidf(file: &str, key: &str) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let golden = std::fs::read_to_string(format!("{root}/parity/tfidf/golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let scorer = read_scorer(format!("{root}/{file}").as_ref()).unwrap();
    let (texts, want) = (golden["texts"].as_array().unwrap(), numbers(&golden[key]));
    assert_eq!((texts.len(), want.len()), (50, 50));
    for (text, want) in texts.iter().zip(want) {
        let got = scorer.score(text.as_str().unwrap()).unwrap();
        assert!((got - want).abs() <= EXACT, "{text}: got {got}, want {want}");
    }
}

#[test]
fn an_exported_classifier_scores_as_scikit_learn_does() {
    assert_tfidf("parity/tfidf/small.scorer", "small");
}

#[test]
#[ignore = "needs alt-profanity-check: cargo xtask reproduce --profile wild fetches it"]
fn the_published_classifier_scores_as_scikit_learn_does() {
    assert_tfidf(".sources/alt-profanity-check/classifier.scorer", "published");
}
