//! The inputs kept from fuzzing, `fuzz/corpus.tar.gz`, through the same laws on a stable compiler.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

mod changes;
#[expect(unreachable_pub, reason = "a library for the fuzz targets")]
#[path = "../../../fuzz/src/files/mod.rs"]
mod files;
#[expect(unreachable_pub, reason = "a library for the fuzz targets")]
#[path = "../../../fuzz/src/models/mod.rs"]
mod models;
mod seeds;

/// A file of `fuzz/`.
fn fuzz(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
}

fn targets() -> impl Iterator<Item = files::Target> {
    files::TARGETS.into_iter().chain(models::TARGETS)
}

/// The kept inputs: `target/name` and bytes.
fn kept() -> BTreeMap<String, Vec<u8>> {
    let packed = fs::File::open(fuzz("corpus.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(packed));
    let files = archive.entries().unwrap().map(|entry| {
        let (mut entry, mut bytes) = (entry.unwrap(), Vec::new());
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
    });
    files.collect()
}

#[test]
fn every_kept_input_keeps_the_laws() {
    let kept = kept();
    for (target, run) in targets() {
        let dir = tempfile::tempdir().unwrap();
        let of_target = |name: &&str| name.split_once('/').is_some_and(|(of, _)| of == target);
        let inputs: Vec<&str> = kept.keys().map(String::as_str).filter(of_target).collect();
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for input in inputs {
            // The file a broken law fails on, which the panic itself does not name.
            let broken = std::panic::catch_unwind(|| run(dir.path(), &kept[input])).is_err();
            assert!(!broken, "a law is broken by {input}");
        }
    }
}

#[test]
fn every_seed_keeps_the_laws() {
    let made = seeds::all();
    assert!(targets().all(|(name, _)| made.iter().any(|(target, ..)| *target == name)), "a target without a seed");
    for (name, run) in targets() {
        let dir = tempfile::tempdir().unwrap();
        for (_, seed, bytes) in made.iter().filter(|(target, ..)| *target == name) {
            let broken = std::panic::catch_unwind(|| run(dir.path(), bytes)).is_err();
            assert!(!broken, "a law is broken by seed `{seed}` of {name}");
        }
    }
}

/// `n` changes of the whole files of every target, each different.
fn changed_seeds_keep_the_laws(n: u64) {
    let made = seeds::all();
    for (name, run) in targets() {
        let dir = tempfile::tempdir().unwrap();
        let seeds: Vec<&[u8]> = made.iter().filter(|(target, ..)| *target == name).map(|(.., b)| &b[..]).collect();
        for i in 0..n {
            let bytes = changes::changed(seeds[i as usize % seeds.len()], i);
            let broken = std::panic::catch_unwind(|| run(dir.path(), &bytes)).is_err();
            assert!(!broken, "a law of {name} is broken by change {i}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn whole_files_with_a_few_changes_keep_the_laws() {
    changed_seeds_keep_the_laws(150);
}

#[test]
#[ignore = "minutes: N_CHANGES=100000 changes for every target"]
fn many_changes_keep_the_laws() {
    let n = std::env::var("N_CHANGES").ok().and_then(|n| n.parse().ok());
    changed_seeds_keep_the_laws(n.unwrap_or(10_000));
}

#[test]
#[ignore = "writes whole files of every kind into fuzz/corpus/, where cargo-fuzz begins"]
fn seed_the_corpus() {
    for (target, seed, bytes) in seeds::all() {
        let dir = fuzz("corpus").join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("seed-{seed}")), bytes).unwrap();
    }
}
