//! A classifier made by others with scikit-learn: TF-IDF of single words, and linear models on folds of the training
//! texts, each with its own sigmoid calibration. `data/tfidf_scorer.py` writes its file, a [`crate::container`] file.
//!
//! Tensors: `words` (UTF-8, ascending, a line end behind each), `idf` of every word, `weights` of every fold and word,
//! and `bias`, `slope` and `offset` of every fold, all float64.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_core::fs::{sha256_hex, write_atomic};
use regex::Regex;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::container::{self, Container};
use crate::linear::pinned;
use crate::{Platt, Result, Scorer};

pub(crate) const KIND: &str = "tfidf";

/// Python's `\w\w+`: letters, digits and other numbers, `_`. `regex`'s own `\w` has combining marks too.
const WORD: &str = r"[\p{L}\p{N}_]{2,}";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// Version of the rule from text to score: 1.
    rule: u32,
    /// Who made the classifier.
    origin: String,
}

/// One linear model: `platt(weights . x + bias)`.
#[derive(Clone, Debug, PartialEq)]
struct Fold {
    weights: Vec<f64>,
    bias: f64,
    platt: Platt,
}

/// `TfidfVectorizer` (words, lower case, raw counts, L2 norm) and `CalibratedClassifierCV` (sigmoid) of scikit-learn.
///
/// # Source
/// scikit-learn 1.9: the score is `predict_proba` of the second class. [S]
#[derive(Clone, Debug)]
pub struct TfidfScorer {
    manifest: Manifest,
    words: Vec<String>,
    idf: Vec<f64>,
    folds: Vec<Fold>,
    pattern: Regex,
    name: String,
}

impl TfidfScorer {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// File errors.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(write_atomic(path, &self.to_bytes())?)
    }

    /// Reads what [`Self::write`] or `data/tfidf_scorer.py` wrote.
    ///
    /// # Errors
    /// File errors, [`crate::Error::Unreadable`] and [`crate::Error::OtherVersion`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(path, &container::read(path)?)
    }

    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let file = Container::open(path, bytes)?;
        let manifest: Manifest =
            if file.kind == KIND { file.manifest()? } else { Manifest { rule: 0, origin: String::new() } };
        if manifest.rule != 1 {
            return Err(file.broken("its kind or its rule is not known here"));
        }
        let (_, text) = file.tensor("words", Dtype::U8, 1)?;
        let text = str::from_utf8(text).map_err(|_| file.broken("tensor `words` is not UTF-8"))?;
        let pattern = Regex::new(WORD).map_err(|e| file.broken(e.to_string()))?;
        let is_word =
            |word: &str| word.to_lowercase() == word && pattern.find(word).is_some_and(|m| m.as_str() == word);
        let words: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
        if !words.iter().all(|word| is_word(word)) || !words.is_sorted_by(|a, b| a < b) {
            return Err(file.broken("tensor `words` is not an ascending list of words"));
        }
        let floats = |name: &str, n_dims: usize| -> Result<(Vec<usize>, Vec<f64>)> {
            let (shape, data) = file.tensor(name, Dtype::F64, n_dims)?;
            let values: Vec<f64> = data.as_chunks().0.iter().map(|value| f64::from_le_bytes(*value)).collect();
            if values.iter().all(|v| v.is_finite()) {
                return Ok((shape, values));
            }
            Err(file.broken(format!("tensor `{name}` has numbers that are not finite")))
        };
        let ((_, idf), (shape, weights)) = (floats("idf", 1)?, floats("weights", 2)?);
        let [(_, bias), (_, slope), (_, offset)] = [floats("bias", 1)?, floats("slope", 1)?, floats("offset", 1)?];
        let fits = !words.is_empty() && idf.len() == words.len() && shape == [bias.len(), words.len()];
        if !fits || bias.is_empty() || [slope.len(), offset.len()] != [bias.len(); 2] {
            return Err(file.broken("its tensors do not have one number per word, per fold, or per both"));
        }
        if idf.iter().any(|v| *v <= 0.0) {
            return Err(file.broken("tensor `idf` has numbers that are not over 0"));
        }
        let fold = |(i, weights): (usize, &[f64])| Fold {
            weights: weights.to_vec(),
            bias: bias[i],
            platt: Platt { slope: slope[i], offset: offset[i] },
        };
        let folds = weights.chunks(words.len()).enumerate().map(fold).collect();
        let mut scorer = Self { manifest, words, idf, folds, pattern, name: String::new() };
        let written = scorer.to_bytes();
        file.must_equal(&written)?;
        scorer.name = pinned(KIND, &sha256_hex(&written));
        Ok(scorer)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let bytes = |values: &mut dyn Iterator<Item = f64>| values.flat_map(f64::to_le_bytes).collect::<Vec<u8>>();
        let per_fold = |of: fn(&Fold) -> f64| bytes(&mut self.folds.iter().map(of));
        let (n_folds, n_words) = (self.folds.len(), self.words.len());
        let text: String = self.words.iter().flat_map(|word| [word.as_str(), "\n"]).collect();
        let weights = bytes(&mut self.folds.iter().flat_map(|fold| fold.weights.iter().copied()));
        let parts = [
            ("bias", Dtype::F64, vec![n_folds], per_fold(|fold| fold.bias)),
            ("idf", Dtype::F64, vec![self.idf.len()], bytes(&mut self.idf.iter().copied())),
            ("offset", Dtype::F64, vec![n_folds], per_fold(|fold| fold.platt.offset)),
            ("slope", Dtype::F64, vec![n_folds], per_fold(|fold| fold.platt.slope)),
            ("weights", Dtype::F64, vec![n_folds, n_words], weights),
            ("words", Dtype::U8, vec![text.len()], text.into_bytes()),
        ];
        container::bytes(KIND, &self.manifest, &parts)
    }

    /// The words of the text that are known, with their values in the text's vector of length 1.
    fn row(&self, text: &str) -> Vec<(usize, f64)> {
        let text = text.to_lowercase();
        let mut counts = BTreeMap::new();
        for word in self.pattern.find_iter(&text) {
            if let Ok(i) = self.words.binary_search_by(|known| known.as_str().cmp(word.as_str())) {
                *counts.entry(i).or_insert(0.0) += 1.0;
            }
        }
        let values: Vec<(usize, f64)> = counts.into_iter().map(|(i, n): (usize, f64)| (i, n * self.idf[i])).collect();
        let norm = values.iter().map(|(_, v)| v * v).sum::<f64>().sqrt();
        values.into_iter().map(|(i, v)| (i, v / norm)).collect()
    }
}

impl Scorer for TfidfScorer {
    /// `tfidf-` and the first digits of the SHA-256 of its file.
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        1
    }

    /// The mean probability of the folds. A text of unknown words has that of no word at all, as in scikit-learn.
    ///
    /// # Errors
    /// For a text without a letter or digit.
    fn score(&self, text: &str) -> Result<f64, String> {
        if !text.contains(char::is_alphanumeric) {
            return Err("the text has no letter and no digit".to_owned());
        }
        let row = self.row(text);
        let one = |fold: &Fold| {
            let sum: f64 = row.iter().map(|&(i, v)| fold.weights[i] * v).sum();
            fold.platt.probability(sum + fold.bias)
        };
        Ok(self.folds.iter().map(one).sum::<f64>() / self.folds.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(weights: &[f64], bias: f64, slope: f64) -> Fold {
        Fold { weights: weights.to_vec(), bias, platt: Platt { slope, offset: 0.5 } }
    }

    fn small() -> TfidfScorer {
        TfidfScorer {
            manifest: Manifest { rule: 1, origin: "by hand".into() },
            words: ["grubnik", "you"].map(str::to_owned).to_vec(),
            idf: vec![3.0, 4.0],
            folds: vec![fold(&[2.0, -1.0], -1.0, 1.5), fold(&[1.0, 0.0], 0.0, 2.0)],
            pattern: Regex::new(WORD).unwrap(),
            name: String::new(),
        }
    }

    fn read(bytes: &[u8]) -> Result<TfidfScorer> {
        TfidfScorer::from_bytes("s".as_ref(), bytes)
    }

    #[test]
    fn a_score_is_the_one_worked_out_by_hand() {
        let scorer = small();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mean = |a: f64, b: f64| (sigmoid(1.5 * a + 0.5) + sigmoid(2.0 * b + 0.5)) / 2.0;
        // Values 3 and 4, length 5: x = (0.6, 0.8).
        let want = mean(2.0 * 0.6 - 0.8 - 1.0, 0.6);
        assert!((scorer.score("You: GRUBNIK!").unwrap() - want).abs() < 1e-15);
        // Twice a word: values 6 and 4.
        let norm = 52_f64.sqrt();
        let want = mean((2.0 * 6.0 - 4.0) / norm - 1.0, 6.0 / norm);
        assert!((scorer.score("grubnik, you grubnik").unwrap() - want).abs() < 1e-15);
        // No known word: neither the unknown ones nor single letters count.
        assert_eq!(scorer.score("a grubniks, 東京").unwrap(), mean(-1.0, 0.0));
        assert_eq!(scorer.score(" ... ").unwrap_err(), "the text has no letter and no digit");
    }

    #[test]
    fn a_word_is_what_python_takes_for_one() {
        let scorer = small();
        // A combining mark ends a word in Python, `_` and a number sign do not.
        assert_eq!(scorer.row("you\u{308}").len(), 1);
        assert!(scorer.row("you_ you² youé").is_empty());
    }

    #[test]
    fn hostile_files_are_refused_by_reason() {
        let bytes = small().to_bytes();
        assert!(read(&bytes).unwrap().name().starts_with("tfidf-"));
        assert_eq!(read(&bytes).unwrap().to_bytes(), bytes);
        let refuse = |change: &dyn Fn(&mut TfidfScorer)| {
            let mut scorer = small();
            change(&mut scorer);
            read(&scorer.to_bytes()).unwrap_err().to_string()
        };
        assert!(refuse(&|s| s.manifest.rule = 2).contains("its rule is not known here"));
        for words in [["you", "grubnik"], ["You", "you"], ["a", "you"], ["in it", "you"], ["you", "you"], ["", "you"]] {
            assert!(refuse(&|s| s.words = words.map(str::to_owned).to_vec()).contains("ascending list of words"));
        }
        assert!(refuse(&|s| s.idf[0] = 0.0).contains("not over 0"));
        assert!(refuse(&|s| s.idf[0] = f64::NAN).contains("`idf` has numbers that are not finite"));
        assert!(refuse(&|s| s.folds[0].platt.slope = f64::INFINITY).contains("`slope`"));
        assert!(refuse(&|s| s.idf.push(1.0)).contains("one number per word"));
        assert!(refuse(&|s| s.folds.clear()).contains("one number per word"));
        assert!(refuse(&|s| (s.words.clear(), s.idf.clear(), s.folds.clear()).0).contains("one number per word"));
        assert!(read(&bytes[..bytes.len() - 1]).unwrap_err().to_string().contains("cut short"));
        assert!(crate::LinearScorer::from_bytes("s".as_ref(), &bytes).unwrap_err().to_string().contains("its kind"));
    }
}
