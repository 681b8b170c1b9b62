//! The labels of a classifier that mean toxic.

use std::path::Path;

use crate::{Error, Result};

/// Words that make a label's name mean toxic. [O]
const TOXIC: &str = "\
    toxic toxicity hate hateful hatespeech offensive offense insult insulting obscene obscenity threat \
    threatening abuse abusive profanity profane harassment vulgar sexist racist attack";

/// Words that negate a name, or mean the opposite. [O]
const CLEAN: &str = "\
    non not no none neither neutral normal clean ok okay acceptable benign safe nontoxic nothate";

/// Whether a label's name means toxic; none when it does not say.
fn is_toxic(label: &str) -> Option<bool> {
    let name = label.to_lowercase();
    let has = |list: &str| name.split(|c: char| !c.is_alphanumeric()).any(|word| list.split(' ').any(|w| w == word));
    if has(CLEAN) { Some(false) } else { has(TOXIC).then_some(true) }
}

/// Indices of the labels that count as toxic, ascending: those `chosen` by name, with commas between them, or those
/// whose names say so. `exclusive` labels share one softmax.
///
/// # Errors
/// [`Error::UnclearLabels`] when a chosen name is no label; when no label is toxic; and, of exclusive labels, when the
/// name of one says neither toxic nor clean, or when all are toxic, which would make every text so.
pub(crate) fn toxic_labels(
    labels: &[String],
    exclusive: bool,
    chosen: Option<&str>,
    path: &Path,
) -> Result<Vec<usize>> {
    let unclear = |why: String| Error::UnclearLabels { path: path.to_owned(), why, labels: labels.to_vec() };
    let mut toxic = Vec::new();
    if let Some(chosen) = chosen {
        for name in chosen.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let index = labels.iter().position(|label| label == name);
            toxic.push(index.ok_or_else(|| unclear(format!("it has no label `{name}`")))?);
        }
    } else {
        for (index, label) in labels.iter().enumerate() {
            match is_toxic(label) {
                Some(true) => toxic.push(index),
                None if exclusive => return Err(unclear(format!("`{label}` could be either"))),
                Some(false) | None => {}
            }
        }
    }
    toxic.sort_unstable();
    toxic.dedup();
    if toxic.is_empty() {
        return Err(unclear("no name says so".to_owned()));
    }
    if exclusive && toxic.len() == labels.len() {
        return Err(unclear("all would be, and one of them always holds".to_owned()));
    }
    Ok(toxic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(labels: &[&str], exclusive: bool, chosen: Option<&str>) -> Result<Vec<usize>, String> {
        let labels: Vec<String> = labels.iter().map(|&l| l.to_owned()).collect();
        toxic_labels(&labels, exclusive, chosen, "m/config.json".as_ref()).map_err(|e| e.to_string())
    }

    #[test]
    fn names_say_which_labels_are_toxic() {
        assert_eq!(rule(&["neutral", "toxic"], true, None), Ok(vec![1]));
        assert_eq!(rule(&["non-toxic", "Toxic"], true, None), Ok(vec![1]));
        assert_eq!(rule(&["not_hate", "hate"], true, None), Ok(vec![1]));
        assert_eq!(rule(&["hate speech", "offensive language", "neither"], true, None), Ok(vec![0, 1]));
        assert_eq!(rule(&["severe_toxicity", "identity_attack", "male"], false, None), Ok(vec![0, 1]));
    }

    #[test]
    fn what_names_do_not_say_is_refused_or_chosen() {
        let why = rule(&["LABEL_0", "LABEL_1"], true, None).unwrap_err();
        assert!(why.ends_with("mean toxic: `LABEL_0` could be either"), "{why}");
        assert_eq!(rule(&["LABEL_0", "LABEL_1"], true, Some("LABEL_1")), Ok(vec![1]));
        assert!(rule(&["LABEL_0", "LABEL_1"], true, Some("LABEL_7")).unwrap_err().ends_with("no label `LABEL_7`"));
        assert!(rule(&["male", "female"], false, None).unwrap_err().ends_with("no name says so"));
        assert!(rule(&["toxic", "insult"], true, None).unwrap_err().contains("all would be"));
    }
}
