//! Where a model directory keeps its weights: one file, or the shards of an index; and what lies there instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, fs, printable};

/// The file of a model that is not sharded.
pub const WEIGHTS: &str = "model.safetensors";
/// The file that says which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";
/// Largest safetensors header, and largest index, in bytes: the format's own limit.
pub const MAX_HEADER: u64 = 100_000_000;

/// Why the weights of a directory cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file that has to be there is not.
    #[error("file is missing")]
    Missing(PathBuf),
    /// A file is there but is not what it should be; why, in a few words.
    #[error("{1}")]
    Unreadable(PathBuf, String),
    /// Reading failed.
    #[error(transparent)]
    File(#[from] Error),
}

/// The weight files of a directory by name, each with the tensors that the index promises there; none are promised where
/// there is no index.
///
/// # Errors
/// [`Fault`]: no weights, a pickle file in their place, a broken index, one that reaches out of the directory or names
/// files that are not there.
pub fn weight_files(dir: &Path) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    if dir.join(WEIGHTS).exists() {
        return Ok(BTreeMap::from([(WEIGHTS.to_owned(), Vec::new())]));
    }
    let index = dir.join(INDEX);
    if !index.is_file() {
        let pickle = dir.join("pytorch_model.bin");
        if pickle.exists() {
            return Err(Fault::Unreadable(
                pickle,
                "pickle checkpoints can run code when opened and are not read".into(),
            ));
        }
        return Err(Fault::Missing(dir.join(WEIGHTS)));
    }
    let broken = |reason: String| Fault::Unreadable(index.clone(), reason);
    if fs::n_bytes(&index)? > MAX_HEADER {
        return Err(broken(format!("over {MAX_HEADER} bytes")));
    }
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&index)?).map_err(|e| broken(format!("not JSON: {e}")))?;
    let map = json.get("weight_map").and_then(|m| m.as_object()).ok_or_else(|| broken("no `weight_map`".into()))?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in map {
        let name = file.as_str().unwrap_or_default();
        // A shard is a file of this directory: anything with a path in it could reach outside.
        if Path::new(name).file_name().is_none_or(|n| n != name) || !name.ends_with(".safetensors") {
            let shown = printable(name);
            return Err(broken(format!("shard name `{shown}` is not a safetensors file of this directory")));
        }
        files.entry(name.to_owned()).or_default().push(tensor.clone());
    }
    match files.keys().map(|name| dir.join(name)).find(|path| !path.exists()) {
        Some(path) => Err(Fault::Missing(path)),
        None if files.is_empty() => Err(broken("`weight_map` is empty".into())),
        None => Ok(files),
    }
}

/// Names the usual things that lie where a safetensors file should be, from the first bytes; none when it may be one.
pub fn disguise(start: &[u8]) -> Option<&'static str> {
    // A safetensors header is JSON from byte 8 on; nothing below has a brace there.
    if start.get(8) == Some(&b'{') {
        return None;
    }
    match &start[..start.len().min(64)] {
        [] => Some("the file is empty"),
        s if s.starts_with(b"version https://git-lfs") => {
            Some("a git-lfs pointer, not the weights: fetch the large file")
        }
        s if s.trim_ascii_start().starts_with(b"<") => {
            Some("an HTML or XML page, not the weights: the download failed")
        }
        s if s.starts_with(b"PK") || s.starts_with(&[0x80]) => Some("a pickle checkpoint under a safetensors name"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_stay_in_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        let said = |index: &str| {
            std::fs::write(dir.path().join(INDEX), index).unwrap();
            weight_files(dir.path()).map_err(|fault| match fault {
                Fault::Missing(path) => format!("no {}", path.file_name().unwrap().display()),
                other => other.to_string(),
            })
        };
        assert!(matches!(weight_files(dir.path()), Err(Fault::Missing(path)) if path.ends_with(WEIGHTS)));
        for outside in ["../a.safetensors", "/etc/a.safetensors", "a/b.safetensors", "a.bin", "..", ""] {
            let error = said(&format!(r#"{{"weight_map": {{"w": "{outside}"}}}}"#)).unwrap_err();
            assert!(error.contains("is not a safetensors file of this directory"), "{outside}: {error}");
        }
        assert_eq!(said(r#"{"weight_map": {}}"#).unwrap_err(), "`weight_map` is empty");
        assert_eq!(said("{}").unwrap_err(), "no `weight_map`");
        let two = r#"{"weight_map": {"b": "2.safetensors", "a": "1.safetensors", "c": "2.safetensors"}}"#;
        assert_eq!(said(two).unwrap_err(), "no 1.safetensors");
        std::fs::write(dir.path().join("1.safetensors"), "").unwrap();
        std::fs::write(dir.path().join("2.safetensors"), "").unwrap();
        assert_eq!(said(two).unwrap()["2.safetensors"], ["b", "c"]);
    }

    #[test]
    fn other_files_are_told_by_their_first_bytes() {
        assert_eq!(disguise(b"\x10\0\0\0\0\0\0\0{\"a\":1}"), None);
        assert!(disguise(b"").unwrap().contains("empty"));
        assert!(disguise(b"version https://git-lfs.github.com/spec/v1").unwrap().contains("git-lfs"));
        assert!(disguise(b"\n <!DOCTYPE html>").unwrap().contains("HTML"));
        assert!(disguise(b"PK\x03\x04").unwrap().contains("pickle"));
        assert!(disguise(b"\x80\x02}q\x00").unwrap().contains("pickle"));
    }
}
