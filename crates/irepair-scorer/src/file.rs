//! The file of a linear scorer, a [`crate::container`] file.
//!
//! Its manifest is [`Manifest`]. Tensors: `weights` and `idf`, one float32 per bucket, and `seen`, the ascending hashes
//! of the training texts. There is no text in the file.

use std::path::Path;

use irepair_core::fs::write_atomic;
use safetensors::Dtype;

use crate::Result;
use crate::container::{self, Container};
use crate::linear::{LinearScorer, Manifest};
use crate::seen::SeenTexts;

const KIND: &str = "linear";

impl LinearScorer {
    /// The bytes of its file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let seen = self.seen.hashes().iter().flat_map(|v| v.to_le_bytes()).collect();
        let parts = [
            ("weights", Dtype::F32, vec![self.weights.len()], floats(&self.weights)),
            ("idf", Dtype::F32, vec![self.idf.len()], floats(&self.idf)),
            ("seen", Dtype::U64, vec![self.seen.hashes().len()], seen),
        ];
        container::bytes(KIND, &self.manifest, &parts)
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
    /// File errors, [`crate::Error::Unreadable`] and [`crate::Error::OtherVersion`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(path, &container::read(path)?)
    }

    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let file = Container::open(path, bytes)?;
        let unknown = || file.broken("its kind or its features are not known here");
        if file.kind != KIND {
            return Err(unknown());
        }
        let manifest: Manifest = file.manifest()?;
        let Manifest { settings, bias, calibration, .. } = &manifest;
        if !settings.features.are_usable() {
            return Err(unknown());
        }
        if ![*bias, calibration.slope, calibration.offset].iter().all(|v| v.is_finite()) {
            return Err(file.broken("its calibration is not finite"));
        }
        let floats = |name: &str| -> Result<Vec<f32>> {
            let (_, data) = file.tensor(name, Dtype::F32, 1)?;
            let values: Vec<f32> = data.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
            if values.len() != settings.features.n_buckets() || !values.iter().all(|v| v.is_finite()) {
                return Err(file.broken(format!("tensor `{name}` is not one finite number per bucket")));
            }
            Ok(values)
        };
        let (weights, idf) = (floats("weights")?, floats("idf")?);
        if idf.iter().any(|v| *v < 0.0) {
            return Err(file.broken("tensor `idf` has numbers under 0"));
        }
        let (_, hashes) = file.tensor("seen", Dtype::U64, 1)?;
        let hashes = hashes.as_chunks().0.iter().map(|hash| u64::from_le_bytes(*hash));
        let scorer = Self::new(manifest.clone(), weights, idf, SeenTexts::from_hashes(hashes.collect()));
        file.must_equal(&scorer.to_bytes())?;
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
        assert_eq!(refuse(b"grubnik"), "scorer file cannot be read: not a scorer");
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
