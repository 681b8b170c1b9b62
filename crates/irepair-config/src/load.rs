//! TOML in, settings out: every error of a file at once, each with its key path and line.

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

use irepair_core::fs::read_stream_to_string;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::{Error, Problem, Result, Validate};

/// Reads and checks a file.
///
/// # Errors
/// [`Error::Core`] when it cannot be read, [`Error::Problems`] with everything that is wrong with it.
pub fn from_toml<T: DeserializeOwned + Validate>(path: &Path) -> Result<T> {
    let place = path.display().to_string();
    match read_stream_to_string(path) {
        Ok(text) => from_str(&text, &place),
        Err(irepair_core::Error::Io { source, .. }) if source.kind() == ErrorKind::InvalidData => {
            Err(Error::Problems { place, problems: vec![Problem::new("", "is not UTF-8 text")] })
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads and checks TOML text; `place` names it in errors.
///
/// # Errors
/// [`Error::Problems`] with everything that is wrong: all syntax errors, or else all unknown keys, wrong types, values
/// out of range and clashes.
pub fn from_str<T: DeserializeOwned + Validate>(text: &str, place: &str) -> Result<T> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors
        .iter()
        .map(|error| Problem { line: line_of(text, error.span()), ..Problem::new("", reworded(error)) })
        .collect();
    if problems.is_empty() {
        match read_table::<T>(text, &table, &mut problems) {
            Some(value) if problems.is_empty() => return Ok(value),
            _ => {}
        }
    }
    problems.sort_by_key(|problem| problem.line);
    Err(Error::Problems { place: place.to_owned(), problems })
}

/// Deserializes `table`; when a key stands in the way, records it, takes it out and tries again.
fn read_table<'t, T: DeserializeOwned + Validate>(
    text: &'t str,
    table: &Spanned<DeTable<'t>>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let mut left = table.clone();
    let mut refused = BTreeSet::new();
    loop {
        let error = match T::deserialize(Deserializer::from(left.clone())) {
            Ok(value) => {
                let found = value.problems().into_iter().filter(|problem| !refused.contains(&problem.key));
                problems
                    .extend(found.map(|problem| Problem { line: line_of_key(text, table, &problem.key), ..problem }));
                return Some(value);
            }
            Err(error) => error,
        };
        let path = error.span().and_then(|span| find(left.get_ref(), &span));
        let key = path.as_deref().map(spelled).unwrap_or_default();
        problems.push(Problem { line: line_of(text, error.span()), ..explained(key.clone(), error.message()) });
        if !remove(left.get_mut(), &path?) {
            return None;
        }
        refused.insert(key);
    }
}

/// One step of a key path.
enum Step {
    Key(String),
    Index(usize),
}

/// Path of the innermost key whose name or value lies at `span`.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    table.iter().find_map(|(key, value)| {
        let inner = find_in_value(value.get_ref(), span);
        let here = key.span() == *span || covers(&value.span(), span);
        let rest = inner.or_else(|| here.then(Vec::new))?;
        Some(std::iter::once(Step::Key(key.get_ref().to_string())).chain(rest).collect())
    })
}

fn find_in_value(value: &DeValue<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    match value {
        DeValue::Table(table) => find(table, span),
        DeValue::Array(items) => items.iter().enumerate().find_map(|(i, item)| {
            let rest = find_in_value(item.get_ref(), span)?;
            Some(std::iter::once(Step::Index(i)).chain(rest).collect())
        }),
        _ => None,
    }
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Takes the entry at `path` out; false when it is not there.
fn remove(table: &mut DeTable<'_>, path: &[Step]) -> bool {
    let Some((Step::Key(name), rest)) = path.split_first() else { return false };
    // Keys compare by name, but are looked up with their spans.
    let Some(key) = table.keys().find(|key| key.get_ref() == name.as_str()).cloned() else { return false };
    if rest.is_empty() {
        return table.remove(&key).is_some();
    }
    table.get_mut(&key).is_some_and(|value| remove_in_value(value.get_mut(), rest))
}

fn remove_in_value(value: &mut DeValue<'_>, path: &[Step]) -> bool {
    match (value, path) {
        (DeValue::Table(table), _) => remove(table, path),
        (DeValue::Array(items), [Step::Index(i), rest @ ..]) => {
            items.get_mut(*i).is_some_and(|item| remove_in_value(item.get_mut(), rest))
        }
        _ => false,
    }
}

/// `models[0].pretrain.n_layer`.
fn spelled(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        let dot = if text.is_empty() { "" } else { "." };
        let _infallible = match step {
            Step::Key(key) => fmt::write(&mut text, format_args!("{dot}{key}")),
            Step::Index(i) => fmt::write(&mut text, format_args!("[{i}]")),
        };
    }
    text
}

/// Line of a key path, or of the innermost part of it that the file has.
fn line_of_key(text: &str, table: &Spanned<DeTable<'_>>, path: &str) -> Option<usize> {
    let mut table = table.get_ref();
    let mut line = None;
    for part in path.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse().ok()),
            None => (part, None::<usize>),
        };
        let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else { break };
        line = line_of(text, Some(key.span()));
        let value = match (value.get_ref(), index) {
            (DeValue::Array(items), Some(i)) => items.get(i).map(Spanned::get_ref),
            (value, _) => Some(value),
        };
        match value {
            Some(DeValue::Table(inner)) => table = inner,
            _ => break,
        }
    }
    line
}

/// Line, from 1, at which `span` begins.
fn line_of(text: &str, span: Option<Range<usize>>) -> Option<usize> {
    let before = text.get(..span?.start)?;
    Some(before.matches('\n').count() + 1)
}

/// A syntax error as a lower-case fragment.
fn reworded(error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    let mut chars = message.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    format!("not TOML: {}{}", first.map(String::from).unwrap_or_default(), chars.as_str())
}

/// serde's message about `key`, with the nearest known name where one is near.
fn explained(key: String, message: &str) -> Problem {
    let message = message.trim();
    // serde writes "unknown field `a`, expected one of `b`, `c`" and "unknown variant ..." alike.
    let Some((what, got, known)) = unknown(message) else { return Problem::new(key, message.replace('\n', ", ")) };
    let help = hint(got, &known);
    let what = if what == "field" { "unknown key".to_owned() } else { format!("unknown value `{got}`") };
    Problem::new(key, what).help(help)
}

/// The known name nearest to `got`; all of them where none is near.
pub(crate) fn hint(got: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(got, name), *name))
        .filter(|(distance, _)| *distance <= 1 + got.len() / 3)
        .min();
    match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "there is none to name".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

/// Takes apart "unknown WHAT `GOT`, expected ... `KNOWN` ...".
fn unknown(message: &str) -> Option<(&str, &str, Vec<&str>)> {
    let (what, rest) = message.strip_prefix("unknown ")?.split_once(" `")?;
    let (got, rest) = rest.split_once('`')?;
    // Every second piece between backticks is a name.
    Some((what, got, rest.split('`').skip(1).step_by(2).collect()))
}

#[cfg(test)]
mod tests {
    use irepair_core::Diagnose;

    use super::*;
    use crate::{EvalOptions, RepairOptions};

    fn problems<T: DeserializeOwned + Validate + fmt::Debug>(text: &str) -> Vec<String> {
        match from_str::<T>(text, "x.toml").unwrap_err() {
            Error::Problems { problems, .. } => problems.iter().map(ToString::to_string).collect(),
            error => panic!("{error}"),
        }
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let text =
            "method = 'irepiar'\n\ntop_kk = '1b'\nlr = 'fast'\nsteps = -1\nbatch_size = 0\ntop_k = '0'\nzzz = 1\n";
        let found = problems::<RepairOptions>(text);
        assert_eq!(found[0], "line 1, `method`: unknown value `irepiar`; did you mean `irepair`?");
        assert_eq!(found[1], "line 3, `top_kk`: unknown key; did you mean `top_k`?");
        assert_eq!(found[2], "line 4, `lr`: invalid type: string \"fast\", expected f64");
        assert_eq!(found[3], "line 5, `steps`: invalid value: integer `-1`, expected u64");
        assert_eq!(found[4], "line 6, `batch_size`: must be at least 1, is 0");
        assert_eq!(found[5], "line 7, `top_k`: slice size `0` is out of range");
        assert!(
            found[6].starts_with("line 8, `zzz`: unknown key; known: model, pairs, columns, general, utility"),
            "{}",
            found[6]
        );
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn a_file_that_is_not_toml_says_where() {
        let found = problems::<EvalOptions>("model = \n[[\nwindow = 4\n");
        assert!(found[0].starts_with("line 1, not TOML: "), "{found:?}");
    }

    #[test]
    fn the_diagnostic_lists_the_problems() {
        let error = from_str::<EvalOptions>("windo = 2", "run.toml").unwrap_err();
        assert_eq!(
            error.diagnostic().to_string(),
            "error: 1 problem in run.toml\n  - line 1, `windo`: unknown key; did you mean `window`?"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = from_toml::<EvalOptions>(Path::new("no/such.toml")).unwrap_err();
        assert!(error.diagnostic().to_string().contains("no/such.toml"));
    }
}
