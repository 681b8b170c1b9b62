//! What every target needs: files, and the law of error messages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use irepair_core::{Diagnose, ExitKind};
use serde_json::{Value, json};

/// Writes a file of the target's directory.
pub fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("the target's own directory takes files");
    path
}

/// Runs `make` when the directory is new.
pub fn once(dir: &Path, make: impl FnOnce(&Path)) {
    let ready = dir.join("ready");
    if !ready.exists() {
        make(dir);
        put(dir, "ready", b"");
    }
}

/// A refusal is data's fault or the user's, and nothing out of a file reaches the terminal as a control character.
pub fn said(error: &impl Diagnose) {
    let diagnostic = error.diagnostic();
    let words = diagnostic.to_string();
    assert!(diagnostic.exit != ExitKind::Bug, "a file is called a bug: {words}");
    assert!(!words.chars().any(|c| c.is_control() && c != '\n'), "a control character: {words:?}");
}

/// Every file of a directory.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("the target's own directory").map(|entry| entry.expect("an entry").path());
    let file = |path: PathBuf| (path.display().to_string(), fs::read(&path).expect("a file just seen"));
    entries.filter(|path| path.is_file()).map(file).collect()
}

/// The bytes of a safetensors file: as given; or, where they begin with a brace, a line of JSON as the header, with its
/// length put before it, and the rest as data, filled up with zeros to what the header promises. Random changes would
/// never hit upon a right length.
pub fn safetensors(data: &[u8]) -> Vec<u8> {
    if data.first() != Some(&b'{') {
        return data.to_vec();
    }
    let n = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let header = &data[..n];
    let mut bytes = (n as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    let tensors = &data[data.len().min(n + 1)..];
    let promised = serde_json::from_slice::<Value>(header).ok().and_then(|header| {
        let ends = header.as_object()?.values().filter_map(|tensor| tensor["data_offsets"][1].as_u64());
        ends.max().filter(|end| *end <= 1 << 14)
    });
    let mut tensors = tensors.to_vec();
    if let Some(promised) = promised {
        tensors.resize(promised as usize, 0);
    }
    bytes.extend(tensors);
    bytes
}

/// A safetensors file of tensors given as name, type, shape and bytes, in the form that [`safetensors`] reads.
pub fn written(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend(*bytes);
        header.insert((*name).into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
    }
    [Value::Object(header).to_string().as_bytes(), b"\n", &data].concat()
}
