//! The event file, byte for byte as TensorBoard writes it.

use std::path::Path;

use irepair_core::StepRecord;
use irepair_report::{EVENTS, events, write_events};

/// The log of `parity/tensorboard/`, and the file that TensorBoard made of it.
fn golden() -> (Vec<StepRecord>, Vec<u8>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/tensorboard");
    let log = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let records = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (records, std::fs::read(dir.join("golden.tfevents")).unwrap())
}

#[test]
fn the_file_is_the_one_that_tensorboard_writes() {
    let (records, want) = golden();
    let (got, n_scalars) = events(&records, 1_700_000_010.0);
    assert_eq!(n_scalars, 20);
    assert!(got == want, "{} bytes, want {}", got.len(), want.len());
}

#[test]
fn a_run_without_steps_is_a_file_without_scalars() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(write_events(dir.path(), &[]).unwrap(), 0);
    // Length, checksum, time, version, checksum.
    assert_eq!(std::fs::read(dir.path().join(EVENTS)).unwrap().len(), 8 + 4 + 9 + 15 + 4);
}
