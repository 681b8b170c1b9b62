//! Checkpoints whose tensors have the names that a program around the model gave them: data parallelism,
//! `torch.compile`, peft.

use std::collections::HashMap;
use std::path::Path;

use irepair_core::{Diagnose, PaddedTokens};
use irepair_model::{BlockModel, CausalLm, Error, TextBatch, read_tensors, write_tensors};
use support::{parity, values};
use tch::{Device, Kind, Tensor};

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;
#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

/// `case` of `parity/models/` under other names, with more tensors.
fn renamed(case: &str, to: &Path, name: impl Fn(&str) -> String, more: &[(&str, &Tensor)]) {
    let from = parity(&format!("models/{case}/model"));
    let (tensors, metadata): (HashMap<String, Tensor>, _) = {
        let (tensors, metadata) = read_tensors(&from.join("model.safetensors")).unwrap();
        (tensors.into_iter().collect(), metadata)
    };
    let mut named: Vec<(String, &Tensor)> = tensors.iter().map(|(stored, tensor)| (name(stored), tensor)).collect();
    named.extend(more.iter().map(|(name, tensor)| ((*name).to_owned(), *tensor)));
    named.sort_by(|a, b| a.0.cmp(&b.0));
    write_tensors(&to.join("model.safetensors"), &named, metadata).unwrap();
    std::fs::copy(from.join("config.json"), to.join("config.json")).unwrap();
}

fn logits(model: &CausalLm) -> Vec<f64> {
    // Threads inside operations this small only wait for one another.
    tch::set_num_threads(1);
    let texts = PaddedTokens::prompted(&[vec![]], &[(1..9).collect()], 0).unwrap();
    values(&model.logits(&TextBatch::new(texts, Device::Cpu)))
}

#[test]
fn names_of_wrappers_are_read_and_written_back() {
    for (case, bare) in [("gpt2", "transformer."), ("llama", "model."), ("gpt-neox", "gpt_neox."), ("gemma2", "model.")]
    {
        let plain = logits(&common::load(&parity(&format!("models/{case}/model"))));
        for wrapper in ["module.", "_orig_mod.", "base_model.model.", "module._orig_mod.", "module.base_model.model."] {
            for keeps_prefix in [true, false] {
                let name = |stored: &str| {
                    let inner = if keeps_prefix { stored } else { stored.strip_prefix(bare).unwrap_or(stored) };
                    format!("{wrapper}{inner}")
                };
                let dir = tempfile::tempdir().unwrap();
                renamed(case, dir.path(), name, &[]);
                let (model, report) = CausalLm::load(dir.path(), Device::Cpu, Kind::Float).unwrap();
                assert!(report.unused.is_empty(), "{case}, {wrapper}: {report}");
                assert_eq!(logits(&model), plain, "{case}, {wrapper}");
                let saved = tempfile::tempdir().unwrap();
                model.save(saved.path()).unwrap();
                assert!(common::files(saved.path()) == common::files(dir.path()), "{case}, {wrapper}");
            }
        }
    }
}

#[test]
fn an_adapter_that_is_not_merged_is_refused() {
    let factor = Tensor::zeros([2, 32], (Kind::Float, Device::Cpu));
    for part in [
        "lora_A.default.weight",
        "lora_B.weight",
        "lora_embedding_A.default",
        "ia3_l.default",
        "hada_w1_a.default",
        "lokr_w1.default",
        "oft_r.default",
        "modules_to_save.default.weight",
        "base_layer.weight",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let tensor = format!("base_model.model.model.layers.0.self_attn.q_proj.{part}");
        renamed("llama", dir.path(), |name| format!("base_model.model.{name}"), &[(&tensor, &factor)]);
        let error = CausalLm::load(dir.path(), Device::Cpu, Kind::Float).unwrap_err();
        assert_eq!(error.diagnostic().exit, irepair_core::ExitKind::Data);
        assert!(matches!(&error, Error::NotMerged { tensor: named, .. } if *named == tensor), "{error}");
    }
}

#[test]
fn a_tensor_under_two_wrappers_is_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let again = Tensor::zeros([32], (Kind::Float, Device::Cpu));
    renamed("llama", dir.path(), str::to_owned, &[("module.model.norm.weight", &again)]);
    let error = CausalLm::load(dir.path(), Device::Cpu, Kind::Float).unwrap_err();
    assert!(error.to_string().contains("stored twice"), "{error}");
}
