//! The answers of a suite that a later model must give again.

use std::path::Path;

use irepair_core::json_said;
use irepair_data::{Error, Lines};
use serde::Deserialize;

use crate::error::CliError;

/// A line; other keys are ignored.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Stored {
    prompt: String,
    answer: String,
}

/// Reads the prompts of a file, and the answer to each.
///
/// # Errors
/// Those of reading lines; `BadAnswer` with the line for JSON of another form, `NoRecords` where there is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut prompts, mut answers) = (Vec::new(), Vec::new());
    for line in Lines::open(path)? {
        let (line, text) = line?;
        if text.trim().is_empty() {
            continue;
        }
        let Stored { prompt, answer } = serde_json::from_str(&text).map_err(|source| refused(path, line, source))?;
        prompts.push(prompt);
        answers.push(answer);
    }
    if prompts.is_empty() {
        return Err(Error::NoRecords { path: path.to_owned(), wanted: "answers" }.into());
    }
    Ok((prompts, answers))
}

fn refused(path: &Path, line: usize, source: serde_json::Error) -> anyhow::Error {
    let path = path.to_owned();
    if source.is_data() {
        return CliError::BadAnswer { path, line, why: json_said(&source) }.into();
    }
    Error::NotJson { path, line, source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_another_form_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("answers.jsonl");
        let read = |last: &str| {
            std::fs::write(&path, format!("{{\"prompt\":\"a\",\"answer\":\"b\",\"id\":1}}\n\n{last}\n")).unwrap();
            read(&path)
        };
        let both = (vec!["a".to_owned(), "c".to_owned()], vec!["b".to_owned(), "d".to_owned()]);
        assert_eq!(read("{\"answer\":\"d\",\"prompt\":\"c\"}").unwrap(), both);
        for (last, why) in [
            ("{\"prompt\":\"c\"}", "missing field `answer`"),
            ("{\"prompt\":\"c\",\"prompt\":\"c\",\"answer\":\"d\"}", "duplicate field `prompt`"),
            ("{\"prompt\":\"c\",\"answer\":1}", "invalid type: integer `1`, expected a string"),
            ("3", "invalid type: integer `3`, expected an object"),
        ] {
            let error = read(last).unwrap_err();
            match error.downcast_ref::<CliError>() {
                Some(CliError::BadAnswer { line: 3, why: said, .. }) => assert!(said.starts_with(why), "{said}"),
                _ => panic!("{error:?}"),
            }
        }
        assert_eq!(read("{\"prompt\":").unwrap_err().to_string(), "line is not JSON");
    }
}
