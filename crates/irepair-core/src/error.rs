//! The crate's error type.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::spec::UnitKind;
use crate::{BlockId, Diagnostic, printable};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

crate::errors! {
    /// What can be wrong with a shared value or a file.
    pub enum Error {
        /// A sensitivity is NaN, infinite or negative.
        BadSensitivity { block: BlockId, value: f64 } = "sensitivity of block {block} is {value}" =>
            Outcome.help("the model or its gradients diverged: lower the learning rate, or check the weights for NaN");
        /// A model without blocks has no sensitivities.
        NoBlocks = "no blocks to rank" => Data.help("a model needs at least one block: see its config.json");
        /// A slice size that selects nothing, or more than everything.
        BadSliceSize { got: String } = "slice size `{got}` is out of range" =>
            Usage.want_got("a number of blocks like `1b`, of units like `1u`, or percent over 0 and up to 100", got)
                .help("`--top-k 20` keeps the top 20 %, `--top-k 3b` three blocks, `--top-k 3u` three units of the kind `--unit`");
        /// A list of units that cannot be read.
        BadUnitList { got: String, why: String } = "`{}` is no list of units: {why}", short(got) =>
            Usage.want_got("blocks or parts of them, such as `3`, `3.attention`, `0-2.mlp`, `3.head.0-4`, `3.neuron.17`", short(got));
        /// A text that is not one unit.
        BadUnit { got: String, why: String } = "`{}` is not one unit: {why}", short(got) =>
            Usage.want_got("a block or a part of one, such as `3`, `3.attention`, `3.mlp`, `3.head.0`, `3.neuron.17`", short(got));
        /// A list that names more units than one list may.
        TooManyUnits { got: String, limit: usize } = "`{}` names too many units", short(got) =>
            Usage.want_got(format!("at most {limit} units"), "more");
        /// A unit that the model does not have.
        NoSuchUnit { unit: String, want: String } = "the model has no unit `{unit}`" => Usage.want_got(want, unit);
        /// A list of names of columns that cannot be read.
        BadColumns { got: String, why: String } = "names of columns cannot be read: {why}" =>
            Usage.want_got("KEY=NAME with commas between them, such as `prompt=question,chosen=good`", got);
        /// A list that names a part of what is chosen as a whole; `key` is the list.
        FinerUnit { key: &'static str, unit: String, kind: UnitKind } =
            "`{key}` names `{unit}`, and units of kind {kind} are chosen whole" =>
            Usage.help("give the kind of that unit as --unit, or a unit that holds it");
        /// Lists that leave nothing to choose.
        NoUnitLeft { kind: UnitKind } = "`only` and `exclude` leave no unit of kind {kind} to choose" =>
            Usage.help("name more in --only, or less in --exclude");
        /// A name that is in no row of a table of [`spec`](crate::spec); `what` is what the table lists.
        UnknownName { what: &'static str, got: String, want: String } = "no {what} is called `{got}`" =>
            Usage.want_got(want, got);
        /// A batch without a single token.
        NoTokens = "batch holds no tokens" => Data.help("give at least one text that is not empty");
        /// A directory that another process writes to.
        Busy { path: PathBuf } = "another process works in this directory" =>
            Usage.at(path.display()).help("wait until it has ended, or give another directory; a process that died holds no lock");
        /// A directory that was removed while it was written to.
        Removed { path: PathBuf } = "directory was removed while it was written to" =>
            Data.at(path.display()).help("what it held is gone: run the same command again to start over");
        /// A place to write to that already holds something.
        OutExists { path: PathBuf } = "output is there already" =>
            Usage.at(path.display()).help("give a new or empty path: existing files are never overwritten");
        /// A place to write to that another command has begun to fill; `other` is what that one makes.
        BegunByAnother { path: PathBuf, other: String } =
            "another command has begun to fill this directory and has not finished: {}", printable(other) =>
            Usage.at(path.display()).help("give that command again to finish it, remove the directory, or give another one");
        /// A file of a model directory that is not there.
        MissingFile { path: PathBuf } = "file is missing" => Data.at(path.display()).help(
            "give a Hugging Face model directory: config.json, model.safetensors (or shards with \
             model.safetensors.index.json) and tokenizer.json"
        );
        /// Shards that an index names and that are not there; `is_stale` when other files hold all of its tensors.
        MissingShards { path: PathBuf, n_shards: usize, missing: Vec<String>, is_stale: bool } =
            "{} of {n_shards} shards are missing", missing.len() =>
            Data.at(format!("{}, {}", path.display(), some_of(missing, 8))).help(if *is_stale {
                "the safetensors files that are there hold every tensor that the index names: it is left over from another \
                 save, or files were renamed; correct the names in it"
            } else {
                "the download or copy was cut short: fetch the missing files"
            });
        /// A directory with one file of weights and with shards.
        TwoCheckpoints { path: PathBuf, shard: String } = "directory holds two sets of weights" =>
            Data.at(path.display()).want_got("model.safetensors, or shards with their index", format!("both, such as {}", printable(shard)))
                .help("one of them is left over from an earlier save, and programs differ in which they read: remove it");
        /// Weights in the form of PyTorch's own `save` alone.
        Pickle { path: PathBuf } = "pickle checkpoints can run code when opened and are not read" =>
            Data.at(path.display()).help(
                "where you trust the file, write it as safetensors with transformers: \
                 AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR); then copy the tokenizer's files"
            );
        /// A name that is no path here and not in the hub's cache; `kind` is what it could be.
        NotInHub { name: String, kind: &'static str, cache: PathBuf } =
            "`{name}` is neither a path nor a {kind} in the hub's cache" =>
            Data.at(cache.display()).help(format!(
                "nothing is downloaded here: run `hf download {}{}`, or set HF_HUB_CACHE or HF_HOME to the cache that has it",
                name.replacen('@', " --revision ", 1),
                if *kind == "model" { "" } else { " --repo-type dataset" }
            ));
        /// A repository of which no snapshot is the one that is meant.
        WhichRevision { name: String, dir: PathBuf, revision: Option<String>, known: Vec<String> } =
            "`{name}` has {} in the hub's cache", which_revision(revision.as_deref(), known.len()) =>
            Data.at(dir.display()).help(format!(
                "name one, such as `{name}@{}`; there are {}",
                printable(known.first().map_or("", |name| name)), some_of(known, 10)
            ));
        /// A data set without a file, or with several of which none is named.
        WhichFile { name: String, dir: PathBuf, path: Option<String>, files: Vec<String> } =
            "data set `{name}` has {}", which(path.as_deref(), files.len()) =>
            Data.at(dir.display()).help(match &files[..] {
                [] => "files with records end in .jsonl, .json, .csv, .tsv or .parquet".to_owned(),
                files => format!("name one, such as `{name}:{}`; there are {}", files[0], some_of(files, 10)),
            });
        /// A file of another kind than its name, or a broken one.
        Unreadable { path: PathBuf, reason: String } = "file cannot be read: {reason}" =>
            Data.at(path.display()).help("get the file again, then compare its size");
        /// Reading or writing a file failed; `action` is what was being done: `read`, `write`, `rename`, `remove`.
        Io { action: &'static str, path: PathBuf, source: std::io::Error } = "{action} failed" =>
            Data.at(path.display()).because(action, source);
    }
}

/// The first `n` names, and how many more there are.
fn some_of(names: &[String], n: usize) -> String {
    let shown = names.iter().take(n).map(|name| printable(name)).collect::<Vec<_>>().join(", ");
    if names.len() > n { format!("{shown} and {} more", names.len() - n) } else { shown }
}

/// A text for messages: without control characters, and not over 80 characters.
pub(crate) fn short(text: &str) -> String {
    let shown = printable(text);
    match shown.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &shown[..end]),
        None => shown,
    }
}

fn which_revision(revision: Option<&str>, n: usize) -> String {
    match revision {
        Some(revision) => format!("no revision `{}`", printable(revision)),
        None => format!("{n} snapshots and no `main`"),
    }
}

fn which(path: Option<&str>, n: usize) -> String {
    match (path, n) {
        (Some(path), _) => format!("no file with records called `{path}`"),
        (None, 0) => "no file with records".to_owned(),
        (None, n) => format!("{n} files with records"),
    }
}

impl Error {
    /// What an error of the operating system becomes when `action` on `path` failed.
    pub fn io<'a>(action: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Self + Copy + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// A file that cannot be read, and why.
    pub fn unreadable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: reason.into() }
    }
}

impl Diagnostic {
    /// Adds what the operating system says, and what can be done where something cannot be written.
    fn because(mut self, action: &str, source: &std::io::Error) -> Self {
        const AGAIN: &str = "then run the same command again: what was finished is kept";
        let (why, help) = match source.kind() {
            ErrorKind::StorageFull => ("no space left".into(), Some(format!("free some space, {AGAIN}"))),
            ErrorKind::QuotaExceeded => {
                ("no space left in your quota".into(), Some(format!("free some space, {AGAIN}")))
            }
            ErrorKind::FileTooLarge => {
                let raise = format!("raise the limit (`ulimit -f`) or take another file system, {AGAIN}");
                ("file is larger than may be written here".into(), Some(raise))
            }
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                (source.to_string(), Some("give a place that may be written to; nothing was changed".to_owned()))
            }
            _ => (source.to_string(), None),
        };
        self.what += &format!(": {why}");
        self.help = help.filter(|_| action != "read");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Diagnose;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(crate::every_diagnostic!(Error {
            BadSensitivity: [Error::BadSensitivity { block: BlockId(3), value: f64::NAN }],
            NoBlocks: [Error::NoBlocks],
            BadSliceSize: [Error::BadSliceSize { got: "101%".into() }],
            BadUnitList: [
                "3.heads.1".parse::<crate::UnitList>().unwrap_err(),
                "0,1-".parse::<crate::UnitList>().unwrap_err(),
            ],
            BadUnit: ["0-1.mlp".parse::<crate::Unit>().unwrap_err(), "3.head".parse::<crate::Unit>().unwrap_err()],
            TooManyUnits: ["0-9999.neuron.0-9999".parse::<crate::UnitList>().unwrap_err()],
            NoSuchUnit: [Error::NoSuchUnit { unit: "3.head.12".into(), want: "heads 0 to 11".into() }],
            BadColumns: ["text=a".parse::<crate::Columns>().unwrap_err()],
            FinerUnit: [Error::FinerUnit { key: "only", unit: "3.head.5".into(), kind: UnitKind::Half }],
            NoUnitLeft: [Error::NoUnitLeft { kind: UnitKind::Head }],
            UnknownName: ["dynamik".parse::<crate::spec::Policy>().unwrap_err()],
            NoTokens: [Error::NoTokens],
            Busy: [Error::Busy { path: "runs/a".into() }],
            Removed: [Error::Removed { path: "runs/a".into() }],
            OutExists: [Error::OutExists { path: "model".into() }],
            BegunByAnother: [Error::BegunByAnother { path: "model".into(), other: "irepair repair".into() }],
            MissingFile: [Error::MissingFile { path: "gpt2/config.json".into() }],
            MissingShards: [
                Error::MissingShards {
                    path: "gpt2/model.safetensors.index.json".into(),
                    n_shards: 30,
                    missing: (1..=15).map(|i| format!("model-{i:05}-of-00030.safetensors")).collect(),
                    is_stale: false
                },
                Error::MissingShards {
                    path: "gpt2/model.safetensors.index.json".into(),
                    n_shards: 2,
                    missing: vec!["model-00002-of-00002.safetensors".into()],
                    is_stale: true
                },
            ],
            TwoCheckpoints: [Error::TwoCheckpoints {
                path: "gpt2".into(),
                shard: "model-00001-of-00002.safetensors".into()
            }],
            Pickle: [Error::Pickle { path: "gpt2/pytorch_model.bin".into() }],
            NotInHub: [Error::NotInHub { name: "gpt2".into(), kind: "model", cache: "hub".into() }],
            WhichRevision: [Error::WhichRevision {
                name: "a/b".into(),
                dir: "hub/models--a--b".into(),
                revision: None,
                known: vec!["v1.0".into(), "0f3c".into()]
            }],
            WhichFile: [Error::WhichFile { name: "a/b".into(), dir: "hub".into(), path: None, files: Vec::new() }],
            Unreadable: [Error::unreadable("gpt2/model.safetensors".as_ref(), "its header is cut short")],
            Io: [Error::Io { action: "write", path: "runs/a".into(), source: std::io::Error::other("disk full") }],
        }));
    }

    #[test]
    fn a_full_disk_says_how_to_continue() {
        let text = |kind: std::io::ErrorKind, action: &'static str| {
            Error::Io { action, path: "out/model.safetensors".into(), source: kind.into() }.diagnostic().to_string()
        };
        assert_eq!(
            text(std::io::ErrorKind::StorageFull, "write"),
            "error: write failed: no space left\n   at: out/model.safetensors\n help: free some space, then run the same \
             command again: what was finished is kept"
        );
        assert!(text(std::io::ErrorKind::QuotaExceeded, "write").contains("no space left in your quota"));
        assert!(text(std::io::ErrorKind::FileTooLarge, "write").contains("`ulimit -f`"));
        assert!(text(std::io::ErrorKind::PermissionDenied, "write").contains("a place that may be written to"));
        assert!(!text(std::io::ErrorKind::PermissionDenied, "read").contains("help:"));
    }
}
