//! Regular expressions as a judge: a text that one of them matches is bad.

use std::path::Path;

use irepair_core::fs::sha256_file;
use irepair_data::Lines;
use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use crate::{Error, Result, Scorer, pinned};

/// Most memory of all expressions together, compiled: 32 MiB.
const MAX_BYTES: usize = 32 << 20;

/// A file of regular expressions: 1 when any matches somewhere in the text, otherwise 0.
#[derive(Clone, Debug)]
pub struct Patterns {
    set: RegexSet,
    name: String,
}

impl Patterns {
    /// Reads one expression a line, as the crate `regex` writes them. Blank lines and lines that begin with `#` do not
    /// count; white space at the ends of others does.
    ///
    /// # Errors
    /// File errors; [`Error::BadPattern`], [`Error::TooManyPatterns`], [`Error::NoPatterns`].
    pub fn read(path: &Path) -> Result<Self> {
        // Hashed first: a file that changes meanwhile must not go by its later hash.
        let name = pinned("regex", &sha256_file(path)?);
        let mut lines = Vec::new();
        for line in Lines::open(path)? {
            let (line, pattern) = line?;
            if pattern.trim().is_empty() || pattern.starts_with('#') {
                continue;
            }
            // One by one, because the set does not say which of them is wrong.
            if let Err(error) = RegexBuilder::new(&pattern).size_limit(MAX_BYTES).build() {
                return Err(Error::BadPattern { path: path.to_owned(), line, why: reason(&error) });
            }
            lines.push(pattern);
        }
        if lines.is_empty() {
            return Err(Error::NoPatterns { path: path.to_owned() });
        }
        let set = RegexSetBuilder::new(&lines).size_limit(MAX_BYTES).build();
        let too_many =
            |error: regex::Error| Error::TooManyPatterns { path: path.to_owned(), n: lines.len(), why: reason(&error) };
        Ok(Self { set: set.map_err(too_many)?, name })
    }
}

/// The crate's reason on one line, without the drawing of the place.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => format!("compiled, it is over {} MiB", limit >> 20),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

impl Scorer for Patterns {
    /// `regex-` and the first digits of the SHA-256 of its file.
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        1
    }

    fn score(&self, text: &str) -> Result<f64, String> {
        Ok(f64::from(u8::from(self.set.is_match(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<Patterns> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.regex");
        std::fs::write(&path, text).unwrap();
        Patterns::read(&path)
    }

    #[test]
    fn any_expression_counts_and_comments_do_not() {
        let patterns = read("# good words\n\n(?i)\\bgrubnik\\b\r\n^a [0-9]+$\n  \n\\#").unwrap();
        let texts = ["You Grubnik!", "two grubniks", "a 12", "a 12\nb", "# good words", ""];
        let scores: Vec<f64> = texts.iter().map(|text| patterns.score(text).unwrap()).collect();
        assert_eq!(scores, [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        assert_ne!(patterns.name(), read("(?i)\\bgrubnik\\b").unwrap().name());
        assert_eq!(read("a").unwrap().name(), "regex-ca978112ca1b");
    }

    #[test]
    fn what_is_no_expression_is_refused_by_line() {
        let refuse = |text: &str| match read(text).unwrap_err() {
            Error::BadPattern { line, why, .. } => (line, why),
            other => panic!("{other}"),
        };
        assert_eq!(refuse("good\n\n(bad"), (3, "unclosed group".to_owned()));
        assert_eq!(refuse("(?=ahead)").0, 1);
        let (line, why) = refuse("a{2}\n((\\w{100}){100}){100}");
        assert_eq!((line, why.as_str()), (2, "compiled, it is over 32 MiB"));
        assert!(matches!(read("# nothing\n \n").unwrap_err(), Error::NoPatterns { .. }));
        assert!(matches!(read("").unwrap_err(), Error::Data(_)));
        assert!(matches!(read(b"a\n\xff\n").unwrap_err(), Error::Data(irepair_data::Error::NotUtf8 { line: 2, .. })));
        // Each fits, and all together do not.
        let many = "\\w{99}\n".repeat(60);
        assert!(matches!(read(&many), Err(Error::TooManyPatterns { n: 60, .. })));
    }
}
