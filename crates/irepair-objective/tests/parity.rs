//! Equal to eager PyTorch on the logits of `parity/models/` (generator next to them): every value and every gradient.
//!
//! Tolerance. The logits are given, so only the losses are at stake: some tens of f32 sums of terms of size 1 to 10.
//! One part in 10^5 (absolute below 1) is a hundred roundings; a wrong mask or divisor is off by parts in ten.
//! Gradients on logits are below 1 and each is one short formula: 1e-6.

use irepair_core::spec::{Method, Number, Numbers, Term};
use irepair_objective::{Objective, Scores, TextLogits, TokenScores, counted_targets, target_log_probs};
use serde_json::Value;
use std::collections::HashMap;
use support::{assert_close, batch, json, numbers, tensors, values};
use tch::{Kind, Tensor};

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

const VALUE: f64 = 1e-5;
const GRADIENT: f64 = 1e-6;
const BATCHES: [&str; 3] = ["right", "chosen", "rejected"];
const WITH_REFERENCE: [&str; 11] =
    ["gpt2", "gpt-neo", "llama", "qwen3", "mistral", "gpt-neox", "olmo2", "gemma2", "gemma3", "phi3", "smollm3"];

struct Golden {
    case: &'static str,
    json: Value,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn read(case: &'static str) -> Self {
        let json = json(&format!("models/{case}/golden.json"));
        Self { case, json, tensors: tensors(&format!("models/{case}/golden.safetensors")) }
    }

    /// `ids`, `real` and the model's logits, with a gradient to ask for.
    fn text(&self, name: &str) -> (Tensor, Tensor, Tensor) {
        let (ids, real) = batch(&self.json["batches"][name]);
        (ids, real, self.tensors[&format!("{name}.logits")].copy().set_requires_grad(true))
    }

    /// Compares a loss, and its gradients on the logits of some texts, with `against_reference.<name>`.
    fn check(&self, name: &str, loss: &Tensor, texts: &[(&str, &Tensor)]) {
        let what = |part: &str| format!("{}, {name}: {part}", self.case);
        let want = &self.json["against_reference"][name]["loss"];
        assert_close(&what("loss"), &values(loss), &numbers(want), VALUE);
        let logits: Vec<&Tensor> = texts.iter().map(|(_, logits)| *logits).collect();
        let gradients = Tensor::run_backward(&[loss], &logits, false, false);
        for ((text, _), got) in texts.iter().zip(gradients) {
            let want = &self.tensors[&format!("{name}.{text}.grad_logits")];
            assert_close(&what(&format!("gradient on {text}")), &values(&got), &values(want), GRADIENT);
        }
    }
}

/// Scores of a text under other logits.
fn log_probs(text: &(Tensor, Tensor, Tensor), logits: &Tensor) -> Option<TokenScores> {
    Some(TextLogits::new(&text.0, &text.1, logits).log_probs().unwrap())
}

#[test]
fn token_and_sequence_log_probabilities_match() {
    for case in WITH_REFERENCE {
        let golden = Golden::read(case);
        for name in BATCHES {
            let (ids, real, logits) = golden.text(name);
            let want = &golden.json["batches"][name];
            let what = |part: &str| format!("{case}, {name}: {part}");
            let text = TextLogits::new(&ids, &real, &logits);

            let counted = counted_targets(&real, &real);
            let want_counted: Vec<Vec<bool>> = serde_json::from_value(want["counted"].clone()).unwrap();
            assert_eq!(Vec::<bool>::try_from(counted.view(-1)).unwrap(), want_counted.concat(), "{}", what("mask"));
            assert_eq!(text.counts.targets, numbers(&want["n_counted"])[0]);

            let logp = target_log_probs(&logits, &ids).masked_select(&counted);
            let want_logp = golden.tensors[&format!("{name}.logp")].masked_select(&counted);
            assert_close(&what("logp"), &values(&logp), &values(&want_logp), VALUE);
            let scores = text.log_probs().unwrap();
            let nll_sum = -scores.values.sum(Kind::Float);
            assert_close(&what("nll_sum"), &values(&nll_sum), &numbers(&want["nll_sum"]), VALUE);
            assert_close(&what("nll_mean"), &values(&scores.nll_mean().unwrap()), &numbers(&want["nll_mean"]), VALUE);
            let by_text = scores.sequence_log_probs().unwrap();
            assert_close(&what("logp_seq"), &values(&by_text), &numbers(&want["logp_seq"]), VALUE);
        }
    }
}

#[test]
fn kl_and_its_gradient_match() {
    for case in WITH_REFERENCE {
        let golden = Golden::read(case);
        let (ids, real, logits) = golden.text("right");
        let text = TextLogits::new(&ids, &real, &logits);
        let kl = text.divergences(&golden.tensors["ref.right.logits"]).unwrap().mean_kl().unwrap();
        golden.check("kl_ref_model", &kl, &[("right", &logits)]);
    }
}

#[test]
fn dpo_and_its_gradient_match() {
    for case in WITH_REFERENCE {
        let golden = Golden::read(case);
        let beta = numbers(&golden.json["against_reference"]["dpo"]["beta"])[0];
        let (chosen, rejected) = (golden.text("chosen"), golden.text("rejected"));
        let scores = Scores {
            chosen: log_probs(&chosen, &chosen.2),
            rejected: log_probs(&rejected, &rejected.2),
            ref_chosen: log_probs(&chosen, &golden.tensors["ref.chosen.logits"]),
            ref_rejected: log_probs(&rejected, &golden.tensors["ref.rejected.logits"]),
            utility: None,
        };
        let loss = Objective::from(Term::Dpo { beta }).loss(&scores).unwrap();
        golden.check("dpo", &loss.total, &[("chosen", &chosen.2), ("rejected", &rejected.2)]);
    }
}

#[test]
fn npo_and_its_gradient_match() {
    for case in WITH_REFERENCE {
        let golden = Golden::read(case);
        let beta = numbers(&golden.json["against_reference"]["npo"]["beta"])[0];
        let rejected = golden.text("rejected");
        let scores = Scores {
            rejected: log_probs(&rejected, &rejected.2),
            ref_rejected: log_probs(&rejected, &golden.tensors["ref.rejected.logits"]),
            ..Scores::default()
        };
        let loss = Objective::from(Term::Npo { beta }).loss(&scores).unwrap();
        golden.check("npo", &loss.total, &[("rejected", &rejected.2)]);
    }
}

#[test]
fn the_repair_objective_is_its_two_parts_weighted() {
    for case in WITH_REFERENCE {
        let golden = Golden::read(case);
        let (chosen, utility) = (golden.text("chosen"), golden.text("right"));
        let utility = TextLogits::new(&utility.0, &utility.1, &utility.2);
        let scores = Scores {
            chosen: log_probs(&chosen, &chosen.2),
            utility: Some(utility.divergences(&golden.tensors["ref.right.logits"]).unwrap()),
            ..Scores::default()
        };
        let weights = Numbers::default().with(Number::Gamma, 2.0).with(Number::Scale, 3.0);
        let loss = Objective::of_method(Method::Irepair, &weights).loss(&scores).unwrap();
        let nll = numbers(&golden.json["batches"]["chosen"]["nll_mean"])[0];
        let kl = numbers(&golden.json["against_reference"]["kl_ref_model"]["loss"])[0];
        assert_close(&format!("{case}: total"), &values(&loss.total), &[3.0 * (0.5 * nll + 2.0 * kl)], VALUE);
        assert_eq!(loss.total.kind(), Kind::Float);

        let loss = Objective::from(Method::Dapt).loss(&Scores { utility: None, ..scores }).unwrap();
        let by_text = numbers(&golden.json["batches"]["chosen"]["logp_seq"]);
        let want = -by_text.iter().sum::<f64>() / by_text.len() as f64;
        assert_close(&format!("{case}: DAPT"), &values(&loss.total), &[want], VALUE);
    }
}
