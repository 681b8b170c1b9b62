//! The crate's error type.

use std::path::{Path, PathBuf};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with data, a tokenizer, or a draw from them. Lines are counted from 1.
    pub enum Error {
        /// Opening, reading or writing a file failed.
        File(error: irepair_core::Error);
        /// The file is something else under the name of a data file.
        NotData { path: PathBuf, found: &'static str, help: &'static str } = "data file is {found}" =>
            Data.at(path.display()).help(help);
        /// The file was read to its end and has none of the records `wanted`: `pairs`, `texts`, `prompts`.
        NoRecords { path: PathBuf, wanted: &'static str } = "file holds no {wanted}" =>
            Data.at(path.display()).help("give a file that holds some; is this the one you meant?");
        /// A line longer than any real record.
        LineTooLong { path: PathBuf, line: usize, max_bytes: usize } = "line is longer than {max_bytes} bytes" =>
            Data.at(line_of(path, *line)).help("give a file with one record per line");
        /// A line that is not UTF-8.
        NotUtf8 { path: PathBuf, line: usize } = "line is not UTF-8" =>
            Data.at(line_of(path, *line)).help("convert the file to UTF-8");
        /// A line that is not JSON.
        NotJson { path: PathBuf, line: usize, source: serde_json::Error } = "line is not JSON" =>
            // Each record is one line to the parser: its "line 1" is not the file's.
            Data.at(line_of(path, *line))
                .want_got("one JSON object", source.to_string().replace(" at line 1 column", " at column"));
        /// A row of CSV that cannot be read; why, from the csv library.
        BadRow { path: PathBuf, line: usize, why: String } = "row cannot be read: {why}" => Data.at(line_of(path, *line));
        /// A record whose value is missing or of the wrong type; a nested key has dots.
        BadKey { path: PathBuf, line: usize, key: String, want: &'static str, got: String } =
            "record has a wrong `{key}`" =>
            Data.at(format!("{}, key `{key}`", line_of(path, *line))).want_got(want, got);
        /// No tokenizer files in a directory.
        NoTokenizer { dir: PathBuf } = "directory has no tokenizer" =>
            Data.at(dir.display())
                .help("a model directory holds `tokenizer.json`, or `vocab.json` with `merges.txt`");
        /// A tokenizer file that cannot be used; why, from the tokenizers library or from our own check.
        BadTokenizer { path: PathBuf, why: String } = "tokenizer file cannot be used: {why}" =>
            Data.at(path.display()).help("copy it again from the source of the model");
        /// An id of an end token that no token has; the file is the model's settings, not the tokenizer's.
        EndNotThere { path: PathBuf, id: u32, n_tokens: usize } = "end token is not in the vocabulary" =>
            Data.at(format!("{}, key `eos_token_id`", path.display()))
                .want_got(format!("the id of one of the {n_tokens} tokens"), id)
                .help("correct the id in this file: it belongs to another tokenizer");
        /// A tokenizer without a known end-of-text token.
        NoEos { dir: PathBuf } = "tokenizer has no end-of-text token" =>
            Data.at(dir.display()).help("name it as `eos_token` in `tokenizer_config.json`");
        /// The tokenizers library refused to `encode`, `decode` or `train`.
        Tokenize { action: &'static str, why: String } = "tokenizer failed to {action}: {why}" => Data;
        /// More examples asked for than there are.
        TooFew { wanted: usize, n: usize } = "too few examples" =>
            Data.want_got(format!("at least {wanted}"), n).help("ask for fewer, or give more data");
        /// The planted language has no more new texts of a kind.
        LanguageTooSmall { part: &'static str } =
            "planted language has too few different {part} for the sizes asked for" =>
            Usage.help("ask for smaller parts");
    }
}

fn line_of(path: &Path, line: usize) -> String {
    format!("{}, line {line}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let path = || PathBuf::from("pairs.jsonl");
        let other_kind = |head: &[u8]| {
            let (found, help) = crate::lines::other_kind(head).unwrap();
            Error::NotData { path: path(), found, help }
        };
        let not_json = serde_json::from_str::<serde_json::Value>("{\"prompt\":").unwrap_err();
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            File: [irepair_core::Error::NoTokens.into()],
            NotData: [other_kind(b"version https://git-lfs"), other_kind(b"<html>"), other_kind(b"")],
            NoRecords: [Error::NoRecords { path: path(), wanted: "pairs" }],
            LineTooLong: [Error::LineTooLong { path: path(), line: 3, max_bytes: 1024 }],
            NotUtf8: [Error::NotUtf8 { path: path(), line: 3 }],
            NotJson: [Error::NotJson { path: path(), line: 3, source: not_json }],
            BadRow: [Error::BadRow { path: path(), line: 3, why: "2 fields, not 3".into() }],
            BadKey: [Error::BadKey {
                path: path(),
                line: 3,
                key: "prompt.text".into(),
                want: "text",
                got: "a number".into()
            }],
            NoTokenizer: [Error::NoTokenizer { dir: "gpt2".into() }],
            BadTokenizer: [Error::BadTokenizer { path: "gpt2/tokenizer.json".into(), why: "it has no model".into() }],
            EndNotThere: [Error::EndNotThere { path: "gpt2/config.json".into(), id: 50256, n_tokens: 512 }],
            NoEos: [Error::NoEos { dir: "gpt2".into() }],
            Tokenize: [Error::Tokenize { action: "decode", why: "id 9 is unknown".into() }],
            TooFew: [Error::TooFew { wanted: 65, n: 64 }],
            LanguageTooSmall: [Error::LanguageTooSmall { part: "prompts" }],
        }));
    }
}
