//! A small DistilBERT trained from nothing on labelled texts.
//!
//! The engine of irepair-train repairs a causal language model against a reference and draws pairs; none of that is
//! here, so this is a loop of its own: cross-entropy of two labels. Optimizer, schedule and clipping are the engine's.

use std::collections::HashMap;
use std::path::Path;

use irepair_core::fs::write_atomic;
use irepair_data::{EpochOrder, Labeled};
use irepair_model::{first_not_finite, write_tensors};
use irepair_scorer::SeenTexts;
use irepair_train::{Optimizer, OptimizerKind, Schedule, StateMode, clip_global_norm};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::{Kind, Reduction, Tensor};

use crate::config::ClassifierConfig;
use crate::forward::Encoder;
use crate::params::{random, specs};
use crate::record::Record;
use crate::tokens::{SPECIAL, TextTokens};
use crate::{Error, Result};

/// Largest global norm of a step's gradient [S].
const CLIP_NORM: f64 = 1.0;

/// Decay of the weights [S].
const WEIGHT_DECAY: f64 = 0.01;

/// Batches whose texts are sorted by length together, so that a batch pads little.
const POOL: usize = 32;

/// Shape and training of a small classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Most tokens of the tokenizer.
    pub vocab_size: usize,
    /// Blocks.
    pub n_block: usize,
    /// Width.
    pub n_embd: usize,
    /// Attention heads; a divisor of the width.
    pub n_head: usize,
    /// Tokens of a text that are read, from its start.
    pub n_positions: usize,
    /// Times every text is seen.
    pub n_epochs: u64,
    /// Texts per step.
    pub batch_size: usize,
    /// Largest learning rate: a tenth of the steps up to it, then half a cosine down to a tenth.
    pub lr: f64,
    /// Seed of starting weights and order.
    pub seed: u64,
}

/// Trains a tokenizer and a classifier with the labels `non-toxic` and `toxic`, and writes both to `dir` as
/// transformers loads them, with a record of the training and the hashes of its texts. `report` gets (steps done,
/// steps, loss).
///
/// One thread count, one machine, one seed: the same bits.
///
/// # Errors
/// [`Error::OneClass`], [`Error::Diverged`], tokenizer and file errors.
///
/// # Source
/// METHOD §9 [O]: an offline scorer.
pub fn train_classifier(
    labels: &[Labeled],
    data_sha256: String,
    settings: TrainSettings,
    dir: &Path,
    mut report: impl FnMut(u64, u64, f64),
) -> Result<Record> {
    let n_toxic = labels.iter().filter(|label| label.toxic).count();
    if n_toxic == 0 || n_toxic == labels.len() {
        return Err(Error::OneClass { n: labels.len() });
    }
    let texts: Vec<&str> = labels.iter().map(|label| label.text.as_str()).collect();
    let tokens = TextTokens::train(&texts, settings.vocab_size, settings.n_positions)?;
    let rows = tokens.encode(&texts)?;
    let json = config_json(&settings, tokens.n_tokens());
    let config = ClassifierConfig::of(&json, &dir.join("config.json"))?;
    let encoder = Encoder::new(config.clone(), random(&specs(&config), settings.seed));
    let mut optimizer = Optimizer::new(OptimizerKind::adamw(WEIGHT_DECAY), StateMode::Keep, 0);
    let batches = batches(&rows, &settings)?;
    let n_steps = batches.len() as u64;
    let mut losses = Vec::with_capacity(batches.len());
    for (step, batch) in (0..).zip(&batches) {
        let ids: Vec<Vec<u32>> = batch.iter().map(|&i| rows[i].clone()).collect();
        let wanted: Vec<i64> = batch.iter().map(|&i| i64::from(labels[i].toxic)).collect();
        let logits = encoder.logits(&ids);
        let loss = logits.cross_entropy_loss(&Tensor::from_slice(&wanted), None::<&Tensor>, Reduction::Mean, -100, 0.0);
        let value = loss.double_value(&[]);
        if !value.is_finite() {
            return Err(Error::Diverged { step });
        }
        let parameters: Vec<&Tensor> = encoder.parameters().iter().map(|p| &p.tensor).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
        let mut gradients: Vec<(usize, Tensor)> = gradients.into_iter().enumerate().collect();
        clip_global_norm(&mut gradients, CLIP_NORM)?;
        let lr = Schedule::Cosine.rate(settings.lr, step, n_steps / 10, n_steps);
        optimizer.update(encoder.parameters(), &gradients, lr);
        losses.push(value);
        report(step + 1, n_steps, value);
    }
    if first_not_finite(encoder.parameters().iter().map(|p| &p.tensor))?.is_some() {
        return Err(Error::Diverged { step: n_steps.saturating_sub(1) });
    }
    let last = &losses[losses.len() - losses.len().div_ceil(10)..];
    let mut record = Record::new(data_sha256, settings, &SeenTexts::of(&texts));
    (record.n_texts, record.n_toxic, record.n_steps) = (labels.len(), n_toxic, n_steps);
    record.last_loss = last.iter().sum::<f64>() / last.len() as f64;
    write(&encoder, &tokens, &record, json, dir)?;
    Ok(record)
}

/// The `config.json` of a new classifier.
fn config_json(settings: &TrainSettings, n_vocab: usize) -> Map<String, Value> {
    let config = json!({
        "architectures": ["DistilBertForSequenceClassification"], "model_type": "distilbert", "dtype": "float32",
        "vocab_size": n_vocab, "max_position_embeddings": settings.n_positions, "n_layers": settings.n_block,
        "n_heads": settings.n_head, "dim": settings.n_embd, "hidden_dim": 4 * settings.n_embd, "activation": "gelu",
        "pad_token_id": 0, "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0,
        "sinusoidal_pos_embds": false, "initializer_range": 0.02, "problem_type": "single_label_classification",
        "id2label": {"0": "non-toxic", "1": "toxic"}, "label2id": {"non-toxic": 0, "toxic": 1},
    });
    if let Value::Object(config) = config { config } else { Map::new() }
}

/// The texts of every step: a shuffle, cut into pools, each sorted by length, cut into batches and shuffled again.
fn batches(rows: &[Vec<u32>], settings: &TrainSettings) -> Result<Vec<Vec<usize>>> {
    let order = EpochOrder::new(rows.len(), settings.seed, true)?;
    let mut batches = Vec::new();
    for epoch in 0..settings.n_epochs {
        for (i, pool) in (0..).zip(order.batch(epoch, rows.len()).chunks(settings.batch_size * POOL)) {
            let mut pool = pool.to_vec();
            pool.sort_by_key(|&i| rows[i].len());
            let cut: Vec<Vec<usize>> = pool.chunks(settings.batch_size).map(<[usize]>::to_vec).collect();
            let shuffle = EpochOrder::new(cut.len(), settings.seed ^ (epoch << 32 | i), true)?;
            batches.extend(shuffle.batch(0, cut.len()).into_iter().map(|j| cut[j].clone()));
        }
    }
    Ok(batches)
}

/// Writes a directory; `config.json` comes last, so a directory with one is whole.
fn write(
    encoder: &Encoder,
    tokens: &TextTokens,
    record: &Record,
    config: Map<String, Value>,
    dir: &Path,
) -> Result<()> {
    let tensors: Vec<(String, &Tensor)> = encoder.parameters().iter().map(|p| (p.name.clone(), &p.tensor)).collect();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&dir.join("model.safetensors"), &tensors, metadata)?;
    write_atomic(&dir.join("tokenizer.json"), tokens.to_json()?.as_bytes())?;
    let [pad, unk, start, end, mask] = SPECIAL;
    let tokenizer = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": encoder.config().n_rows, "pad_token": pad,
        "unk_token": unk, "cls_token": start, "sep_token": end, "mask_token": mask,
        "model_input_names": ["input_ids", "attention_mask"], "clean_up_tokenization_spaces": false,
        // As tokenizer.json has it: versions of transformers differ in the file they read it from.
        "add_prefix_space": true,
    });
    write_atomic(&dir.join("tokenizer_config.json"), format!("{tokenizer:#}\n").as_bytes())?;
    record.write(dir)?;
    debug_assert_eq!(encoder.parameters()[0].tensor.kind(), Kind::Float);
    Ok(write_atomic(&dir.join("config.json"), format!("{:#}\n", Value::Object(config)).as_bytes())?)
}
