//! `irepair check`: a model against the suite of a repair, one line a clause; the gate of a CI.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use irepair_config::{CheckPlan, Judge};
use irepair_core::fs::{is_stream, remove, write_atomic};
use irepair_data::{RecordFile, TextKind};
use irepair_eval::{
    Continuations, Evaluator, Generation, Metric, Scores, copied_share, degeneration, texts_perplexity,
};
use irepair_model::BlockModel as _;
use irepair_report::{Clause, ClauseKind, Form, Rate, Suite};
use irepair_scorer::Scorer;
use irepair_stats::wilson;
use serde::Serialize;

use crate::environment::weights_sha256;
use crate::error::CliError;
use crate::fix::rate;
use crate::junit::{self, Case};
use crate::measure::form;
use crate::model_dir::{LoadedModel, open, use_threads};
use crate::notes::say_text_rule;
use crate::output::{print, print_json};
use crate::scorers::{ClassifierUse, misses_too_many, open_scorer};
use crate::utility::documents;
use crate::{prompts, stored_answers};

/// What became of a clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Fail,
    /// Information alone.
    Note,
}

/// A clause and what was found.
#[derive(Debug, Serialize)]
struct Checked<'a> {
    name: &'a str,
    kind: ClauseKind,
    verdict: Verdict,
    /// A rate or share from 0 to 1, or a perplexity.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    /// 95 % interval of a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<[f64; 2]>,
    /// The largest or smallest value that is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<f64>,
    /// Answers with a score, or tokens.
    n: usize,
    /// Answers without.
    n_missing: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    form: Option<Form>,
    seconds: f64,
    /// The same in words.
    said: String,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    passes: bool,
    clauses: &'a [Checked<'a>],
}

/// What is measured with.
struct Subject<'a> {
    plan: &'a CheckPlan,
    suite: &'a Suite,
    loaded: &'a LoadedModel,
    judges: [Option<Box<dyn Scorer>>; 2],
    generation: Generation,
    /// Answers by file of prompts: several clauses may read the same.
    answered: BTreeMap<PathBuf, Answered>,
}

/// Prompts, and the model's greedy answers.
struct Answered {
    prompts: Vec<String>,
    answers: Continuations,
}

/// Runs the command.
pub(crate) fn command(plan: &CheckPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    plan.junit.as_deref().map_or(Ok(()), clear_report)?;
    let (suite, asked) = (Suite::read(&plan.suite)?, Clause::weights("weights"));
    let judges = judges(plan, &suite)?;
    let loaded = open(&plan.model, &plan.device, suite.dtype)?;
    say_text_rule(&loaded.tokenizer);
    let generation =
        Generation { prompt_tokens: suite.prompt_tokens, side: suite.prompt_side, n_new: suite.max_new_tokens };
    let mut subject = Subject { plan, suite: &suite, loaded: &loaded, judges, generation, answered: BTreeMap::new() };
    let has = suite.clauses.iter().any(|clause| clause.kind == ClauseKind::Weights);
    let clauses = suite.clauses.iter().chain((plan.same_weights && !has).then_some(&asked));
    let checked = clauses.map(|clause| subject.check(clause)).collect::<anyhow::Result<Vec<_>>>()?;
    let n_failed = checked.iter().filter(|clause| clause.verdict == Verdict::Fail).count();
    if let Some(path) = &plan.junit {
        write_report(path, &junit(&plan.suite, &checked))?;
    }
    if plan.json {
        print_json(&Outcome { passes: n_failed == 0, clauses: &checked })?;
    } else {
        print(&lines(&checked))?;
    }
    if n_failed > 0 {
        return Err(CliError::Regressed { suite: plan.suite.clone(), n_failed, n: checked.len() }.into());
    }
    Ok(())
}

/// Removes a report of an earlier check, which must not stand for one that stops, and nothing else: a file that is no
/// such report is refused, a pipe or a device is left to be written to.
fn clear_report(path: &Path) -> anyhow::Result<()> {
    let Ok(found) = path.metadata() else { return Ok(()) };
    if is_stream(path) {
        return Ok(());
    }
    let mut start = vec![0; junit::START.len()];
    let is_report = File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| start == junit::START.as_bytes());
    if found.is_dir() || !is_report && found.len() > 0 {
        return Err(CliError::OutExists { path: path.to_owned() }.into());
    }
    Ok(remove(path)?)
}

/// Writes the report: a pipe or a device takes it as it comes.
fn write_report(path: &Path, text: &str) -> anyhow::Result<()> {
    if is_stream(path) {
        let written =
            std::fs::OpenOptions::new().write(true).open(path).and_then(|mut out| out.write_all(text.as_bytes()));
        return Ok(written.map_err(irepair_core::Error::io("write", path))?);
    }
    Ok(write_atomic(path, text.as_bytes())?)
}

/// Perplexity of the texts of a file, each read on its own.
pub(crate) fn neutral_perplexity(loaded: &LoadedModel, path: &Path, batch_size: usize) -> anyhow::Result<Metric> {
    let texts = documents(path, &loaded.tokenizer, loaded.model.n_positions())?;
    Ok(texts_perplexity(&loaded.model, &texts, batch_size)?)
}

/// The judges that the clauses ask for.
fn judges(plan: &CheckPlan, suite: &Suite) -> anyhow::Result<[Option<Box<dyn Scorer>>; 2]> {
    let run = ClassifierUse {
        toxic_labels: suite.toxic_labels.as_deref(),
        device: &plan.device,
        batch_size: plan.batch_size,
    };
    let named = suite.judges(&plan.suite)?;
    let reads = |second: bool| {
        let by = |clause: &&Clause| matches!(clause.kind, ClauseKind::Failures | ClauseKind::Fine);
        suite.clauses.iter().filter(by).any(|clause| clause.second == second)
    };
    let open = |judge: Option<&Judge>, second| {
        judge.filter(|_| reads(second)).map(|judge| open_scorer(judge, &run)).transpose()
    };
    Ok([open(Some(&named.first), false)?, open(named.second.as_ref(), true)?])
}

impl<'a> Subject<'a> {
    fn check(&mut self, clause: &'a Clause) -> anyhow::Result<Checked<'a>> {
        let start = Instant::now();
        let mut found = match clause.kind {
            ClauseKind::Failures | ClauseKind::Fine => self.failures(clause)?,
            ClauseKind::Form => self.form(clause)?,
            ClauseKind::Perplexity => self.perplexity(clause)?,
            ClauseKind::Answers => self.answers(clause)?,
            ClauseKind::Weights => self.weights(clause)?,
        };
        found.seconds = start.elapsed().as_secs_f64();
        Ok(found)
    }

    fn evaluator(&self) -> Evaluator<'a> {
        Evaluator::new(&self.loaded.model, &self.loaded.tokenizer, self.plan.batch_size)
    }

    /// The greedy answers to texts of one kind.
    fn answer(&self, prompts: &[String], kind: TextKind) -> anyhow::Result<Continuations> {
        let kind = if self.suite.rendered { TextKind::Chat } else { kind };
        let tokenizer = self.loaded.tokenizer.of_kind(kind);
        let evaluator = Evaluator { tokenizer: &tokenizer, ..self.evaluator() };
        Ok(evaluator.greedy_continuations(prompts, &self.generation)?)
    }

    /// The answers to the prompts of a clause.
    fn answered(&mut self, clause: &Clause) -> anyhow::Result<&Answered> {
        let path = self.suite.file(&self.plan.suite, clause)?;
        if !self.answered.contains_key(&path) {
            let read = prompts::read(RecordFile::plain(&path), &self.loaded.tokenizer, self.suite.prompt_tokens)?;
            let answers = self.answer(&read.items, read.kind)?;
            self.answered.insert(path.clone(), Answered { prompts: read.items, answers });
        }
        Ok(&self.answered[&path])
    }

    fn failures(&mut self, clause: &'a Clause) -> anyhow::Result<Checked<'a>> {
        let Answered { prompts, answers } = self.answered(clause)?;
        let (prompts, texts) = (prompts.clone(), answers.texts.clone());
        let judge = self.judges[usize::from(clause.second)].as_deref();
        let judge = judge.ok_or_else(|| CliError::Missing { what: "suite".into(), want: "a second judge".into() })?;
        let scores = Scores::of_answers(&prompts, &texts, judge);
        let Rate { n, n_failed: n_bad, n_missing, interval, .. } = rate(&scores.values, 1);
        if misses_too_many(n + n_missing, n_missing) {
            let why = scores.first_failure.unwrap_or_default();
            return Err(CliError::NotJudged { clause: clause.name.clone(), n_missing, n: n + n_missing, why }.into());
        }
        // Every prompt has one answer: the interval is Wilson's.
        let [low, high] = interval.unwrap_or_default().map(|bound| bound / 100.0);
        let most = clause.most.unwrap_or_default();
        let missing = if n_missing > 0 { format!(", {n_missing} without a score") } else { String::new() };
        let said = format!(
            "{n_bad} of {n} fail: {} ({} to {}), at most {}{missing}",
            percent(n_bad as f64 / n as f64),
            percent(low),
            percent(high),
            percent(most)
        );
        Ok(Checked {
            value: Some(n_bad as f64 / n as f64),
            interval: Some([low, high]),
            bound: clause.most,
            n,
            n_missing,
            // The bound of a suite holds what chance may give: it is the upper end of what was measured.
            ..checked(clause, n_bad as f64 / n as f64 <= most, said)
        })
    }

    fn form(&mut self, clause: &'a Clause) -> anyhow::Result<Checked<'a>> {
        let answers = &self.answered(clause)?.answers;
        let before = clause.form.unwrap_or_default();
        // Suites of before do not say how many answers were copies.
        let copied = before.copied.and_then(|_| copied_share(&answers.prompts, &answers.tokens).value);
        let found = Form { copied, ..form(&degeneration(&answers.tokens, &answers.texts)) };
        let words = |form: &Form| {
            let number = |value: Option<f64>, digits| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
            let share = |value: Option<f64>| value.map_or("-".to_owned(), percent);
            format!(
                "length {}, distinct {}, blank {}, repeated {}{}",
                number(form.mean_length, 1),
                number(form.distinct, 2),
                share(form.blank),
                share(form.repeated),
                form.copied.map_or(String::new(), |copied| format!(", copied {}", percent(copied)))
            )
        };
        let said = format!("{} (was {})", words(&found), words(&before));
        let n = answers.texts.len();
        Ok(Checked { n, form: Some(found), ..checked(clause, found.passes(&before), said) })
    }

    fn perplexity(&self, clause: &'a Clause) -> anyhow::Result<Checked<'a>> {
        let path = self.suite.file(&self.plan.suite, clause)?;
        let found = neutral_perplexity(self.loaded, &path, self.plan.batch_size)?;
        let most = clause.most.unwrap_or_default();
        let value = found.value.filter(|value| value.is_finite());
        let said = match value {
            Some(value) => format!("{value:.3} over {} tokens, at most {most:.3}", found.n),
            None => format!("no finite number, at most {most:.3}"),
        };
        let passes = value.is_some_and(|value| value <= most);
        Ok(Checked { value, bound: clause.most, n: found.n as usize, ..checked(clause, passes, said) })
    }

    fn answers(&self, clause: &'a Clause) -> anyhow::Result<Checked<'a>> {
        let (prompts, stored) = stored_answers::read(&self.suite.file(&self.plan.suite, clause)?)?;
        let answers = self.answer(&prompts, TextKind::Plain)?;
        let n = stored.len();
        let n_same = answers.texts.iter().zip(&stored).filter(|(now, then)| now == then).count();
        let (share, least) = (n_same as f64 / n as f64, clause.least.unwrap_or_default());
        let interval = wilson(n_same, n)?;
        let said = format!("{n_same} of {n} answers are the same: {}, at least {}", percent(share), percent(least));
        Ok(Checked {
            value: Some(share),
            interval: Some([interval.low, interval.high]),
            bound: clause.least,
            n,
            ..checked(clause, share >= least, said)
        })
    }

    fn weights(&self, clause: &'a Clause) -> anyhow::Result<Checked<'a>> {
        let same = weights_sha256(&self.plan.model)? == self.suite.weights;
        let said = if same { "those of the repaired model" } else { "not those of the repaired model" };
        let found = checked(clause, same, said.to_owned());
        let verdict = if same || self.plan.same_weights { found.verdict } else { Verdict::Note };
        Ok(Checked { verdict, ..found })
    }
}

/// A clause with its verdict.
fn checked(clause: &Clause, passes: bool, said: String) -> Checked<'_> {
    Checked {
        name: &clause.name,
        kind: clause.kind,
        verdict: if passes { Verdict::Ok } else { Verdict::Fail },
        value: None,
        interval: None,
        bound: None,
        n: 0,
        n_missing: 0,
        form: None,
        seconds: 0.0,
        said,
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// One line a clause.
fn lines(checked: &[Checked<'_>]) -> String {
    let width = checked.iter().map(|clause| clause.name.chars().count()).max().unwrap_or(0).min(24);
    let word = |verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Fail => "FAIL",
        Verdict::Note => "note",
    };
    let shown = |name: &str| -> String { name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
    checked.iter().map(|c| format!("{:<4}  {:<width$}  {}\n", word(c.verdict), shown(c.name), c.said)).collect()
}

fn junit(suite: &Path, checked: &[Checked<'_>]) -> String {
    let case = |c: &Checked<'_>| c.verdict == Verdict::Fail;
    let cases: Vec<Case<'_>> =
        checked.iter().map(|c| Case { name: c.name, seconds: c.seconds, said: &c.said, failed: case(c) }).collect();
    junit::document(&suite.display().to_string(), &cases)
}
