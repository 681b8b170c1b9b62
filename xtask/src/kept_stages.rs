//! Preparation that is kept next to a profile's results, because it takes long or another machine would make something
//! else: pairs of a base model's own texts, whose sampling follows the rounding of the processor's kernels, and
//! sensitivities.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use irepair_config::BaseModel;
use irepair_core::fs::{sha256_hex, write_atomic};
use irepair_report::write_result;
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::error::diagnostic;
use crate::kept::{self, Shared};
use crate::prepare::Prepared;
use crate::work::Task;

/// A set of pairs. It names prompts, which are fetched, by their hash, and holds texts in a form that is not
/// read by accident.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPairs {
    /// Hash of settings, prompts, judge and weights.
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
        let (Some(place), Some(own)) = (self.kept_pairs(model), &self.experiment.profile.pairs) else {
            return Ok(Some(task));
        };
        let kept: Option<KeptPairs> = kept::get(&place)?;
        let Some(kept) = kept.filter(|kept| kept.identity == task.inputs.key()) else { return Ok(Some(task)) };
        let prompts = fs::read_to_string(self.data(&own.prompts))?;
        let Some(lines) = kept.lines(&prompts)? else { return Ok(Some(task)) };
        fs::create_dir_all(&task.output)?;
        write_atomic(&task.output.join("pairs.jsonl"), lines.as_bytes()).map_err(diagnostic)?;
        write_result(&task.output.join("report.json"), &kept.report).map_err(diagnostic)?;
        cache::mark_done(&task.output, &task.inputs)?;
        Ok(None)
    }

    /// Keeps the pairs of a model, unless they are kept already.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub(crate) fn keep_pairs(&self, model: &BaseModel) -> Result<()> {
        let dir = self.pairs_dir(&model.name);
        let (Some(place), Some(identity)) = (self.kept_pairs(model), cache::made_from(&dir)) else { return Ok(()) };
        if kept::get::<KeptPairs>(&place).is_ok_and(|kept| kept.is_some_and(|kept| kept.identity == identity)) {
            return Ok(());
        }
        let report = serde_json::from_str(&fs::read_to_string(dir.join("report.json"))?)?;
        kept::put(&place, &KeptPairs::of(identity, report, &fs::read_to_string(dir.join("pairs.jsonl"))?)?)
    }

    /// Where a model's pairs are kept; nowhere in a rehearsal, or where the profile is given its pairs.
    fn kept_pairs(&self, model: &BaseModel) -> Option<PathBuf> {
        let is_kept = self.warning.is_none() && self.experiment.profile.pairs.is_some();
        is_kept.then(|| kept::dir(&self.name, "pairs").join(format!("{}.json", model.name)))
    }

    /// The task, unless the profile keeps the sensitivities that it would measure: they are written to its output.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub(crate) fn unless_kept_sensitivities(&self, model: &BaseModel, task: Option<Task>) -> Result<Option<Task>> {
        let Some(task) = task else { return Ok(None) };
        for file in ["report.json", "report-quick.json"] {
            let kept: Option<Shared> = kept::get(&kept::dir(&self.name, "").join(file))?;
            let Some(kept) = kept.filter(|_| self.warning.is_none()) else { continue };
            if kept.sensitivities_from.get(&model.name) != Some(&task.inputs.key()) {
                continue;
            }
            fs::create_dir_all(&task.output)?;
            for result in kept.sensitivities.iter().filter(|result| result.model == model.name) {
                write_result(&task.output.join(format!("{}.json", result.text)), result).map_err(diagnostic)?;
            }
            cache::mark_done(&task.output, &task.inputs)?;
            return Ok(None);
        }
        Ok(Some(task))
    }

    /// By model, the hash of what its sensitivities were measured from.
    pub(crate) fn sensitivities_from(&self) -> BTreeMap<String, String> {
        let models = self.experiment.profile.models.iter();
        models.filter_map(|m| Some((m.name.clone(), cache::made_from(&self.sensitivity_dir(&m.name))?))).collect()
    }
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

    /// The lines of `pairs.jsonl`, with the prompts of a file of them; none where a prompt is not there.
    fn lines(&self, prompts: &str) -> Result<Option<String>> {
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
            let Some(prompt) = prompts.get(&pair.prompt).cloned() else { return Ok(None) };
            let text = |text: &str| anyhow::Ok(String::from_utf8(STANDARD.decode(text)?)?);
            let line = Line { prompt, chosen: text(&pair.chosen)?, rejected: text(&pair.rejected)? };
            lines += &(serde_json::to_string(&line)? + "\n");
        }
        Ok(Some(lines))
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
        assert_eq!(read.lines(prompts).unwrap().unwrap(), lines);
        assert_eq!(read.lines("{\"prompt\":\"f\"}\n").unwrap(), None);
    }
}
