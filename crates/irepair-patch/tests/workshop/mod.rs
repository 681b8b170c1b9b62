//! Small model directories for the tests: headers with several metadata keys, tensors in odd order, one file or shards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use irepair_core::Diagnose;
use irepair_patch::{Error, Kind, Lossy, Patch, Provenance, Result, Rewritten};
use serde_json::{Map, Value, json};

/// A tensor: name, type, shape, bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// An f32 tensor of one row.
pub(crate) fn f32s(name: &str, values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor { name: name.to_owned(), dtype: "F32", shape: vec![1, values.len()], bytes }
}

/// Writes a safetensors file by hand, tensors in the order given.
pub(crate) fn write_file(path: &Path, tensors: &[Tensor], metadata: &[(&str, &str)]) {
    let mut header = Map::new();
    header.insert("__metadata__".into(), metadata.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect());
    let mut end = 0;
    for t in tensors {
        let start = end;
        end += t.bytes.len();
        header.insert(t.name.clone(), json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [start, end]}));
    }
    let header = format!("{}   ", Value::Object(header));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    tensors.iter().for_each(|t| bytes.extend(&t.bytes));
    fs::write(path, bytes).unwrap();
}

/// Writes a model directory with `n_shards` weight files, at most one per tensor.
pub(crate) fn write_model(dir: &Path, tensors: &[Tensor], n_shards: usize) -> PathBuf {
    let n_shards = n_shards.min(tensors.len());
    fs::create_dir_all(dir).unwrap();
    let metadata = [("format", "pt"), ("author", "someone"), ("a", "b")];
    if n_shards == 1 {
        write_file(&dir.join("model.safetensors"), tensors, &metadata);
    } else {
        let mut map = Map::new();
        for shard in 0..n_shards {
            let file = format!("model-{}-of-{n_shards}.safetensors", shard + 1);
            let mine: Vec<Tensor> = tensors.iter().skip(shard).step_by(n_shards).cloned().collect();
            mine.iter().for_each(|t| drop(map.insert(t.name.clone(), json!(file))));
            write_file(&dir.join(&file), &mine, &metadata);
        }
        let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
        fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
    fs::write(dir.join("config.json"), "{ \"model_type\" : \"gpt2\" }\n\n").unwrap();
    fs::write(dir.join("tokenizer.json"), "{}").unwrap();
    fs::write(dir.join("merges.txt"), "a b\r\n").unwrap();
    dir.to_owned()
}

/// Every file of a directory.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

/// [`irepair_patch::create`] without provenance.
pub(crate) fn create(base: &Path, repaired: &Path, kind: Kind, out: &Path) -> Result<Patch> {
    irepair_patch::create(base, repaired, kind, Provenance::default(), out)
}

/// [`irepair_patch::apply`], exactly.
pub(crate) fn apply(base: &Path, patch: &Patch, out: &Path) -> Result<Rewritten> {
    irepair_patch::apply(base, patch, out, Lossy::Refuse, &mut |_| {})
}

/// [`irepair_patch::revert`], exactly.
pub(crate) fn revert(model: &Path, patch: &Patch, base: Option<&Path>, out: &Path) -> Result<Rewritten> {
    irepair_patch::revert(model, patch, base, out, Lossy::Refuse, &mut |_| {})
}

/// The error as a user reads it, without the temporary directory's own name.
pub(crate) fn message<T>(result: Result<T, Error>, dir: &Path) -> String {
    let Err(error) = result else { panic!("no error") };
    error.diagnostic().to_string().replace(&format!("{}/", dir.display()), "")
}
