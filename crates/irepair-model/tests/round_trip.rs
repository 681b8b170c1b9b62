//! Checkpoint files that come back: byte for byte where nothing changed, and what loading says about every tensor.

use std::fs;
use std::path::Path;

use common::{FAMILIES, bits, files, load, model, shard};
use irepair_model::{BlockModel, CausalLm, LoadReport};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

#[test]
fn save_load_save_gives_identical_files() {
    for family in FAMILIES {
        for sharded in [false, true] {
            let dirs = [0; 3].map(|_| tempfile::tempdir().unwrap());
            let [first, second, third] = dirs.each_ref().map(|d| d.path());
            let made = model(family);
            made.save(first).unwrap();
            fs::write(first.join("tokenizer.json"), "{}").unwrap();
            if sharded {
                shard(first);
            }
            let loaded = load(first);
            assert!(bits(&loaded) == bits(&made));
            loaded.save(second).unwrap();
            assert_eq!(files(second).keys().collect::<Vec<_>>(), files(first).keys().collect::<Vec<_>>());
            assert!(files(second) == files(first), "{family:?}, sharded {sharded}");
            // Onto itself, and on from there.
            load(second).save(second).unwrap();
            load(second).save(third).unwrap();
            assert!(files(third) == files(first));
        }
    }
}

#[test]
fn a_changed_weight_changes_its_bytes_alone() {
    let dirs = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let [first, second] = dirs.each_ref().map(|d| d.path());
    model("gpt2").save(first).unwrap();
    let changed = load(first);
    let parameter = changed.parameters().iter().find(|p| p.name == "h.1.mlp.c_fc.bias").unwrap();
    no_grad(|| drop(parameter.tensor.shallow_clone().fill_(0.25)));
    changed.save(second).unwrap();
    let (before, _) = irepair_model::read_tensors(&first.join("model.safetensors")).unwrap();
    let (after, _) = irepair_model::read_tensors(&second.join("model.safetensors")).unwrap();
    let differing: Vec<_> = before.keys().filter(|name| before[*name] != after[*name]).collect();
    assert_eq!(differing, ["transformer.h.1.mlp.c_fc.bias"]);
}

/// A safetensors file written by hand: tensors in the order given, `metadata` unchanged.
fn raw_file(path: &Path, metadata: &Value, tensors: &[(String, &str, Vec<usize>, Vec<u8>)]) {
    let mut header = serde_json::Map::from_iter([("__metadata__".to_owned(), metadata.clone())]);
    let mut offset = 0;
    for (name, dtype, shape, bytes) in tensors {
        let end = offset + bytes.len();
        header.insert(name.clone(), json!({"shape": shape, "data_offsets": [offset, end], "dtype": dtype}));
        offset = end;
    }
    // Spaces inside and behind, as other writers leave them.
    let header = format!("{:#}   ", Value::Object(header));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    tensors.iter().for_each(|(.., bytes)| file.extend(bytes));
    fs::write(path, file).unwrap();
}

/// A model directory whose weights are half in bfloat16 or float16, in reverse order, under metadata of several keys;
/// every block has a NaN with a payload, an infinity and a subnormal number.
fn odd_checkpoint(dir: &Path) {
    let made = model("gpt2");
    made.save(dir).unwrap();
    let types = [("F32", Kind::Float, 4), ("BF16", Kind::BFloat16, 2), ("F16", Kind::Half, 2)];
    let mut tensors = Vec::new();
    for (i, parameter) in made.parameters().iter().enumerate().rev() {
        let (dtype, kind, width) = types[i % 3];
        let flat = parameter.tensor.detach().to_kind(kind).view(-1);
        let mut bytes = vec![0; flat.numel() * width];
        flat.copy_data_u8(&mut bytes, flat.numel());
        if parameter.name.ends_with("ln_2.bias")
            || parameter.name.ends_with("c_fc.bias")
            || parameter.name.ends_with("c_proj.bias")
        {
            // A signalling NaN with a payload, an infinity, the smallest number above 0.
            let odd: &[u8] = match dtype {
                "F32" => &[0x37, 0x13, 0xa0, 0x7f, 0, 0, 0x80, 0x7f, 1, 0, 0, 0],
                "BF16" => &[0x8b, 0x7f, 0x80, 0xff, 1, 0],
                _ => &[0x2b, 0x7d, 0, 0xfc, 1, 0],
            };
            bytes[..odd.len()].copy_from_slice(odd);
        }
        let shape = parameter.tensor.size().iter().map(|&n| n as usize).collect();
        tensors.push((format!("transformer.{}", parameter.name), dtype, shape, bytes));
    }
    tensors.insert(3, ("score.weight".to_owned(), "I64", vec![2], vec![7; 16]));
    tensors.push(("transformer.h.0.attn.bias".to_owned(), "BOOL", vec![3], vec![1, 0, 1]));
    let metadata = json!({"zebra": "1", "format": "pt", "author": "someone", "note": "two\nlines"});
    raw_file(&dir.join("model.safetensors"), &metadata, &tensors);
}

#[test]
fn any_order_type_and_metadata_come_back_byte_for_byte() {
    let dirs = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let [first, second] = dirs.each_ref().map(|d| d.path());
    odd_checkpoint(first);
    for kind in [Kind::Float, Kind::BFloat16] {
        let (loaded, report) = CausalLm::load(first, Device::Cpu, kind).unwrap();
        assert_eq!(report.unused, ["score.weight"]);
        assert_eq!(report.ignored_buffers, ["transformer.h.0.attn.bias"]);
        loaded.save(second).unwrap();
        assert!(files(second) == files(first), "computed in {kind:?}");
        loaded.duplicate().unwrap().save(second).unwrap();
        assert!(files(second) == files(first), "a duplicate, computed in {kind:?}");
    }
}

/// Fills what `part` takes of a weight with another value, in any compute type: the file differs in a stretch of its
/// size alone, and what is loaded again is the model that was saved.
fn assert_bytes_of(part: impl Fn(&Tensor) -> Tensor) {
    let dirs = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let [first, second] = dirs.each_ref().map(|d| d.path());
    odd_checkpoint(first);
    for kind in [Kind::Float, Kind::BFloat16] {
        let (loaded, _) = CausalLm::load(first, Device::Cpu, kind).unwrap();
        let changed = loaded.parameters().iter().find(|p| p.name == "h.1.mlp.c_fc.weight").unwrap();
        let mut part = part(&changed.tensor);
        no_grad(|| drop(part.fill_(0.25)));
        loaded.save(second).unwrap();
        let [before, after] = [first, second].map(|dir| fs::read(dir.join("model.safetensors")).unwrap());
        let differing = (0..before.len()).filter(|&i| before[i] != after[i]).collect::<Vec<_>>();
        assert_eq!(before.len(), after.len());
        let size = part.numel() * 4;
        let (low, high) = (differing[0], differing[differing.len() - 1]);
        assert!(high - low < size, "{kind:?}: bytes {low}..{high} of at most {size}");
        let (again, _) = CausalLm::load(second, Device::Cpu, kind).unwrap();
        assert!(bits(&again) == bits(&loaded), "{kind:?}");
    }
}

#[test]
fn blocks_that_kept_their_values_keep_their_bytes_in_any_compute_type() {
    assert_bytes_of(Tensor::shallow_clone);
}

#[test]
fn weights_that_kept_their_values_keep_their_bytes_in_any_compute_type() {
    assert_bytes_of(|weight| weight.get(2));
}

#[test]
fn a_source_that_changed_meanwhile_is_not_copied_from() {
    let dirs = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let [first, second] = dirs.each_ref().map(|d| d.path());
    model("gpt2").save(first).unwrap();
    let before = files(first);
    let loaded = load(first);
    fs::write(first.join("model.safetensors"), b"another model by now").unwrap();
    loaded.save(second).unwrap();
    assert!(files(second) == before);
}

/// Loads a directory after its tensors were changed by name.
fn reload(dir: &Path, change: impl FnOnce(&mut std::collections::HashMap<String, Tensor>)) -> (CausalLm, LoadReport) {
    let path = dir.join("model.safetensors");
    let (mut tensors, metadata) = irepair_model::read_tensors(&path).unwrap();
    change(&mut tensors);
    let tensors: Vec<_> = tensors.iter().map(|(n, t)| (n.clone(), t)).collect();
    irepair_model::write_tensors(&path, &tensors, metadata).unwrap();
    CausalLm::load(dir, Device::Cpu, Kind::Float).unwrap()
}

#[test]
fn every_stored_tensor_is_reported_under_one_heading() {
    for family in ["gpt2", "gpt-neo"] {
        let dir = tempfile::tempdir().unwrap();
        model(family).save(dir.path()).unwrap();
        let one = || Tensor::ones([1, 1, 2, 2], (Kind::Float, Device::Cpu));
        let (loaded, report) = reload(dir.path(), |tensors| {
            for name in [
                "transformer.h.0.attn.bias",
                "transformer.h.1.attn.attention.masked_bias",
                "score.weight",
                "transformer.h.2.ln_1.weight",
                "transformer.h.0.adapter.down.weight",
            ] {
                tensors.insert(name.to_owned(), one());
            }
        });
        assert_eq!(report.applied.len(), loaded.parameters().len());
        assert!(report.applied.contains(&"transformer.h.1.ln_1.bias".to_owned()) && report.applied.is_sorted());
        assert_eq!(report.ignored_buffers, ["transformer.h.0.attn.bias", "transformer.h.1.attn.attention.masked_bias"]);
        assert_eq!(
            report.unused,
            ["score.weight", "transformer.h.0.adapter.down.weight", "transformer.h.2.ln_1.weight"]
        );
        let said = report.to_string();
        assert!(
            said.ends_with(
                "0 missing, 2 causal-mask buffers ignored, 3 unused: `score.weight`, \
            `transformer.h.0.adapter.down.weight`, `transformer.h.2.ln_1.weight`"
            ),
            "{said}"
        );
    }
}

#[test]
fn a_tied_head_is_tied_to_what_is_stored() {
    for family in FAMILIES {
        let (dir, saved) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made = model(family);
        let embedding = &format!("{}{}", made.config().family.prefix, made.parameters()[0].name);
        let head = &format!("{}.weight", made.config().family.head);
        made.save(dir.path()).unwrap();
        // A stored copy changes nothing.
        let (loaded, report) = reload(dir.path(), |tensors| {
            let copy = tensors[embedding].copy();
            tensors.insert(head.clone(), copy);
        });
        assert!(bits(&loaded) == bits(&made) && !report.head_differs && report.unused.is_empty());
        // The head alone stands for both.
        let (loaded, report) = reload(dir.path(), |tensors| drop(tensors.remove(embedding)));
        assert!(bits(&loaded) == bits(&made) && report.applied.contains(head));
        loaded.save(saved.path()).unwrap();
        assert!(files(saved.path()) == files(dir.path()));
        // Other values are a head of their own, as transformers has it, and are written back as such.
        let (loaded, report) = reload(dir.path(), |tensors| {
            let stored = tensors[head].copy();
            tensors.insert(embedding.clone(), &stored * 2.0);
        });
        assert!(report.head_differs && loaded.parameters().iter().any(|p| p.name == *head));
        assert!(report.to_string().ends_with("the stored head is not the token embedding, so they are not tied"));
        loaded.save(saved.path()).unwrap();
        assert!(files(saved.path()) == files(dir.path()));
    }
}
