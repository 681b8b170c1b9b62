//! The crate's error type.

use std::fmt;
use std::path::{Path, PathBuf};

use irepair_core::json_said;

use crate::found::Found;

/// The place of a record in its file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The line that it begins at.
    Line(usize),
    /// The row, of a file without lines.
    Row(usize),
    /// The line in a part of the file, which is counted from 0 as in its name.
    LineOfPart(usize, usize),
    /// The row in a part of the file.
    RowOfPart(usize, usize),
}

impl Place {
    /// The same place in a part of a file.
    pub(crate) fn of_part(self, part: usize) -> Self {
        match self {
            Self::Line(n) | Self::LineOfPart(n, _) => Self::LineOfPart(n, part),
            Self::Row(n) | Self::RowOfPart(n, _) => Self::RowOfPart(n, part),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(n) => write!(f, "line {n}"),
            Self::Row(n) => write!(f, "row {n}"),
            Self::LineOfPart(n, part) => write!(f, "line {n} of part {part:05}"),
            Self::RowOfPart(n, part) => write!(f, "row {n} of part {part:05}"),
        }
    }
}

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
            Data.at(line_of(path, *line)).want_got("one JSON object", json_said(source))
                .help("write a JSON object a line, a prompt as {\"prompt\": \"...\"}");
        /// A first line that is not JSON, and may be that of a table whose name does not say so.
        NotTable { path: PathBuf, line: usize } = "line is not JSON" =>
            Data.at(line_of(path, *line)).want_got("one JSON object", "text with commas, semicolons or tabs")
                .help("a table is known by its name: let it end in `.csv` (commas) or `.tsv` (tabs), `.gz` may follow; a pipe has no \
                       such name, so write the table to a file first");
        /// A number of JSON that is not finite, as Python writes it, under a key that is read.
        NotFinite { path: PathBuf, line: usize, key: String, word: &'static str } = "`{word}` is not JSON" =>
            Data.at(format!("{}, key `{key}`", line_of(path, *line)))
                .help("Python's json writes it for a number that is not finite: write null, or leave the key out");
        /// A whole number of JSON that has over 64 bits, under a key that is read.
        WideNumber { path: PathBuf, line: usize, key: String, number: String } = "whole number has over 64 bits" =>
            Data.at(format!("{}, key `{key}`", line_of(path, *line)))
                .want_got("a whole number of 64 bits", number)
                .help("write it as text, with quotes around it");
        /// A row of CSV that cannot be read; why, from the csv library.
        BadRow { path: PathBuf, line: usize, why: String } = "row cannot be read: {why}" => Data.at(line_of(path, *line));
        /// A Parquet file, or a row of it, that cannot be read; why, from the parquet library.
        BadTable { path: PathBuf, row: Option<usize>, why: String } = "parquet file cannot be read: {why}" =>
            Data.at(match row {
                Some(row) => format!("{}, row {row}", path.display()),
                None => path.display().to_string(),
            }).help("write it again, compressed with snappy, zstd or gzip or not at all");
        /// Labelled completions of which no prompt has one of each label.
        NoPartners { path: PathBuf, n_desirable: usize, n_undesirable: usize } =
            "no prompt has both a desirable and an undesirable completion" =>
            Data.at(path.display())
                .want_got("rows that repeat a prompt with both labels", format!("{n_desirable} desirable and {n_undesirable} undesirable completions"));
        /// Chats of which every prompt is over the limit.
        PromptsTooLong { path: PathBuf, n: usize, max_prompt: usize } = "prompts of all {n} chats are too long" =>
            Data.at(path.display()).want_got(format!("{max_prompt} tokens at most"), "more")
                .help("give a larger --max-prompt: a chat's prompt is not cut, because its end begins the answer");
        /// Pairs of which every one lacks a continuation that is read.
        AllEmpty { path: PathBuf, n: usize, sides: &'static str } = "all {n} pairs are left out: a continuation is empty" =>
            Data.at(path.display()).want_got(format!("text in {sides}"), "none")
                .help("an empty continuation holds no token to learn from or to measure: is this the right column?");
        /// A message list that is held as text; it would be trained on with its brackets.
        WrittenList { path: PathBuf, place: Place, key: String } = "record has a list of messages written as text" =>
            Data.at(format!("{}, {place}, key `{key}`", path.display()))
                .want_got("a list of messages, or plain text", "the text of a list")
                .help("in JSON write the list itself, without quotes around it; a table in CSV holds no lists: write JSONL or \
                       Parquet");
        /// A record whose value is missing or of the wrong type; a nested key has dots.
        BadKey { path: PathBuf, place: Place, key: String, want: &'static str, found: Box<Found> } =
            "record has a wrong `{key}`" =>
            Data.at(format!("{}, {place}, key `{key}`", path.display())).want_got(want, found.got())
                .help(found.help(key));
        /// A pair without a prompt whose two sides do not begin with the same text.
        NoCommonPrompt { path: PathBuf, place: Place, found: Box<Found> } =
            "pair has no `prompt`, and `chosen` and `rejected` do not begin with the same text" =>
            Data.at(format!("{}, {place}", path.display()))
                .help(format!("{}; for pairs without a prompt, give an empty one", found.help("prompt")));
        /// A chat that the model's template does not render; why, from the template or its engine.
        NotRendered { path: PathBuf, place: Place, key: String, template: PathBuf, why: String } =
            "messages cannot be rendered: {why}" =>
            Data.at(format!("{}, {place}, key `{key}`", path.display()))
                .help(format!("the template is {}", template.display()));
        /// A chat whose text does not begin with that of its prompt: an excerpt of each, from where they differ.
        NotContinued { path: PathBuf, place: Place, key: String, template: PathBuf, excerpts: Box<[String; 2]> } =
            "text of the whole chat does not begin with the text of its prompt" =>
            Data.at(format!("{}, {place}, key `{key}`", path.display()))
                .want_got(format!("{:?}", excerpts[0]), format!("{:?}", excerpts[1]))
                .help(format!(
                    "the template {} writes a prompt otherwise when its answer follows: take what its generation prompt \
                     adds into the answer, or write the pairs as text",
                    template.display()
                ));
        /// A model directory without a chat template, which message lists need.
        NoTemplate { dir: PathBuf } = "model has no chat template" =>
            Data.at(dir.display()).help(
                "message lists need one: copy `chat_template.jinja` or the `chat_template` of `tokenizer_config.json` from the \
                 model's chat version, or write prompts and pairs as text"
            );
        /// A chat template that the engine refuses; why, from the engine.
        BadTemplate { path: PathBuf, why: String } = "chat template cannot be used: {why}" => Data.at(path.display());
        /// No tokenizer files in a directory.
        NoTokenizer { dir: PathBuf } = "directory has no tokenizer" =>
            Data.at(dir.display())
                .help("a model directory holds `tokenizer.json`, or `vocab.json` with `merges.txt`");
        /// A tokenizer file that cannot be used; why, from the tokenizers library or from our own check.
        BadTokenizer { path: PathBuf, why: String } = "tokenizer file cannot be used: {why}" =>
            Data.at(path.display()).help("correct what is named, or copy the file again from the source of the model");
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
        let record = |text: &str, columns: &irepair_core::Columns, said: fn(&crate::record::Record<'_>) -> Error| {
            let value = serde_json::from_str(text).unwrap();
            said(&crate::record::Record {
                path: &path(),
                place: Place::Line(3),
                value,
                columns: Some(columns),
                unread: &[],
            })
        };
        let bad_key = |text: &str, key: &'static str, columns: &str| {
            let columns = if columns.is_empty() { irepair_core::Columns::SAME } else { columns.parse().unwrap() };
            record(
                text,
                &columns,
                match key {
                    "prompt" => |record| record.plain("prompt").unwrap_err(),
                    "chosen" => |record| record.plain("chosen").unwrap_err(),
                    _ => |record| record.plain("rejected").unwrap_err(),
                },
            )
        };
        let no_common_prompt = || {
            let text = r#"{"question": "q", "chosen": "a", "rejected": "b"}"#;
            record(text, &irepair_core::Columns::SAME, |record| record.no_common_prompt())
        };
        let not_json = serde_json::from_str::<serde_json::Value>("{\"prompt\":").unwrap_err();
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            File: [irepair_core::Error::NoTokens.into()],
            NotData: [
                other_kind(b"version https://git-lfs"),
                other_kind(b"<html>"),
                other_kind(b""),
                other_kind(b"PK\x03\x04")
            ],
            NoRecords: [Error::NoRecords { path: path(), wanted: "pairs" }],
            LineTooLong: [Error::LineTooLong { path: path(), line: 3, max_bytes: 1024 }],
            NotUtf8: [Error::NotUtf8 { path: path(), line: 3 }],
            NotJson: [Error::NotJson { path: path(), line: 3, source: not_json }],
            NotTable: [Error::NotTable { path: path(), line: 1 }],
            NotFinite: [Error::NotFinite { path: path(), line: 3, key: "prompt".into(), word: "NaN" }],
            WideNumber: [Error::WideNumber {
                path: path(),
                line: 3,
                key: "tools".into(),
                number: "123456789012345678901".into()
            }],
            BadRow: [Error::BadRow { path: path(), line: 3, why: "2 fields, not 3".into() }],
            BadTable: [
                Error::BadTable { path: path(), row: None, why: "corrupt footer".into() },
                Error::BadTable { path: path(), row: Some(3), why: "the file is damaged".into() },
            ],
            NoPartners: [Error::NoPartners { path: path(), n_desirable: 3, n_undesirable: 0 }],
            PromptsTooLong: [Error::PromptsTooLong { path: path(), n: 3, max_prompt: 64 }],
            AllEmpty: [Error::AllEmpty { path: path(), n: 20, sides: "`chosen` and `rejected`" }],
            WrittenList: [Error::WrittenList { path: path(), place: Place::Line(3), key: "prompt".into() }],
            BadKey: [
                bad_key(r#"{"prompt": "p", "chosen": 3}"#, "chosen", ""),
                bad_key(r#"{"prompt": "p", "chosen": "c", "bad": "b"}"#, "rejected", ""),
                bad_key(r#"{"the question": "p", "chosen": "c", "rejected": "r"}"#, "prompt", ""),
                bad_key(r#"{"question": "p", "chosen": "c", "rejected": "r"}"#, "prompt", "prompt=qestion"),
                bad_key(r#"{"a": "p", "b": "c", "c": "r"}"#, "prompt", ""),
                bad_key(r#"{"messages": [{"role": "user", "content": "a"}], "id": 1}"#, "prompt", ""),
                bad_key(r#"{"conversations": [{"from": "human", "value": "a"}]}"#, "prompt", ""),
                bad_key(r#"[{"role": "user", "content": "a"}]"#, "prompt", ""),
                bad_key(r#"{"role": "user", "content": "a"}"#, "prompt", ""),
                bad_key(r#"{"prompt": {"0": "p"}, "chosen": {"0": "c"}, "rejected": {"0": "r"}}"#, "prompt", ""),
                bad_key(r#"{"train": [{"prompt": "p"}]}"#, "prompt", ""),
            ],
            NoCommonPrompt: [no_common_prompt()],
            NotRendered: [Error::NotRendered {
                path: path(),
                place: Place::Line(3),
                key: "chosen".into(),
                template: "smollm/chat_template.jinja".into(),
                why: "the template says: no system role".into(),
            }],
            NotContinued: [Error::NotContinued {
                path: path(),
                place: Place::Line(3),
                key: "chosen".into(),
                template: "r1/chat_template.jinja".into(),
                excerpts: Box::new(["<think>\n".into(), "Hi.".into()]),
            }],
            NoTemplate: [Error::NoTemplate { dir: "gpt2".into() }],
            BadTemplate: [Error::BadTemplate { path: "gpt2/chat_template.jinja".into(), why: "syntax error".into() }],
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
