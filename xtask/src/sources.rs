//! What a profile is given, not made: published weights and data files, where they are looked for, what is missing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_config::{BaseModel, CORPUS, DataFile, Profile, stored};
use irepair_core::{Diagnostic, ExitKind};

use crate::stop::Stop;

/// Where to compute, and where what is not made lies.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Given {
    /// Where to compute: `cpu`, `cuda` or `cuda:N`. Without it, the device the profile is meant for
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Base models: a directory for each, or a copy of the hub's cache. Without it, that cache on this machine, and for models
    /// that a profile can train itself `models` in or beside the data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) model_dir: Option<PathBuf>,
    /// The data of a profile that is given its data (docs/PAPER_PROFILE.md, docs/REAL_PROFILE.md). Without it, IREPAIR_DATA
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// One thing a profile is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) what: String,
    /// Where it is, or the first place it was looked for.
    pub(crate) place: PathBuf,
    /// What of it is not there; empty when all is.
    pub(crate) lacks: Vec<String>,
    /// How to get it.
    pub(crate) get: String,
    /// True when the rows run without it.
    pub(crate) optional: bool,
}

/// Where everything is that a profile is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Directories of models that were found, by name.
    pub(crate) models: BTreeMap<String, PathBuf>,
    /// The directory of everything that is given.
    pub(crate) data_dir: Option<PathBuf>,
    /// Data files by the name the profile gives them, but those that are cut; empty in profiles that make their own.
    pub(crate) data: BTreeMap<String, PathBuf>,
    /// Everything looked for, in the profile's order.
    pub(crate) items: Vec<Item>,
}

impl Sources {
    /// Looks for everything; reads and writes nothing.
    ///
    /// # Errors
    /// A directory given to a profile that makes what it would hold.
    pub(crate) fn look(profile: &Profile, given: &Given) -> Result<Self> {
        let reads_models = !profile.data.is_empty() || profile.models.iter().any(|model| model.hub.is_some());
        refuse_unread("--model-dir", given.model_dir.as_deref(), reads_models, "trains its base models")?;
        refuse_unread("--data", given.data.as_deref(), !profile.data.is_empty(), "generates its data")?;
        let mut sources = Self::default();
        let dirs = match &given.model_dir {
            Some(dir) => vec![absolute(dir)],
            None => hub_caches(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)),
        };
        let from_environment = || std::env::var_os("IREPAIR_DATA").filter(|v| !v.is_empty()).map(PathBuf::from);
        let data = given.data.clone().or_else(from_environment).map(|dir| absolute(&dir));
        let data = data.filter(|_| !profile.data.is_empty());
        let beside = given.model_dir.as_deref().map(absolute).into_iter().chain(data.iter().flat_map(|data| {
            [Some(data.join("models")), data.parent().map(|up| up.join("models"))].into_iter().flatten()
        }));
        let beside: Vec<PathBuf> = beside.filter(|_| !profile.data.is_empty()).collect();
        for model in &profile.models {
            let found = look_for_model(model, &dirs, given.model_dir.is_some());
            if let Some((dir, item)) = found.or_else(|| look_for_trained(model, &beside)) {
                sources.models.insert(model.name.clone(), dir);
                sources.items.push(item);
            }
        }
        let all_found = profile.models.iter().all(|model| sources.models.contains_key(&model.name));
        for file in profile.data.iter().filter(|file| !(all_found && file.file == CORPUS)) {
            let (path, item) = look_for_data(file, data.as_deref());
            if file.cut.is_none() {
                sources.data.insert(file.file.clone(), path);
            }
            sources.items.push(item);
        }
        sources.data_dir = data;
        Ok(sources)
    }

    /// Adds the device to what is needed.
    #[must_use]
    pub(crate) fn and_device(mut self, device: &str, driver: Option<String>) -> Self {
        if device.starts_with("cuda") {
            let lacks = if driver.is_some() { Vec::new() } else { vec!["no NVIDIA driver on this machine".to_owned()] };
            let what = match driver {
                Some(version) => format!("CUDA device: NVIDIA driver {version}"),
                None => "CUDA device".to_owned(),
            };
            let get = "run on a machine with one, or give --device cpu and much patience".to_owned();
            self.items.push(Item { what, place: PathBuf::from(device), lacks, get, optional: false });
        }
        self
    }

    /// A data file by its name in the profile, or by the same name with the other ending.
    pub(crate) fn file(&self, name: &str) -> Option<&Path> {
        let stem = |name: &str| name.trim_end_matches(".txt").trim_end_matches(".jsonl").to_owned();
        self.data.iter().find(|(known, _)| stem(known) == stem(name)).map(|(_, path)| path.as_path())
    }

    /// What the rows need and is not there.
    pub(crate) fn missing(&self) -> Vec<&Item> {
        self.items.iter().filter(|item| !item.optional && !item.lacks.is_empty()).collect()
    }

    /// Refuses to start without what the rows need: one error that names all of it.
    ///
    /// # Errors
    /// That one.
    pub(crate) fn complete(&self) -> Result<()> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let list: String = missing.iter().map(|item| format!("\n  - {}", item.described())).collect();
        let what = format!("{} of {} needs of this profile missing{list}", missing.len(), self.items.len());
        let help = "nothing was started and nothing is downloaded; `--dry-run` shows what the rows take beside this";
        Err(Stop(Diagnostic::new(ExitKind::Data, what).help(help)).into())
    }
}

impl Item {
    /// What is missing, where, and how to get it: two or three lines, the first without indentation.
    pub(crate) fn described(&self) -> String {
        format!(
            "{}\n      at:  {}: {}\n      get: {}",
            self.what,
            self.place.display(),
            self.lacks.join(", "),
            self.get
        )
    }
}

fn refuse_unread(flag: &str, dir: Option<&Path>, read: bool, instead: &str) -> Result<()> {
    match dir {
        Some(dir) if !read => {
            let what = format!("{flag} is not read: this profile {instead}");
            Err(Stop(Diagnostic::new(ExitKind::Usage, what).at(dir.display()).help("leave it out")).into())
        }
        _ => Ok(()),
    }
}

/// The processes that read it run elsewhere.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Where the hub's own tools keep what they downloaded.
fn hub_caches(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = || variable("HOME").map(|home| home.join(".cache/huggingface"));
    variable("HF_HUB_CACHE").or_else(|| Some(variable("HF_HOME").or_else(home)?.join("hub"))).into_iter().collect()
}

fn look_for_model(model: &BaseModel, dirs: &[PathBuf], plain: bool) -> Option<(PathBuf, Item)> {
    let hub = model.hub.as_deref()?;
    let places = dirs.iter().flat_map(|dir| {
        let named = [Some(model.name.as_str()), model.hub_folder()].into_iter().flatten().map(|name| dir.join(name));
        let named: Vec<PathBuf> = if plain { named.collect() } else { Vec::new() };
        named.into_iter().chain(snapshot(&dir.join(format!("models--{}", hub.replace('/', "--")))))
    });
    let found = places.into_iter().find(|place| place.is_dir());
    let target = match dirs.first() {
        Some(dir) if plain => dir.join(&model.name),
        _ => PathBuf::from("MODELS").join(&model.name),
    };
    let get = format!(
        "hf download {hub} {} --local-dir {}{}",
        model.files.join(" "),
        target.display(),
        if plain { "" } else { "; then --model-dir MODELS" }
    );
    let (lacks, place) = match found {
        Some(place) => (model.files.iter().filter_map(|file| lack(&place, file)).collect(), place),
        None => {
            let place = if plain { target } else { dirs.first().cloned().unwrap_or_else(|| "the hub's cache".into()) };
            (vec![format!("no directory of {hub}")], place)
        }
    };
    let weights = model.architecture().map_or(0, |of| of.n_weights());
    let what = format!("{}: {hub}, {:.0}M weights", model.title, weights as f64 / 1e6);
    Some((place.clone(), Item { what, place, lacks, get, optional: false }))
}

/// A model that the profile could train, where it lies trained; none where it does not.
fn look_for_trained(model: &BaseModel, dirs: &[PathBuf]) -> Option<(PathBuf, Item)> {
    model.pretrain.as_ref()?;
    let dir = dirs.iter().map(|dir| dir.join(&model.name)).find(|dir| dir.join("config.json").is_file())?;
    let needed = ["model.safetensors", "tokenizer.json"];
    let item = Item {
        what: format!("{}: {}, trained elsewhere", model.title, model.name),
        place: dir.clone(),
        lacks: needed.iter().filter_map(|file| lack(&dir, file)).collect(),
        get: "remove the directory: the model is then trained on the spot".to_owned(),
        optional: false,
    };
    Some((dir, item))
}

/// The snapshot of a repository in the hub's cache: that of `main`, or the only one.
fn snapshot(repository: &Path) -> Option<PathBuf> {
    let snapshots = repository.join("snapshots");
    if let Ok(revision) = fs::read_to_string(repository.join("refs/main")) {
        let dir = snapshots.join(revision.trim());
        if !revision.trim().is_empty() && dir.is_dir() {
            return Some(dir);
        }
    }
    let mut dirs = fs::read_dir(snapshots).ok()?.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| p.is_dir());
    let first = dirs.next()?;
    dirs.next().is_none().then_some(first)
}

/// Why a model's file cannot be used; `None` when it, or what may stand in its place, is there.
fn lack(dir: &Path, file: &str) -> Option<String> {
    let instead: Vec<Vec<String>> = match file {
        "model.safetensors" => vec![shards(dir)],
        "tokenizer.json" => vec![vec!["vocab.json".to_owned(), "merges.txt".to_owned()]],
        "vocab.json" | "merges.txt" => vec![vec!["tokenizer.json".to_owned()]],
        _ => Vec::new(),
    };
    let whole = |names: &Vec<String>| !names.is_empty() && names.iter().all(|name| trouble(&dir.join(name)).is_none());
    let found = trouble(&dir.join(file))?;
    if instead.iter().any(whole) { None } else { Some(format!("{file} {found}")) }
}

/// The files a sharded checkpoint names.
fn shards(dir: &Path) -> Vec<String> {
    let index = fs::read_to_string(dir.join("model.safetensors.index.json")).unwrap_or_default();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap_or_default();
    let names = index["weight_map"].as_object().into_iter().flatten().filter_map(|(_, name)| name.as_str());
    names.map(str::to_owned).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// What keeps a file from being read as data: it is not there, empty, or a pointer to a file elsewhere.
fn trouble(path: &Path) -> Option<&'static str> {
    let mut head = [0; 24];
    let Ok(mut file) = fs::File::open(path) else { return Some("is not there") };
    match file.read(&mut head) {
        Ok(0) => Some("is empty"),
        Ok(n) if head[..n].starts_with(b"version https://git-lfs") => Some("is a git-LFS pointer, not the file itself"),
        Ok(_) => None,
        Err(_) => Some("cannot be read"),
    }
}

fn look_for_data(file: &DataFile, dir: Option<&Path>) -> (PathBuf, Item) {
    let root = dir.map_or_else(|| PathBuf::from("DATA"), Path::to_path_buf);
    if file.cut.is_some() {
        return look_for_cut(file, dir, root);
    }
    let (plain, zipped) = (root.join(&file.file), |path: &Path| PathBuf::from(format!("{}.gz", path.display())));
    let other = match file.file.rsplit_once('.') {
        Some((stem, "jsonl")) => root.join(format!("{stem}.txt")),
        Some((stem, "txt")) => root.join(format!("{stem}.jsonl")),
        _ => plain.clone(),
    };
    let places = [plain.clone(), zipped(&plain), other.clone(), zipped(&other)];
    let found = places.into_iter().find(|path| path.is_file());
    let place = found.clone().unwrap_or(plain);
    let lacks = match (dir, trouble(&place)) {
        (None, _) => vec![NO_DIRECTORY.to_owned()],
        (Some(_), Some(trouble)) => vec![trouble.to_owned()],
        (Some(_), None) => Vec::new(),
    };
    let item = Item {
        what: format!("{}: {}", file.file, file.what),
        place: place.clone(),
        lacks,
        get: file.get.replace("DATA", &root.display().to_string()),
        optional: file.optional,
    };
    (place, item)
}

const NO_DIRECTORY: &str = "no data directory: give --data DATA, or set IREPAIR_DATA";

/// The files another file is cut from.
fn look_for_cut(file: &DataFile, dir: Option<&Path>, root: PathBuf) -> (PathBuf, Item) {
    let lack = |name: &&str| {
        let found = trouble(&stored(&root, name))?;
        Some(format!("{name} {found}"))
    };
    let item = Item {
        what: format!("{}: {}", file.file, file.what),
        place: root.clone(),
        lacks: match dir {
            None => vec![NO_DIRECTORY.to_owned()],
            Some(_) => file.sources().iter().filter_map(lack).collect(),
        },
        get: file.get.replace("DATA", &root.display().to_string()),
        optional: file.optional,
    };
    (root, item)
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
