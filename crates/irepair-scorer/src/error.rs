//! The crate's error type.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with a scorer, its training, its file or its program. A single text that fails is no error: it
    /// is missing and counted.
    pub enum Error {
        /// Labels of one kind only.
        OneClass { what: &'static str, n: usize } = "{what} has texts of one label only" =>
            Data.want_got("toxic and other texts", format!("{n} texts of one label"))
                .help("give more labelled texts, of both kinds");
        /// The minimiser failed; why, from the library.
        Fit { why: String } = "fitting the scorer failed: {why}" => Bug;
        /// A file that is no scorer.
        Unreadable { path: PathBuf, reason: String } = "scorer file cannot be read: {reason}" =>
            Data.at(path.display()).help("make it again, as docs/SCORERS.md describes");
        /// A scorer of another format version: the version read here, and the one found.
        OtherVersion { path: PathBuf, want: u32, got: u64 } = "scorer file has another format version" =>
            Data.at(path.display()).want_got(format!("version {want}"), format!("version {got}"))
                .help("train the scorer again with this program, or use the program that made it");
        /// A line that is no regular expression; why, from the library.
        BadPattern { path: PathBuf, line: usize, why: String } = "regular expression cannot be read: {why}" =>
            Data.at(format!("{}, line {line}", path.display()))
                .help("correct it, or put `#` before the line; docs/SCORERS.md says how expressions are written");
        /// Regular expressions that together take too much memory.
        TooManyPatterns { path: PathBuf, n: usize, why: String } = "regular expressions are too large: {why}" =>
            Data.at(path.display()).want_got("fewer or simpler ones", format!("{n} lines"));
        /// A file without a regular expression.
        NoPatterns { path: PathBuf } = "file holds no regular expression" =>
            Data.at(path.display()).help("give one on each line; blank lines and lines that begin with `#` do not count");
        /// A command line that has no words, or a quote without its end.
        BadCommand { got: String, why: &'static str } = "command line cannot be read: {why}" => Usage.at(got);
        /// A program that is not there, or cannot be run.
        NoProgram { program: String, why: &'static str } = "program of a judge {why}" =>
            Usage.at(program).help("give its path, or install it where PATH finds it");
        /// From the core crate.
        Core(error: irepair_core::Error);
        /// From the data crate.
        Data(error: irepair_data::Error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            OneClass: [Error::OneClass { what: "the training file", n: 40 }],
            Fit: [Error::Fit { why: "the line search found no step".into() }],
            Unreadable: [Error::Unreadable { path: "scorer.json".into(), reason: "a weight is missing".into() }],
            OtherVersion: [Error::OtherVersion { path: "scorer.json".into(), want: 1, got: 2 }],
            BadPattern: [Error::BadPattern {
                path: "leaks.regex".into(),
                line: 3,
                why: "unclosed group, at character 2".into()
            }],
            TooManyPatterns: [Error::TooManyPatterns {
                path: "leaks.regex".into(),
                n: 9000,
                why: "compiled, it is over 32 MiB".into()
            }],
            NoPatterns: [Error::NoPatterns { path: "leaks.regex".into() }],
            BadCommand: [Error::BadCommand { got: "./judge 'a".into(), why: "a quote has no end" }],
            NoProgram: [Error::NoProgram { program: "./judge".into(), why: "is not there" }],
            Core: [irepair_core::Error::NoTokens.into()],
            Data: [irepair_data::Error::TooFew { wanted: 2, n: 1 }.into()],
        }));
    }
}
