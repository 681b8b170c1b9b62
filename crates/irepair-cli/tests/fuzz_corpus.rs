//! What the fuzz targets found worth keeping, through the same laws, on a stable compiler: `fuzz/corpus/<target>/`.

use std::fs;
use std::path::{Path, PathBuf};

mod changes;
#[expect(unreachable_pub, reason = "a library for the fuzz targets")]
#[path = "../../../fuzz/src/files/mod.rs"]
mod files;
#[expect(unreachable_pub, reason = "a library for the fuzz targets")]
#[path = "../../../fuzz/src/models/mod.rs"]
mod models;
mod seeds;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

fn targets() -> impl Iterator<Item = files::Target> {
    files::TARGETS.into_iter().chain(models::TARGETS)
}

/// Files of a target's corpus, by name.
fn inputs(target: &str) -> Vec<PathBuf> {
    let dir = corpus().join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

#[test]
fn every_kept_input_keeps_the_laws() {
    for (name, run) in targets() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let bytes = fs::read(&input).unwrap();
            // The file a broken law fails on, which the panic itself does not name.
            let broken = std::panic::catch_unwind(|| run(dir.path(), &bytes)).is_err();
            assert!(!broken, "a law is broken by {}", input.display());
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

/// Changes of every whole file, each another one: few of them here, as many as one likes in the test after this one.
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
#[ignore = "takes as long as one likes: N_CHANGES=100000, and so many for every target"]
fn many_changes_keep_the_laws() {
    let n = std::env::var("N_CHANGES").ok().and_then(|n| n.parse().ok());
    changed_seeds_keep_the_laws(n.unwrap_or(10_000));
}

#[test]
#[ignore = "writes whole files of every kind into fuzz/corpus, for a corpus that starts anew"]
fn seed_the_corpus() {
    for (target, seed, bytes) in seeds::all() {
        let dir = corpus().join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("seed-{seed}")), bytes).unwrap();
    }
}
