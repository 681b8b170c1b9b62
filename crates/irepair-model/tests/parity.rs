//! Equal to transformers on the tiny checkpoints of `parity/models/` (generator next to them).
//!
//! Tolerances. The logits there are of size 1 to 5 and their own f32 rounding, measured against f64, is 2e-6 to 5e-6
//! (`meta.json`); a different order of summation costs about as much again. 2e-5 leaves a factor of four, and is far
//! below what any mistake costs: one wrong position, mask entry or transposed weight moves logits by 0.1 and more.
//! Gradient norms sum thousands of such terms, mostly in f64: 2e-5, relative above 1.

use std::path::Path;

use irepair_core::{PaddedTokens, Scope};
use irepair_model::{BlockModel, CausalLm, Decoding, TextBatch};
use serde_json::Value;
use support::{BF16, MODELS, assert_close, batch, json, numbers, parity, rows, tensors, values};
use tch::{Device, Kind, Tensor};

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

const TOLERANCE: f64 = 2e-5;
const BATCHES: [&str; 3] = ["right", "chosen", "rejected"];

fn load(case: &str) -> CausalLm {
    let (model, _) = CausalLm::load(&parity(&format!("models/{case}/model")), Device::Cpu, Kind::Float)
        .unwrap_or_else(|e| panic!("{case}: {e}"));
    model
}

fn golden(case: &str) -> Value {
    json(&format!("models/{case}/golden.json"))
}

/// The rows of a padded batch without their padding.
fn real_tokens(batch: &Value) -> Vec<Vec<u32>> {
    let real: Vec<Vec<bool>> = serde_json::from_value(batch["real"].clone()).unwrap();
    let keep =
        |(ids, real): (Vec<u32>, Vec<bool>)| ids.into_iter().zip(real).filter(|(_, r)| *r).map(|(id, _)| id).collect();
    rows(&batch["ids"]).into_iter().zip(real).map(keep).collect()
}

/// The padded batch of a golden file.
fn token_batch(value: &Value) -> TextBatch {
    // The layout is rebuilt from the rows: how many pads stand on the left tells prompt from continuation.
    let real: Vec<Vec<bool>> = serde_json::from_value(value["real"].clone()).unwrap();
    let n_cols = real[0].len();
    let left: Vec<usize> = real.iter().map(|row| row.iter().take_while(|r| !**r).count()).collect();
    let split = left.iter().max().copied().unwrap_or(0);
    let (mut prompts, mut continuations) = (Vec::new(), Vec::new());
    for (row, pads) in real_tokens(value).into_iter().zip(left) {
        let n_prompt = (split - pads).min(row.len());
        prompts.push(row[..n_prompt].to_vec());
        continuations.push(row[n_prompt..].to_vec());
    }
    let padded = PaddedTokens::prompted(&prompts, &continuations, 100).unwrap();
    assert_eq!(padded.n_cols(), n_cols);
    assert_eq!(padded.attention_mask(), real.concat());
    TextBatch::new(padded, Device::Cpu)
}

/// Rows of `[batch, seq, vocab]` at real tokens.
fn at_real(logits: &Tensor, real: &Tensor) -> Vec<f64> {
    values(&logits.index(&[Some(real)]))
}

#[test]
fn logits_match() {
    for case in MODELS {
        let (model, golden) = (load(case), golden(case));
        let want = tensors(&format!("models/{case}/golden.safetensors"));
        for name in BATCHES {
            let tokens = token_batch(&golden["batches"][name]);
            let got = at_real(&model.logits(&tokens), &tokens.attention_mask);
            let want = at_real(&want[&format!("{name}.logits")], &tokens.attention_mask);
            assert_close(&format!("{case}, {name}: logits"), &got, &want, TOLERANCE);
        }
    }
}

/// Root mean square of differences.
fn rms(a: &[f64], b: &[f64]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

/// The table of parity/README.md, for `--nocapture`.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[test]
fn logits_in_bfloat16_differ_by_no_more_than_its_noise() {
    // The noise of a case is how far transformers' bfloat16 is from its float32 of the same weights. Two computations
    // with independent errors of that size differ by its √2; transformers' own two routes through attention differ by
    // 0.7 to 1.2 of it. Where a family rounds is pinned bit for bit in `src/casts.rs`.
    say("| case | noise | max Δ | rms Δ to eager | rms Δ to sdpa | rms Δ to float32 |\n|---|---|---|---|---|---|");
    for case in BF16 {
        let golden = golden(case);
        let tokens = token_batch(&golden["batches"]["chosen"]);
        let file = tensors(&format!("models/{case}/bf16.safetensors"));
        let want = |route: &str| file.get(route).map(|logits| at_real(logits, &tokens.attention_mask));
        let model = CausalLm::load(&parity(&format!("models/{case}/model")), Device::Cpu, Kind::BFloat16).unwrap().0;
        let logits = model.logits(&tokens);
        assert_eq!(logits.kind(), Kind::BFloat16);
        let got = at_real(&logits, &tokens.attention_mask);
        let (eager, exact) = (want("eager").unwrap(), want("exact").unwrap());
        let noise = rms(&eager, &exact);
        let max = got.iter().zip(&eager).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let (to_eager, to_exact) = (rms(&got, &eager), rms(&got, &exact));
        let to_sdpa = want("sdpa").map(|sdpa| rms(&got, &sdpa));
        let shown = to_sdpa.map_or(String::new(), |d| format!("{d:.1e}"));
        say(&format!("| {case} | {noise:.1e} | {max:.1e} | {to_eager:.1e} | {shown} | {to_exact:.1e} |"));
        for (what, distance) in [("eager", Some(to_eager)), ("sdpa", to_sdpa), ("float32", Some(to_exact))] {
            let within = distance.is_none_or(|distance| distance <= std::f64::consts::SQRT_2 * noise);
            assert!(within, "{case}: rms of the difference to {what} is {distance:?}, noise {noise:.1e}");
        }
    }
}

/// Mean NLL over counted targets, written out here: objectives live in a crate this one does not know.
fn nll_mean(logits: &Tensor, batch: &TextBatch) -> Tensor {
    let n = batch.dims().1 - 1;
    let logp = logits.narrow(1, 0, n).log_softmax(-1, Kind::Float);
    let logp = logp.gather(-1, &batch.ids.narrow(1, 1, n).unsqueeze(-1), false).squeeze_dim(-1);
    let counted = batch.attention_mask.narrow(1, 1, n).logical_and(&batch.attention_mask.narrow(1, 0, n));
    -logp.masked_select(&counted).mean(Kind::Float)
}

#[test]
fn nll_and_gradient_norms_by_block_match() {
    for case in MODELS {
        let (model, golden) = (load(case), golden(case));
        model.train_only(&Scope::Everything);
        for name in BATCHES {
            let want = &golden["batches"][name];
            let tokens = token_batch(want);
            let nll = nll_mean(&model.logits(&tokens), &tokens);
            let what = |part: &str| format!("{case}, {name}: {part}");
            assert_close(&what("nll_mean"), &values(&nll), &numbers(&want["nll_mean"]), TOLERANCE);

            let mut by_block = vec![0.0; model.n_blocks()];
            let mut non_block = 0.0;
            for (i, gradient) in model.gradients(&nll).unwrap() {
                let square = values(&gradient.to_kind(Kind::Double).square().sum(Kind::Double))[0];
                match model.parameters()[i].block {
                    Some(block) => by_block[block.0] += square,
                    None => non_block += square,
                }
            }
            // METHOD §19: the squares by block and those outside add up to the square of the global norm.
            let global = by_block.iter().sum::<f64>() + non_block;
            let norms: Vec<f64> = by_block.iter().map(|s| s.sqrt()).collect();
            let want = &want["nll_mean_grad"];
            assert_close(&what("gradient norms by block"), &norms, &numbers(&want["by_block"]), TOLERANCE);
            assert_close(&what("norm outside blocks"), &[non_block.sqrt()], &numbers(&want["non_block"]), TOLERANCE);
            assert_close(&what("global norm"), &[global.sqrt()], &numbers(&want["global"]), TOLERANCE);
        }
    }
}

#[test]
fn greedy_text_matches_token_by_token() {
    // No tolerance: the generator refuses texts in which the two best logits were ever within 1e-3 of each other.
    for case in MODELS {
        let want = &golden(case)["greedy"];
        let got = load(case).generate(&real_tokens(want), 10, Decoding::Greedy, &[]).unwrap();
        assert_eq!(got, rows(&want["new_tokens"]), "{case}");
    }
}

/// Bytes of every file of a directory, by name.
fn files(dir: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    std::fs::read_dir(dir).unwrap().map(read).collect()
}

#[test]
fn an_unchanged_model_is_written_back_byte_for_byte() {
    for case in MODELS {
        let from = parity(&format!("models/{case}/model"));
        // Half-precision files keep their dtype and bits, though the model computed in f32.
        let saved = tempfile::tempdir().unwrap();
        load(case).save(saved.path()).unwrap();
        let (got, want) = (files(saved.path()), files(&from));
        assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{case}: files");
        for (name, bytes) in want {
            assert!(got[&name] == bytes, "{case}: {name} is not what it was");
        }
    }
}

#[test]
fn a_language_model_is_read_as_a_part_under_either_prefix_and_the_rest_is_carried_along() {
    let (from, renamed) = (parity("models/gemma3-part/model"), tempfile::tempdir().unwrap());
    let (tensors, metadata) = irepair_model::read_tensors(&from.join("model.safetensors")).unwrap();
    // As transformers 4 named them.
    let older = |name: &str| match name.strip_prefix("model.language_model.") {
        Some(rest) => format!("language_model.model.{rest}"),
        None => name.strip_prefix("model.").unwrap_or(name).to_owned(),
    };
    let named: Vec<(String, &Tensor)> = tensors.iter().map(|(name, tensor)| (older(name), tensor)).collect();
    assert!(named.iter().all(|(name, _)| !name.starts_with("model.")));
    irepair_model::write_tensors(&renamed.path().join("model.safetensors"), &named, metadata).unwrap();
    std::fs::copy(from.join("config.json"), renamed.path().join("config.json")).unwrap();
    let (model, report) = CausalLm::load(renamed.path(), Device::Cpu, Kind::Float).unwrap();
    assert!(report.unused.iter().all(|name| name.contains("vision") || name.contains("projector")), "{report}");
    assert!(!report.unused.is_empty());
    let tokens = token_batch(&golden("gemma3-part")["batches"]["right"]);
    let of = |model: &CausalLm| at_real(&model.logits(&tokens), &tokens.attention_mask);
    assert_eq!(of(&model), of(&load("gemma3-part")));
    let saved = tempfile::tempdir().unwrap();
    model.save(saved.path()).unwrap();
    assert!(files(saved.path()) == files(renamed.path()));
}

#[test]
fn published_names_and_buffers_load_and_are_reported() {
    for (case, n_buffers) in [("gpt2-hub", 3), ("gpt-neo-hub", 8), ("gpt2", 0), ("gpt2-sharded", 0)] {
        let (_, report) = CausalLm::load(&parity(&format!("models/{case}/model")), Device::Cpu, Kind::Float).unwrap();
        assert_eq!((report.ignored_buffers.len(), report.unused.len()), (n_buffers, 0), "{case}: {report}");
    }
    // Shards and other names hold the very weights of the plain case, so the logits are the same bits.
    let tokens = token_batch(&golden("gpt2")["batches"]["right"]);
    let plain = at_real(&load("gpt2").logits(&tokens), &tokens.attention_mask);
    for case in ["gpt2-sharded", "gpt2-hub"] {
        assert_eq!(at_real(&load(case).logits(&tokens), &tokens.attention_mask), plain, "{case}");
    }
}

#[test]
fn masks_come_from_lengths_not_from_the_pad_id() {
    let golden = golden("gpt2");
    let (ids, real) = batch(&golden["batches"]["right"]);
    let pad_id_inside_text = ids.eq(100).logical_and(&real);
    assert!(values(&pad_id_inside_text.any())[0] == 1.0, "the golden batch must hold the pad id as a token");
}
