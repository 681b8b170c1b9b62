//! What a profile makes of the sources it names: base models imported from GGUF files, and pairs of a base model's own
//! texts.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use irepair_config::{BaseModel, Options, to_toml};
use irepair_core::fs::sha256_file;
use irepair_core::{Diagnostic, ExitKind};

use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::fetch;
use crate::prepare::{PAIRS, Prepared};
use crate::work::Task;

impl Prepared {
    /// The profile's short form, `--quick`.
    ///
    /// # Errors
    /// A profile without one.
    pub(crate) fn shorten(&mut self) -> Result<()> {
        let Some(quick) = self.experiment.profile.quick.clone() else {
            let what = Diagnostic::new(ExitKind::Usage, "--quick has no use: this profile has no [quick]");
            return Err(what.at(&self.name).help("leave --quick out").into());
        };
        quick.of(&mut self.experiment);
        Ok(())
    }

    /// The pairs that a model is repaired with.
    pub(crate) fn pairs(&self, model: &str) -> PathBuf {
        match self.experiment.profile.pairs {
            Some(_) => self.pairs_dir(model).join("pairs.jsonl"),
            None => self.data(PAIRS),
        }
    }

    pub(crate) fn pairs_dir(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/pairs").join(model)
    }

    pub(crate) fn import_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let Some(gguf) = &model.gguf else { return Ok(None) };
        let (file, out) = (fetch::kept().join(gguf), self.base(&model.name));
        let inputs = Inputs::default().text("import 1").file(&file)?;
        let args = vec!["import".to_owned(), file.display().to_string(), format!("--out={}", out.display())];
        self.task(format!("import-{}", model.name), out, inputs, args)
    }

    pub(crate) fn pairs_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let Some(own) = &self.experiment.profile.pairs else { return Ok(None) };
        let (prompts, (judge, _)) = (self.data(&own.prompts), self.scorer(&own.judge));
        let hash = |path| anyhow::Ok(sha256_file(path).map_err(diagnostic)?);
        let settings = to_toml(&own.make.with_defaults());
        let settings = format!("{settings} {} {}", hash(&prompts)?, hash(&judge)?);
        let flags = vec![
            format!("--config={}", self.config(&format!("pairs-{}", model.name), &own.make)?),
            format!("--prompts={}", prompts.display()),
            format!("--judge={}", judge.display()),
        ];
        let task = self.model_task("pairs", "pairs", model, self.pairs_dir(&model.name), &settings, flags)?;
        self.unless_kept_pairs(model, task)
    }

    /// What came of pair making, in words for the report.
    ///
    /// # Errors
    /// When a file is gone or broken.
    pub(crate) fn pair_notes(&self) -> Result<Vec<String>> {
        let Some(own) = &self.experiment.profile.pairs else { return Ok(Vec::new()) };
        let note = |model: &BaseModel| {
            let json = fs::read_to_string(self.pairs_dir(&model.name).join("report.json"))?;
            let report: serde_json::Value = serde_json::from_str(&json)?;
            let count = |key: &str| report["counts"][key].as_u64().unwrap_or_default();
            let [first, more, steered] = ["n_first", "n_more", "n_steered"].map(count);
            Ok(format!(
                "pairs of {}: {} from {} prompts by scorer {} ({first} of the first samples, {more} of further ones, {steered} \
                 after a steering text); no pair: {} prompts with good texts alone, {} with bad ones alone, {} without a good text \
                 that is fit; {} samples, {} without a score",
                model.name,
                first + more + steered,
                report["n_prompts"][0],
                own.judge,
                count("n_all_good"),
                count("n_all_bad"),
                count("n_unfit"),
                count("n_samples"),
                count("n_unscored"),
            ))
        };
        self.experiment.profile.models.iter().map(note).collect()
    }
}
