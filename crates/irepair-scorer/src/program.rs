//! Any program on a pipe as a judge: JSON lines `{"prompt", "text"}` in, one line `{"score": x}` each out.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use irepair_core::fs::sha256_file;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::pipe::{Pipe, Said};
use crate::{Answer, Error, Result, Scorer};

/// Longest time for one answer.
pub const LIMIT: Duration = Duration::from_secs(60);

/// So much longer may the first answer take after a start: a program may load a model, or read all before it answers.
const FIRST: u32 = 10;

/// Starts in a row that may end without an answer.
const MAX_VAIN: usize = 3;

/// Failures that are always tried again; a further one for every hundred texts.
const MAX_FAILURES: usize = 10;

/// How long a program may take to end after its last answer, at most.
const END: Duration = Duration::from_secs(5);

/// A program that scores answers. It is started once for every use, gets all answers, then the end of its input, and
/// may answer as it reads or at the end.
///
/// A score that it does not give is missing, with the reason. When it ends early, is silent for too long or writes
/// what is no answer, that answer is missing, and the program is started again for the answers after it. When it gives
/// more answers than texts, or ends without an error after fewer, no one knows which texts it answered: all scores of
/// that start are missing.
#[derive(Clone, Debug)]
pub struct Program {
    words: Vec<String>,
    name: String,
    limit: Duration,
}

/// What the program reads.
#[derive(Serialize)]
struct Asked<'a> {
    prompt: &'a str,
    text: &'a str,
}

impl Program {
    /// The program of a command line, split into words as a shell does it; no shell is run.
    ///
    /// # Errors
    /// [`Error::BadCommand`], [`Error::NoProgram`], and that of a file that cannot be read.
    pub fn new(command: &str) -> Result<Self> {
        let bad = |why| Error::BadCommand { got: command.to_owned(), why };
        let words = shlex::split(command).ok_or_else(|| bad("a quote or a `\\` has no end"))?;
        if words.iter().any(|word| word.contains('\0')) {
            return Err(bad("it holds a NUL character"));
        }
        let program = words.first().filter(|word| !word.is_empty()).ok_or_else(|| bad("it names no program"))?;
        if let Some(why) = unfit(program) {
            return Err(Error::NoProgram { program: program.clone(), why });
        }
        let mut hash = Sha256::new();
        for word in &words {
            hash.update(word.as_bytes());
            hash.update([0]);
        }
        // The script of `python3 judge.py` decides too.
        for word in words.iter().filter(|word| Path::new(word).is_file()) {
            hash.update(sha256_file(Path::new(word))?.as_bytes());
        }
        let digits: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { name: format!("program:{digits}"), words, limit: LIMIT })
    }

    /// With another limit of time for an answer than [`LIMIT`]; the first one after a start may take ten times as long.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Scores from one start: of all `answers`, or of those up to the first failure, which has the reason.
    fn run(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, String>> {
        let line = |answer: &Answer<'_>| {
            let asked = Asked { prompt: answer.prompt, text: answer.text };
            // Two strings always serialise.
            serde_json::to_string(&asked).unwrap_or_default() + "\n"
        };
        let mut pipe = match Pipe::start(&self.words, answers.iter().map(line).collect()) {
            Ok(pipe) => pipe,
            Err(error) => return vec![Err(format!("the program does not start: {error}"))],
        };
        let mut scores = Vec::new();
        while scores.len() < answers.len() {
            let limit = if scores.is_empty() { self.limit.saturating_mul(FIRST) } else { self.limit };
            let why = match pipe.next(limit) {
                Said::Line(line) if line.starts_with('{') => {
                    scores.push(score(&line));
                    continue;
                }
                Said::Line(line) => format!("the program wrote `{}`, which is no answer", short(&line)),
                Said::Endless => "the program wrote a line without an end".to_owned(),
                Said::Nothing => format!("the program gave no answer within {limit:?}"),
                Said::End => match pipe.status(END.min(self.limit)) {
                    Some(status) if status.success() => {
                        return unclear(answers.len(), &format!("{} answers", scores.len()));
                    }
                    Some(status) => format!("the program ended: {status}"),
                    None => "the program closed its output".to_owned(),
                },
            };
            scores.push(Err(why));
            return scores;
        }
        match pipe.next(END.min(self.limit)) {
            Said::Line(_) | Said::Endless => unclear(answers.len(), "more answers"),
            Said::Nothing | Said::End => {
                pipe.status(END.min(self.limit));
                scores
            }
        }
    }
}

/// Why a word cannot be run as a program.
fn unfit(program: &str) -> Option<&'static str> {
    let is_file = |path: &Path| path.is_file();
    let runs = |path: &Path| path.metadata().is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        let path = Path::new(program);
        return if !is_file(path) {
            Some("is not there")
        } else if !runs(path) {
            Some("is a file that may not be run")
        } else {
            None
        };
    }
    let dirs = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&dirs).map(|dir| dir.join(program)).any(|path| is_file(&path) && runs(&path));
    (!found).then_some("is not there")
}

/// Missing scores of all texts of a start.
fn unclear(n: usize, got: &str) -> Vec<Result<f64, String>> {
    vec![Err(format!("the program gave {got} to {n} texts: which belongs to which is not known")); n]
}

/// The score of an answer.
fn score(line: &str) -> Result<f64, String> {
    let said = |why: &str| format!("the program answered `{}`: {why}", short(line));
    let answer: Value = serde_json::from_str(line).map_err(|_| said("not JSON"))?;
    match answer.get("score") {
        Some(Value::Number(score)) => match score.as_f64() {
            Some(score @ 0.0..=1.0) => Ok(score),
            _ => Err(said("its score is not between 0 and 1")),
        },
        Some(_) => Err(said("its score is no number")),
        None => Err(said("no score")),
    }
}

/// The beginning of a line, without control characters.
fn short(line: &str) -> String {
    let shown: String = line.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().nth(60).is_some() { shown + "..." } else { shown }
}

impl Scorer for Program {
    /// `program:` and the first digits of a SHA-256 of the words of the command line and of every file among them.
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        1
    }

    fn score(&self, text: &str) -> Result<f64, String> {
        self.score_all(&[text]).pop().unwrap_or_else(|| Err("no answer".to_owned()))
    }

    fn score_all(&self, texts: &[&str]) -> Vec<Result<f64, String>> {
        self.score_answers(&texts.iter().map(|text| Answer { prompt: "", text }).collect::<Vec<_>>())
    }

    fn score_answers(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, String>> {
        let mut scores: Vec<Result<f64, String>> = Vec::with_capacity(answers.len());
        let (mut n_failures, mut n_vain) = (0, 0);
        while scores.len() < answers.len() {
            let found = self.run(&answers[scores.len()..]);
            let failed = found.len() < answers.len() - scores.len();
            n_vain = if found.len() > 1 { 0 } else { n_vain + 1 };
            n_failures += usize::from(failed);
            let last = found.last().and_then(|score| score.clone().err());
            scores.extend(found);
            if failed && (n_vain >= MAX_VAIN || n_failures > MAX_FAILURES + answers.len() / 100) {
                let why = last.unwrap_or_default();
                let why = format!("the program failed {n_failures} times and is not asked again; last: {why}");
                scores.resize(answers.len(), Err(why));
            }
        }
        scores
    }
}
