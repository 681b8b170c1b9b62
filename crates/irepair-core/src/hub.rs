//! Names of models and data sets on the Hugging Face hub, found in the hub's cache on this machine. Nothing is fetched.

use std::path::{Component, Path, PathBuf};
use std::{fmt, fs};

use crate::fs::list;
use crate::shards::all_parts;
use crate::{Error, Result};

/// Names without an owner that the hub has given one since.
const RENAMED: [(&str, &str); 5] = [
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
    ("distilgpt2", "distilbert/distilgpt2"),
];

/// Endings of files that hold records; `.gz` may follow all but the last.
const RECORDS: [&str; 5] = [".jsonl", ".json", ".csv", ".tsv", ".parquet"];
/// Endings of other files that are given where a data set may be.
const OTHERS: [&str; 3] = [".txt", ".raw", ".md"];

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repository {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl Repository {
    /// Its directory in a cache: `models--org--name`.
    pub fn dir(self, cache: &Path, name: &str) -> PathBuf {
        let kind = if self == Self::Model { "models" } else { "datasets" };
        cache.join(format!("{kind}--{}", name.replace('/', "--")))
    }

    fn noun(self) -> &'static str {
        if self == Self::Model { "model" } else { "data set" }
    }
}

/// The cache that the hub's own tools download to, by the environment variables that they read; `variable` gives their
/// values.
pub fn cache(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let home = || {
        let xdg = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        variable("HF_HOME").or_else(|| Some(xdg?.join("huggingface")))
    };
    variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).or_else(|| Some(home()?.join("hub")))
}

/// The snapshot of a repository in a cache: that of `main`, or the only one.
pub fn snapshot(repository: &Path) -> Option<PathBuf> {
    if let Some(dir) = revision(repository, "main") {
        return Some(dir);
    }
    let mut dirs = snapshots(repository).into_iter();
    let first = dirs.next()?;
    dirs.next().is_none().then_some(first)
}

/// The snapshot of a revision: a branch or tag under `refs`, or a commit under `snapshots`.
fn revision(repository: &Path, name: &str) -> Option<PathBuf> {
    let is_name = |name: &str| !name.is_empty() && is_inside(Path::new(name));
    if !is_name(name) {
        return None;
    }
    let snapshot = |commit: &str| {
        let dir = repository.join("snapshots").join(commit);
        (is_name(commit) && dir.is_dir()).then_some(dir)
    };
    let commit = fs::read_to_string(repository.join("refs").join(name));
    commit.ok().and_then(|commit| snapshot(commit.trim())).or_else(|| snapshot(name).filter(|_| !name.contains('/')))
}

fn snapshots(repository: &Path) -> Vec<PathBuf> {
    let found = list(&repository.join("snapshots")).unwrap_or_default();
    found.into_iter().filter(|path| path.is_dir()).collect()
}

/// What can be named of a repository: branches and tags, then commits without one.
fn revisions(repository: &Path) -> Vec<String> {
    let (refs, mut names, mut named) = (repository.join("refs"), Vec::new(), Vec::new());
    let mut open = vec![refs.clone()];
    while let Some(dir) = open.pop() {
        for path in list(&dir).unwrap_or_default() {
            let Some(name) = path.strip_prefix(&refs).ok().and_then(Path::to_str) else { continue };
            if path.is_dir() && name.matches('/').count() < 8 {
                open.push(path);
            } else if let Some(snapshot) = revision(repository, name) {
                names.push(name.to_owned());
                named.push(snapshot);
            }
        }
    }
    names.sort();
    let others = snapshots(repository).into_iter().filter(|snapshot| !named.contains(snapshot));
    names.extend(others.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())));
    names
}

/// The directory of a model: `given` where that exists or is no name of the hub (`gpt2`, `org/name`, either with
/// `@revision`), otherwise its snapshot in the cache.
///
/// # Errors
/// `NotInHub` with the place that was looked at, `WhichRevision` where there are several snapshots, or not the one that
/// was asked for.
pub fn model_dir(given: &Path) -> Result<PathBuf> {
    model_dir_in(given, environment)
}

/// The file of a data set: `given` where that exists or is no name of the hub, otherwise the one file with records in
/// its snapshot, or that of `org/name:path`, or the only one of a split, `org/name:split`; `@revision` may follow the
/// name. The parts of a file are one file, `train-*-of-00003.parquet` ([`crate::shards`]).
///
/// # Errors
/// Those of [`model_dir`], `WhichFile` where there is not exactly one file.
pub fn data_file(given: &Path) -> Result<PathBuf> {
    data_file_in(given, environment)
}

fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn model_dir_in(given: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    match Name::of(given.to_str().unwrap_or_default()) {
        Some(name) if !given.exists() => match found(Repository::Model, name, variable) {
            Err(Error::NotInHub { .. }) if is_gone(given) => Ok(given.to_owned()),
            found => found,
        },
        _ => Ok(given.to_owned()),
    }
}

/// True for what is not there, in a directory that is: no name of the hub.
fn is_gone(given: &Path) -> bool {
    given.parent().is_some_and(Path::is_dir)
}

fn data_file_in(given: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let text = given.to_str().unwrap_or_default();
    let (name, path) = text.split_once(':').map_or((text, None), |(name, path)| (name, Some(path)));
    // A data set has an owner; one word is the name of a file.
    let Some(name) = Name::of(name).filter(|name| name.repository.contains('/') && !given.exists()) else {
        return Ok(given.to_owned());
    };
    if path.is_none() && name.revision.is_none() && is_file_name(name.repository) {
        return Ok(given.to_owned());
    }
    let dir = match found(Repository::Dataset, name, variable) {
        Err(Error::NotInHub { .. }) if path.is_none() && is_gone(given) => return Ok(given.to_owned()),
        found => found?,
    };
    let mut parts = Vec::new();
    below(&dir, Path::new(""), 0, &mut parts);
    let whole = |part: &String| all_parts(part).unwrap_or_else(|| part.clone());
    let mut files: Vec<String> = parts.iter().map(whole).collect();
    files.dedup();
    let only = |wanted: &dyn Fn(&str) -> bool| {
        let mut found = files.iter().filter(|file| wanted(file));
        found.next().filter(|_| found.next().is_none())
    };
    let which = match path {
        Some(path) => {
            files.iter().chain(&parts).find(|file| *file == path).or_else(|| only(&|file| split_of(file) == path))
        }
        None => only(&|_| true),
    };
    match which {
        Some(file) => Ok(dir.join(file)),
        None => Err(Error::WhichFile { name: name.to_string(), dir, path: path.map(str::to_owned), files }),
    }
}

/// The split that a file holds, as the hub's own tools take it from its name: `train` of
/// `data/train-*-of-00003.parquet` and `train.jsonl.gz`.
fn split_of(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.split('.').next().unwrap_or(name);
    stem.rsplit_once("-*-of-").map_or(stem, |(split, _)| split)
}

fn found(kind: Repository, name: Name<'_>, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let cache = cache(variable).unwrap_or_default();
    let old = name.repository;
    let renamed = RENAMED.iter().filter(|(known, _)| kind == Repository::Model && *known == old).map(|(_, new)| *new);
    let places = std::iter::once(old).chain(renamed).map(|name| kind.dir(&cache, name));
    let Some(place) = places.into_iter().find(|place| !snapshots(place).is_empty()) else {
        return Err(Error::NotInHub { name: name.to_string(), kind: kind.noun(), cache });
    };
    let snapshot = match name.revision {
        Some(asked) => revision(&place, asked),
        None => snapshot(&place),
    };
    snapshot.ok_or_else(|| Error::WhichRevision {
        name: old.to_owned(),
        revision: name.revision.map(str::to_owned),
        known: revisions(&place),
        dir: place,
    })
}

/// A name of the hub.
#[derive(Clone, Copy, Debug)]
struct Name<'a> {
    /// `NAME` or `OWNER/NAME`.
    repository: &'a str,
    /// What follows `@`: a branch, a tag or a commit.
    revision: Option<&'a str>,
}

impl<'a> Name<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (name, revision) = text.split_once('@').map_or((text, None), |(name, revision)| (name, Some(revision)));
        Some(Self { repository: name_of(name)?, revision })
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.repository)?;
        self.revision.map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// `NAME` or `OWNER/NAME`, of letters, digits, `-`, `_` and `.`.
fn name_of(text: &str) -> Option<&str> {
    let is_part = |part: &str| {
        let is_plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        is_plain && part.bytes().any(|b| b.is_ascii_alphanumeric()) && !part.starts_with('.') && !part.contains("--")
    };
    let fits = text.split('/').count() <= 2 && text.split('/').all(is_part);
    fits.then_some(text)
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

fn has_records(name: &str) -> bool {
    ends_with_one_of(name, &RECORDS)
}

/// True of what is rather the name of a file than of a data set.
fn is_file_name(name: &str) -> bool {
    has_records(name) || ends_with_one_of(name, &OTHERS)
}

fn ends_with_one_of(name: &str, ends: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    ends.iter().any(|end| plain.ends_with(end))
}

/// Files with records below a directory, in order, as paths from `root`; a snapshot is not deep.
fn below(dir: &Path, from: &Path, depth: usize, files: &mut Vec<String>) {
    for path in list(dir).unwrap_or_default() {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let at = from.join(name);
        if path.is_dir() && depth < 8 {
            below(&path, &at, depth + 1, files);
        } else if path.is_file() && has_records(name) && name != "dataset_infos.json" {
            files.push(at.to_string_lossy().into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Diagnose;

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_cache_is_where_the_hubs_own_tools_keep_it() {
        let of = |set: &[(&str, &str)]| {
            cache(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value)))
        };
        let home = ("HOME", "/h");
        assert_eq!(of(&[home]).unwrap(), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(of(&[home, ("XDG_CACHE_HOME", "/x")]).unwrap(), Path::new("/x/huggingface/hub"));
        assert_eq!(of(&[home, ("HF_HOME", "/f")]).unwrap(), Path::new("/f/hub"));
        assert_eq!(of(&[home, ("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]).unwrap(), Path::new("/c"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_name_is_its_snapshot_and_a_path_is_itself() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join(".cache/huggingface/hub");
        let variable = |name: &str| (name == "HOME").then(|| home.path().to_owned());
        let model = |name: &str| model_dir_in(Path::new(name), variable);
        let at = |repository: &str| cache.join(repository).join("snapshots/abc");
        put(&at("models--openai-community--gpt2").join("config.json"), "{}");
        put(&at("models--org--two").join("config.json"), "{}");
        put(&cache.join("models--org--two/snapshots/def/config.json"), "{}");
        assert_eq!(model("gpt2").unwrap(), at("models--openai-community--gpt2"));
        assert_eq!(model("openai-community/gpt2").unwrap(), at("models--openai-community--gpt2"));
        let which =
            |name: &str| model(name).unwrap_err().diagnostic().to_string().replace(cache.to_str().unwrap(), "CACHE");
        let no_main = which("org/two");
        assert_eq!(model("org/two@abc").unwrap(), cache.join("models--org--two/snapshots/abc"));
        put(&cache.join("models--org--two/refs/v1.0"), "abc");
        put(&cache.join("models--org--two/refs/pr/7"), "def");
        assert_eq!(model("org/two@v1.0").unwrap(), cache.join("models--org--two/snapshots/abc"));
        assert_eq!(model("org/two@pr/7").unwrap(), cache.join("models--org--two/snapshots/def"));
        assert_eq!(model("gpt2@abc").unwrap(), at("models--openai-community--gpt2"));
        for name in ["org/two@", "org/two@..", "org/two@../../models--org--two/snapshots/abc", "org/two@v1"] {
            assert!(matches!(model(name), Err(Error::WhichRevision { .. })), "{name}");
        }
        insta::assert_snapshot!([no_main, which("org/two"), which("org/two@v1"), which("org/none@v1")].join("\n\n"));
        put(&cache.join("models--org--two/refs/main"), "def\n");
        assert_eq!(model("org/two").unwrap(), cache.join("models--org--two/snapshots/def"));
        put(&cache.join("models--org--two/refs/main"), "../../../..");
        assert!(model("org/two").is_err(), "a revision is a name");
        for path in [home.path().to_str().unwrap(), "./gpt2", "/gpt2", "a/b/c", "../gpt2", "gpt2/", ".", "-", ""] {
            assert_eq!(model(path).unwrap(), Path::new(path), "{path}");
        }
        let said = model("org/none").unwrap_err().diagnostic().to_string().replace(cache.to_str().unwrap(), "CACHE");
        insta::assert_snapshot!(said);
    }

    #[test]
    fn a_data_set_is_its_only_file_or_the_one_that_is_named() {
        let home = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "HF_HUB_CACHE").then(|| home.path().to_owned());
        let file = |name: &str| data_file_in(Path::new(name), variable);
        let snapshot = home.path().join("datasets--org--pairs/snapshots/abc");
        put(&snapshot.join("README.md"), "");
        put(&snapshot.join("dataset_infos.json"), "{}");
        put(&snapshot.join("data/train.jsonl.gz"), "");
        assert_eq!(file("org/pairs").unwrap(), snapshot.join("data/train.jsonl.gz"));
        put(&snapshot.join("data/test.parquet"), "");
        assert_eq!(file("org/pairs:data/test.parquet").unwrap(), snapshot.join("data/test.parquet"));
        put(&home.path().join("datasets--org--pairs/refs/main"), "abc");
        put(&home.path().join("datasets--org--pairs/snapshots/old/train.csv"), "");
        assert_eq!(file("org/pairs@old").unwrap(), home.path().join("datasets--org--pairs/snapshots/old/train.csv"));
        assert_eq!(file("org/pairs@main:data/test.parquet").unwrap(), snapshot.join("data/test.parquet"));
        assert!(file("org/pairs@new").is_err());
        for path in ["pairs.jsonl", "dir/pairs.jsonl", "pairs", "/org/pairs", "src/gone"] {
            assert_eq!(file(path).unwrap(), Path::new(path), "{path}");
        }
        let said = |name: &str| {
            file(name).unwrap_err().diagnostic().to_string().replace(home.path().to_str().unwrap(), "CACHE")
        };
        insta::assert_snapshot!([said("org/pairs"), said("org/pairs:../x"), said("org/none")].join("\n\n"));
    }

    #[test]
    fn the_parts_of_a_split_are_one_file() {
        let home = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "HF_HUB_CACHE").then(|| home.path().to_owned());
        let file = |name: &str| data_file_in(Path::new(name), variable);
        let snapshot = home.path().join("datasets--org--parts/snapshots/abc");
        for i in 0..3 {
            put(&snapshot.join(format!("data/train-0000{i}-of-00003.parquet")), "");
        }
        let train = snapshot.join("data/train-*-of-00003.parquet");
        assert_eq!(file("org/parts").unwrap(), train);
        put(&snapshot.join("data/test-00000-of-00001.parquet"), "");
        assert_eq!(file("org/parts:train").unwrap(), train);
        assert_eq!(file("org/parts:data/train-*-of-00003.parquet").unwrap(), train);
        let one = "data/train-00001-of-00003.parquet";
        assert_eq!(file(&format!("org/parts:{one}")).unwrap(), snapshot.join(one), "one part by its own name");
        assert_eq!(file("org/parts:test").unwrap(), snapshot.join("data/test-*-of-00001.parquet"));
        put(&snapshot.join("other/train-00000-of-00001.parquet"), "");
        let said = |name: &str| {
            file(name).unwrap_err().diagnostic().to_string().replace(home.path().to_str().unwrap(), "CACHE")
        };
        insta::assert_snapshot!([said("org/parts"), said("org/parts:train")].join("\n\n"));
    }
}
