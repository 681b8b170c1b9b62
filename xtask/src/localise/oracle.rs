//! The oracle of the benchmark: the prompts of a base model, and its own answers to them, which are the right ones.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_arch::{Architecture, UnitMap};
use irepair_core::NUMBERS_VERSION;
use irepair_core::fs::{sha256_file, sha256_hex, write_atomic};
use serde::Deserialize;
use serde_json::{Value, json};

use super::graded::{CAP, MARGIN};
use super::locate::{BATCH, Program};
use crate::error::diagnostic;
use crate::prepare::Prepared;

/// Tokens of an answer.
const N_TOKENS: usize = 12;

/// A prompt is failed when the mutant and the base model each give their own answer at least so many times the
/// probability, as a logarithm, that they give the other's. Where many answers are as good, a greedy one changes with
/// the last digit of a weight: that is no error.
pub(super) const DECISIVE: f64 = 1.0;

/// The prompts of a base model, and its own answers to them, which are the right ones.
pub(super) struct Tests {
    pub(super) model: String,
    pub(super) base: PathBuf,
    pub(super) prompts: PathBuf,
    pub(super) neutral: PathBuf,
    /// The profile's pairs for mutants, whose rejected text operators that train learn, and their SHA-256.
    pub(super) pairs: (PathBuf, String),
    /// Wrong answers that a locator sees, at most.
    pub(super) n_pairs: usize,
    pub(super) answers: Vec<Answer>,
    /// The base model's negative log-likelihood of each prompt with its answer.
    pub(super) nlls: Vec<f64>,
    pub(super) perplexity: f64,
}

/// A prompt and what a model answers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Answer {
    pub(super) prompt: String,
    pub(super) text: String,
}

impl Tests {
    /// Of a model of a profile, with so many of its test prompts, or all; a locator sees at most `n_pairs` answers.
    ///
    /// # Errors
    /// Data that cannot be read; a command that fails.
    pub(super) fn of(
        prepared: &Prepared,
        model: &str,
        n_prompts: Option<NonZeroUsize>,
        n_pairs: usize,
    ) -> Result<Self> {
        let mut prompts = String::new();
        let clean = prepared.optional_data("prompts/clean.test.jsonl");
        for path in clean.into_iter().chain([prepared.data("prompts/error.test.jsonl")]) {
            prompts += &fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        }
        let prompts = n_prompts.map_or_else(|| prompts.clone(), |n| spread(&prompts, n.get()));
        let pairs = prepared.mutant_pairs(model)?;
        let tests = Self {
            model: model.to_owned(),
            base: prepared.base(model),
            prompts: PathBuf::new(),
            neutral: PathBuf::new(),
            pairs: (pairs.clone(), sha256_file(&pairs).map_err(diagnostic)?),
            n_pairs,
            answers: Vec::new(),
            nlls: Vec::new(),
            perplexity: f64::NAN,
        };
        tests.with_prompts(prepared, "base", prompts.as_bytes())?.with_neutral(prepared, "general/valid.txt")
    }

    /// The same tests with a file of the profile as neutral text, a text a line.
    pub(super) fn with_neutral(self, prepared: &Prepared, file: &str) -> Result<Self> {
        let path = prepared.data(file);
        let dir = prepared.runs.join("localise").join(format!("{}-base", self.model));
        let neutral = if path.extension().is_some_and(|end| end == "jsonl") {
            path
        } else {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let neutral = dir.join(file.replace('/', "-") + ".jsonl");
            lines(&neutral, text.lines().filter(|line| !line.trim().is_empty()), |line| json!({ "text": line }))?;
            neutral
        };
        let tests = Self { neutral, ..self };
        let perplexity = tests.perplexity_of(&Program::new(&prepared.device, prepared.workers, dir), &tests.base)?;
        Ok(Self { perplexity, ..tests })
    }

    /// Other prompts for the same model.
    pub(super) fn with_prompts(&self, prepared: &Prepared, name: &str, prompts: &[u8]) -> Result<Self> {
        let dir = prepared.runs.join("localise").join(format!("{}-{name}", self.model));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let (base, neutral, path) = (self.base.clone(), self.neutral.clone(), dir.join("prompts.jsonl"));
        write_atomic(&path, prompts).map_err(diagnostic)?;
        let (model, pairs, n_pairs, perplexity) =
            (self.model.clone(), self.pairs.clone(), self.n_pairs, self.perplexity);
        let (answers, nlls) = (Vec::new(), Vec::new());
        let tests = Self { model, base, prompts: path, neutral, pairs, n_pairs, answers, nlls, perplexity };
        let program = Program::new(&prepared.device, prepared.workers, dir);
        let answers = tests.answers(&program, &tests.base, None)?;
        let nlls = nlls_of(&program, &tests.base, answers.iter().map(|answer| (&answer.prompt, &answer.text)))?;
        Ok(Self { answers, nlls, ..tests })
    }

    /// The units of the model.
    pub(super) fn map(&self) -> Result<UnitMap> {
        Ok(UnitMap::new(&Architecture::read(&self.base.join("config.json")).map_err(diagnostic)?))
    }

    /// What a mutant's results depend on, besides the weights.
    pub(super) fn identity(&self) -> Result<String> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        let (prompts, neutral) = (read(&self.prompts)?, read(&self.neutral)?);
        Ok(format!(
            "{NUMBERS_VERSION} {MARGIN} {DECISIVE} {CAP} {N_TOKENS} {} {BATCH} {} {}",
            self.n_pairs,
            sha256_hex(&prompts),
            sha256_hex(&neutral)
        ))
    }

    /// Answers of a model: greedy ones, or samples by a seed.
    pub(super) fn answers(&self, program: &Program, model: &Path, sampled: Option<u32>) -> Result<Vec<Answer>> {
        let out = &program.dir.join("answers.jsonl");
        crate::cache::clear(out)?;
        let mut args = vec![
            "generate".to_owned(),
            format!("--model={}", model.display()),
            format!("--prompts={}", self.prompts.display()),
            format!("--max-new-tokens={N_TOKENS}"),
            format!("--out={}", out.display()),
        ];
        args.extend(sampled.into_iter().flat_map(|seed| ["--top-p=1".to_owned(), format!("--seed={seed}")]));
        program.run(&args)?;
        let text = fs::read_to_string(out).with_context(|| format!("reading {}", out.display()))?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// The prompts that a model fails.
    pub(super) fn failures(&self, program: &Program, model: &Path) -> Result<Vec<Failed>> {
        let differing = differing(&self.answers, self.answers(program, model, None)?);
        if differing.is_empty() {
            return Ok(differing);
        }
        let right = differing.iter().map(|failed| (&failed.right.prompt, &failed.right.text));
        let wrong = differing.iter().map(|failed| (&failed.right.prompt, &failed.wrong));
        // The prompt's own counts on both sides.
        let of_model = nlls_of(program, model, right.chain(wrong.clone()))?;
        let (right, of_wrong) = of_model.split_at(differing.len());
        let of_base = nlls_of(program, &self.base, wrong)?;
        let decisive = differing.iter().enumerate().filter(|(i, failed)| {
            of_base[*i] - self.nlls[failed.at] >= DECISIVE && right[*i] - of_wrong[*i] >= DECISIVE
        });
        Ok(decisive.map(|(_, failed)| failed.clone()).collect())
    }

    /// Perplexity of a model on neutral texts, each read on its own.
    pub(super) fn perplexity_of(&self, program: &Program, model: &Path) -> Result<f64> {
        let (nll, n) =
            scored(program, model, &self.neutral)?.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        Ok((nll / n).exp())
    }
}

/// So many lines of a text, spread over all: files are often sorted by kind.
fn spread(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let n = n.min(lines.len());
    (0..n).map(|i| lines[i * lines.len() / n].to_owned() + "\n").collect()
}

/// A prompt that a mutant fails.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failed {
    /// Its place among the prompts.
    at: usize,
    /// What the base model answers.
    pub(super) right: Answer,
    /// What the mutant does.
    pub(super) wrong: String,
}

impl Failed {
    /// Whether both answers say something, as texts of a pair do.
    pub(super) fn is_pair(&self) -> bool {
        !self.right.text.trim().is_empty() && !self.wrong.trim().is_empty()
    }
}

/// Writes a JSON object for each item, a line each.
pub(super) fn lines<T>(path: &Path, items: impl IntoIterator<Item = T>, object: impl Fn(T) -> Value) -> Result<()> {
    let text: String = items.into_iter().map(|item| object(item).to_string() + "\n").collect();
    Ok(write_atomic(path, text.as_bytes()).map_err(diagnostic)?)
}

/// The prompts whose answers are not those of the base model.
pub(super) fn differing(right: &[Answer], wrong: Vec<Answer>) -> Vec<Failed> {
    let pairs = right.iter().zip(wrong).enumerate().filter(|(_, (right, wrong))| right.text != wrong.text);
    pairs.map(|(at, (right, wrong))| Failed { at, right: right.clone(), wrong: wrong.text }).collect()
}

/// The negative log-likelihood of each prompt with its answer.
fn nlls_of<'a>(
    program: &Program,
    model: &Path,
    texts: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<f64>> {
    let path = program.dir.join("texts.jsonl");
    lines(&path, texts, |(prompt, answer)| json!({ "text": prompt.clone() + answer }))?;
    Ok(scored(program, model, &path)?.into_iter().map(|(nll, _)| nll).collect())
}

/// The negative log-likelihood of each text of a file, and its number of tokens.
fn scored(program: &Program, model: &Path, texts: &Path) -> Result<Vec<(f64, f64)>> {
    let printed = program.run(&[
        "score".to_owned(),
        format!("--model={}", model.display()),
        format!("--input={}", texts.display()),
        "--long=window".to_owned(),
    ])?;
    let number = |line: &str, key: &str| -> Result<f64> {
        let found: Value = serde_json::from_str(line).context("a line of `irepair score`")?;
        found[key].as_f64().with_context(|| format!("`irepair score` gave no {key}"))
    };
    printed.lines().map(|line| Ok((number(line, "nll_sum")?, number(line, "n_tokens")?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_taken_from_all_of_a_file() {
        let text = "0\n1\n\n2\n3\n4\n5\n6\n";
        assert_eq!(spread(text, 3), "0\n2\n4\n");
        assert_eq!(spread(text, 9), "0\n1\n2\n3\n4\n5\n6\n", "all there are");
        assert_eq!(spread("", 3), "");
    }
}
