//! Where a model directory keeps its weights: one file, or the shards of an index; how files of another kind are
//! recognised.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::{Error, Result, fs, printable};

/// The file that says what a model is.
pub const CONFIG: &str = "config.json";
/// The file of a model that is not sharded.
pub const WEIGHTS: &str = "model.safetensors";
/// The file that says which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";
/// Largest safetensors header, and largest index, in bytes: the format's own limit.
pub const MAX_HEADER: u64 = 100_000_000;

/// The weight files of a directory by name, each with the tensors that the index promises there; none are promised
/// where there is no index.
///
/// # Errors
/// [`Error::MissingFile`] for weights; [`Error::MissingShards`] for shards of the index; [`Error::TwoCheckpoints`]
/// where there are shards and a whole file; [`Error::Pickle`] for a pickle file in their place; [`Error::Unreadable`]
/// for a broken index, or one that reaches out of the directory.
pub fn weight_files(dir: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let index = dir.join(INDEX);
    if dir.join(WEIGHTS).exists() {
        // Which of the two is the model depends on the program that reads the directory.
        let shards = if index.is_file() { indexed(&index)? } else { BTreeMap::new() };
        return match shards.into_keys().find(|name| name != WEIGHTS && dir.join(name).exists()) {
            Some(shard) => Err(Error::TwoCheckpoints { path: dir.to_owned(), shard }),
            None => Ok(BTreeMap::from([(WEIGHTS.to_owned(), Vec::new())])),
        };
    }
    if !index.is_file() {
        return Err(match pickle(dir) {
            Some(path) => Error::Pickle { path },
            None => Error::MissingFile { path: dir.join(WEIGHTS) },
        });
    }
    let files = indexed(&index)?;
    let missing: Vec<String> = files.keys().filter(|name| !dir.join(name).exists()).cloned().collect();
    if missing.is_empty() {
        return Ok(files);
    }
    let is_stale = holds_all(dir, files.values().flatten().cloned().collect());
    Err(Error::MissingShards { path: index, n_shards: files.len(), missing, is_stale })
}

/// The shards that an index names, each with its tensors.
fn indexed(index: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let broken = |reason: String| Error::unreadable(index, reason);
    if fs::n_bytes(index)? > MAX_HEADER {
        return Err(broken(format!("over {MAX_HEADER} bytes")));
    }
    let text = fs::read_to_string(index)?;
    let json: Value = serde_json::from_str(&text).map_err(|e| broken(not_json(&text, e)))?;
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
    if files.is_empty() { Err(broken("`weight_map` is empty".into())) } else { Ok(files) }
}

/// True when the safetensors files of a directory hold all of these tensors.
fn holds_all(dir: &Path, mut tensors: BTreeSet<String>) -> bool {
    let files = fs::list(dir).unwrap_or_default();
    for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "safetensors")) {
        tensors.retain(|name| !stored_names(path).is_some_and(|names| names.contains_key(name)));
    }
    tensors.is_empty()
}

/// The tensors of a safetensors file, where it is one.
fn stored_names(path: &Path) -> Option<Map<String, Value>> {
    let mut file = fs::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut header = Vec::new();
    file.take(length.min(MAX_HEADER)).read_to_end(&mut header).ok()?;
    serde_json::from_slice(&header).ok()
}

/// The first file, by name, that holds weights in the form of PyTorch's own `save`.
fn pickle(dir: &Path) -> Option<PathBuf> {
    let weights = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        ["pytorch_model", "model", "consolidated"].iter().any(|start| name.starts_with(start))
            && [".bin", ".pt", ".pth", ".ckpt", ".pkl"].iter().any(|end| name.ends_with(end))
    };
    fs::list(dir).ok()?.into_iter().find(weights)
}

/// Writes the start of a safetensors file: the length of the header and the header, which lists `tensors` (name, type
/// as the format writes it, shape, bytes) in the order of their data. Data begin at a multiple of 8 bytes.
///
/// # Errors
/// Those of writing.
pub fn write_header<'a>(
    out: &mut impl Write,
    metadata: Value,
    tensors: impl Iterator<Item = (&'a str, String, &'a [usize], u64)>,
) -> std::io::Result<()> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), metadata)]);
    let mut end = 0;
    for (name, dtype, shape, n_bytes) in tensors {
        let start = end;
        end += n_bytes;
        header.insert(name.to_owned(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)
}

/// Reads a file that holds one JSON object, such as `config.json`.
///
/// # Errors
/// [`Error::MissingFile`]; [`Error::Unreadable`] for anything but an object; [`Error::Io`].
pub fn read_object(path: &Path) -> Result<Map<String, Value>> {
    if !path.exists() {
        return Err(Error::MissingFile { path: path.to_owned() });
    }
    let text = fs::read_to_string(path)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::unreadable(path, "not a JSON object")),
        Err(e) => Err(Error::unreadable(path, not_json(&text, e))),
    }
}

/// Why a JSON file cannot be read: what the file is instead, or what the parser says.
pub fn not_json(text: &str, error: impl std::fmt::Display) -> String {
    disguise(text.as_bytes()).map_or_else(|| format!("not JSON: {error}"), str::to_owned)
}

/// What a file is that should be a model's file, from its first bytes: a git-lfs pointer, a web page, a pickle; none
/// when it may be the model's file.
pub fn disguise(start: &[u8]) -> Option<&'static str> {
    // A safetensors header is JSON from byte 8 on; nothing below has a brace there.
    if start.get(8) == Some(&b'{') {
        return None;
    }
    match &start[..start.len().min(64)] {
        [] => Some("the file is empty"),
        s if s.starts_with(b"\xef\xbb\xbf") => {
            Some("it begins with a byte order mark, which JSON does not allow: save it as UTF-8 without one")
        }
        s if s.starts_with(b"version https://git-lfs") => {
            Some("a git-lfs pointer, not the file itself: fetch the large file")
        }
        s if s.trim_ascii_start().starts_with(b"<") => {
            Some("an HTML or XML page, not the file itself: the download failed")
        }
        s if s.starts_with(b"PK") || s.starts_with(&[0x80]) => Some("a pickle checkpoint under another name"),
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
            weight_files(dir.path()).map_err(|error| match error {
                Error::MissingShards { missing, .. } => format!("no {}", missing.join(" ")),
                other => other.to_string().replace("file cannot be read: ", ""),
            })
        };
        assert!(matches!(weight_files(dir.path()), Err(Error::MissingFile { path }) if path.ends_with(WEIGHTS)));
        for outside in ["../a.safetensors", "/etc/a.safetensors", "a/b.safetensors", "a.bin", "..", ""] {
            let error = said(&format!(r#"{{"weight_map": {{"w": "{outside}"}}}}"#)).unwrap_err();
            assert!(error.contains("is not a safetensors file of this directory"), "{outside}: {error}");
        }
        assert_eq!(said(r#"{"weight_map": {}}"#).unwrap_err(), "`weight_map` is empty");
        assert_eq!(said("{}").unwrap_err(), "no `weight_map`");
        let two = r#"{"weight_map": {"b": "2.safetensors", "a": "1.safetensors", "c": "2.safetensors"}}"#;
        assert_eq!(said(two).unwrap_err(), "no 1.safetensors 2.safetensors");
        std::fs::write(dir.path().join("1.safetensors"), "").unwrap();
        std::fs::write(dir.path().join("2.safetensors"), "").unwrap();
        assert_eq!(said(two).unwrap()["2.safetensors"], ["b", "c"]);
    }

    /// A safetensors file of empty tensors.
    fn shard(path: PathBuf, tensors: &[&str]) {
        let mut file = std::fs::File::create(path).unwrap();
        write_header(&mut file, json!({}), tensors.iter().map(|name| (*name, "F32".into(), &[0_usize][..], 0)))
            .unwrap();
    }

    #[test]
    fn an_index_that_names_shards_of_another_save_is_called_stale() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let index =
            r#"{"weight_map": {"a": "1-of-3.safetensors", "b": "2-of-3.safetensors", "c": "3-of-3.safetensors"}}"#;
        std::fs::write(at(INDEX), index).unwrap();
        let found = || match weight_files(dir.path()).unwrap_err() {
            Error::MissingShards { missing, is_stale, n_shards: 3, .. } => (missing.join(" "), is_stale),
            other => panic!("{other}"),
        };
        shard(at("1-of-3.safetensors"), &["a"]);
        assert_eq!(found(), ("2-of-3.safetensors 3-of-3.safetensors".into(), false));
        shard(at("renamed.safetensors"), &["b", "c"]);
        assert_eq!(found(), ("2-of-3.safetensors 3-of-3.safetensors".into(), true));
    }

    #[test]
    fn a_whole_file_and_shards_are_two_models() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        shard(at(WEIGHTS), &["a"]);
        std::fs::write(at(INDEX), r#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#).unwrap();
        // An index without its shards is left over: no program could read anything else than the file.
        assert_eq!(weight_files(dir.path()).unwrap().len(), 1);
        shard(at("model-00001-of-00001.safetensors"), &["a"]);
        let Err(Error::TwoCheckpoints { shard, .. }) = weight_files(dir.path()) else { panic!("one of them was read") };
        assert_eq!(shard, "model-00001-of-00001.safetensors");
        std::fs::write(at(INDEX), r#"{"weight_map": {"a": "model.safetensors"}}"#).unwrap();
        assert_eq!(weight_files(dir.path()).unwrap().len(), 1, "the index of one file");
    }

    #[test]
    fn pickles_go_by_many_names() {
        for name in
            ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "consolidated.00.pth", "Model.CKPT"]
        {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("training_args.bin"), "no weights").unwrap();
            assert!(matches!(weight_files(dir.path()), Err(Error::MissingFile { .. })));
            std::fs::write(dir.path().join(name), "").unwrap();
            let Err(Error::Pickle { path }) = weight_files(dir.path()) else { panic!("{name} was read") };
            assert!(path.ends_with(name), "{path:?}");
        }
    }

    #[test]
    fn an_index_that_is_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for (text, reason) in [
            ("", "the file is empty"),
            (
                "version https://git-lfs.github.com/spec/v1\n",
                "a git-lfs pointer, not the file itself: fetch the large file",
            ),
            ("<html>", "an HTML or XML page, not the file itself: the download failed"),
            ("{]", "not JSON: key must be a string at line 1 column 2"),
        ] {
            std::fs::write(dir.path().join(INDEX), text).unwrap();
            assert_eq!(weight_files(dir.path()).unwrap_err().to_string(), format!("file cannot be read: {reason}"));
        }
        std::fs::write(dir.path().join(INDEX), format!("{{\"weight_map\":{}", "[".repeat(100_000))).unwrap();
        let said = weight_files(dir.path()).unwrap_err().to_string();
        assert!(said.starts_with("file cannot be read: not JSON: recursion limit exceeded"), "{said}");
    }

    #[test]
    fn other_files_are_recognised_by_their_first_bytes() {
        assert_eq!(disguise(b"\x10\0\0\0\0\0\0\0{\"a\":1}"), None);
        assert!(disguise(b"").unwrap().contains("empty"));
        assert!(disguise(b"version https://git-lfs.github.com/spec/v1").unwrap().contains("git-lfs"));
        assert!(disguise(b"\n <!DOCTYPE html>").unwrap().contains("HTML"));
        assert!(disguise(b"PK\x03\x04").unwrap().contains("pickle"));
        assert!(disguise(b"\x80\x02}q\x00").unwrap().contains("pickle"));
    }
}
