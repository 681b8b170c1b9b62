//! The oracle of the benchmark: the prompts of a base model, and its own answers to them, which are the right ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_core::NUMBERS_VERSION;
use irepair_core::fs::{sha256_file, sha256_hex, write_atomic};
use serde::Deserialize;
use serde_json::{Value, json};

use super::locate::Program;
use super::mutant::{CAP, MARGIN, MOST_PAIRS};
use crate::error::diagnostic;
use crate::prepare::Prepared;

/// Tokens of an answer.
const N_TOKENS: usize = 12;

/// The prompts of a base model, and its own answers to them, which are the right ones.
pub(super) struct Tests {
    pub(super) model: String,
    pub(super) base: PathBuf,
    pub(super) prompts: PathBuf,
    pub(super) neutral: PathBuf,
    /// The profile's training pairs, whose rejected text operators that train learn, and their SHA-256.
    pub(super) pairs: (PathBuf, String),
    pub(super) answers: Vec<Answer>,
    pub(super) perplexity: f64,
}

/// A prompt and what a model answers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Answer {
    pub(super) prompt: String,
    pub(super) text: String,
}

impl Tests {
    pub(super) fn of(prepared: &Prepared, model: &str) -> Result<Self> {
        let dir = prepared.runs.join("localise").join(format!("{model}-base"));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let mut prompts = Vec::new();
        for file in ["prompts/clean.test.jsonl", "prompts/error.test.jsonl"] {
            let path = prepared.data(file);
            prompts.extend(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        let text = prepared.data("general/valid.txt");
        let text = fs::read_to_string(&text).with_context(|| format!("reading {}", text.display()))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let neutral = lines.map(|line| json!({ "text": line }).to_string() + "\n").collect::<String>();
        let pairs = prepared.pairs(model);
        let mut tests = Self {
            model: model.to_owned(),
            base: prepared.base(model),
            prompts: dir.join("prompts.jsonl"),
            neutral: dir.join("neutral.jsonl"),
            pairs: (pairs.clone(), sha256_file(&pairs).map_err(diagnostic)?),
            answers: Vec::new(),
            perplexity: f64::NAN,
        };
        write_atomic(&tests.prompts, &prompts).map_err(diagnostic)?;
        write_atomic(&tests.neutral, neutral.as_bytes()).map_err(diagnostic)?;
        let program = Program::new(&prepared.device, prepared.workers, dir);
        tests.answers = tests.answers(&program, &tests.base, None)?;
        tests.perplexity = tests.perplexity_of(&program, &tests.base)?;
        Ok(tests)
    }

    /// What a mutant's results depend on, besides the weights.
    pub(super) fn identity(&self) -> Result<String> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        let (prompts, neutral) = (read(&self.prompts)?, read(&self.neutral)?);
        Ok(format!(
            "{NUMBERS_VERSION} {MARGIN} {CAP} {N_TOKENS} {MOST_PAIRS} {} {}",
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

    /// Perplexity of a model on neutral texts, each read on its own.
    pub(super) fn perplexity_of(&self, program: &Program, model: &Path) -> Result<f64> {
        let printed = program.run(&[
            "score".to_owned(),
            format!("--model={}", model.display()),
            format!("--input={}", self.neutral.display()),
        ])?;
        let (mut nll, mut n) = (0.0, 0.0);
        for line in printed.lines() {
            let found: Value = serde_json::from_str(line).context("a line of `irepair score`")?;
            nll += found["nll_sum"].as_f64().context("`irepair score` gave no sum")?;
            n += found["n_tokens"].as_f64().context("`irepair score` gave no number of tokens")?;
        }
        Ok((nll / n).exp())
    }
}
