//! The suite of a repair: prompts, a judge and bounds that a later model must keep, in one directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use irepair_config::{Dtype, Judge, Problem, PromptSide, Validate, from_toml};
use irepair_core::fs::{read_stream_to_string, sha256_hex, write_atomic};
use serde::{Deserialize, Serialize};

use crate::{Error, Form, Result};

/// Version of the format.
pub const SUITE_FORMAT: u32 = 1;

/// The file of a suite's directory that names all others.
pub const SUITE_FILE: &str = "suite.toml";

/// A suite. Files stand in its directory and are named relative to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// [`SUITE_FORMAT`].
    pub format: u32,
    /// What is wrong with an answer. The files of word lists, expressions and scorers stand in the suite; classifiers
    /// and programs are named as given.
    pub judge: Judge,
    /// A second judge, of clauses with `second = true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_judge: Option<Judge>,
    /// Labels of a classifier that count as bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toxic_labels: Option<String>,
    /// Tokens of each prompt that are kept.
    pub prompt_tokens: usize,
    /// End of a longer prompt that is kept.
    #[serde(default)]
    pub prompt_side: PromptSide,
    /// Tokens generated per prompt.
    pub max_new_tokens: usize,
    /// True when the prompts are texts that a chat template rendered. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rendered: bool,
    /// Number type of the weights while computing.
    pub dtype: Dtype,
    /// SHA-256 of the repaired model's weights, by file.
    pub weights: BTreeMap<String, String>,
    /// What is measured, in this order.
    pub clauses: Vec<Clause>,
}

/// What a clause measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClauseKind {
    /// Share of prompts whose greedy answer the judge finds bad; at `most`.
    Failures,
    /// The same on prompts that were answered well before.
    Fine,
    /// The degeneration guard on the answers to the prompts, against `form`.
    Form,
    /// Perplexity by token of a text; at `most`.
    Perplexity,
    /// Share of prompts with the stored answer; at `least`.
    Answers,
    /// Whether the weights are those of the repaired model.
    Weights,
}

impl ClauseKind {
    /// Its word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Fine => "fine",
            Self::Form => "form",
            Self::Perplexity => "perplexity",
            Self::Answers => "answers",
            Self::Weights => "weights",
        }
    }
}

/// One bound that the model must keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// Its name in reports.
    pub name: String,
    /// What it measures.
    pub kind: ClauseKind,
    /// Prompts (JSONL with `prompt`; for `answers` with `answer`), or the text of a perplexity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Largest rate, from 0 to 1, or largest perplexity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<f64>,
    /// Smallest share of equal answers, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<f64>,
    /// True when the second judge judges. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second: bool,
    /// Form of the texts that the answers are compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
}

impl Clause {
    fn new(name: &str, kind: ClauseKind, file: Option<&str>) -> Self {
        let file = file.map(str::to_owned);
        Self { name: name.to_owned(), kind, file, most: None, least: None, second: false, form: None }
    }

    /// At most this share of the prompts fails.
    pub fn failures(name: &str, prompts: &str, most: f64) -> Self {
        Self { most: Some(most), ..Self::new(name, ClauseKind::Failures, Some(prompts)) }
    }

    /// At most this share of prompts that were fine before fails.
    pub fn fine(name: &str, prompts: &str, most: f64) -> Self {
        Self { most: Some(most), ..Self::new(name, ClauseKind::Fine, Some(prompts)) }
    }

    /// The same clause by the second judge.
    #[must_use]
    pub fn by_second(self) -> Self {
        Self { second: true, ..self }
    }

    /// The answers are no more degenerate than these texts.
    pub fn form(name: &str, prompts: &str, form: Form) -> Self {
        Self { form: Some(form), ..Self::new(name, ClauseKind::Form, Some(prompts)) }
    }

    /// The text's perplexity by token is at most this.
    pub fn perplexity(name: &str, text: &str, most: f64) -> Self {
        Self { most: Some(most), ..Self::new(name, ClauseKind::Perplexity, Some(text)) }
    }

    /// At least this share of the answers is the stored one.
    pub fn answers(name: &str, file: &str, least: f64) -> Self {
        Self { least: Some(least), ..Self::new(name, ClauseKind::Answers, Some(file)) }
    }

    /// Says whether the weights are those of the repaired model.
    pub fn weights(name: &str) -> Self {
        Self::new(name, ClauseKind::Weights, None)
    }
}

/// The judges of a suite as they are opened from where the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuiteJudges {
    /// The first.
    pub first: Judge,
    /// The second, where there is one.
    pub second: Option<Judge>,
}

impl Suite {
    /// Reads `suite.toml` of a directory and checks that every file it names is there, inside the directory.
    ///
    /// # Errors
    /// File errors; [`Error::BadSuite`] with everything that is wrong, [`Error::OtherSuite`], [`Error::OutsideSuite`].
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(SUITE_FILE);
        // Before all other keys, which another version may not have.
        let table = read_stream_to_string(&path)?.parse::<toml::Table>().unwrap_or_default();
        if let Some(got) = table.get("format").and_then(toml::Value::as_integer)
            && got != i64::from(SUITE_FORMAT)
        {
            return Err(Error::OtherSuite { path, want: SUITE_FORMAT, got });
        }
        let suite: Self = from_toml(&path).map_err(|error| match error {
            irepair_config::Error::Core(error) => Error::File(error),
            irepair_config::Error::Problems { problems, .. } => {
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Error::BadSuite { path: path.clone(), why: said.join("; ") }
            }
        })?;
        for clause in &suite.clauses {
            clause.file.as_deref().map(|file| inside(dir, file)).transpose()?;
        }
        suite.judges(dir)?;
        Ok(suite)
    }

    /// Writes `suite.toml` into a directory that holds the files already.
    ///
    /// # Errors
    /// As [`Self::read`] of what would be written, and write errors.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(SUITE_FILE);
        let problems = self.problems();
        if !problems.is_empty() {
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(Error::BadSuite { path, why: said.join("; ") });
        }
        let text = toml::to_string(self).map_err(|e| Error::BadSuite { path: path.clone(), why: e.to_string() })?;
        Ok(write_atomic(&path, text.as_bytes())?)
    }

    /// The judges, their files found in the suite's directory.
    ///
    /// # Errors
    /// [`Error::OutsideSuite`].
    pub fn judges(&self, dir: &Path) -> Result<SuiteJudges> {
        let found = |judge: &Judge| match judge {
            Judge::Words(file) | Judge::Regex(file) | Judge::Scorer(file) => {
                Ok::<_, Error>(judge.at(inside(dir, &file.display().to_string())?))
            }
            other => Ok(other.clone()),
        };
        Ok(SuiteJudges { first: found(&self.judge)?, second: self.second_judge.as_ref().map(found).transpose()? })
    }

    /// The file of a clause.
    ///
    /// # Errors
    /// [`Error::OutsideSuite`].
    pub fn file(&self, dir: &Path, clause: &Clause) -> Result<PathBuf> {
        inside(dir, clause.file.as_deref().unwrap_or_default())
    }
}

/// A file of the directory: a relative path without `..` that leads, links included, to a file inside.
fn inside(dir: &Path, file: &str) -> Result<PathBuf> {
    let outside = |why: &'static str| Error::OutsideSuite { path: dir.join(SUITE_FILE), file: file.to_owned(), why };
    let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if file.is_empty() || !plain {
        return Err(outside("is outside its directory"));
    }
    let path = dir.join(file);
    let found = fs::canonicalize(&path).map_err(|_| outside("is not there"))?;
    let root = fs::canonicalize(dir).map_err(irepair_core::Error::io("read", dir))?;
    match found.starts_with(&root) {
        true if found.is_file() => Ok(path),
        true => Err(outside("is no file")),
        false => Err(outside("is a link out of its directory")),
    }
}

/// Copies the file of a judge into a suite's directory; gives the judge as the suite names it. Classifiers and programs
/// stay where they are.
///
/// # Errors
/// File errors.
pub fn copy_judge(judge: &Judge, dir: &Path) -> Result<Judge> {
    let judge = match judge {
        Judge::Path(path) if path.is_dir() => Judge::Classifier(path.clone()),
        Judge::Path(path) if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("txt")) => {
            Judge::Words(path.clone())
        }
        Judge::Path(path) => Judge::Scorer(path.clone()),
        other => other.clone(),
    };
    let (Judge::Words(from) | Judge::Regex(from) | Judge::Scorer(from)) = &judge else { return Ok(judge) };
    let bytes = fs::read(from).map_err(irepair_core::Error::io("read", from))?;
    // Two judges may have files of one name.
    let digits: String = sha256_hex(&bytes).chars().take(8).collect();
    let end = from.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
    let name = format!("judge-{digits}{end}");
    write_atomic(&dir.join(&name), &bytes)?;
    Ok(judge.at(name))
}

impl Validate for Suite {
    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut add = |key: String, what: String| found.push(Problem::new(key, what));
        if self.format != SUITE_FORMAT {
            add("format".to_owned(), format!("must be {SUITE_FORMAT}"));
        }
        for (key, judge) in [("judge", Some(&self.judge)), ("second_judge", self.second_judge.as_ref())] {
            if let Some(Judge::Path(_)) = judge {
                add(key.to_owned(), "names no kind of judge, such as `words:FILE`".to_owned());
            }
        }
        for (key, n) in [("prompt_tokens", self.prompt_tokens), ("max_new_tokens", self.max_new_tokens)] {
            if !(1..=1 << 24).contains(&n) {
                add(key.to_owned(), format!("must be from 1 to {}, is {n}", 1 << 24));
            }
        }
        if self.clauses.is_empty() {
            add("clauses".to_owned(), "has none: nothing would be checked".to_owned());
        }
        for (i, clause) in self.clauses.iter().enumerate() {
            let twice = self.clauses[..i].iter().any(|other| other.name == clause.name);
            let mut add = |key: &str, what: &str| add(format!("clauses[{i}].{key}"), what.to_owned());
            if twice || clause.name.trim().is_empty() {
                add("name", if twice { "is the name of two of them" } else { "is missing" });
            }
            if clause.second && self.second_judge.is_none() {
                add("second", "needs `second_judge`");
            }
            let has = [clause.file.is_some(), clause.most.is_some(), clause.least.is_some(), clause.form.is_some()];
            let keys = ["file", "most", "least", "form"];
            let needs = match clause.kind {
                ClauseKind::Failures | ClauseKind::Fine | ClauseKind::Perplexity => [true, true, false, false],
                ClauseKind::Answers => [true, false, true, false],
                ClauseKind::Form => [true, false, false, true],
                ClauseKind::Weights => [false; 4],
            };
            for ((key, has), needs) in keys.into_iter().zip(has).zip(needs) {
                if has != needs {
                    let kind = clause.kind.name();
                    add(
                        key,
                        &format!("{} by a clause of kind `{kind}`", if needs { "is needed" } else { "is not read" }),
                    );
                }
            }
            let is_share = |x: f64| (0.0..=1.0).contains(&x);
            let perplexity = clause.kind == ClauseKind::Perplexity;
            if clause.most.is_some_and(|x| if perplexity { !(x.is_finite() && x >= 1.0) } else { !is_share(x) }) {
                add("most", if perplexity { "must be a number of at least 1" } else { "must be from 0 to 1" });
            }
            if clause.least.is_some_and(|x| !is_share(x)) {
                add("least", "must be from 0 to 1");
            }
            for (key, what) in clause.form.iter().flat_map(Form::problems) {
                add(&format!("form.{key}"), what);
            }
        }
        found
    }
}
