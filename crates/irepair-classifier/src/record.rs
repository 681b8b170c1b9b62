//! The record of a classifier trained here: a file next to its weights, which transformers does not read.

use std::path::{Path, PathBuf};

use irepair_core::Error;
use irepair_core::fs::{read_to_string, write_atomic};
use irepair_scorer::SeenTexts;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::train::TrainSettings;

const FILE: &str = "irepair_scorer.json";

/// Version of the record.
const FORMAT: u32 = 1;

/// The record of a training.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    format: u32,
    /// SHA-256 of the training file's bytes, in hexadecimal.
    pub data_sha256: String,
    /// How it was trained.
    pub settings: TrainSettings,
    /// Texts it was trained on.
    pub n_texts: usize,
    /// Toxic ones among them.
    pub n_toxic: usize,
    /// Steps of the optimizer.
    pub n_steps: u64,
    /// Mean loss of the last tenth of the steps, nats.
    pub last_loss: f64,
    /// Hashes of the training texts, ascending, each in 16 hexadecimal digits, run together.
    seen: String,
}

impl Record {
    pub(crate) fn new(data_sha256: String, settings: TrainSettings, seen: &SeenTexts) -> Self {
        let seen = seen.hashes().iter().map(|hash| format!("{hash:016x}")).collect();
        let (n_texts, n_toxic, n_steps, last_loss) = (0, 0, 0, f64::NAN);
        Self { format: FORMAT, data_sha256, settings, n_texts, n_toxic, n_steps, last_loss, seen }
    }

    /// Where a directory has it.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        // Numbers and strings always serialise.
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        Ok(write_atomic(&Self::path(dir), text.as_bytes())?)
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let unreadable = |reason: String| Error::unreadable(path, reason);
        let record: Self = serde_json::from_str(&read_to_string(path)?)
            .map_err(|e| unreadable(format!("not a training record: {e}")))?;
        if record.format != FORMAT {
            return Err(unreadable(format!("format version {}, not {FORMAT}", record.format)).into());
        }
        record.seen().map_err(|_| unreadable("its text hashes are damaged".to_owned()))?;
        Ok(record)
    }

    /// The texts it was trained on.
    pub(crate) fn seen(&self) -> Result<SeenTexts> {
        let damaged = || Error::unreadable(FILE.as_ref(), "its text hashes are damaged");
        let one = |hash: &[u8]| {
            let hash = std::str::from_utf8(hash).ok().filter(|hash| hash.len() == 16);
            hash.and_then(|hash| u64::from_str_radix(hash, 16).ok()).ok_or_else(damaged)
        };
        Ok(SeenTexts::from_hashes(self.seen.as_bytes().chunks(16).map(one).collect::<Result<Vec<_>, _>>()?))
    }
}
