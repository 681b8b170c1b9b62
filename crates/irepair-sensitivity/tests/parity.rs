//! Equal to eager PyTorch on `parity/sensitivity/` (generators and conventions next to them): every metric, by both
//! routes.
//!
//! Tolerance. Sensitivities are sums of ten thousand squares or products of f32 gradients that agree to about 1e-6 of
//! their size; 2e-5, relative above 1, leaves a factor of ten. `atp` is a small difference of large terms (it cancels
//! to 0.1 from sums near 1) and stays inside the same absolute bound, as do `eap_ig` and `patching`.

use irepair_core::spec::UnitKind;
use irepair_core::{PaddedTokens, Sensitivities};
use irepair_model::{CausalLm, TextBatch};
use irepair_sensitivity::{MeanGradient, Measure, Metric, Route, Texts, mean_of_norm};
use serde_json::Value;
use support::{assert_close, json, numbers, parity, rows};
use tch::{Device, Kind};

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

const TOLERANCE: f64 = 2e-5;
const CASES: [&str; 7] = ["gpt2", "gpt-neo", "llama", "gpt-neox", "olmo2", "gemma2", "phi3"];

struct Case {
    name: &'static str,
    model: CausalLm,
    golden: Value,
    locators: Value,
    mask: Value,
}

impl Case {
    fn read(name: &'static str) -> Self {
        let (model, _) = CausalLm::load(&parity(&format!("models/{name}/model")), Device::Cpu, Kind::Float).unwrap();
        let [golden, locators, mask] =
            ["golden", "locators", "mask"].map(|file| json(&format!("sensitivity/{name}/{file}.json")));
        Self { name, model, golden, locators, mask }
    }

    /// `side` of batch `i`: `chosen` or `rejected` behind their prompts, or `utility` alone.
    fn text(&self, i: usize, side: &str) -> TextBatch {
        let batch = &self.golden["batches"][i];
        let continuations = rows(&batch[side]);
        let prompts = if side == "utility" { vec![Vec::new(); continuations.len()] } else { rows(&batch["prompts"]) };
        let pad_id = self.golden["pad_id"].as_u64().unwrap() as u32;
        let padded = PaddedTokens::prompted(&prompts, &continuations, pad_id).unwrap();
        TextBatch::new(padded, Device::Cpu)
    }

    fn check(&self, key: &str, got: &Sensitivities) {
        let file = if self.golden["by_block"].get(key).is_some() { &self.golden } else { &self.locators };
        let want = numbers(&file["by_block"][key]);
        assert_close(&format!("{}: {key}", self.name), got.values(), &want, TOLERANCE);
    }
}

#[test]
fn metrics_of_one_gradient_match_by_both_routes() {
    for case in CASES.map(Case::read) {
        let rejected = case.text(0, "rejected");
        for (key, metric) in [
            ("grad_l2", Metric::GradL2),
            ("density", Metric::Density),
            ("relative", Metric::Relative),
            ("snip", Metric::Snip),
            ("fisher", Metric::Fisher),
        ] {
            for route in [Route::Stored, Route::Ghost] {
                case.check(key, &Measure::new(metric).by(route).of(&case.model, &Texts::of(&[&rejected])).unwrap());
            }
        }
    }
}

#[test]
fn contrast_matches_with_either_neutral_text() {
    for case in CASES.map(Case::read) {
        let rejected = case.text(0, "rejected");
        for (key, side) in [("contrast_utility", "utility"), ("contrast_chosen", "chosen")] {
            let neutral = case.text(0, side);
            for route in [Route::Stored, Route::Ghost] {
                let neutral = [&neutral];
                let measure = Measure::new(Metric::Contrast).by(route);
                let texts = Texts { rejected: &[&rejected], chosen: &[], neutral: &neutral };
                case.check(key, &measure.of(&case.model, &texts).unwrap());
            }
        }
    }
}

#[test]
fn metrics_of_block_outputs_match() {
    for case in CASES.map(Case::read) {
        let (rejected, chosen) = (case.text(0, "rejected"), case.text(0, "chosen"));
        let chosen = [&chosen];
        for (key, metric) in [
            ("act_dist", Metric::ActDist),
            ("atp", Metric::Atp),
            ("eap_ig", Metric::EapIg),
            ("patching", Metric::Patching),
        ] {
            let texts = Texts { rejected: &[&rejected], chosen: &chosen, neutral: &[] };
            case.check(key, &Measure::new(metric).of(&case.model, &texts).unwrap());
        }
    }
}

/// Shares are counts over some ten thousand weights: within the tolerance not one weight is on the other side.
#[test]
fn weights_in_one_top_share_match_with_either_neutral_text() {
    for case in CASES.map(Case::read) {
        let rejected = case.text(0, "rejected");
        for (key, metric) in [("snip_diff", Metric::SnipDiff), ("wanda_diff", Metric::WandaDiff)] {
            for side in ["utility", "chosen"] {
                let neutral = case.text(0, side);
                let texts = Texts { rejected: &[&rejected], chosen: &[], neutral: &[&neutral] };
                case.check(&format!("{key}_{side}"), &Measure::new(metric).of(&case.model, &texts).unwrap());
            }
        }
    }
}

/// Twenty steps add up what rounding leaves in each gradient: 4e-6 at most.
#[test]
fn gates_of_every_unit_close_as_far() {
    for case in CASES.map(Case::read) {
        let (rejected, chosen) = (case.text(0, "rejected"), case.text(0, "chosen"));
        let texts = Texts { rejected: &[&rejected], chosen: &[&chosen], neutral: &[] };
        let measure = Measure::new(Metric::Mask);
        for kind in UnitKind::ALL.iter().copied() {
            let want = numbers(&case.mask["by_unit"][kind.name()]);
            let found = measure.of_units(&case.model, &texts, kind).unwrap();
            assert_close(&format!("{}: mask, {kind}", case.name), found.values(), &want, TOLERANCE);
            let n_ties = want.iter().filter(|value| **value == want[0]).count();
            assert!(n_ties < want.len(), "{}: {kind}s differ", case.name);
        }
        let want = numbers(&case.mask["by_unit"]["block"]);
        let blocks = measure.of(&case.model, &texts).unwrap();
        assert_close(&format!("{}: mask", case.name), blocks.values(), &want, TOLERANCE);
    }
}

#[test]
fn both_reductions_over_batches_match_and_differ() {
    for case in CASES.map(Case::read) {
        let (mut mean, mut by_batch) = (MeanGradient::new(Metric::GradL2).unwrap(), Vec::new());
        for i in 0..case.golden["batches"].as_array().unwrap().len() {
            let rejected = case.text(i, "rejected");
            mean.add(&case.model, &Texts::of(&[&rejected])).unwrap();
            by_batch.push(Measure::new(Metric::GradL2).of(&case.model, &Texts::of(&[&rejected])).unwrap());
        }
        let norm_of_mean = mean.sensitivities(&case.model).unwrap();
        let mean_of_norm = mean_of_norm(&by_batch).unwrap();
        case.check("norm_of_mean", &norm_of_mean);
        case.check("mean_of_norm", &mean_of_norm);
        // The norm is convex: the two reductions are ordered, and far apart on batches that disagree.
        assert!(norm_of_mean.values().iter().zip(mean_of_norm.values()).all(|(a, b)| *a < 0.95 * b));
    }
}
