//! Equal to transformers in every corner of `parity/corners/` and on the checkpoints of `parity/models/`, end to end:
//! files, logits, losses against another model, gradients by block, greedy text.
//!
//! `cargo test -p irepair-train --test corners -- --nocapture` prints the table of `parity/README.md`.
//!
//! Tolerances. As in `irepair-model/tests/parity.rs`: logits of size 1 to 10 differ by their own f32 rounding, some
//! 1e-6 to 1e-5; 2e-5 (absolute below 1, relative above) is a few times that and far below what a mistake costs.
//! Gradient norms and losses are sums of such terms and keep the same bound. Greedy texts match exactly: the generator
//! found prompts in which the two best logits are never closer than 1e-3.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use irepair_core::spec::Method;
use irepair_core::{PaddedTokens, Scope};
use irepair_model::{BlockModel, CausalLm, Decoding, Error, TextBatch};
use irepair_objective::{Objective, Scores, TextLogits};
use serde_json::Value;
use support::{MODELS, assert_close, json, numbers, parity, rows, tensors, values};
use tch::{Device, Kind, Tensor, no_grad};

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

const TOLERANCE: f64 = 2e-5;
const CORNERS: [&str; 8] = [
    "gpt2",
    "gpt2-untied",
    "gpt2-stored-head",
    "gpt2-other-head",
    "gpt2-mixed",
    "gpt-neo",
    "gpt-neo-untied",
    "gpt-neo-mixed",
];

/// The largest differences of one case by quantity, each a column of the table.
#[derive(Default)]
struct Row {
    name: String,
    worst: HashMap<&'static str, f64>,
}

const COLUMNS: [&str; 5] = ["logits", "NLL", "KL", "DPO", "gradient norms"];

impl Row {
    fn check(&mut self, column: &'static str, part: &str, got: &[f64], want: &[f64]) {
        assert_close(&format!("{}: {column} {part}", self.name), got, want, TOLERANCE);
        let delta = got.iter().zip(want).map(|(g, w)| (g - w).abs() / w.abs().max(1.0)).fold(0.0, f64::max);
        let worst = self.worst.entry(column).or_default();
        *worst = worst.max(delta);
    }

    /// A loss and the gradient norms by block, outside the blocks, and of all.
    fn check_loss(&mut self, column: &'static str, part: &str, model: &CausalLm, loss: &Tensor, want: [&Value; 2]) {
        self.check(column, part, &values(loss), &numbers(want[0]));
        let (mut by_block, mut non_block) = (vec![0.0; model.n_blocks()], 0.0);
        for (i, gradient) in model.gradients(loss).unwrap() {
            let square = values(&gradient.to_kind(Kind::Double).square().sum(Kind::Double))[0];
            match model.parameters()[i].block {
                Some(block) => by_block[block.0] += square,
                None => non_block += square,
            }
        }
        let global = by_block.iter().sum::<f64>() + non_block;
        let norms: Vec<f64> = by_block.into_iter().chain([non_block, global]).map(f64::sqrt).collect();
        let grad = want[1];
        let want = [numbers(&grad["by_block"]), numbers(&grad["non_block"]), numbers(&grad["global"])].concat();
        self.check("gradient norms", &format!("of {column} {part}"), &norms, &want);
    }

    fn markdown(&self) -> String {
        let cell = |column| self.worst.get(column).map_or("".to_owned(), |d| format!("{d:.0e}"));
        format!("| {} | {} | equal |", self.name, COLUMNS.map(cell).join(" | "))
    }
}

fn load(dir: &Path) -> CausalLm {
    CausalLm::load(dir, Device::Cpu, Kind::Float).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).0
}

/// A padded batch of a golden file.
fn batch(value: &Value) -> TextBatch {
    let real: Vec<Vec<bool>> = serde_json::from_value(value["real"].clone()).unwrap();
    // How many pads stand on the left tells prompt from continuation.
    let left: Vec<usize> = real.iter().map(|row| row.iter().take_while(|r| !**r).count()).collect();
    let split = left.iter().max().copied().unwrap_or(0);
    let (mut prompts, mut continuations) = (Vec::new(), Vec::new());
    for ((ids, real), pads) in rows(&value["ids"]).into_iter().zip(&real).zip(left) {
        let row: Vec<u32> = ids.into_iter().zip(real).filter(|(_, r)| **r).map(|(id, _)| id).collect();
        let (prompt, continuation) = row.split_at((split - pads).min(row.len()));
        prompts.push(prompt.to_vec());
        continuations.push(continuation.to_vec());
    }
    let padded = PaddedTokens::prompted(&prompts, &continuations, 0).unwrap();
    assert_eq!(padded.attention_mask(), real.concat(), "the layout of the golden batch");
    TextBatch::new(padded, Device::Cpu)
}

/// The texts of a case under the model and the reference; every loss runs its own forward passes.
struct Texts<'a> {
    model: &'a CausalLm,
    tokens: HashMap<&'static str, TextBatch>,
    reference: HashMap<&'static str, Tensor>,
}

impl<'a> Texts<'a> {
    fn new(batches: &Value, model: &'a CausalLm, reference: Option<&CausalLm>) -> Self {
        let tokens: HashMap<_, _> = ["right", "chosen", "rejected"].map(|name| (name, batch(&batches[name]))).into();
        let run = |m: &CausalLm| no_grad(|| tokens.iter().map(|(name, tokens)| (*name, m.logits(tokens))).collect());
        Self { model, reference: reference.map(run).unwrap_or_default(), tokens }
    }

    /// Logits at real tokens.
    fn logits(&self, name: &str) -> Vec<f64> {
        self.at_real(name, &no_grad(|| self.model.logits(&self.tokens[name])))
    }

    fn at_real(&self, name: &str, logits: &Tensor) -> Vec<f64> {
        values(&logits.index(&[Some(&self.tokens[name].attention_mask)]))
    }

    fn view<'l>(&'l self, name: &str, logits: &'l Tensor) -> TextLogits<'l> {
        TextLogits::new(&self.tokens[name].ids, &self.tokens[name].attention_mask, logits)
    }

    fn nll(&self, name: &str) -> Tensor {
        self.view(name, &self.model.logits(&self.tokens[name])).log_probs().unwrap().nll_mean().unwrap()
    }

    fn kl(&self) -> Tensor {
        let logits = self.model.logits(&self.tokens["right"]);
        self.view("right", &logits).divergences(&self.reference["right"]).unwrap().mean_kl().unwrap()
    }

    fn dpo(&self) -> Tensor {
        let log_probs = |name, logits: &Tensor| Some(self.view(name, logits).log_probs().unwrap());
        let scores = Scores {
            chosen: log_probs("chosen", &self.model.logits(&self.tokens["chosen"])),
            rejected: log_probs("rejected", &self.model.logits(&self.tokens["rejected"])),
            ref_chosen: log_probs("chosen", &self.reference["chosen"]),
            ref_rejected: log_probs("rejected", &self.reference["rejected"]),
            utility: None,
        };
        Objective::from(Method::Dpo).loss(&scores).unwrap().total
    }
}

/// Prompts of a golden greedy text continued, and the continuation wanted.
fn check_greedy(name: &str, model: &CausalLm, want: &Value) {
    let real: Vec<Vec<bool>> = serde_json::from_value(want["real"].clone()).unwrap();
    let prompts: Vec<Vec<u32>> = rows(&want["ids"])
        .into_iter()
        .zip(&real)
        .map(|(ids, real)| ids.into_iter().zip(real).filter(|(_, r)| **r).map(|(id, _)| id).collect())
        .collect();
    let new_tokens = rows(&want["new_tokens"]);
    let n_new = new_tokens[0].len();
    assert_eq!(model.generate(&prompts, n_new, Decoding::Greedy, &[]).unwrap(), new_tokens, "{name}: greedy text");
    let n_prompt = prompts.iter().map(Vec::len).max().unwrap();
    let too_long = model.config().n_positions - n_prompt + 1;
    let refused = model.generate(&prompts, too_long, Decoding::Greedy, &[]);
    assert!(matches!(refused, Err(Error::ContextOverflow { .. })), "{name}: one token over the context");
}

/// The checkpoint `from` under a config.json with some keys changed.
fn under(from: &Path, keys: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    dir
}

fn corner(base: &str, variant: &str, golden: &Value, logits: &HashMap<String, Tensor>, reference: &CausalLm) -> Row {
    let mut row = Row { name: format!("corners/{base} {variant}"), ..Row::default() };
    let golden = &golden[variant];
    let dir = under(&parity(&format!("corners/{base}/model")), &golden["config"]);
    let model = load(dir.path());
    model.train_only(&Scope::Everything);
    let texts = Texts::new(&json("corners/inputs.json"), &model, Some(reference));
    for name in ["right", "chosen"] {
        let want = texts.at_real(name, &logits[&format!("{variant}.{name}.logits")]);
        row.check("logits", name, &texts.logits(name), &want);
    }
    let want = |loss: &str| [&golden[loss]["loss"], &golden[loss]["grad"]];
    row.check_loss("NLL", "right", &model, &texts.nll("right"), want("nll_right"));
    row.check_loss("NLL", "chosen", &model, &texts.nll("chosen"), want("nll_chosen"));
    row.check_loss("KL", "", &model, &texts.kl(), want("kl"));
    row.check_loss("DPO", "", &model, &texts.dpo(), want("dpo"));
    check_greedy(&row.name, &model, &golden["greedy"]);
    row
}

fn model_case(case: &str) -> Row {
    let mut row = Row { name: format!("models/{case}"), ..Row::default() };
    let golden = json(&format!("models/{case}/golden.json"));
    let model = load(&parity(&format!("models/{case}/model")));
    model.train_only(&Scope::Everything);
    let against = golden.get("against_reference");
    let reference = against.map(|_| load(&parity(&format!("models/{case}/reference"))));
    let texts = Texts::new(&golden["batches"], &model, reference.as_ref());
    let logits = tensors(&format!("models/{case}/golden.safetensors"));
    for name in ["right", "chosen", "rejected"] {
        let want = texts.at_real(name, &logits[&format!("{name}.logits")]);
        row.check("logits", name, &texts.logits(name), &want);
        let batch = &golden["batches"][name];
        row.check_loss("NLL", name, &model, &texts.nll(name), [&batch["nll_mean"], &batch["nll_mean_grad"]]);
    }
    if let Some(against) = against {
        let want = |loss: &str| [&against[loss]["loss"], &against[loss]["grad"]];
        row.check_loss("KL", "", &model, &texts.kl(), want("kl_ref_model"));
        row.check_loss("DPO", "", &model, &texts.dpo(), want("dpo"));
    }
    check_greedy(&row.name, &model, &golden["greedy"]);
    row
}

#[test]
#[expect(clippy::print_stdout, reason = "the measured table is this test's second product")]
fn every_corner_matches() {
    tch::set_num_threads(1);
    let mut table = format!("| case | {} | greedy |\n|---|{}", COLUMNS.join(" | "), "---|".repeat(COLUMNS.len() + 1));
    let reference = load(&parity("corners/reference/model"));
    for case in MODELS {
        let _ = write!(table, "\n{}", model_case(case).markdown());
    }
    for base in CORNERS {
        let golden = json(&format!("corners/{base}/golden.json"));
        let logits = tensors(&format!("corners/{base}/golden.safetensors"));
        for variant in golden.as_object().unwrap().keys() {
            let row = corner(base, variant, &golden, &logits, &reference);
            let _ = write!(table, "\n{}", row.markdown());
        }
    }
    println!("{table}");
}

#[test]
fn the_corners_are_corners() {
    // A variant whose logits are those of the plain case would test nothing.
    for base in ["gpt2", "gpt-neo"] {
        let logits = tensors(&format!("corners/{base}/golden.safetensors"));
        // These are other names or another route for the very same function.
        let same =
            ["plain", "act-gelu_pytorch_tanh", "act-gelu_fast", "upcast", "eps-1e-12", "window-24", "window-100"];
        for (name, value) in logits.iter().filter(|(name, _)| name.ends_with(".right.logits")) {
            let variant = name.trim_end_matches(".right.logits");
            let far = values(&(value - &logits["plain.right.logits"]).abs().max())[0];
            // Twenty-five times the tolerance; the two forms of GELU are the closest, at 1e-3.
            assert!(same.contains(&variant) || far > 5e-4, "{base} {variant} is the plain case: {far:e}");
        }
    }
}

#[test]
fn every_corner_is_written_back_byte_for_byte() {
    for base in CORNERS {
        let from = parity(&format!("corners/{base}/model"));
        let saved = tempfile::tempdir().unwrap();
        load(&from).save(saved.path()).unwrap();
        for entry in fs::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            let [got, want] = [saved.path().join(name), path.clone()].map(|path| fs::read(path).unwrap());
            if name == "config.json" {
                let [got, want] = [got, want].map(|text| serde_json::from_slice::<Value>(&text).unwrap());
                assert_eq!(got, want, "{base}: config.json");
            } else {
                assert!(got == want, "{base}: {} is not what it was", path.display());
            }
        }
    }
}
