//! A weights file as patches read it.

use std::fs;
use std::path::Path;

use irepair_patch::{Error, Kind, Lossy, Provenance, apply, create, model_id};

use super::shared::{once, put, safetensors, said};

/// What is accepted makes a patch to any change of its values, and the patch gives that change bit for bit.
///
/// # Panics
/// Where that is not so.
pub fn run(dir: &Path, data: &[u8]) {
    let [model, changed, fix, out] = ["model", "changed", "fix", "out"].map(|name| dir.join(name));
    once(dir, |_| {
        for dir in [&model, &changed] {
            fs::create_dir(dir).expect("a directory");
            put(dir, "config.json", b"{}");
        }
    });
    let mut bytes = safetensors(data);
    put(&model, "model.safetensors", &bytes);
    let id = match model_id(&model) {
        Ok(id) => id,
        Err(error) => return said(&error),
    };
    let kind = [Kind::Xor, Kind::Replace, Kind::Delta][bytes.len() % 3];
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x55;
    }
    put(&changed, "model.safetensors", &bytes);
    match create(&model, &changed, kind, Provenance::default(), &fix) {
        Ok(patch) => {
            let report = apply(&model, &patch, &out, Lossy::Allow, &mut |_| {}).expect("made for this model");
            let n_changed = patch.manifest().changed().count();
            assert_eq!(report.n_tensors, n_changed);
            if report.inexact.is_empty() {
                assert_eq!(fs::read(out.join("model.safetensors")).expect("just written"), bytes);
            }
            assert_eq!(model_id(&model).expect("read before"), id, "the model stays as it is");
            fs::remove_file(&fix).and_then(|()| fs::remove_dir_all(&out)).expect("just written");
        }
        // Without a value, the last byte is one of the header.
        Err(
            error @ (Error::NotFloat { .. }
            | Error::File(irepair_core::Error::Unreadable { .. })
            | Error::Misfit { .. }),
        ) => said(&error),
        Err(error) => panic!("{error}"),
    }
}
