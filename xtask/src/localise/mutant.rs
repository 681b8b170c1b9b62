//! Mutants: a fault that is just strong enough to change what the model answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_arch::{Architecture, UnitMap};
use irepair_config::{Metric, Operator, UnitKind};
use irepair_core::fs::{sha256_hex, write_atomic};
use irepair_core::{NUMBERS_VERSION, Unit, UnitPart};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::locate::Program;
use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::prepare::Prepared;

/// A mutant is killed when it fails at least this share of the prompts.
pub(super) const MARGIN: f64 = 0.1;

/// A prompt is failed when the mutant and the base model each give their own answer at least so many times the
/// probability, as a logarithm, that they give the other's. Where many answers are as good, a greedy one changes with
/// the last digit of a weight: that is no error.
pub(super) const DECISIVE: f64 = 1.0;

/// A mutant whose perplexity on neutral text is over this many times the base model's is no fault to look for: it broke
/// the model.
pub(super) const CAP: f64 = 2.0;

/// Tokens of an answer.
const N_TOKENS: usize = 12;

/// Wrong answers that a locator sees, at most.
pub(super) const MOST_PAIRS: usize = 64;

/// How many of them are one batch.
pub(super) const BATCH: usize = 16;

/// The prompts of a base model, and its own answers to them, which are the right ones.
pub(super) struct Tests {
    pub(super) model: String,
    pub(super) base: PathBuf,
    pub(super) prompts: PathBuf,
    pub(super) neutral: PathBuf,
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
        let mut prompts = Vec::new();
        for file in ["prompts/clean.test.jsonl", "prompts/error.test.jsonl"] {
            let path = prepared.data(file);
            prompts.extend(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        let text = prepared.data("general/valid.txt");
        let text = fs::read_to_string(&text).with_context(|| format!("reading {}", text.display()))?;
        let dir = prepared.runs.join("localise").join(format!("{model}-base"));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let neutral = dir.join("neutral.jsonl");
        lines(&neutral, text.lines().filter(|line| !line.trim().is_empty()), |line| json!({ "text": line }))?;
        let tests = Self {
            model: model.to_owned(),
            base: prepared.base(model),
            prompts: PathBuf::new(),
            neutral,
            answers: Vec::new(),
            perplexity: f64::NAN,
        };
        let tests = tests.with_prompts(prepared, "base", &prompts)?;
        let perplexity = tests.perplexity_of(&Program::new(&prepared.device, prepared.workers, dir), &tests.base)?;
        Ok(Self { perplexity, ..tests })
    }

    /// Other prompts for the same model.
    pub(super) fn with_prompts(&self, prepared: &Prepared, name: &str, prompts: &[u8]) -> Result<Self> {
        let dir = prepared.runs.join("localise").join(format!("{}-{name}", self.model));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let (base, neutral, path) = (self.base.clone(), self.neutral.clone(), dir.join("prompts.jsonl"));
        write_atomic(&path, prompts).map_err(diagnostic)?;
        let (model, perplexity) = (self.model.clone(), self.perplexity);
        let tests = Self { model, base, prompts: path, neutral, answers: Vec::new(), perplexity };
        let program = Program::new(&prepared.device, prepared.workers, dir);
        let answers = tests.answers(&program, &tests.base, None)?;
        Ok(Self { answers, ..tests })
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
            "{NUMBERS_VERSION} {MARGIN} {DECISIVE} {CAP} {N_TOKENS} {MOST_PAIRS} {BATCH} {} {}",
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
        let answers = self.answers(program, model, None)?;
        let differing = differing(&self.answers, answers);
        if differing.is_empty() {
            return Ok(differing);
        }
        let text = |failed: &Failed, answer: &str| json!({ "text": failed.right.prompt.clone() + answer }).to_string();
        let texts = |answer: fn(&Failed) -> String| -> String {
            differing.iter().map(|failed| text(failed, &answer(failed)) + "\n").collect()
        };
        let (right, wrong) = (texts(|failed| failed.right.text.clone()), texts(|failed| failed.wrong.clone()));
        let nlls = |model: &Path, texts: &str| -> Result<Vec<f64>> {
            let path = program.dir.join("texts.jsonl");
            write_atomic(&path, texts.as_bytes()).map_err(diagnostic)?;
            Ok(scored(program, model, &path)?.into_iter().map(|(nll, _)| nll).collect())
        };
        // By how many nats a model prefers the right answer; the prompt's count on both sides.
        let preference = |model: &Path| -> Result<Vec<f64>> {
            let (right, wrong) = (nlls(model, &right)?, nlls(model, &wrong)?);
            Ok(right.iter().zip(wrong).map(|(right, wrong)| wrong - right).collect())
        };
        let (of_base, of_model) = (preference(&self.base)?, preference(model)?);
        let decisive = of_base.iter().zip(of_model).map(|(base, model)| *base >= DECISIVE && -model >= DECISIVE);
        Ok(differing.iter().zip(decisive).filter(|(_, decisive)| *decisive).map(|(failed, _)| failed.clone()).collect())
    }

    /// Perplexity of a model on neutral texts, each read on its own.
    pub(super) fn perplexity_of(&self, program: &Program, model: &Path) -> Result<f64> {
        let (nll, n) =
            scored(program, model, &self.neutral)?.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        Ok((nll / n).exp())
    }
}

/// A prompt that a mutant fails.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failed {
    /// What the base model answers.
    pub(super) right: Answer,
    /// What the mutant does.
    pub(super) wrong: String,
}

/// Writes a JSON object for each item, a line each.
pub(super) fn lines<T>(path: &Path, items: impl IntoIterator<Item = T>, object: impl Fn(T) -> Value) -> Result<()> {
    let text: String = items.into_iter().map(|item| object(item).to_string() + "\n").collect();
    Ok(write_atomic(path, text.as_bytes()).map_err(diagnostic)?)
}

/// The prompts whose answers are not those of the base model.
pub(super) fn differing(right: &[Answer], wrong: Vec<Answer>) -> Vec<Failed> {
    let pairs = right.iter().zip(wrong).filter(|(right, wrong)| right.text != wrong.text);
    pairs.map(|(right, wrong)| Failed { right: right.clone(), wrong: wrong.text }).collect()
}

/// The negative log-likelihood of each text of a file, and its number of tokens.
fn scored(program: &Program, model: &Path, texts: &Path) -> Result<Vec<(f64, f64)>> {
    let printed = program.run(&[
        "score".to_owned(),
        format!("--model={}", model.display()),
        format!("--input={}", texts.display()),
    ])?;
    let number = |line: &str, key: &str| -> Result<f64> {
        let found: Value = serde_json::from_str(line).context("a line of `irepair score`")?;
        found[key].as_f64().with_context(|| format!("`irepair score` gave no {key}"))
    };
    printed.lines().map(|line| Ok((number(line, "nll_sum")?, number(line, "n_tokens")?))).collect()
}

/// A fault to plant, or none.
pub(super) struct Case<'a> {
    pub(super) tests: &'a Tests,
    /// None for the base model itself: nothing is planted, and its failures are samples of its own that differ from its
    /// greedy answers.
    pub(super) operator: Option<Operator>,
    pub(super) kind: UnitKind,
    pub(super) seed: u32,
    /// The units that hold the fault.
    pub(super) place: Vec<Unit>,
    pub(super) n_units: usize,
    pub(super) inputs: Inputs,
}

impl<'a> Case<'a> {
    pub(super) fn new(
        tests: &'a Tests,
        map: &UnitMap,
        operator: Option<Operator>,
        kind: UnitKind,
        seed: u32,
        inputs: Inputs,
    ) -> Self {
        let units: Vec<Unit> = map.units(kind).collect();
        let name = name(&tests.model, operator, kind, seed);
        let first = units[draw(&name, units.len())];
        let place = match (operator, first.part) {
            (None, _) => Vec::new(),
            // Two heads of one block.
            (Some(Operator::HeadSwap), UnitPart::Head(head)) => {
                let n = map.n_per_block(kind);
                let other = (head + 1 + draw(&(name.clone() + " other"), n - 1)) % n;
                vec![first, Unit { part: UnitPart::Head(other), ..first }]
            }
            (Some(_), _) => vec![first],
        };
        let inputs = inputs.text(&name);
        Self { tests, operator, kind, seed, place, n_units: units.len(), inputs }
    }

    pub(super) fn name(&self) -> String {
        name(&self.tests.model, self.operator, self.kind, self.seed)
    }

    /// The strengths that are tried, weakest first; none for an operator without one.
    pub(super) fn strengths(&self) -> Vec<Option<f64>> {
        let of: &[f64] = match self.operator {
            Some(Operator::Noise) => &[0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0],
            Some(Operator::ScaleKeys | Operator::ScaleValues) => &[0.0, 2.0, 4.0, 8.0, 16.0, 32.0],
            Some(Operator::BitFlip) => &[1.0, 4.0, 16.0, 64.0, 256.0],
            Some(Operator::SignFlip | Operator::HeadSwap) | None => return vec![None],
        };
        of.iter().copied().map(Some).collect()
    }
}

/// The name of a case, which decides its place.
fn name(model: &str, operator: Option<Operator>, kind: UnitKind, seed: u32) -> String {
    format!("{model}-{}-{kind}-{seed}", operator.map_or("healthy", Operator::name))
}

/// A number below `n` that a text decides.
pub(super) fn draw(text: &str, n: usize) -> usize {
    let hash = sha256_hex(text.as_bytes());
    let number = u64::from_str_radix(&hash[..15], 16).unwrap_or_default();
    (number % n.max(1) as u64) as usize
}

/// How planting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// The mutant answers otherwise than the base model, and still writes.
    Killed,
    /// No strength changed enough answers.
    Survived,
    /// The weakest strength that changed enough answers broke the model.
    Broken,
}

/// A mutant and how well each locator found its fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Graded {
    pub(super) schema: u32,
    pub(super) identity: String,
    pub(super) model: String,
    /// None where nothing was planted.
    pub(super) operator: Option<Operator>,
    pub(super) unit: UnitKind,
    pub(super) seed: u32,
    /// The faulty units, as settings write them.
    pub(super) place: String,
    pub(super) strength: Option<f64>,
    pub(super) outcome: Outcome,
    /// Prompts that it answers otherwise than the base model, of how many.
    pub(super) n_failed: usize,
    pub(super) n_prompts: usize,
    /// On neutral text: the base model's, and the mutant's where it was measured and is finite.
    pub(super) perplexity: (f64, Option<f64>),
    pub(super) n_units: usize,
    /// By locator; nothing where it does not rank such units.
    pub(super) grades: BTreeMap<Metric, Option<Grade>>,
}

/// How well one locator found the fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Grade {
    /// Ranks of the faulty units, from 1; none where nothing was planted.
    pub(super) ranks: Vec<usize>,
    /// The first units of the ranking, as many as are faulty; one where nothing was planted.
    pub(super) first: Vec<Unit>,
    /// The last unit of the ranking.
    pub(super) last: Unit,
    /// How far the first unit stands out: its score less the mean of all, in standard deviations of all.
    pub(super) outlier: f64,
    /// Of the whole command, the model's loading included.
    pub(super) seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    static TESTS: Tests = Tests {
        model: String::new(),
        base: PathBuf::new(),
        prompts: PathBuf::new(),
        neutral: PathBuf::new(),
        answers: Vec::new(),
        perplexity: 1.0,
    };

    fn case(operator: impl Into<Option<Operator>>, kind: UnitKind, seed: u32) -> Case<'static> {
        let map = UnitMap::new(&Architecture::gpt2(2, 8, 4, 16, 5));
        Case::new(&TESTS, &map, operator.into(), kind, seed, Inputs::default())
    }

    #[test]
    fn seeds_plant_in_many_places_and_always_in_the_same_ones() {
        let places = |operator, kind| (0..40).map(|seed| case(operator, kind, seed).place).collect::<Vec<_>>();
        let heads = places(Operator::Noise, UnitKind::Head);
        assert_eq!(heads, places(Operator::Noise, UnitKind::Head));
        assert!(heads.iter().all(|place| place.len() == 1));
        let mut different = heads.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), 8, "each of two blocks of four heads");
        assert_ne!(heads, places(Operator::SignFlip, UnitKind::Head));
        assert!(case(None, UnitKind::Head, 0).place.is_empty(), "a healthy model");
    }

    #[test]
    fn a_swap_is_of_two_heads_of_one_block() {
        for seed in 0..40 {
            let place = case(Operator::HeadSwap, UnitKind::Head, seed).place;
            let [one, two] = place[..] else { panic!("{place:?}") };
            assert!(one.block == two.block && one != two, "{place:?}");
        }
    }

    #[test]
    fn every_strength_is_one_that_its_operator_takes() {
        for operator in Operator::ALL {
            let case = case(*operator, operator.row().units[0], 0);
            for strength in case.strengths() {
                let units = case.place.iter().copied().collect();
                irepair_fault::Fault::new(units, *operator, strength, 0).check().unwrap();
            }
        }
    }
}
