//! A repair as a patch: made, applied, checked, reverted.
//!
//! `cargo run -p irepair-patch --example round_trip`

use std::collections::HashMap;
use std::path::Path;

use irepair_patch::{Kind, Lossy, Provenance, apply, create, revert, verify};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

/// A model directory of one tensor.
fn model(dir: &Path, values: [f32; 3]) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(dir)?;
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensors = HashMap::from([("h.0.mlp.c_fc.bias", TensorView::new(Dtype::F32, vec![3], &bytes)?)]);
    serialize_to_file(&tensors, None, &dir.join("model.safetensors"))?;
    Ok(std::fs::write(dir.join("config.json"), "{}")?)
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    model(&at("base"), [0.5, 1.0, -2.0])?;
    model(&at("repaired"), [0.5, 1.25, -2.0])?;

    let provenance = Provenance { method: Some("irepair".into()), seed: Some(0), ..Default::default() };
    let patch = create(&at("base"), &at("repaired"), Kind::Xor, provenance, &at("fix.safetensors"))?;
    println!("patch {}: {} bytes of tensors", patch.id()?, patch.n_bytes());

    apply(&at("base"), &patch, &at("patched"), Lossy::Refuse, &mut |step| println!("  {step:?}"))?;
    println!("patched is the {:?}", verify(&at("patched"), &patch)?);
    revert(&at("patched"), &patch, None, &at("restored"), Lossy::Refuse, &mut |_| {})?;
    let [before, after] = ["base", "restored"].map(|dir| std::fs::read(at(dir).join("model.safetensors")));
    println!("restored equals base byte for byte: {}", before? == after?);
    Ok(())
}
