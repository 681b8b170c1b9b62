//! The step log as a TensorBoard event file: scalars of the training and of its validations.
//!
//! # Source
//! `event.proto` and `summary.proto` of TensorBoard, in records as `tf_record.py` there writes them: length, masked
//! CRC-32C of the length, data, masked CRC-32C of the data. `parity/tensorboard/make.py` writes the same file with
//! TensorBoard itself.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use irepair_core::StepRecord;
use irepair_core::fs::write_atomic;

use crate::Result;

/// The name of the file; TensorBoard reads every file whose name holds `tfevents`.
pub const EVENTS: &str = "events.out.tfevents.irepair";

/// Writes the scalars of a run that ended now into [`EVENTS`] of `dir`. Gives the number of scalars.
///
/// The step of a scalar is the number of updates before it was measured: loss, NLL, KL, gradient norm and learning rate
/// of step `s` stand at `s`, and a validation after its update at `s + 1`.
///
/// # Errors
/// Those of writing a file.
pub fn write_events(dir: &Path, records: &[StepRecord]) -> Result<usize> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let (bytes, n_scalars) = events(records, now);
    write_atomic(&dir.join(EVENTS), &bytes)?;
    Ok(n_scalars)
}

/// The file, and the number of scalars in it; the last step ended at `end`, in seconds since 1970.
pub fn events(records: &[StepRecord], end: f64) -> (Vec<u8>, usize) {
    let mut time = end - records.iter().map(|record| record.seconds).fold(0.0, |sum, seconds| sum + seconds);
    let (mut file, mut n_scalars) = (Vec::new(), 0);
    let mut version = Message::default();
    version.double(1, time);
    version.bytes(3, b"brain.Event:2");
    record(&mut file, &version.0);
    for step in records {
        let before = [("validation/loss", step.validation_loss_before)];
        let of_step = [
            ("train/loss", Some(step.loss)),
            ("train/nll", step.nll),
            ("train/kl", step.kl),
            ("train/grad_norm", Some(step.grad_norm)),
            ("train/lr", Some(step.lr)),
        ];
        let after = [("validation/loss", step.validation_loss)];
        let mut scalars = |at: u64, time: f64, scalars: &[(&str, Option<f64>)]| {
            let given: Vec<_> = scalars.iter().filter_map(|(tag, value)| Some((*tag, (*value)?))).collect();
            if !given.is_empty() {
                n_scalars += given.len();
                record(&mut file, &event(at, time, &given));
            }
        };
        scalars(step.step, time, &before);
        time += step.seconds;
        scalars(step.step, time, &of_step);
        scalars(step.step + 1, time, &after);
    }
    (file, n_scalars)
}

/// An event with scalars of one step.
fn event(step: u64, time: f64, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Message::default();
    for (tag, value) in scalars {
        let mut scalar = Message::default();
        scalar.bytes(1, tag.as_bytes());
        scalar.float(2, *value as f32);
        summary.bytes(1, &scalar.0);
    }
    let mut event = Message::default();
    event.double(1, time);
    event.varint(2, step);
    event.bytes(5, &summary.0);
    event.0
}

/// Appends data as a record with its checksums.
fn record(file: &mut Vec<u8>, data: &[u8]) {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length));
    file.extend(data);
    file.extend(masked(data));
}

/// A protocol buffer, field by field. A field whose value is 0 is left out, as in every message of version 3.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// The number of a field and its wire type: 0 for whole numbers, 1 for 8 bytes, 2 for bytes, 5 for 4 bytes.
    fn tag(&mut self, field: u64, wire: u64) {
        self.number(field << 3 | wire);
    }

    fn varint(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.tag(field, 0);
            self.number(value);
        }
    }

    fn double(&mut self, field: u64, value: f64) {
        self.tag(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    /// A scalar is one choice of several, so that it is written when it is 0 too.
    fn float(&mut self, field: u64, value: f32) {
        self.tag(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, 2);
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }
}
