//! A classifier's `config.json`, read strictly.

use std::path::Path;

use irepair_arch::Activation;
use irepair_arch::setting::{Act, NotNegative, Size, TokenId, refuse_changed_models, settings, unsupported};
use irepair_core::MAX_BLOCKS;
use irepair_core::weights::read_object;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Model family; it decides names, the head, and where positions start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `model_type = "bert"`.
    Bert,
    /// `model_type = "roberta"`.
    Roberta,
    /// `model_type = "distilbert"`.
    DistilBert,
}

/// All settings of the forward pass and the score.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifierConfig {
    /// Family.
    pub family: Family,
    /// Blocks.
    pub n_block: usize,
    /// Width.
    pub n_embd: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Width between the two MLP projections.
    pub n_inner: usize,
    /// Vocabulary size.
    pub n_vocab: usize,
    /// Rows of the position table.
    pub n_rows: usize,
    /// Row of the first position.
    pub first_position: usize,
    /// Rows of the segment table; 0 for families without one.
    pub n_segments: usize,
    /// Fills padding.
    pub pad_id: u32,
    /// MLP non-linearity.
    pub activation: Activation,
    /// Added to variances in layer norms.
    pub norm_eps: f64,
    /// Names of the labels, by index.
    pub labels: Vec<String>,
    /// True when the labels share one softmax; otherwise each has a sigmoid of its own.
    pub exclusive: bool,
}

/// Keys of BERT and RoBERTa; DistilBERT has other names for some ([`DISTILBERT`]).
#[derive(Deserialize)]
struct Keys {
    hidden_size: Size,
    num_attention_heads: Size,
    num_hidden_layers: Size,
    intermediate_size: Size,
    vocab_size: Size,
    max_position_embeddings: Size,
    type_vocab_size: Option<Size>,
    hidden_act: Option<Act>,
    layer_norm_eps: Option<NotNegative>,
    pad_token_id: Option<TokenId>,
}

/// Names of DistilBERT, and those of BERT.
const DISTILBERT: [(&str, &str); 5] = [
    ("dim", "hidden_size"),
    ("n_heads", "num_attention_heads"),
    ("n_layers", "num_hidden_layers"),
    ("hidden_dim", "intermediate_size"),
    ("activation", "hidden_act"),
];

impl ClassifierConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// `MissingFile`, `Unreadable`, and [`Error::Unsupported`] naming the key.
    pub fn read(path: &Path) -> Result<Self> {
        Self::of(&read_object(path)?, path)
    }

    /// [`Self::read`] of JSON in memory; `path` is what errors name.
    pub(crate) fn of(raw: &Map<String, Value>, path: &Path) -> Result<Self> {
        let wrong = |key: &str, want: &str| Error::from(unsupported(raw, path, key, want));
        let (family, class) = match raw.get("model_type").and_then(Value::as_str) {
            Some("bert") => (Family::Bert, "BertForSequenceClassification"),
            Some("roberta") => (Family::Roberta, "RobertaForSequenceClassification"),
            Some("distilbert") => (Family::DistilBert, "DistilBertForSequenceClassification"),
            _ => return Err(wrong("model_type", "bert, roberta or distilbert")),
        };
        let classes = raw.get("architectures").and_then(Value::as_array);
        if !classes.is_some_and(|classes| classes.iter().any(|c| c.as_str() == Some(class))) {
            return Err(wrong("architectures", class));
        }
        refuse_changed_models(raw, path)?;
        let given = |key: &str| raw.get(key).filter(|value| !value.is_null());
        for key in ["is_decoder", "is_encoder_decoder"] {
            if given(key).is_some_and(|value| *value != false) {
                return Err(wrong(key, "false: an encoder"));
            }
        }
        if given("position_embedding_type").is_some_and(|kind| kind != "absolute") {
            return Err(wrong("position_embedding_type", "absolute"));
        }
        let distil = family == Family::DistilBert;
        let own = |key: &str| {
            let name = DISTILBERT.iter().find(|(_, bert)| distil && *bert == key);
            name.map_or_else(|| key.to_owned(), |(name, _)| (*name).to_owned())
        };
        let keys: Keys = settings(raw, path, if distil { &DISTILBERT } else { &[] }).map_err(|error| match error {
            irepair_arch::Error::Unsupported { key, want, .. } => wrong(&own(&key), &want),
            other => other.into(),
        })?;
        let (n_embd, n_head, n_block) = (keys.hidden_size.0, keys.num_attention_heads.0, keys.num_hidden_layers.0);
        if n_embd % n_head != 0 {
            return Err(wrong(&own("num_attention_heads"), &format!("a divisor of {n_embd}")));
        }
        if n_block > MAX_BLOCKS {
            return Err(wrong(&own("num_hidden_layers"), &format!("at most {MAX_BLOCKS} blocks")));
        }
        let pad_id = keys.pad_token_id.map_or(u32::from(family == Family::Roberta), |id| id.0);
        let first_position = if family == Family::Roberta { pad_id as usize + 1 } else { 0 };
        let n_rows = keys.max_position_embeddings.0;
        if n_rows < first_position + 2 {
            return Err(wrong("max_position_embeddings", "room for two tokens after the padding position"));
        }
        if keys.type_vocab_size.is_none() && !distil {
            return Err(wrong("type_vocab_size", "a value"));
        }
        let labels = labels(raw).ok_or_else(|| wrong("id2label", "a name for every index from 0"))?;
        let exclusive = exclusive(raw, labels.len()).ok_or_else(|| {
            wrong("problem_type", "multi_label_classification, or single_label_classification with two labels or more")
        })?;
        Ok(Self {
            family,
            n_block,
            n_embd,
            n_head,
            n_inner: keys.intermediate_size.0,
            n_vocab: keys.vocab_size.0,
            n_rows,
            first_position,
            n_segments: keys.type_vocab_size.filter(|_| !distil).map_or(0, |n| n.0),
            pad_id,
            activation: keys.hidden_act.map_or(Activation::Gelu, |act| act.0),
            norm_eps: keys.layer_norm_eps.filter(|_| !distil).map_or(1e-12, |eps| eps.0),
            labels,
            exclusive,
        })
    }

    /// Longest text in tokens, those at its ends included.
    pub fn n_positions(&self) -> usize {
        self.n_rows - self.first_position
    }
}

/// Every index from 0 on needs a name; `LABEL_0`, `LABEL_1` is what transformers takes when there is none.
fn labels(raw: &Map<String, Value>) -> Option<Vec<String>> {
    let Some(names) = raw.get("id2label").filter(|names| !names.is_null()) else {
        let n = raw.get("num_labels").map_or(Some(2), Value::as_u64)?;
        return Some((0..n.min(10_000)).map(|i| format!("LABEL_{i}")).collect());
    };
    let names = names.as_object().filter(|names| !names.is_empty())?;
    (0..names.len()).map(|i| names.get(&i.to_string())?.as_str().map(str::to_owned)).collect()
}

/// As transformers' own text-classification pipeline reads `problem_type`.
fn exclusive(raw: &Map<String, Value>, n_labels: usize) -> Option<bool> {
    match raw.get("problem_type").filter(|kind| !kind.is_null()).map(Value::as_str) {
        None => Some(n_labels > 1),
        Some(Some("single_label_classification")) if n_labels > 1 => Some(true),
        Some(Some("multi_label_classification")) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bert() -> Value {
        json!({"model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": 8,
               "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 9,
               "max_position_embeddings": 16, "type_vocab_size": 2, "id2label": {"0": "ok", "1": "toxic"}})
    }

    fn read(value: &Value) -> Result<ClassifierConfig> {
        ClassifierConfig::of(value.as_object().unwrap(), Path::new("m/config.json"))
    }

    #[test]
    fn unsupported_settings_are_refused_by_name() {
        assert!(read(&bert()).unwrap().exclusive);
        for (key, value) in [
            ("model_type", json!("electra")),
            ("architectures", json!(["BertForMaskedLM"])),
            ("position_embedding_type", json!("relative_key")),
            ("is_decoder", json!(true)),
            ("quantization_config", json!({"bits": 8})),
            ("pruned_heads", json!({"0": [1]})),
            ("hidden_act", json!("mish")),
            ("problem_type", json!("regression")),
            ("num_attention_heads", json!(3)),
            ("layer_norm_eps", json!(-1.0)),
            ("id2label", json!({"1": "toxic"})),
            ("vocab_size", json!(1_u64 << 40)),
        ] {
            let mut config = bert();
            config[key] = value;
            let error = read(&config).unwrap_err();
            assert!(matches!(&error, Error::Unsupported { key: named, .. } if named == key), "{key}: {error:?}");
        }
    }

    #[test]
    fn one_label_or_several_at_once_have_sigmoids() {
        let mut config = bert();
        config["problem_type"] = json!("multi_label_classification");
        assert!(!read(&config).unwrap().exclusive);
        config["problem_type"] = Value::Null;
        config["id2label"] = json!({"0": "toxic"});
        assert!(!read(&config).unwrap().exclusive);
        config["problem_type"] = json!("single_label_classification");
        assert!(read(&config).is_err());
    }
}
