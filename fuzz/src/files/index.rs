//! `model.safetensors.index.json`.

use std::path::Path;

use irepair_core::Error;
use irepair_core::weights::{INDEX, weight_files};
use serde_json::Value;

use super::shared::{once, put, said};

const SHARDS: [&str; 2] = ["one.safetensors", "two.safetensors"];

/// What is accepted names files of this directory alone, and every tensor once.
///
/// # Panics
/// Where that is not so.
pub fn run(dir: &Path, data: &[u8]) {
    once(dir, |dir| SHARDS.iter().for_each(|shard| drop(put(dir, shard, b""))));
    put(dir, INDEX, data);
    match weight_files(dir) {
        Ok(files) => {
            let index: Value = serde_json::from_slice(data).expect("accepted as JSON");
            let map = index["weight_map"].as_object().expect("accepted with a map");
            assert_eq!(files.values().map(Vec::len).sum::<usize>(), map.len());
            for (shard, tensors) in &files {
                assert!(SHARDS.contains(&shard.as_str()), "{shard:?}");
                assert!(tensors.iter().all(|tensor| map[tensor] == shard.as_str()));
            }
        }
        Err(fault) => {
            if let Error::MissingFile { path } = &fault {
                assert_eq!(path.parent(), Some(dir));
            }
            said(&irepair_patch::Error::from(fault));
        }
    }
}
