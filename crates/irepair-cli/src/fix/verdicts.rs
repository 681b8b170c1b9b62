//! A judge that is asked once: its verdicts are kept in a file, so that a fix that continues asks nothing again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use irepair_core::LineLog;
use irepair_core::fs::{read_to_string, sha256_hex};
use irepair_scorer::{Answer, Scorer};
use serde::{Deserialize, Serialize};

/// A verdict, as its line.
#[derive(Clone, Serialize, Deserialize)]
struct Verdict {
    /// Hash of what was judged.
    of: String,
    /// The score, or why there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    score: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    why: String,
}

/// A judge with its memory.
pub(crate) struct Remembered {
    judge: Box<dyn Scorer>,
    known: RefCell<HashMap<String, Result<f64, String>>>,
    log: RefCell<LineLog>,
}

impl Remembered {
    /// `judge`, with the verdicts of the file `path`, to which new ones are added. Without `failures`, what it gave no
    /// score is asked for again.
    pub(crate) fn new(judge: Box<dyn Scorer>, path: &Path, failures: bool) -> anyhow::Result<Self> {
        let text = if path.exists() { read_to_string(path)? } else { String::new() };
        // The last line of a process that was killed may be half a line.
        let mut verdicts: Vec<Verdict> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        verdicts.retain(|verdict| failures || verdict.score.is_some());
        let lines: String = verdicts.iter().map(line).collect();
        let known = verdicts.into_iter().map(|v| (v.of, v.score.ok_or(v.why))).collect();
        Ok(Self { judge, known: RefCell::new(known), log: RefCell::new(LineLog::start(path, &lines)?) })
    }

    /// Answers by their hashes: those without a verdict are asked for by `ask`, all at once.
    fn recall(
        &self,
        hashes: &[String],
        ask: impl FnOnce(&[usize]) -> Vec<Result<f64, String>>,
    ) -> Vec<Result<f64, String>> {
        let mut asked = std::collections::HashSet::new();
        let new: Vec<usize> = {
            let known = self.known.borrow();
            let is_new = |i: &usize| !known.contains_key(&hashes[*i]) && asked.insert(&hashes[*i]);
            (0..hashes.len()).filter(is_new).collect()
        };
        if !new.is_empty() {
            let found = ask(&new);
            let (mut known, mut log) = (self.known.borrow_mut(), self.log.borrow_mut());
            for (&i, found) in new.iter().zip(found) {
                let (score, why) = (found.clone().ok(), found.clone().err().unwrap_or_default());
                // A verdict that cannot be written is asked for again by the next process.
                let _ = log.add(&line(&Verdict { of: hashes[i].clone(), score, why }));
                known.insert(hashes[i].clone(), found);
            }
            let _ = log.flush();
        }
        let known = self.known.borrow();
        let lost = || Err("the judge gave no verdict".to_owned());
        hashes.iter().map(|hash| known.get(hash).cloned().unwrap_or_else(lost)).collect()
    }
}

fn line(verdict: &Verdict) -> String {
    // Texts and a finite number always serialise.
    serde_json::to_string(verdict).unwrap_or_default() + "\n"
}

impl Scorer for Remembered {
    fn name(&self) -> &str {
        self.judge.name()
    }

    fn version(&self) -> u32 {
        self.judge.version()
    }

    fn score(&self, text: &str) -> Result<f64, String> {
        self.score_all(&[text]).pop().unwrap_or_else(|| Err("the judge gave no verdict".to_owned()))
    }

    fn score_all(&self, texts: &[&str]) -> Vec<Result<f64, String>> {
        let answers: Vec<Answer<'_>> = texts.iter().map(|text| Answer { prompt: "", text }).collect();
        self.score_answers(&answers)
    }

    /// The judge sees the prompts too: the same answer to two prompts may have two verdicts.
    fn score_answers(&self, answers: &[Answer<'_>]) -> Vec<Result<f64, String>> {
        let hash = |answer: &Answer<'_>| {
            // The length keeps a prompt and its answer apart.
            sha256_hex(format!("{} {}{}", answer.prompt.len(), answer.prompt, answer.text).as_bytes())
        };
        let hashes: Vec<String> = answers.iter().map(hash).collect();
        self.recall(&hashes, |new| self.judge.score_answers(&new.iter().map(|&i| answers[i]).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Counts its questions.
    struct Counting(Rc<Cell<usize>>);

    impl Scorer for Counting {
        fn name(&self) -> &str {
            "counting"
        }

        fn version(&self) -> u32 {
            1
        }

        fn score(&self, text: &str) -> Result<f64, String> {
            self.0.set(self.0.get() + 1);
            text.parse().map_err(|_| format!("cannot read {text}"))
        }
    }

    #[test]
    fn no_verdict_is_asked_for_twice_and_a_torn_line_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("verdicts.jsonl");
        let n_asked = Rc::new(Cell::new(0));
        let open = || Remembered::new(Box::new(Counting(n_asked.clone())), &path, true).unwrap();
        let first = open();
        let want = [Ok(0.5), Err("cannot read x".to_owned()), Ok(0.5), Ok(1.0)];
        assert_eq!(first.score_all(&["0.5", "x", "0.5", "1"]), want);
        assert_eq!(n_asked.get(), 3, "the same text twice is one question");
        assert_eq!(first.score("1"), Ok(1.0));
        drop(first);
        assert_eq!(open().score_all(&["0.5", "x", "0.5", "1"]), want);
        assert_eq!(n_asked.get(), 3, "a failure is a verdict too");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        assert_eq!(open().score_all(&["0.5", "1"]), [Ok(0.5), Ok(1.0)]);
        assert_eq!(n_asked.get(), 4);
        let again = Remembered::new(Box::new(Counting(n_asked.clone())), &path, false).unwrap();
        assert_eq!(again.score_all(&["0.5", "x"]), want[..2]);
        assert_eq!(n_asked.get(), 5, "a failure is asked for again where failures are not kept");
    }
}
