//! A classifier from a Hugging Face directory, as a scorer.

use std::path::Path;

use irepair_core::fs::{sha256_file, sha256_hex};
use irepair_model::{first_not_finite, read_checkpoint};
use irepair_scorer::{SEEN, Scorer, SeenTexts, pinned};
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::ClassifierConfig;
use crate::forward::Encoder;
use crate::labels::toxic_labels;
use crate::params::{current_name, from_stored, specs};
use crate::record::Record;
use crate::tokens::TextTokens;
use crate::{Error, Result};

/// A text classifier with labels that mean toxic.
#[derive(Debug)]
pub struct Classifier {
    encoder: Encoder,
    tokens: TextTokens,
    toxic: Vec<usize>,
    seen: SeenTexts,
    batch_size: usize,
    unused: Vec<String>,
    name: String,
}

impl Classifier {
    /// Reads a directory: `config.json`, `model.safetensors` or shards, `tokenizer.json`, and where this project made
    /// it the record of its training. Weights are brought to float32. `chosen` names the toxic labels, with commas
    /// between them; without it their names must say so.
    ///
    /// # Errors
    /// Missing or broken files, unsupported settings, unclear labels, missing or misshapen tensors: each by name.
    pub fn load(dir: &Path, chosen: Option<&str>, device: Device, batch_size: usize) -> Result<Self> {
        let (config_path, tokens_path) = (dir.join("config.json"), dir.join("tokenizer.json"));
        let config = ClassifierConfig::read(&config_path)?;
        let toxic = toxic_labels(&config.labels, config.exclusive, chosen, &config_path)?;
        let tokens = TextTokens::read(dir, config.n_positions())?;
        let (n_vocab, n_tokens) = (config.n_vocab, tokens.n_tokens());
        if n_tokens > n_vocab {
            return Err(Error::Vocabulary { path: dir.to_owned(), n_vocab, n_tokens });
        }
        let specs = specs(&config);
        let wanted: std::collections::HashSet<&str> = specs.iter().map(|(name, _)| name.as_str()).collect();
        let stored = read_checkpoint(dir, |name| wanted.contains(current_name(name).as_str()))?;

        // Everything that a score depends on goes into the name: the files' hashes, and the chosen labels.
        let mut pins = format!("{toxic:?}");
        if tokens.settled {
            pins += "leading space of tokenizer_config.json";
        }
        let record = Record::path(dir);
        let files =
            [&config_path, &tokens_path].into_iter().chain(&stored.files).chain(record.exists().then_some(&record));
        for file in files {
            pins += &sha256_file(file)?;
        }
        let unused = stored.unused.clone();
        let encoder = Encoder::new(config, from_stored(&specs, stored, dir, device)?);
        if let Some((i, n)) = first_not_finite(encoder.parameters().iter().map(|p| &p.tensor))? {
            let reason = format!("tensor `{}` holds {n} NaN or infinite numbers", encoder.parameters()[i].name);
            return Err(irepair_core::Error::unreadable(dir, reason).into());
        }
        let seen = if record.exists() { Record::read(&record)?.seen()? } else { SeenTexts::default() };
        let name = pinned("classifier", &sha256_hex(pins.as_bytes()));
        Ok(Self { encoder, tokens, toxic, seen, batch_size: batch_size.max(1), unused, name })
    }

    /// Settings.
    pub fn config(&self) -> &ClassifierConfig {
        self.encoder.config()
    }

    /// Names of the labels that count as toxic.
    pub fn toxic_labels(&self) -> impl Iterator<Item = &str> {
        self.toxic.iter().map(|&i| self.config().labels[i].as_str())
    }

    /// Names of stored tensors that the classifier does not use, sorted.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Token ids of texts as the classifier reads them, start and end tokens included, cut to its positions.
    ///
    /// # Errors
    /// Those of the tokenizers library.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        self.tokens.encode(texts)
    }

    /// Logits of rows of ids, `[rows, labels]` float32; no gradient is recorded.
    pub fn logits(&self, rows: &[Vec<u32>]) -> Tensor {
        no_grad(|| self.encoder.logits(rows))
    }

    /// Toxicity of rows of ids: the sum of the toxic labels' probabilities where labels exclude each other, otherwise
    /// the largest of them, as METHOD §9's own scorer takes the largest of its attributes.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn toxicity(&self, rows: &[Vec<u32>]) -> Result<Vec<f64>> {
        let logits = self.logits(rows).to_kind(Kind::Double);
        let toxic: Vec<i64> = self.toxic.iter().map(|&i| i as i64).collect();
        let toxic = Tensor::from_slice(&toxic).to_device(logits.device());
        let scores = if self.config().exclusive {
            let sum = logits.softmax(-1, Kind::Double).index_select(1, &toxic).sum_dim_intlist(1, false, Kind::Double);
            // Rounding must not take a probability over 1.
            sum.clamp_max(1.0)
        } else {
            logits.sigmoid().index_select(1, &toxic).amax(1, false)
        };
        Ok(Vec::<f64>::try_from(scores.to_device(Device::Cpu))?)
    }

    fn scores(&self, texts: &[&str]) -> Result<Vec<f64>> {
        let rows = self.encode(texts)?;
        // Texts of like length together, so that a batch pads little.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&i| rows[i].len());
        let mut scores = vec![f64::NAN; rows.len()];
        for batch in order.chunks(self.batch_size) {
            let found = self.toxicity(&batch.iter().map(|&i| rows[i].clone()).collect::<Vec<_>>())?;
            for (&i, score) in batch.iter().zip(found) {
                scores[i] = score;
            }
        }
        Ok(scores)
    }
}

impl Scorer for Classifier {
    /// `classifier-` and the first digits of a SHA-256 over its files and toxic labels.
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        1
    }

    fn score(&self, text: &str) -> Result<f64, String> {
        self.score_all(&[text]).pop().unwrap_or_else(|| Err("nothing came back".to_owned()))
    }

    /// A text that is blank, or that it was trained on, has no score.
    fn score_all(&self, texts: &[&str]) -> Vec<Result<f64, String>> {
        let check = |text: &str| {
            if self.seen.contains(text) {
                Err(SEEN.to_owned())
            } else if !text.contains(char::is_alphanumeric) {
                Err("the text has neither letters nor digits".to_owned())
            } else {
                Ok(())
            }
        };
        let valid: Vec<&str> = texts.iter().copied().filter(|text| check(text).is_ok()).collect();
        let scores = self.scores(&valid).map_err(|error| error.to_string());
        let mut next = 0..valid.len();
        let score = |text: &&str| {
            check(text)?;
            let i = next.next().unwrap_or_default();
            scores.as_ref().map(|scores| scores[i]).map_err(String::clone)
        };
        texts.iter().map(score).collect()
    }
}
