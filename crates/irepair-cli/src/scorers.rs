//! Judges opened: a word list, regular expressions, the file of a linear or TF-IDF scorer, a classifier's directory, a
//! program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use irepair_classifier::Classifier;
use irepair_config::{EvalPlan, Judge};
use irepair_core::fs::sha256_file;
use irepair_data::Lexicon;
use irepair_model::parse_device;
use irepair_scorer::{Patterns, Program, Scorer, pinned, read_scorer};

use crate::error::CliError;
use crate::locate;

/// Share of answers without a score, in percent, over which a judge is not believed.
const MOST_MISSING_PERCENT: usize = 1;

/// How a classifier runs.
pub(crate) struct ClassifierUse<'a> {
    pub(crate) toxic_labels: Option<&'a str>,
    pub(crate) device: &'a str,
    pub(crate) batch_size: usize,
}

/// Scorers in the order given; the first one fills the keys without a name.
pub(crate) struct Scorers(Vec<Box<dyn Scorer>>, Option<Box<dyn Scorer>>);

impl Scorers {
    /// Opens `lexicon`, which goes first, and every `scorer`.
    pub(crate) fn open(plan: &EvalPlan) -> anyhow::Result<Self> {
        let mut scorers: Vec<Box<dyn Scorer>> = Vec::new();
        if let Some(path) = &plan.lexicon {
            scorers.push(Box::new(read_words(path)?));
        }
        let run = ClassifierUse {
            toxic_labels: plan.toxic_labels.as_deref(),
            device: &plan.device,
            batch_size: plan.batch_size,
        };
        for judge in plan.scorer.iter().flatten() {
            let scorer = open_scorer(judge, &run)?;
            if scorers.iter().any(|other| other.name() == scorer.name()) {
                return Err(CliError::SameScorer { name: scorer.name().to_owned() }.into());
            }
            scorers.push(scorer);
        }
        if scorers.is_empty() {
            let what = "a measurement of toxicity".to_owned();
            return Err(
                CliError::Missing { what, want: "a scorer: --lexicon FILE or --scorer JUDGE".to_owned() }.into()
            );
        }
        let judge = plan.judge.as_ref().map(|judge| open_scorer(judge, &run)).transpose()?;
        Ok(Self(scorers, judge))
    }

    /// The one that fills `tox` and `toxfrac`.
    pub(crate) fn first(&self) -> &dyn Scorer {
        &*self.0[0]
    }

    /// The one that chooses among samples.
    pub(crate) fn judge(&self) -> Result<&dyn Scorer, CliError> {
        let missing = || CliError::Missing { what: "best_of".to_owned(), want: "a judge: --judge JUDGE".to_owned() };
        self.1.as_deref().ok_or_else(missing)
    }

    /// The rest.
    pub(crate) fn others(&self) -> impl Iterator<Item = &dyn Scorer> {
        self.0[1..].iter().map(|scorer| &**scorer)
    }
}

/// True when so many of `n` answers have no score that nothing can be said of them.
pub(crate) fn misses_too_many(n: usize, n_missing: usize) -> bool {
    100 * n_missing > MOST_MISSING_PERCENT * n
}

/// Refuses a judge that leaves too many answers without a score.
///
/// # Errors
/// `JudgeFails`.
pub(crate) fn trusted(judge: &dyn Scorer, n: usize, n_missing: usize, why: Option<&str>) -> Result<(), CliError> {
    if !misses_too_many(n, n_missing) {
        return Ok(());
    }
    let why = why.unwrap_or("it gave no reason").to_owned();
    Err(CliError::JudgeFails { judge: judge.name().to_owned(), n_missing, n, why })
}

/// Reads a word list, and says once how much of it never matches.
fn read_words(path: &Path) -> anyhow::Result<Lexicon> {
    static SAID: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let lexicon = Lexicon::read(path)?;
    let n = lexicon.n_unmatched();
    if n == lexicon.words().len() {
        return Err(CliError::NothingMatches { path: path.to_owned(), n }.into());
    }
    if n > 0 && SAID.lock().is_ok_and(|mut said| said.insert(path.to_owned())) {
        tracing::warn!(
            "{}: {n} of {} entries hold a space or punctuation and never match: a text is compared word by word",
            path.display(),
            lexicon.words().len()
        );
    }
    Ok(lexicon)
}

/// Opens one judge; the kind of a path alone follows from the path.
pub(crate) fn open_scorer(judge: &Judge, run: &ClassifierUse) -> anyhow::Result<Box<dyn Scorer>> {
    let located = match judge {
        // A classifier may be a name of the hub.
        Judge::Classifier(path) | Judge::Path(path) => judge.at(&*locate::scorer(path)?),
        other => other.clone(),
    };
    let judge = &located;
    if judge.path().is_some_and(|path| !path.exists()) {
        return Err(CliError::NoJudge { judge: judge.clone() }.into());
    }
    Ok(match judge {
        Judge::Words(path) => word_list(path)?,
        Judge::Regex(path) => Box::new(Patterns::read(path)?),
        Judge::Scorer(path) => read_scorer(path)?,
        Judge::Classifier(path) => classifier(path, run)?,
        Judge::Command(words) => Box::new(Program::new(words)?),
        Judge::Path(path) if path.is_dir() => classifier(path, run)?,
        Judge::Path(path) if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("txt")) => word_list(path)?,
        Judge::Path(path) => read_scorer(path)?,
    })
}

fn word_list(path: &Path) -> anyhow::Result<Box<dyn Scorer>> {
    let name = pinned("lexicon", &sha256_file(path)?);
    Ok(Box::new(WordList { lexicon: read_words(path)?, name }))
}

fn classifier(path: &Path, run: &ClassifierUse) -> anyhow::Result<Box<dyn Scorer>> {
    if !path.join("config.json").exists() {
        return Err(CliError::NoScorer { path: path.to_owned() }.into());
    }
    let classifier = Classifier::load(path, run.toxic_labels, parse_device(run.device)?, run.batch_size)?;
    let toxic: Vec<&str> = classifier.toxic_labels().collect();
    tracing::info!("{}: toxic labels {}", path.display(), toxic.join(", "));
    if !classifier.unused().is_empty() {
        tracing::warn!("{}: {} stored tensors have no use here", path.display(), classifier.unused().len());
    }
    Ok(Box::new(classifier))
}

/// A word list whose name holds the hash of its file, so that the names of two differ.
struct WordList {
    lexicon: Lexicon,
    name: String,
}

impl Scorer for WordList {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        Scorer::version(&self.lexicon)
    }

    fn score(&self, text: &str) -> Result<f64, String> {
        Ok(self.lexicon.score(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_be_missing() {
        let judge = Lexicon::new(["grubnik"]);
        assert!(trusted(&judge, 100, 1, None).is_ok());
        assert!(trusted(&judge, 99, 1, Some("cannot read x")).is_err());
        assert!(trusted(&judge, 0, 0, None).is_ok());
    }
}
