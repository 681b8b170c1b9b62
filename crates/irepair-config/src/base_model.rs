//! A profile's base models, and what must hold of them.

use irepair_arch::{Architecture, Shape};
use irepair_core::Diagnose;
use irepair_core::metric::MetricKey;
use serde::{Deserialize, Serialize};

use crate::data_file::is_inside;
use crate::{Checks, PretrainOptions, Validate};

/// One base model: trained here, or published weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaseModel {
    /// Name in paths and results: lower-case letters, digits and `-`.
    pub name: String,
    /// Name in tables.
    pub title: String,
    /// How it is trained; instead of `hub`. In a profile that is given its data, a directory of the model's name that
    /// lies in `--model-dir`, or in `models` in or next to the data directory, is used as it is.
    pub pretrain: Option<PretrainOptions>,
    /// Repository of the published weights on the Hugging Face hub, such as `openai-community/gpt2-large`; instead of
    /// `pretrain`. The program does not download it: it looks for a local copy.
    pub hub: Option<String>,
    /// GGUF file of published weights in `.sources/`, such as `smollm2/model.gguf`; instead of `pretrain`.
    pub gguf: Option<String>,
    /// The file `data/<source>.toml` that says where `hub` or `gguf` comes from.
    pub source: Option<String>,
    /// The model of experiments/paper/paper.toml whose numbers are shown with this one's. Without it, none are.
    pub paper: Option<String>,
    /// Files of the repository that are needed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Shape of the published model, for estimates before its files are there.
    pub shape: Option<Shape>,
}

impl BaseModel {
    /// Last part of the hub's name: what a plain copy of the repository is often called.
    pub fn hub_folder(&self) -> Option<&str> {
        self.hub.as_deref()?.rsplit('/').next()
    }

    /// Its architecture, from the published shape or from that of the model about to be trained, whose tokenizer may
    /// come out smaller than asked for. None when neither is given, or the sizes do not fit together.
    pub fn architecture(&self) -> Option<Architecture> {
        let trained = |p: &PretrainOptions| p.shape(p.vocab_size());
        let shape = self.shape.clone().or_else(|| self.pretrain.as_ref().map(trained))?;
        shape.architecture().ok()
    }
}

impl Validate for BaseModel {
    fn clashes(&self, checks: &mut Checks) {
        checks.path_name(&self.name);
        checks.clash(self.title.is_empty(), "title", "is missing");
        let (made, published) = (self.pretrain.is_some(), self.hub.is_some() || self.gguf.is_some());
        checks.clash(self.hub.is_some() && self.gguf.is_some(), "gguf", "clashes with `hub`: give one of the two");
        let provided = self.gguf.as_ref().is_none_or(|file| self.source.is_some() && is_inside(file));
        checks.clash(!provided, "gguf", "must be a path below `.sources`, of a `source`");
        checks.clash(
            made && published,
            if self.hub.is_some() { "hub" } else { "gguf" },
            "clashes with `pretrain`: give one of the two",
        );
        checks.clash(!made && !published, "pretrain", "is missing: give `pretrain`, `hub` or `gguf`");
        checks.clash(published && self.shape.is_none(), "shape", "is missing: estimates of published weights need it");
        checks.clash(
            self.hub.is_some() && self.files.is_empty(),
            "files",
            "is missing: name the files needed of `hub`",
        );
        checks.clash(made && !published && self.shape.is_some(), "shape", "clashes with `pretrain`, which says it");
        if let Some(hub) = &self.hub {
            let parts: Vec<&str> = hub.split('/').collect();
            let fine = parts.len() == 2 && parts.iter().all(|part| !part.is_empty() && !part.starts_with('.'));
            checks.clash(!fine, "hub", "must be `owner/name`");
        }
        if let Some(Err(error)) = self.shape.as_ref().map(Shape::architecture) {
            checks.clash(true, "shape", &error.diagnostic().to_string());
        }
        if let Some(pretrain) = &self.pretrain {
            checks.inside("pretrain", pretrain.problems());
        }
    }
}

/// What must hold of a base model before any row is believed: a metric of its vanilla row within bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Precondition {
    /// Key of the metric in results.
    pub metric: Option<MetricKey>,
    /// Name of the metric in messages.
    pub what: String,
    /// Smallest value allowed.
    pub min: f64,
    /// Largest value allowed.
    pub max: f64,
    /// The model it is about. Without it, every model.
    pub model: Option<String>,
}

impl Validate for Precondition {
    fn clashes(&self, checks: &mut Checks) {
        checks.clash(self.metric.is_none(), "metric", "is missing");
        checks.clash(self.what.is_empty(), "what", "is missing");
        // Not `min > max`, which a NaN would pass.
        let ordered = self.min <= self.max;
        checks.clash(!ordered, "min", "clashes with `max`: it must not be over it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use irepair_core::metric::TOX;

    fn problems(model: &BaseModel) -> Vec<String> {
        model.problems().iter().map(ToString::to_string).collect()
    }

    fn published() -> BaseModel {
        let shape = Shape::new("gpt2", [2, 8, 2], 16, 32);
        BaseModel {
            name: "m".into(),
            title: "M".into(),
            hub: Some("owner/Name-1.3B".into()),
            files: vec!["config.json".into()],
            shape: Some(shape),
            ..BaseModel::default()
        }
    }

    #[test]
    fn a_model_is_trained_or_published_and_not_both() {
        assert_eq!(problems(&published()), [""; 0]);
        let both = BaseModel { pretrain: Some(PretrainOptions::default()), ..published() };
        assert_eq!(problems(&both), ["`hub`: clashes with `pretrain`: give one of the two"]);
        let neither = BaseModel { hub: None, shape: None, ..published() };
        assert_eq!(problems(&neither), ["`pretrain`: is missing: give `pretrain`, `hub` or `gguf`"]);
        let bare = BaseModel { shape: None, files: Vec::new(), hub: Some("../up".into()), ..published() };
        assert_eq!(
            problems(&bare),
            [
                "`shape`: is missing: estimates of published weights need it",
                "`files`: is missing: name the files needed of `hub`",
                "`hub`: must be `owner/name`"
            ]
        );
    }

    #[test]
    fn a_shape_comes_from_either_source() {
        assert_eq!(published().architecture().map(|a| a.n_embd), Some(8));
        assert_eq!(published().hub_folder(), Some("Name-1.3B"));
        let made = BaseModel { pretrain: Some(PretrainOptions::default()), ..BaseModel::default() };
        assert_eq!(made.architecture().map(|a| (a.n_block, a.n_embd)), Some((12, 64)));
    }

    #[test]
    fn bounds_are_in_order() {
        let bounds = |min, max| Precondition { metric: Some(TOX.into()), what: "w".into(), min, max, model: None };
        assert!(bounds(1.0, 2.0).problems().is_empty());
        assert_eq!(bounds(2.0, 1.0).problems().len(), 1);
        assert_eq!(bounds(f64::NAN, 1.0).problems().len(), 1);
    }
}
