//! From a repaired directory back to GGUF: byte for byte the files of the Python package `gguf`
//! (`parity/gguf/make_export.py`), and the laws of a round trip.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use irepair_core::{Diagnose, ExitKind};
use irepair_gguf::{Conversion, Export, ExportSummary, GgufFile, Result};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};
use serde_json::Value;

const CASES: [&str; 5] = ["smollm", "llama-bpe", "gpt-2", "qwen2", "mixed"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf").join(name)
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let tensor =
        |(name, view): (String, TensorView<'_>)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
    stored.tensors().into_iter().map(tensor).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()))
}

fn import(file: &Path, dir: &Path) {
    let file = GgufFile::open(file).unwrap();
    Conversion::plan(&file).unwrap().write(dir, &mut |_| {}).unwrap();
}

fn export(dir: &Path, like: &Path, out: &Path) -> Result<ExportSummary> {
    let file = GgufFile::open(like)?;
    let conversion = Conversion::plan(&file)?;
    let export = Export::plan(&conversion, dir, &mut |_| {})?;
    export.write(out, &mut |_| {})?;
    Ok(export.summary())
}

/// A directory with the import of a case in `model`, its tensors changed by `change`.
fn repaired(case: &str, change: impl FnOnce(&mut Tensors)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    import(&golden(&format!("{case}.gguf")), &model);
    let weights = model.join("model.safetensors");
    let mut all = tensors(&weights);
    change(&mut all);
    write(&weights, &all);
    dir
}

#[test]
fn a_repair_is_the_file_that_the_package_gguf_writes() {
    for (case, copied, changed, too_large, file_type) in [
        ("gpt-2", 13, [("F16", 2), ("F32", 4)].as_slice(), vec!["output.weight"], None),
        ("mixed", 6, [("F16", 5)].as_slice(), vec![], Some(1)),
    ] {
        let dir = repaired(case, |all| all.extend(tensors(&golden(&format!("{case}.repaired.safetensors")))));
        let out = dir.path().join("new.gguf");
        let summary = export(&dir.path().join("model"), &golden(&format!("{case}.gguf")), &out).unwrap();
        assert_eq!((summary.n_copied, summary.file_type), (copied, file_type), "{case}");
        assert_eq!(summary.changed.iter().map(|(k, n)| (k.as_str(), *n)).collect::<Vec<_>>(), changed, "{case}");
        assert_eq!(summary.too_large_for_f16, too_large, "{case}");
        assert!(fs::read(&out).unwrap() == fs::read(golden(&format!("{case}.repaired.gguf"))).unwrap(), "{case}");
    }
}

#[test]
fn an_import_without_a_repair_is_its_file_again() {
    for case in CASES {
        let dir = repaired(case, |_| {});
        let (like, out) = (golden(&format!("{case}.gguf")), dir.path().join("new.gguf"));
        let summary = export(&dir.path().join("model"), &like, &out).unwrap();
        assert!(summary.changed.is_empty(), "{case}");
        assert!(fs::read(&out).unwrap() == fs::read(&like).unwrap(), "{case}");
    }
}

#[test]
fn importing_an_export_rounds_changed_matrices_and_nothing_else() {
    for case in CASES {
        // The signs of every second tensor turn; zeros become negative zeros, which are other values.
        let dir = repaired(case, |all| {
            for (_, _, bytes) in all.values_mut().step_by(2) {
                bytes.iter_mut().skip(3).step_by(4).for_each(|byte| *byte ^= 0x80);
            }
        });
        let (model, again, out) = (dir.path().join("model"), dir.path().join("again"), dir.path().join("new.gguf"));
        export(&model, &golden(&format!("{case}.gguf")), &out).unwrap();
        import(&out, &again);
        let (before, after) = (tensors(&model.join("model.safetensors")), tensors(&again.join("model.safetensors")));
        assert_eq!(before.len(), after.len());
        for (i, (name, (_, shape, want))) in before.iter().enumerate() {
            let want: Vec<f32> = match i % 2 == 0 && shape.len() > 1 {
                // A matrix that is F32 in the file stays exact, and so it is in F16 when rounding changes nothing.
                true => floats(want).map(|x| f16::from_f32(x).to_f32()).collect(),
                false => floats(want).collect(),
            };
            let exact: Vec<f32> = floats(&before[name].2).collect();
            let got: Vec<f32> = floats(&after[name].2).collect();
            let equal = |want: &[f32]| got.iter().zip(want).all(|(got, want)| got.to_bits() == want.to_bits());
            assert!(equal(&want) || equal(&exact), "{case}: {name}");
        }
        // What was exported once is not rounded again.
        let twice = dir.path().join("twice.gguf");
        assert!(export(&again, &out, &twice).unwrap().changed.is_empty());
        assert!(fs::read(&twice).unwrap() == fs::read(&out).unwrap());
    }
}

#[test]
fn a_directory_in_16_bits_is_compared_in_16_bits() {
    type Round = fn(f32) -> [u8; 2];
    let types: [(Dtype, Round); 2] =
        [(Dtype::BF16, |x| bf16::from_f32(x).to_le_bytes()), (Dtype::F16, |x| f16::from_f32(x).to_le_bytes())];
    for (dtype, round) in types {
        let dir = repaired("smollm", |all| {
            for tensor in all.values_mut() {
                *tensor = (dtype, tensor.1.clone(), floats(&tensor.2).flat_map(round).collect());
            }
            all.get_mut("model.layers.1.mlp.up_proj.weight").unwrap().2[1] ^= 0x80;
            all.get_mut("model.norm.weight").unwrap().2[1] ^= 0x80;
        });
        let summary = export(&dir.path().join("model"), &golden("smollm.gguf"), &dir.path().join("new.gguf")).unwrap();
        assert_eq!(summary.n_copied, 18, "{dtype:?}");
        assert_eq!(summary.changed.values().sum::<usize>(), 2);
    }
}

#[test]
fn a_directory_of_another_model_is_refused_by_name_and_leaves_no_file() {
    let refused = |change: &dyn Fn(&Path), want: &str| {
        let dir = repaired("smollm", |_| {});
        change(&dir.path().join("model"));
        let out = dir.path().join("new.gguf");
        let error = export(&dir.path().join("model"), &golden("smollm.gguf"), &out).expect_err(want);
        let said = error.diagnostic();
        assert!(said.exit == ExitKind::Data && said.to_string().contains(want), "want: {want}\ngot: {said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the model");
    };
    fn weights(change: fn(&mut Tensors)) -> impl Fn(&Path) {
        move |dir| {
            let mut all = tensors(&dir.join("model.safetensors"));
            change(&mut all);
            write(&dir.join("model.safetensors"), &all);
        }
    }
    fn edit(name: &'static str, change: fn(&mut Value)) -> impl Fn(&Path) {
        move |dir| {
            let mut json: Value = serde_json::from_str(&fs::read_to_string(dir.join(name)).unwrap()).unwrap();
            change(&mut json);
            fs::write(dir.join(name), json.to_string()).unwrap();
        }
    }
    const NORM: &str = "model.norm.weight";
    refused(&weights(|all| drop(all.remove(NORM))), "tensor `model.norm.weight`");
    refused(&weights(|all| drop(all.insert("lm_head.weight".into(), all[NORM].clone()))), "want: no such tensor");
    refused(&weights(|all| all.get_mut(NORM).unwrap().1 = vec![16, 2]), "got: F32 [16, 2]");
    refused(&weights(|all| all.get_mut(NORM).unwrap().0 = Dtype::I32), "got: I32 [32]");
    refused(
        &weights(|all| all.get_mut(NORM).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
        "weights are not finite",
    );
    refused(&edit("config.json", |json| json["rope_theta"] = 10000.0.into()), "config.json `rope_theta`");
    refused(&edit("config.json", |json| json["rms_norm_eps"] = Value::Null), "config.json `rms_norm_eps`");
    refused(&edit("tokenizer.json", |json| json["model"]["ignore_merges"] = true.into()), "file `tokenizer.json`");
    refused(&|dir| fs::write(dir.join("config.json"), "[").unwrap(), "config.json");
    refused(&|dir| fs::remove_file(dir.join("config.json")).unwrap(), "config.json");
    refused(&|dir| fs::write(dir.join("model.safetensors"), "<html>").unwrap(), "HTML or XML page");
}

#[test]
fn files_that_are_there_stay() {
    let dir = repaired("smollm", |_| {});
    let out = dir.path().join("mine.gguf");
    fs::write(&out, "mine").unwrap();
    let (like, same) = (golden("smollm.gguf"), dir.path().join("same.gguf"));
    // The same command again, after it had finished.
    fs::copy(&like, &same).unwrap();
    export(&dir.path().join("model"), &like, &same).unwrap();
    let (mut longer, mut other) = (fs::read(&like).unwrap(), fs::read(&like).unwrap());
    longer.push(0);
    *other.last_mut().unwrap() ^= 1;
    fs::write(dir.path().join("longer.gguf"), &longer).unwrap();
    fs::write(dir.path().join("other.gguf"), &other).unwrap();
    fs::write(dir.path().join("shorter.gguf"), &longer[..2000]).unwrap();
    let taken = ["longer.gguf", "other.gguf", "shorter.gguf", "model"].map(|name| dir.path().join(name));
    for out in taken.iter().chain([&out]) {
        let error = export(&dir.path().join("model"), &golden("smollm.gguf"), out).unwrap_err();
        assert!(error.diagnostic().exit == ExitKind::Usage);
    }
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    assert_eq!(fs::read(dir.path().join("other.gguf")).unwrap(), other);
}
