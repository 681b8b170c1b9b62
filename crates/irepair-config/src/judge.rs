//! What judges a text: a word list, regular expressions, a scorer's file, a classifier or a program, as one string.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A judge, spelled the same on the command line and in files. Its files are read when it is opened.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Judge {
    /// `words:FILE`: a word list, one word a line.
    Words(PathBuf),
    /// `regex:FILE`: regular expressions, one a line.
    Regex(PathBuf),
    /// `scorer:FILE`: a file of `irepair scorer train`, or of kind `tfidf`.
    Scorer(PathBuf),
    /// `classifier:DIR`: a classifier's Hugging Face directory.
    Classifier(PathBuf),
    /// `command:PROGRAM WORDS...`: a program on a pipe, with the words of its command line.
    Command(String),
    /// A path alone: a directory is a classifier, a `.txt` file a word list, another file a scorer's.
    Path(PathBuf),
}

impl Judge {
    /// Every way to give one.
    pub const KINDS: &str =
        "words:FILE, regex:FILE, scorer:FILE, classifier:DIR, command:PROGRAM WORDS..., or a path alone";

    /// Its kind as spelled before the colon; none of a path alone.
    pub fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::Words(_) => "words",
            Self::Regex(_) => "regex",
            Self::Scorer(_) => "scorer",
            Self::Classifier(_) => "classifier",
            Self::Command(_) => "command",
            Self::Path(_) => return None,
        })
    }

    /// The file or directory; none of a program.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Words(path) | Self::Regex(path) | Self::Scorer(path) | Self::Classifier(path) | Self::Path(path) => {
                Some(path)
            }
            Self::Command(_) => None,
        }
    }

    /// The same kind of judge with another file or directory; a program has none and stays.
    #[must_use]
    pub fn at(&self, path: impl Into<PathBuf>) -> Self {
        match self {
            Self::Words(_) => Self::Words(path.into()),
            Self::Regex(_) => Self::Regex(path.into()),
            Self::Scorer(_) => Self::Scorer(path.into()),
            Self::Classifier(_) => Self::Classifier(path.into()),
            Self::Path(_) => Self::Path(path.into()),
            Self::Command(words) => Self::Command(words.clone()),
        }
    }
}

impl From<PathBuf> for Judge {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl FromStr for Judge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinded = text.split_once(':').filter(|(kind, _)| {
            // A path with a colon in it has something else before that: a dot, a slash, a digit.
            kind.len() > 1 && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_')
        });
        let Some((kind, rest)) = kinded else {
            return if text.trim().is_empty() {
                Err(format!("no judge is named; a judge is {}", Self::KINDS))
            } else {
                Ok(Self::Path(text.into()))
            };
        };
        if rest.trim().is_empty() {
            return Err(format!("nothing is named after `{kind}:`; a judge is {}", Self::KINDS));
        }
        Ok(match kind {
            "words" => Self::Words(rest.into()),
            "regex" => Self::Regex(rest.into()),
            "scorer" => Self::Scorer(rest.into()),
            "classifier" => Self::Classifier(rest.into()),
            "command" => Self::Command(rest.to_owned()),
            _ => {
                return Err(format!(
                    "`{kind}` is no kind of judge; a judge is {} (of a path with a colon: ./{text})",
                    Self::KINDS
                ));
            }
        })
    }
}

impl TryFrom<String> for Judge {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Judge> for String {
    fn from(judge: Judge) -> Self {
        judge.to_string()
    }
}

impl fmt::Display for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind() {
            write!(f, "{kind}:")?;
        }
        match (self, self.path()) {
            (Self::Command(words), _) => f.write_str(words),
            (_, Some(path)) => write!(f, "{}", path.display()),
            (_, None) => Ok(()),
        }
    }
}

/// As the string: pairs that were made when a judge was a path are known by these words.
impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EvalOptions, from_str, to_toml};

    #[test]
    fn a_judge_is_one_string() {
        let read = |text: &str| text.parse::<Judge>().unwrap();
        for (text, judge) in [
            ("words:a.txt", Judge::Words("a.txt".into())),
            ("regex:dir/a b.regex", Judge::Regex("dir/a b.regex".into())),
            ("scorer:a:b", Judge::Scorer("a:b".into())),
            ("classifier:/x", Judge::Classifier("/x".into())),
            ("command:python3 judge.py --level 'a b'", Judge::Command("python3 judge.py --level 'a b'".into())),
            ("a.txt", Judge::Path("a.txt".into())),
            ("/runs/x:1/words.txt", Judge::Path("/runs/x:1/words.txt".into())),
            ("./words:a", Judge::Path("./words:a".into())),
            ("C:words", Judge::Path("C:words".into())),
        ] {
            assert_eq!(read(text), judge);
            assert_eq!(judge.to_string(), text);
            assert_eq!(format!("{judge:?}"), format!("{text:?}"));
        }
        assert_eq!(read("regex:a").at("b"), read("regex:b"));
        assert_eq!(read("command:a").at("b"), read("command:a"));
        assert_eq!(format!("{:?}", Judge::Path(PathBuf::new())), format!("{:?}", PathBuf::new()));
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_kinds() {
        let refuse = |text: &str| text.parse::<Judge>().unwrap_err();
        assert_eq!(
            refuse("lexicon:a.txt"),
            "`lexicon` is no kind of judge; a judge is words:FILE, regex:FILE, scorer:FILE, classifier:DIR, \
             command:PROGRAM WORDS..., or a path alone (of a path with a colon: ./lexicon:a.txt)"
        );
        assert!(refuse("regex:").starts_with("nothing is named after `regex:`; a judge is words:FILE"));
        assert!(refuse("").starts_with("no judge is named; "));
    }

    #[test]
    fn settings_with_bare_paths_are_as_they_were() {
        let text = "scorer = [\"runs/a.scorer\", \"words.txt\"]\nbest_of = 4\njudge = \"classifier\"\n";
        let given: EvalOptions = from_str(text, "e.toml").unwrap();
        let written = to_toml(&given);
        assert_eq!(written.lines().collect::<std::collections::BTreeSet<_>>(), text.lines().collect());
        let error = from_str::<EvalOptions>("scorer = ['lexicon:a']", "e.toml").unwrap_err();
        let said = irepair_core::Diagnose::diagnostic(&error).to_string();
        assert!(said.contains("line 1, `scorer`: `lexicon` is no kind of judge"), "{said}");
    }
}
