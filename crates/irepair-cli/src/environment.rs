//! `env.json`: the program, machine and inputs behind a result.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_core::fs::sha256_file;
use irepair_core::weights::weight_files;
use irepair_core::{NUMBERS_VERSION, Resident};
use serde::Serialize;

/// Program, machine and inputs of a run.
#[derive(Serialize)]
pub(crate) struct Environment {
    irepair: &'static str,
    numbers_version: u32,
    /// Commit of the workspace and whether it had uncommitted changes, as the caller gives it.
    commit: Option<String>,
    /// Version of the libtorch that is loaded; none where it does not say.
    libtorch: Option<String>,
    device: String,
    threads: i32,
    /// By file: one, or the shards.
    weights_sha256: BTreeMap<String, String>,
    pairs_sha256: Option<String>,
}

impl Environment {
    /// Of this process; the weights of the directory `model` and the file `pairs` are hashed.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub(crate) fn of(device: &str, model: &Path, pairs: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self {
            irepair: env!("CARGO_PKG_VERSION"),
            numbers_version: NUMBERS_VERSION,
            commit: std::env::var("IREPAIR_COMMIT").ok(),
            libtorch: irepair_model::libtorch_version(),
            device: device.to_owned(),
            threads: tch::get_num_threads(),
            weights_sha256: weights_sha256(model)?,
            pairs_sha256: pairs.map(sha256_file).transpose()?,
        })
    }
}

/// SHA-256 of a model directory's weights by file: one, or the shards.
pub(crate) fn weights_sha256(model: &Path) -> irepair_core::Result<BTreeMap<String, String>> {
    let hash = |name: String| Ok((name.clone(), sha256_file(&model.join(name))?));
    weight_files(model)?.into_keys().map(hash).collect()
}

/// Largest resident memory of this process so far, in bytes; none where the system does not say.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    Resident::own().map(|resident| resident.peak)
}

/// Makes [`peak_rss_bytes`] start again at the current memory; without effect where the system has no such switch.
pub(crate) fn reset_peak_rss() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_hashed_each() {
        let dir = tempfile::tempdir().unwrap();
        let index = r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
        std::fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        assert!(Environment::of("cpu", dir.path(), None).is_err(), "no hash of shards that are not there");
        for name in ["one", "two"] {
            std::fs::write(dir.path().join(name).with_extension("safetensors"), "abc").unwrap();
        }
        let made = Environment::of("cpu", dir.path(), None).unwrap();
        assert_eq!(made.weights_sha256.keys().collect::<Vec<_>>(), ["one.safetensors", "two.safetensors"]);
        assert!(made.weights_sha256.values().all(|hash| hash.starts_with("ba7816bf8f01cfea")));
        assert_eq!(made.libtorch.as_deref(), Some("2.11.0"));
    }
}
