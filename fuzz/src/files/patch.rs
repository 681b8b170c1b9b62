//! Patch files.

use std::fs;
use std::path::Path;

use irepair_patch::{Kind, Lossy, Patch, Provenance, Side, Verdict, apply, compose, create, revert, verify};

use super::shared::{files, once, put, safetensors, said, written};

/// Bytes of the base's tensors: two float32, one bfloat16.
const BASE: [&[u8]; 3] = [&[0, 0, 128, 63, 0, 0, 0, 64], &[0, 0, 64, 64], &[128, 63]];

/// A model directory whose second tensor is `middle`.
fn model(dir: &Path, middle: &[u8]) {
    fs::create_dir_all(dir).expect("a directory");
    let tensors: [(&str, &str, &[usize], &[u8]); 3] =
        [("h.0.w", "F32", &[2], BASE[0]), ("h.1.w", "F32", &[1, 1], middle), ("wte", "BF16", &[1], BASE[2])];
    put(dir, "model.safetensors", &safetensors(&written(&tensors)));
    put(dir, "config.json", b"{}");
}

/// Opening, checking, applying and composing: the model stays as it is, a refusal writes nothing, an outcome is what
/// was promised, and reverting gives the base back bit for bit.
///
/// # Panics
/// Where that is not so.
pub fn run(dir: &Path, data: &[u8]) {
    let [base, other, known, out, back, both] =
        ["base", "other", "known", "out", "back", "both"].map(|name| dir.join(name));
    once(dir, |_| {
        model(&base, BASE[1]);
        model(&other, &[0, 0, 32, 64]);
        let made = create(&other, &base, Kind::Xor, Provenance::default(), &known);
        assert!(made.is_ok(), "{made:?}");
    });
    let bytes = safetensors(data);
    let patch = match Patch::open(&put(dir, "fuzzed", &bytes)) {
        Ok(patch) => patch,
        Err(error) => return said(&error),
    };
    assert!(patch.n_bytes() <= bytes.len() as u64);
    let before = files(&base);
    match apply(&base, &patch, &out, Lossy::Allow, &mut |_| {}) {
        Ok(report) if report.inexact.is_empty() => {
            let changed = patch.manifest().changed().next().is_some();
            let want = if changed { Verdict::Result } else { Verdict::Base };
            assert_eq!(verify(&out, &patch).expect("just written"), want);
            if patch.manifest().kind == Kind::Xor && changed {
                let report = revert(&out, &patch, None, &back, Lossy::Refuse, &mut |_| {}).expect("just applied");
                assert_eq!(report.model, Side::Base);
                assert!(files(&back).values().eq(before.values()), "reverting gives every file back");
                fs::remove_dir_all(&back).expect("just written");
            }
            fs::remove_dir_all(&out).expect("just written");
        }
        Ok(_) => fs::remove_dir_all(&out).expect("just written"),
        Err(error) => {
            said(&error);
            assert!(!out.exists(), "a refusal writes nothing");
        }
    }
    match verify(&base, &patch).and_then(|verdict| verdict.side(&base)) {
        Ok(_) => {}
        Err(error) => said(&error),
    }
    let known = Patch::open(&known).expect("made above");
    match compose(&known, &patch, Some(&other), &both) {
        Ok(_) => fs::remove_file(&both).expect("just written"),
        Err(error) => {
            said(&error);
            assert!(!both.exists(), "a refusal writes nothing");
        }
    }
    assert_eq!(files(&base), before, "the model stays as it is");
}
