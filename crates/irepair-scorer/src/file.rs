//! The file of a linear scorer: one safetensors file with a manifest in its header.
//!
//! Metadata key `irepair_scorer` holds JSON: `format`, `kind` and the [`Manifest`]. Tensors: `weights` and `idf`, one
//! float32 per bucket, and `seen`, the ascending hashes of the training texts. There is no text in the file. Equal
//! scorers are equal bytes.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use irepair_core::fs::{open, write_atomic};
use irepair_core::weights::disguise;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::linear::{LinearScorer, Manifest};
use crate::seen::SeenTexts;
use crate::{Error, Result};

/// Version of the format.
pub const FORMAT: u32 = 1;

const KEY: &str = "irepair_scorer";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    kind: String,
    manifest: Manifest,
}

impl LinearScorer {
    /// The bytes of its file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let header = Header { format: FORMAT, kind: "linear".to_owned(), manifest: self.manifest.clone() };
        // Numbers and strings always serialise, and the views below fit their bytes by construction.
        let header = serde_json::to_string(&header).unwrap_or_default();
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (weights, idf) = (floats(&self.weights), floats(&self.idf));
        let seen: Vec<u8> = self.seen.hashes().iter().flat_map(|v| v.to_le_bytes()).collect();
        let parts = [
            ("weights", Dtype::F32, self.weights.len(), &weights),
            ("idf", Dtype::F32, self.idf.len(), &idf),
            ("seen", Dtype::U64, self.seen.hashes().len(), &seen),
        ];
        let views = parts
            .into_iter()
            .filter_map(|(name, dtype, n, bytes)| TensorView::new(dtype, vec![n], bytes).ok().map(|view| (name, view)));
        // One key alone: a map of several would be written in any order.
        safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), header)]))).unwrap_or_default()
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// File errors.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(write_atomic(path, &self.to_bytes())?)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// File errors, [`Error::Unreadable`] and [`Error::OtherVersion`].
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        open(path)?.read_to_end(&mut bytes).map_err(irepair_core::Error::io("read", path))?;
        Self::from_bytes(path, &bytes)
    }

    fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let broken = |reason: String| Error::Unreadable { path: path.to_owned(), reason };
        let cut = || broken("its size is not what its header says: a copy was cut short".to_owned());
        let not_ours = |error| match error {
            SafeTensorError::MetadataIncompleteBuffer => cut(),
            _ => broken(disguise(bytes).unwrap_or("not a linear scorer").to_owned()),
        };
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(not_ours)?;
        let header = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
        let header = header.ok_or_else(|| broken("a safetensors file, but no scorer".to_owned()))?;
        let wrong = |e: serde_json::Error| broken(format!("its header is wrong: {e}"));
        let raw: serde_json::Value = serde_json::from_str(header).map_err(wrong)?;
        let got = raw["format"].as_u64().unwrap_or_default();
        if got != u64::from(FORMAT) {
            return Err(Error::OtherVersion { path: path.to_owned(), want: FORMAT, got });
        }
        let Header { kind, manifest, .. } = serde_json::from_value(raw).map_err(wrong)?;
        let Manifest { settings, bias, calibration, .. } = &manifest;
        if kind != "linear" || !settings.features.are_usable() {
            return Err(broken("its kind or its features are not known here".to_owned()));
        }
        if ![*bias, calibration.slope, calibration.offset].iter().all(|v| v.is_finite()) {
            return Err(broken("its calibration is not finite".to_owned()));
        }

        let tensors = SafeTensors::deserialize(bytes).map_err(not_ours)?;
        let part = |name: &str, dtype: Dtype| {
            let view = tensors.tensor(name).map_err(|_| broken(format!("tensor `{name}` is missing")))?;
            if view.dtype() != dtype || view.shape().len() != 1 {
                return Err(broken(format!("tensor `{name}` is not a list of {dtype:?}")));
            }
            Ok(view.data())
        };
        let floats = |name: &str| -> Result<Vec<f32>> {
            let values: Vec<f32> =
                part(name, Dtype::F32)?.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
            if values.len() != settings.features.n_buckets() || !values.iter().all(|v| v.is_finite()) {
                return Err(broken(format!("tensor `{name}` is not one finite number per bucket")));
            }
            Ok(values)
        };
        let (weights, idf) = (floats("weights")?, floats("idf")?);
        if idf.iter().any(|v| *v < 0.0) {
            return Err(broken("tensor `idf` has numbers under 0".to_owned()));
        }
        let hashes = part("seen", Dtype::U64)?.as_chunks().0.iter().map(|hash| u64::from_le_bytes(*hash));
        let scorer = Self::new(manifest.clone(), weights, idf, SeenTexts::from_hashes(hashes.collect()));
        // The name is that of the file in hand; a file written another way must not go by it.
        if scorer.to_bytes() != bytes {
            return Err(broken("not the bytes this program writes for this scorer".to_owned()));
        }
        Ok(scorer)
    }
}

#[cfg(test)]
mod tests {
    use irepair_data::Labeled;

    use super::*;
    use crate::{FeatureSettings, LinearSettings, Scorer, train_linear};

    fn small() -> LinearScorer {
        let label = |i: usize| Labeled {
            text: format!("{} at the {i} mill", if i.is_multiple_of(3) { "you grubnik" } else { "good day" }),
            toxic: i.is_multiple_of(3),
            source: None,
        };
        let features = FeatureSettings { word_bits: 8, char_bits: 9, ..FeatureSettings::default() };
        let settings = LinearSettings { features, ..LinearSettings::default() };
        train_linear(&(0..200).map(label).collect::<Vec<_>>(), "00".repeat(32), settings).unwrap()
    }

    #[test]
    fn a_scorer_survives_its_file_and_is_named_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scorer.safetensors");
        let scorer = small();
        scorer.write(&path).unwrap();
        assert_eq!(LinearScorer::read(&path).unwrap(), scorer);
        let sha = irepair_core::fs::sha256_file(&path).unwrap();
        assert_eq!(scorer.name(), format!("linear-{}", &sha[..12]));
        assert_eq!(small().to_bytes(), scorer.to_bytes(), "the same texts make the same file");
        assert!(scorer.score("a grubnik").unwrap() > 0.5 && scorer.score("a good day").unwrap() < 0.5);
        assert_eq!(scorer.score("Good day at the  1 mill").unwrap_err(), "the scorer was trained on this text");
        assert_eq!(scorer.score("...").unwrap_err(), "the text has no n-gram that the scorer knows");
    }

    #[test]
    fn broken_files_are_refused_by_reason() {
        let bytes = small().to_bytes();
        let refuse = |bytes: &[u8]| LinearScorer::from_bytes("s".as_ref(), bytes).unwrap_err().to_string();
        assert_eq!(refuse(b""), "scorer file cannot be read: the file is empty");
        assert_eq!(refuse(b"grubnik"), "scorer file cannot be read: not a linear scorer");
        assert!(refuse(b"version https://git-lfs.github.com/spec/v1\n").contains("a git-lfs pointer"));
        assert!(refuse(&bytes[..bytes.len() - 1]).contains("cut short"));
        let swap = |from: &str, to: &str| {
            assert_eq!(from.len(), to.len());
            let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            let mut changed = bytes.clone();
            changed[at..at + to.len()].copy_from_slice(to.as_bytes());
            refuse(&changed)
        };
        assert_eq!(swap(r#"\"format\":1"#, r#"\"format\":7"#), "scorer file has another format version");
        assert!(swap(r#"\"rule\":1"#, r#"\"rule\":2"#).contains("not known here"));
        assert!(swap(r#"\"word_bits\":8"#, r#"\"word_bits\":7"#).contains("one finite number per bucket"));
        assert!(swap("irepair_scorer", "irepair_scoret").contains("no scorer"));
    }
}
