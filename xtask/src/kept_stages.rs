//! Preparation that is kept next to a profile's results, because it takes long or another machine would make something
//! else: pairs of a base model's own texts, whose sampling follows the rounding of the processor's kernels, and
//! sensitivities.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use irepair_config::BaseModel;
use irepair_core::fs::{sha256_hex, write_atomic};
use irepair_core::{Diagnostic, ExitKind};
use irepair_report::write_result;
use serde::{Deserialize, Serialize};

use crate::cache::{self, Inputs};
use crate::error::diagnostic;
use crate::kept::{self, Shared};
use crate::prepare::Prepared;
use crate::reproduce::folders;
use crate::work::Task;
use crate::{identity, paths, process};

/// The pairs in the directory of a set.
const PAIRS: &str = "pairs.jsonl";

/// Ends the name of a set of pairs that mutants are trained on, after that of their base model.
const OF_MUTANTS: &str = ".mutants";

/// A set of pairs: prompts by their hash, because they are fetched; texts as base64, because half of them are toxic.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPairs {
    /// Hash of settings, prompts, judge, weights and the version of the numbers.
    identity: String,
    /// What came of pair making, as `irepair pairs` wrote it.
    report: serde_json::Value,
    pairs: Vec<KeptPair>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPair {
    /// SHA-256 of the prompt.
    prompt: String,
    /// Base64 of the text, as is the next.
    chosen: String,
    rejected: String,
}

/// A line of `pairs.jsonl`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: String,
    chosen: String,
    rejected: String,
}

impl Prepared {
    /// The task, unless the profile keeps the pairs that it would make: they are written to its output.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub(crate) fn unless_kept_pairs(&self, model: &BaseModel, task: Option<Task>) -> Result<Option<Task>> {
        let Some(task) = task else { return Ok(None) };
        if self.take_pairs(&model.name, &task.output, &task.inputs.key())? {
            cache::mark_done(&task.output, &task.inputs)?;
            return Ok(None);
        }
        Ok(Some(task))
    }

    /// Keeps the pairs of a model. Where other ones of the same identity are kept, which another machine made, takes
    /// those: rows of both would be of different work.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub(crate) fn keep_pairs(&self, model: &BaseModel) -> Result<()> {
        let dir = self.pairs_dir(&model.name);
        let (Some(place), Some(made_from)) = (self.kept_pairs(&model.name), cache::made_from(&dir)) else {
            return Ok(());
        };
        if self.take_pairs(&model.name, &dir, &made_from)? {
            return Ok(());
        }
        let report = serde_json::from_str(&fs::read_to_string(dir.join("report.json"))?)?;
        let identity = identity_of(&made_from)?.key();
        kept::put(&place, &KeptPairs::of(identity, report, &fs::read_to_string(dir.join(PAIRS))?)?)
    }

    /// The pairs that mutants of a model are trained on: those of the rows, unless the profile keeps others for them,
    /// because kept mutants were trained on those.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub(crate) fn mutant_pairs(&self, model: &str) -> Result<PathBuf> {
        let set = format!("{model}{OF_MUTANTS}");
        let out = self.pairs_dir(&set);
        let made_from = cache::made_from(&self.pairs_dir(model)).unwrap_or_default();
        let is_kept = self.take_pairs(&set, &out, &made_from)?;
        Ok(if is_kept { out.join(PAIRS) } else { self.pairs(model) })
    }

    /// Writes a kept set of pairs to a directory, unless they are there; false where none are kept of what these are
    /// made from.
    fn take_pairs(&self, set: &str, out: &Path, made_from: &str) -> Result<bool> {
        let (Some(place), Some(own)) = (self.kept_pairs(set), &self.experiment.profile.pairs) else {
            return Ok(false);
        };
        let kept: Option<KeptPairs> = kept::get(&place)?;
        let identity = identity_of(made_from)?.key();
        let Some(kept) = kept.filter(|kept| kept.identity == identity) else { return Ok(false) };
        let lines = kept.lines(&fs::read_to_string(self.data(&own.prompts))?);
        let help = "take the file back from version control, or remove it: its pairs are made again";
        let broken = |error| Diagnostic::new(ExitKind::Data, format!("no kept pairs: {error}")).at(place.display());
        let lines = lines.map_err(|error| broken(error).help(help))?;
        if fs::read_to_string(out.join(PAIRS)).is_ok_and(|made| made == lines) {
            return Ok(true);
        }
        process::say(format!("pairs of {set}: those kept in {}", place.display()));
        fs::create_dir_all(out)?;
        write_atomic(&out.join(PAIRS), lines.as_bytes()).map_err(diagnostic)?;
        write_result(&out.join("report.json"), &kept.report).map_err(diagnostic)?;
        Ok(true)
    }

    /// Where a set of pairs is kept; nowhere in a rehearsal, or where the profile is given its pairs.
    fn kept_pairs(&self, set: &str) -> Option<PathBuf> {
        let is_kept = self.warning.is_none() && self.experiment.profile.pairs.is_some();
        is_kept.then(|| kept::dir(&self.name, "pairs").join(format!("{set}.json")))
    }

    /// The task, unless the profile keeps the sensitivities that it would measure: they are written to its output.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub(crate) fn unless_kept_sensitivities(&self, model: &BaseModel, task: Option<Task>) -> Result<Option<Task>> {
        let Some(task) = task else { return Ok(None) };
        let files = [false, true].map(|quick| self.kept_dir("").join(format!("{}.json", folders(quick).1)));
        let kept = files.iter().filter(|_| self.warning.is_none()).filter_map(|file| kept::find::<Shared>(file));
        let identity = self.sensitivity_identity(model, &task.inputs.key())?;
        let Some(kept) = kept.into_iter().find(|kept| kept.sensitivities_from.get(&model.name) == Some(&identity))
        else {
            return Ok(Some(task));
        };
        fs::create_dir_all(&task.output)?;
        for result in kept.sensitivities.iter().filter(|result| result.model == model.name) {
            write_result(&task.output.join(format!("{}.json", result.text)), result).map_err(diagnostic)?;
        }
        cache::mark_done(&task.output, &task.inputs)?;
        Ok(None)
    }

    /// By model, the hash of what its sensitivities were measured from.
    ///
    /// # Errors
    /// When files cannot be read.
    pub(crate) fn sensitivities_from(&self) -> Result<BTreeMap<String, String>> {
        let made = |model: &BaseModel| {
            let made_from = cache::made_from(&self.sensitivity_dir(&model.name))?;
            Some(self.sensitivity_identity(model, &made_from).map(|identity| (model.name.clone(), identity)))
        };
        self.experiment.profile.models.iter().filter_map(made).collect()
    }

    /// What sensitivities follow from: settings and weights, the version of the numbers, and the texts.
    fn sensitivity_identity(&self, model: &BaseModel, made_from: &str) -> Result<String> {
        let texts = [self.pairs(&model.name), self.data("general/valid.txt")];
        Ok(texts.iter().try_fold(identity_of(made_from)?, |inputs, file| inputs.file(file))?.key())
    }
}

/// The hash of what a stage was made from, with the version of the numbers, which machines that made it before do not
/// ask for.
fn identity_of(made_from: &str) -> Result<Inputs> {
    Ok(identity::numbers(&paths::irepair())?.text(made_from))
}

impl KeptPairs {
    fn of(identity: String, report: serde_json::Value, lines: &str) -> Result<Self> {
        let pair = |line: &str| {
            let Line { prompt, chosen, rejected } = serde_json::from_str(line)?;
            let [chosen, rejected] = [chosen, rejected].map(|text| STANDARD.encode(text));
            anyhow::Ok(KeptPair { prompt: sha256_hex(prompt.as_bytes()), chosen, rejected })
        };
        Ok(Self { identity, report, pairs: lines.lines().map(pair).collect::<Result<_>>()? })
    }

    /// The lines of `pairs.jsonl`, with the prompts of a file of them.
    fn lines(&self, prompts: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Prompt {
            prompt: String,
        }
        let prompts = prompts.lines().map(|line| {
            let Prompt { prompt } = serde_json::from_str(line)?;
            anyhow::Ok((sha256_hex(prompt.as_bytes()), prompt))
        });
        let (prompts, mut lines) = (prompts.collect::<Result<BTreeMap<String, String>>>()?, String::new());
        for pair in &self.pairs {
            let prompt = prompts.get(&pair.prompt).cloned().context("a prompt is not there")?;
            let text = |text: &str| anyhow::Ok(String::from_utf8(STANDARD.decode(text)?)?);
            let line = Line { prompt, chosen: text(&pair.chosen)?, rejected: text(&pair.rejected)? };
            lines += &(serde_json::to_string(&line)? + "\n");
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_as_they_were_made_and_only_with_their_prompts() {
        let lines = "{\"prompt\":\"A »b\\\" c\",\"chosen\":\" d\\n\",\"rejected\":\" é<|end|>\"}\n\
                     {\"prompt\":\"f\",\"chosen\":\"\",\"rejected\":\"g\"}\n";
        let kept = KeptPairs::of("i".to_owned(), serde_json::Value::Null, lines).unwrap();
        let json = serde_json::to_string(&kept).unwrap();
        for shown in ["»b", "é", "<|end|>", "\"g\""] {
            assert!(!json.contains(shown), "{shown} in {json}");
        }
        let read: KeptPairs = serde_json::from_str(&json).unwrap();
        let prompts = "{\"prompt\":\"f\"}\n{\"prompt\":\"no pair\"}\n{\"prompt\":\"A »b\\\" c\"}\n";
        assert_eq!(read.lines(prompts).unwrap(), lines);
        assert!(read.lines("{\"prompt\":\"f\"}\n").unwrap_err().to_string().contains("a prompt is not there"));
    }

    /// Another version of the numbers asks for both sets again, or mutants would take the rows' pairs without a word.
    #[test]
    fn kept_sets_of_a_model_are_other_samples_of_the_same_making() {
        let [rows, mutants] = ["", OF_MUTANTS].map(|set| {
            let place = kept::dir("wild", "pairs").join(format!("smollm2-135m{set}.json"));
            kept::get::<KeptPairs>(&place).unwrap().unwrap()
        });
        assert_eq!(rows.identity, mutants.identity);
        assert_eq!([rows.pairs.len(), mutants.pairs.len()], [129, 130]);
        assert_eq!(rows.report["made_from"], mutants.report["made_from"]);
    }
}
