//! What a classifier's `config.json` means, read strictly.

use std::path::Path;

use irepair_core::weights::not_json;
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

/// The non-linearity of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU.
    Gelu,
    /// GELU in its tanh approximation (`gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`).
    GeluTanh,
    /// ReLU.
    Relu,
    /// SiLU (`swish`).
    Silu,
}

/// Everything the forward pass and the score need to know.
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

impl ClassifierConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`Error::Unreadable`], and [`Error::Unsupported`] naming the key.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |reason: String| Error::Unreadable { path: path.to_owned(), reason };
        let text = irepair_core::fs::read_to_string(path)?;
        match serde_json::from_str(&text) {
            Ok(Value::Object(raw)) => Keys { raw: &raw, path }.config(),
            Ok(_) => Err(unreadable("not a JSON object".to_owned())),
            Err(e) => Err(unreadable(not_json(&text, e))),
        }
    }

    /// Longest text in tokens, those at its ends included.
    pub fn n_positions(&self) -> usize {
        self.n_rows - self.first_position
    }
}

/// Typed look-ups that name the key when they fail.
struct Keys<'a> {
    raw: &'a Map<String, Value>,
    path: &'a Path,
}

impl Keys<'_> {
    fn config(&self) -> Result<ClassifierConfig> {
        let family = match self.raw.get("model_type").and_then(Value::as_str) {
            Some("bert") => Family::Bert,
            Some("roberta") => Family::Roberta,
            Some("distilbert") => Family::DistilBert,
            _ => return Err(self.wrong("model_type", "bert, roberta or distilbert")),
        };
        let class = match family {
            Family::Bert => "BertForSequenceClassification",
            Family::Roberta => "RobertaForSequenceClassification",
            Family::DistilBert => "DistilBertForSequenceClassification",
        };
        let classes = self.raw.get("architectures").and_then(Value::as_array);
        if !classes.is_some_and(|classes| classes.iter().any(|c| c.as_str() == Some(class))) {
            return Err(self.wrong("architectures", class));
        }
        self.refuse_what_would_change_the_model()?;
        let distil = family == Family::DistilBert;
        let pick = |bert: &'static str, distilbert: &'static str| if distil { distilbert } else { bert };
        let (n_embd, n_head) =
            (self.size(pick("hidden_size", "dim"))?, self.size(pick("num_attention_heads", "n_heads"))?);
        if n_embd % n_head != 0 {
            return Err(self.wrong(pick("num_attention_heads", "n_heads"), &format!("a divisor of {n_embd}")));
        }
        let pad_id = match self.raw.get("pad_token_id") {
            None | Some(Value::Null) => {
                if family == Family::Roberta {
                    1
                } else {
                    0
                }
            }
            Some(value) => value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| self.wrong("pad_token_id", "a token id"))?,
        };
        let n_rows = self.size("max_position_embeddings")?;
        let first_position = if family == Family::Roberta { pad_id as usize + 1 } else { 0 };
        if n_rows < first_position + 2 {
            return Err(self.wrong("max_position_embeddings", "room for two tokens after the padding position"));
        }
        let labels = self.labels()?;
        let n_block = self.size(pick("num_hidden_layers", "n_layers"))?;
        if n_block > 10_000 {
            return Err(self.wrong(pick("num_hidden_layers", "n_layers"), "at most 10000 blocks"));
        }
        Ok(ClassifierConfig {
            family,
            n_block,
            n_embd,
            n_head,
            n_inner: self.size(pick("intermediate_size", "hidden_dim"))?,
            n_vocab: self.size("vocab_size")?,
            n_rows,
            first_position,
            n_segments: if distil { 0 } else { self.size("type_vocab_size")? },
            pad_id,
            activation: self.activation(pick("hidden_act", "activation"))?,
            norm_eps: if distil { 1e-12 } else { self.norm_eps()? },
            exclusive: self.exclusive(labels.len())?,
            labels,
        })
    }

    /// What transformers would build or read another model for.
    fn refuse_what_would_change_the_model(&self) -> Result<()> {
        let value = |key: &str| self.raw.get(key).filter(|v| !v.is_null());
        for (key, want) in [
            ("quantization_config", "weights as they are"),
            ("auto_map", "a model without code of its own"),
            ("pruned_heads", "every head in every block"),
        ] {
            let empty = |v: &Value| v.as_object().is_some_and(Map::is_empty) || v.as_array().is_some_and(Vec::is_empty);
            if value(key).is_some_and(|v| !empty(v)) {
                return Err(self.wrong(key, want));
            }
        }
        for key in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
            if value(key).is_some_and(|v| *v != Value::Bool(false)) {
                return Err(self.wrong(key, "false: an encoder"));
            }
        }
        match value("position_embedding_type").map(Value::as_str) {
            None | Some(Some("absolute")) => Ok(()),
            _ => Err(self.wrong("position_embedding_type", "absolute")),
        }
    }

    fn activation(&self, key: &str) -> Result<Activation> {
        match self.raw.get(key).map(Value::as_str) {
            None | Some(Some("gelu")) => Ok(Activation::Gelu),
            Some(Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast")) => Ok(Activation::GeluTanh),
            Some(Some("relu")) => Ok(Activation::Relu),
            Some(Some("silu" | "swish")) => Ok(Activation::Silu),
            _ => Err(self.wrong(key, "gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu or swish")),
        }
    }

    fn norm_eps(&self) -> Result<f64> {
        match self.raw.get("layer_norm_eps") {
            None => Ok(1e-12),
            Some(value) => {
                let eps = value.as_f64().filter(|eps| *eps >= 0.0);
                eps.ok_or_else(|| self.wrong("layer_norm_eps", "a number of at least 0"))
            }
        }
    }

    /// Every index from 0 on needs a name; `LABEL_0`, `LABEL_1` is what transformers takes when there is none.
    fn labels(&self) -> Result<Vec<String>> {
        let key = "id2label";
        let Some(names) = self.raw.get(key).filter(|v| !v.is_null()) else {
            let n = if self.raw.contains_key("num_labels") { self.size("num_labels")? } else { 2 };
            return Ok((0..n.min(10_000)).map(|i| format!("LABEL_{i}")).collect());
        };
        let want = "a name for every index from 0";
        let names = names.as_object().filter(|names| !names.is_empty()).ok_or_else(|| self.wrong(key, want))?;
        let name = |i: usize| names.get(&i.to_string()).and_then(Value::as_str).map(str::to_owned);
        (0..names.len()).map(|i| name(i).ok_or_else(|| self.wrong(key, want))).collect()
    }

    /// As transformers' own text-classification pipeline reads `problem_type`.
    fn exclusive(&self, n_labels: usize) -> Result<bool> {
        match self.raw.get("problem_type").filter(|v| !v.is_null()).map(Value::as_str) {
            None => Ok(n_labels > 1),
            Some(Some("single_label_classification")) if n_labels > 1 => Ok(true),
            Some(Some("multi_label_classification")) => Ok(false),
            _ => Err(self.wrong(
                "problem_type",
                "multi_label_classification, or single_label_classification with two labels or more",
            )),
        }
    }

    /// A size that a real model can have: the bound keeps hostile numbers from becoming allocations.
    fn size(&self, key: &str) -> Result<usize> {
        match self.raw.get(key).and_then(Value::as_u64) {
            Some(n) if (1..=1 << 24).contains(&n) => Ok(n as usize),
            _ => Err(self.wrong(key, "a whole number of 1 to 16777216")),
        }
    }

    fn wrong(&self, key: &str, want: &str) -> Error {
        let got = self.raw.get(key).map_or("nothing".to_owned(), |v| v.to_string().chars().take(60).collect());
        Error::Unsupported { path: self.path.to_owned(), key: key.to_owned(), want: want.to_owned(), got }
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
        Keys { raw: value.as_object().unwrap(), path: Path::new("m/config.json") }.config()
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
