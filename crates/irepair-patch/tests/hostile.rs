//! Files that are cut, forged or meant for something else: one clear error each, nothing written, nothing allocated
//! because of a file's content.

mod workshop;

use std::fs;
use std::path::Path;

use irepair_patch::{Kind, Patch, Provenance, Side, compose, verify};
use proptest::prelude::*;
use serde_json::{Value, json};
use workshop::{Tensor, apply, create, f32s, files, message, revert, write_file, write_model};

/// A base, a repaired model and the patch between them.
fn scene(kind: Kind) -> (tempfile::TempDir, Patch) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_model(&at("base"), &[f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[3.0]), f32s("wte", &[4.0, 5.0])], 1);
    write_model(&at("repaired"), &[f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[2.5]), f32s("wte", &[4.0, 5.0])], 1);
    let patch = create(&at("base"), &at("repaired"), kind, &at("fix")).unwrap();
    (dir, patch)
}

/// The header of a safetensors file as JSON, and its data.
fn take_apart(path: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..end]).unwrap(), bytes[end..].to_vec())
}

fn put_together(path: &Path, header: &Value, data: &[u8]) {
    let header = header.to_string();
    fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()).unwrap();
}

#[test]
fn a_wrong_base_is_named_by_its_first_differing_tensor() {
    let (dir, patch) = scene(Kind::Xor);
    let at = |name: &str| dir.path().join(name);
    let refused = |name: &str, tensors: &[Tensor]| {
        write_model(&at(name), tensors, 1);
        let message = message(apply(&at(name), &patch, &at("out")), dir.path());
        assert!(!at("out").exists(), "a refused apply writes nothing");
        message
    };
    // The tensor that differs is one that the patch leaves alone.
    let other = refused("other", &[f32s("h.0.w", &[1.0, 9.0]), f32s("h.1.w", &[3.0]), f32s("wte", &[4.0, 6.0])]);
    let (want, got) = (
        irepair_core::fs::sha256_hex(&f32s("", &[1.0, 2.0]).bytes),
        irepair_core::fs::sha256_hex(&f32s("", &[1.0, 9.0]).bytes),
    );
    assert_eq!(
        other,
        format!(
            "error: model is not the base of this patch\n   at: other, tensor `h.0.w`\n want: sha256 {want}    got: \
             sha256 {got}\n help: a patch fits one model, bit for bit: give the directory it was made for"
        )
    );
    let missing = refused("missing", &[f32s("h.0.w", &[1.0, 2.0]), f32s("wte", &[4.0, 5.0])]);
    assert!(missing.contains("tensor `h.1.w`\n want: F32 [1, 1]    got: no such tensor"), "{missing}");
    let more = [f32s("a", &[0.0]), f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[3.0]), f32s("wte", &[4.0, 5.0])];
    let more = refused("more", &more);
    assert!(more.contains("tensor `a`\n want: no such tensor    got: F32 [1, 1]"), "{more}");
    let mut flat = f32s("wte", &[4.0, 5.0]);
    flat.shape = vec![2];
    let flat = refused("flat", &[f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[3.0]), flat]);
    assert!(flat.contains("tensor `wte`\n want: F32 [1, 2]    got: F32 [2]"), "{flat}");
    let typed = Tensor { dtype: "I32", ..f32s("h.1.w", &[3.0]) };
    let typed = refused("typed", &[f32s("h.0.w", &[1.0, 2.0]), typed, f32s("wte", &[4.0, 5.0])]);
    assert!(typed.contains("tensor `h.1.w`\n want: F32 [1, 1]    got: I32 [1, 1]"), "{typed}");

    let twice = message(apply(&at("repaired"), &patch, &at("out")), dir.path());
    assert!(twice.contains("the patch is applied here already"), "{twice}");
    let early = message(revert(&at("base"), &patch, None, &at("out")), dir.path());
    assert!(early.contains("not the result of this patch") && early.contains("was never applied"), "{early}");
}

#[test]
fn a_half_patched_model_is_neither() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_model(&at("base"), &[f32s("a", &[1.0]), f32s("b", &[1.0])], 1);
    write_model(&at("repaired"), &[f32s("a", &[2.0]), f32s("b", &[2.0])], 1);
    write_model(&at("half"), &[f32s("a", &[2.0]), f32s("b", &[1.0])], 1);
    let patch = create(&at("base"), &at("repaired"), Kind::Xor, &at("fix")).unwrap();
    let error = message(verify(&at("half"), &patch).unwrap().side(&at("half")), dir.path());
    assert!(
        error.starts_with("error: model is neither the base nor the result of this patch\n   at: half, tensor `a`")
    );
    assert!(error.contains("in the result, tensor `b` is sha256"), "{error}");
    assert_eq!(verify(&at("base"), &patch).unwrap().side(&at("base")).unwrap(), Side::Base);
}

#[test]
fn reverting_a_replacement_asks_for_the_base_and_checks_it() {
    let (dir, patch) = scene(Kind::Replace);
    let at = |name: &str| dir.path().join(name);
    let error = message(revert(&at("repaired"), &patch, None, &at("out")), dir.path());
    assert!(error.contains("base model is needed") && error.contains("--base DIR"), "{error}");
    let error = message(revert(&at("repaired"), &patch, Some(&at("repaired")), &at("out")), dir.path());
    assert!(error.contains("not the base of this patch\n   at: repaired, tensor `h.1.w`"), "{error}");
    assert!(!at("out").exists());
}

#[test]
fn a_patch_cut_anywhere_is_refused() {
    let (dir, patch) = scene(Kind::Xor);
    let whole = fs::read(patch.path()).unwrap();
    let cut = dir.path().join("cut");
    for n in 0..whole.len() {
        fs::write(&cut, &whole[..n]).unwrap();
        assert!(Patch::open(&cut).is_err(), "{n} of {} bytes", whole.len());
    }
    fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let error = message(Patch::open(&cut), dir.path());
    assert!(error.contains("a copy or download was cut short\n   at: cut"), "{error}");
    fs::write(&cut, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(Patch::open(&cut).is_err(), "bytes after the end");
}

#[test]
fn changed_data_is_found_before_anything_is_written() {
    let (dir, patch) = scene(Kind::Xor);
    let mut bytes = fs::read(patch.path()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(patch.path(), bytes).unwrap();
    let patch = Patch::open(patch.path()).unwrap();
    let error = message(apply(&dir.path().join("base"), &patch, &dir.path().join("out")), dir.path());
    assert!(error.starts_with("error: patch is corrupt\n   at: fix, tensor `h.1.w`\n want: sha256 "), "{error}");
    assert!(!dir.path().join("out").exists());
}

#[test]
fn forged_headers_are_one_clear_error_each() {
    let (dir, patch) = scene(Kind::Xor);
    let (header, data) = take_apart(patch.path());
    let forged = dir.path().join("forged");
    let refused = |change: &dyn Fn(&mut Value), words: &str| {
        let mut header = header.clone();
        change(&mut header);
        put_together(&forged, &header, &data);
        let error = message(Patch::open(&forged), dir.path());
        assert!(error.contains(words), "no `{words}` in\n{error}");
    };
    refused(&|h| h["__metadata__"]["format"] = json!("pt"), "file is not a patch");
    refused(&|h| drop(h.as_object_mut().unwrap().remove("__metadata__")), "file is not a patch");
    refused(&|h| h["__metadata__"]["format_version"] = json!("9"), "version 9 is not 1");
    refused(
        &|h| h["__metadata__"]["kind"] = json!("../../etc/passwd"),
        "`../../etc/passwd` is not replace, xor or delta",
    );
    refused(&|h| h["__metadata__"]["kind"] = json!("x".repeat(100_000)), "xxx…` is not");
    refused(&|h| h["__metadata__"]["tensors"] = json!("{"), "metadata `tensors`");
    refused(&|h| h["__metadata__"]["tensors"] = json!("[".repeat(1_000_000)), "metadata `tensors`");
    refused(&|h| h["__metadata__"]["tensors"] = json!("{}"), "it is not the hash of the tensors listed");
    refused(&|h| h["__metadata__"]["seed"] = json!("many"), "metadata `seed`");
    refused(&|h| h["__metadata__"]["result_id"] = json!("0"), "it is not the hash of the tensors listed");
    refused(&|h| h["__metadata__"]["seed"] = json!(7), "not a safetensors file");
    refused(&|h| h["h.1.w"]["dtype"] = json!("I32"), "is stored as I32 [1, 1], wanted F32 [1, 1]");
    refused(&|h| h["h.1.w"]["shape"] = json!([4]), "not a safetensors file");
    refused(&|h| h["h.1.w"]["shape"] = json!([u64::MAX, u64::MAX]), "not a safetensors file");
    refused(&|h| h["h.1.w"]["data_offsets"] = json!([0, u64::MAX]), "not a safetensors file");
    // Two tensors over the same bytes.
    refused(&|h| h["x"] = h["h.1.w"].clone(), "not a safetensors file");
    // A name that is a path, with a line break for the terminal.
    refused(
        &|h| {
            let tensor = h.as_object_mut().unwrap().remove("h.1.w").unwrap();
            h["../../x\n\u{1b}[2J"] = tensor;
        },
        "tensor `../../x\\n\\u{1b}[2J` is stored and not listed",
    );
    for n_header in [u64::MAX, u64::MAX - 8, 100_000_001, 99_999_999] {
        fs::write(&forged, [&n_header.to_le_bytes()[..], b"{}"].concat()).unwrap();
        let error = message(Patch::open(&forged), dir.path());
        assert!(error.contains("not a safetensors file: a header of") || error.contains("cut short"), "{error}");
    }
    fs::write(&forged, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n").unwrap();
    assert!(message(Patch::open(&forged), dir.path()).contains("git-lfs pointer"));
    assert!(message(Patch::open(&dir.path().join("none")), dir.path()).contains("file is missing"));
    assert!(message(Patch::open(dir.path()), dir.path()).contains("file is missing"), "a directory is no file");
}

#[test]
fn models_that_do_not_line_up_make_no_patch() {
    let (dir, _) = scene(Kind::Xor);
    let at = |name: &str| dir.path().join(name);
    let refused = |name: &str, tensors: &[Tensor], kind, words: &str| {
        write_model(&at(name), tensors, 1);
        let error = message(create(&at("base"), &at(name), kind, &at("new")), dir.path());
        assert!(error.contains(words), "no `{words}` in\n{error}");
        assert!(!at("new").exists());
    };
    let (a, b, c) = (f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[3.0]), f32s("wte", &[4.0, 5.0]));
    refused("fewer", &[a.clone(), b.clone()], Kind::Xor, "tensor `wte`\n want: F32 [1, 2]    got: no such tensor");
    let typed = Tensor { dtype: "I32", ..b };
    refused("typed", &[a.clone(), typed.clone(), c.clone()], Kind::Xor, "got: I32 [1, 1]");

    write_model(&at("whole"), std::slice::from_ref(&typed), 1);
    write_model(&at("whole2"), &[Tensor { bytes: vec![1; 4], ..typed }], 1);
    let error = message(create(&at("whole"), &at("whole2"), Kind::Delta, &at("new")), dir.path());
    assert!(error.contains("no float difference") && error.contains("want: F32, F16 or BF16    got: I32"), "{error}");
    let error = message(create(&at("base"), &at("repaired"), Kind::Xor, &at("fix")), dir.path());
    assert!(error.contains("output is there already\n   at: fix"), "{error}");
}

#[test]
fn hostile_model_directories_are_one_clear_error_each() {
    let (dir, patch) = scene(Kind::Xor);
    let shards = write_model(&dir.path().join("shards"), &[f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[3.0])], 2);
    let index = shards.join("model.safetensors.index.json");
    let refused = |text: &str, words: &str| {
        fs::write(&index, text).unwrap();
        let error = message(apply(&shards, &patch, &dir.path().join("out")), dir.path());
        assert!(error.contains(words), "no `{words}` in\n{error}");
    };
    refused("{", "not JSON");
    refused("{}", "no `weight_map`");
    refused(r#"{"weight_map":{}}"#, "`weight_map` is empty");
    refused(
        r#"{"weight_map":{"a":"../base/model.safetensors"}}"#,
        "`../base/model.safetensors` is not a safetensors file of this directory",
    );
    refused(r#"{"weight_map":{"a":"/etc/passwd"}}"#, "is not a safetensors file of this directory");
    refused(r#"{"weight_map":{"a":3}}"#, "is not a safetensors file of this directory");
    let gone = "1 of 1 shards are missing\n   at: shards/model.safetensors.index.json, none.safetensors";
    refused(r#"{"weight_map":{"a":"none.safetensors"}}"#, gone);
    refused(r#"{"weight_map":{"a":"model-1-of-2.safetensors"}}"#, "the index says it holds tensor `a`");
    fs::copy(shards.join("model-1-of-2.safetensors"), shards.join("copy.safetensors")).unwrap();
    refused(
        r#"{"weight_map":{"h.0.w":"model-1-of-2.safetensors","x":"copy.safetensors"}}"#,
        "the index says it holds tensor `x`",
    );
    write_file(&shards.join("copy.safetensors"), &[f32s("h.0.w", &[1.0]), f32s("x", &[1.0])], &[]);
    refused(
        r#"{"weight_map":{"h.0.w":"model-1-of-2.safetensors","x":"copy.safetensors"}}"#,
        "tensor `h.0.w` is in another shard too",
    );
    let error = message(apply(&dir.path().join("nowhere"), &patch, &dir.path().join("out")), dir.path());
    assert!(error.contains("file is missing\n   at: nowhere/config.json"), "{error}");
}

#[test]
fn an_output_directory_in_use_is_refused_and_left_alone() {
    let (dir, patch) = scene(Kind::Xor);
    let at = |name: &str| dir.path().join(name);
    let before = files(&at("base"));
    fs::create_dir(at("notes")).unwrap();
    fs::write(at("notes/merges.txt"), "mine").unwrap();
    fs::write(at("file"), "mine").unwrap();
    for out in ["base", "repaired", "notes", "file"] {
        let error = message(apply(&at("base"), &patch, &at(out)), dir.path());
        assert!(error.starts_with(&format!("error: output is there already\n   at: {out}")), "{error}");
    }
    assert_eq!(files(&at("base")), before);
    assert_eq!(fs::read(at("notes/merges.txt")).unwrap(), b"mine");
    fs::create_dir(at("empty")).unwrap();
    apply(&at("base"), &patch, &at("empty")).unwrap();
}

#[test]
fn weights_in_other_forms_and_folders_are_left_out_and_named() {
    let (dir, patch) = scene(Kind::Xor);
    let at = |name: &str| dir.path().join(name);
    fs::write(at("base/pytorch_model.bin"), "old weights").unwrap();
    fs::write(at("base/.irepair-state.safetensors"), "a run's state").unwrap();
    fs::write(at("base/.gitattributes"), "* text").unwrap();
    fs::create_dir(at("base/onnx")).unwrap();
    let report = apply(&at("base"), &patch, &at("out")).unwrap();
    assert_eq!(report.left_out, ["onnx", "pytorch_model.bin"]);
    let names: Vec<String> = files(&at("out")).into_keys().collect();
    assert_eq!(names, [".gitattributes", "config.json", "merges.txt", "model.safetensors", "tokenizer.json"]);
}

#[test]
fn conflicts_list_their_tensors() {
    let (dir, patch) = scene(Kind::Xor);
    let at = |name: &str| dir.path().join(name);
    write_model(&at("else"), &[f32s("h.0.w", &[7.0, 2.0]), f32s("h.1.w", &[7.0]), f32s("wte", &[4.0, 5.0])], 1);
    let other = create(&at("base"), &at("else"), Kind::Xor, &at("other")).unwrap();
    let error = message(compose(&patch, &other, None, &at("both")), dir.path());
    assert!(
        error.contains("both change the same tensors of one base\n   at: fix and other, tensors `h.1.w`"),
        "{error}"
    );

    let back = create(&at("else"), &at("base"), Kind::Xor, &at("back")).unwrap();
    let error = message(compose(&patch, &back, None, &at("both")), dir.path());
    assert!(error.contains("give them the other way round\n   at: fix and back, tensors `h.0.w`, `h.1.w`"), "{error}");
    write_model(&at("far"), &[f32s("h.0.w", &[8.0, 2.0]), f32s("h.1.w", &[8.0]), f32s("wte", &[4.0, 8.0])], 1);
    let far = create(&at("far"), &at("else"), Kind::Xor, &at("far.patch")).unwrap();
    let error = message(compose(&patch, &far, None, &at("both")), dir.path());
    assert!(error.contains("neither the base nor the result of the first"), "{error}");
    assert!(!at("both").exists());

    // There and back is no change at all.
    let nothing = compose(&other, &back, None, &at("nothing")).unwrap();
    assert_eq!(nothing.manifest().changed().count(), 0);
}

#[test]
fn kinds_mix_with_the_base_alone() {
    let (dir, patch) = scene(Kind::Xor);
    let at = |name: &str| dir.path().join(name);
    write_model(&at("end"), &[f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[2.0]), f32s("wte", &[4.0, 5.0])], 1);
    let second = create(&at("repaired"), &at("end"), Kind::Replace, &at("second")).unwrap();
    let error = message(compose(&patch, &second, None, &at("both")), dir.path());
    assert!(error.contains("base model is needed: the patches are of two kinds"), "{error}");
    let error = message(compose(&patch, &second, Some(&at("end")), &at("both")), dir.path());
    assert!(error.contains("model is not the base of this patch\n   at: end, tensor `h.1.w`"), "{error}");
    let both = compose(&patch, &second, Some(&at("base")), &at("both")).unwrap();
    apply(&at("base"), &both, &at("out")).unwrap();
    assert_eq!(files(&at("out")), files(&at("end")));
}

#[test]
fn provenance_comes_back_and_composes() {
    let (dir, _) = scene(Kind::Xor);
    let at = |name: &str| dir.path().join(name);
    let provenance = Provenance {
        method: Some("irepair".into()),
        seed: Some(3),
        blocks: Some(vec![1, 4]),
        metrics_before: Some(json!({"tox": 0.5})),
        metrics_after: Some(json!({"tox": 0.1})),
        ..Default::default()
    };
    let one = irepair_patch::create(&at("base"), &at("repaired"), Kind::Xor, provenance.clone(), &at("one")).unwrap();
    assert_eq!(Patch::open(&at("one")).unwrap().manifest().provenance, provenance);
    let later = Provenance {
        seed: Some(4),
        blocks: Some(vec![0, 4]),
        metrics_after: Some(json!({"tox": 0.0})),
        parent: Some(one.id().unwrap()),
        ..provenance
    };
    write_model(&at("end"), &[f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[2.0]), f32s("wte", &[4.0, 5.0])], 1);
    let two = irepair_patch::create(&at("repaired"), &at("end"), Kind::Xor, later, &at("two")).unwrap();
    let both = compose(&one, &two, None, &at("both")).unwrap().manifest().provenance.clone();
    assert_eq!(both.method.as_deref(), Some("irepair"));
    assert_eq!((both.seed, both.blocks, both.parent), (None, Some(vec![0, 1, 4]), None));
    assert_eq!(both.metrics_before, Some(json!({"tox": 0.5})));
    assert_eq!(both.metrics_after, Some(json!({"tox": 0.0})));
    assert_eq!(both.composed_of, Some(vec![one.id().unwrap(), two.id().unwrap()]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_a_patch_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
        let (dir, patch) = scene(Kind::Xor);
        let mut whole = fs::read(patch.path()).unwrap();
        let start = at.index(whole.len());
        let end = (start + bytes.len()).min(whole.len());
        whole[start..end].copy_from_slice(&bytes[..end - start]);
        let path = dir.path().join("damaged");
        fs::write(&path, whole).unwrap();
        if let Ok(patch) = Patch::open(&path) {
            // What opens all the same never gives another model than it promises.
            let out = dir.path().join("out");
            if apply(&dir.path().join("base"), &patch, &out).is_ok() {
                prop_assert_eq!(files(&out), files(&dir.path().join("repaired")));
            }
        }
    }
}
