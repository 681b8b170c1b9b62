//! Labelled texts: what a scorer is trained and measured on.

use std::path::Path;

use serde_json::Value;

use crate::Result;
use crate::read::read_records;

/// A text with its label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Labeled {
    /// The text.
    pub text: String,
    /// Whether people labelled it toxic.
    pub toxic: bool,
    /// The collection it comes from, where the file names it.
    pub source: Option<String>,
}

/// Reads labelled texts from records `{"text", "toxic", "source"?}`; `toxic` is true, false, 1 or 0, as text too. Other
/// keys are ignored, `.gz` is unpacked.
///
/// # Errors
/// Any of this crate's file and line errors, and `NoRecords` when there is no text.
pub fn read_labels(path: &Path) -> Result<Vec<Labeled>> {
    read_records(path, "labelled texts", Some(&["text", "toxic", "source"]), |record| {
        let source = match record.value.get("source") {
            None | Some(Value::Null) => None,
            Some(Value::String(source)) if source.is_empty() => None,
            Some(_) => Some(record.string("source")?),
        };
        Ok(Labeled { text: record.string("text")?, toxic: record.label("toxic")?, source })
    })
}

#[cfg(test)]
mod tests {
    use irepair_core::Diagnose;

    use super::*;

    #[test]
    fn labels_are_booleans_or_zero_and_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.jsonl");
        std::fs::write(&path, "{\"text\":\"a\",\"toxic\":1,\"source\":\"s\"}\n{\"text\":\"b\",\"toxic\":false}\n")
            .unwrap();
        let labels = read_labels(&path).unwrap();
        assert_eq!(labels[0], Labeled { text: "a".into(), toxic: true, source: Some("s".into()) });
        assert_eq!(labels[1], Labeled { text: "b".into(), toxic: false, source: None });
        std::fs::write(&path, "{\"text\":\"a\",\"toxic\":0.7}\n").unwrap();
        let diagnostic = read_labels(&path).unwrap_err().diagnostic();
        assert_eq!(diagnostic.want_got, Some(("true, false, 1 or 0".into(), "a number".into())));
        // A table holds text alone; what pandas writes of a column with gaps are floats.
        let path = dir.path().join("l.csv");
        std::fs::write(&path, "text,toxic,source\na,1,s\nb,False,\nc,0.0,s\nd,TRUE,s\n").unwrap();
        let labels = read_labels(&path).unwrap();
        assert_eq!(labels.iter().map(|label| label.toxic).collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!((labels[0].source.as_deref(), labels[1].source.as_deref()), (Some("s"), None));
        std::fs::write(&path, "text,toxic\na,maybe\n").unwrap();
        let diagnostic = read_labels(&path).unwrap_err().diagnostic();
        assert!(diagnostic.at.unwrap().ends_with("l.csv, line 2, key `toxic`"));
    }
}
