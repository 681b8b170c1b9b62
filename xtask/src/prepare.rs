//! A profile ready to run: where the files are that all its rows share, and what they say. `stages.rs` makes them.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_config::{BaseModel, CORPUS, DataFile, Experiment, ProfileScorer, SCORER_LABELS, ScorerKind, stored};
use irepair_core::fs::list;
use irepair_core::{Diagnostic, DirLock, ExitKind};
use irepair_report::{SensitivityResult, read_result, write_result};

use crate::cache::Inputs;
use crate::claims::{Claims, Shard};
use crate::error::diagnostic;
use crate::identity::Hashes;
use crate::sources::{Given, Sources};
use crate::work::Workers;
use crate::{claims, kept, libtorch, paths};

/// A profile, read; after [`Prepared::make`] ready to run.
pub(crate) struct Prepared {
    /// Name in results.
    pub(crate) name: String,
    /// Printed above every table when the numbers are no result; none otherwise.
    pub(crate) warning: Option<String>,
    pub(crate) experiment: Experiment,
    pub(crate) device: String,
    pub(crate) workers: Workers,
    /// Models and data files that the user provides.
    pub(crate) sources: Sources,
    /// `runs/<profile>`.
    pub(crate) runs: PathBuf,
    /// Of gigabytes of weights, and of data, that every row asks for.
    pub(crate) hashes: RefCell<Hashes>,
    /// Whether a row that is to run holds KL on texts of the base model, which are sampled for it.
    pub(crate) has_own_texts: bool,
    /// The process shares the work with others.
    shard: Option<Shard>,
    /// Locks `runs/<profile>` against other processes, shards apart, from [`Prepared::make`] on.
    pub(crate) _lock: Option<DirLock>,
}

/// Preference pairs that rows train on.
pub(crate) const PAIRS: &str = "pairs/train.jsonl";

/// Neutral texts for the KL term, in profiles that have them.
pub(crate) const UTILITY: &str = "general/utility.txt";

/// The data that a cell is measured on.
#[derive(Clone, Copy)]
pub(crate) enum Split {
    /// For results.
    Test,
    /// For choosing settings.
    Valid,
}

impl Prepared {
    /// Reads the profile and looks for the models and data it needs. Makes and starts nothing.
    ///
    /// # Errors
    /// An unknown profile, broken experiment files, or directories that the profile would not read.
    pub(crate) fn plan(name: &str, given: &Given) -> Result<Self> {
        let experiment = read_experiment(name)?;
        let device = given.device.clone().or_else(|| experiment.profile.device.clone());
        Self::of(name, experiment, given, device.unwrap_or_else(|| "cpu".to_owned()))
    }

    /// [`Prepared::plan`] of an experiment that was read, on that device.
    pub(crate) fn of(name: &str, experiment: Experiment, given: &Given, device: String) -> Result<Self> {
        let sources = Sources::look(&experiment.profile, given)?.and_device(&device, libtorch::driver());
        let workers = Workers::for_device(&device, given.workers);
        let runs = paths::root().join("runs").join(name);
        let has_own_texts = experiment.rows.values().any(|row| row.own_utility);
        Ok(Self {
            name: name.to_owned(),
            warning: None,
            experiment,
            device,
            workers,
            sources,
            runs,
            hashes: RefCell::default(),
            has_own_texts,
            shard: given.shard,
            _lock: None,
        })
    }

    /// Reads the profile and makes what its rows need and is not there yet.
    ///
    /// # Errors
    /// As [`Prepared::plan`] and [`Prepared::make`].
    pub(crate) fn new(name: &str, given: &Given) -> Result<Self> {
        let mut prepared = Self::plan(name, given)?;
        prepared.make()?;
        Ok(prepared)
    }

    /// Locks the profile's runs: alone, or together with the other shards, and then its preparation until it is made.
    ///
    /// # Errors
    /// When another process has them; after a signal that asks to stop.
    pub(crate) fn lock(&mut self) -> Result<Option<DirLock>> {
        let shares = self.shard.is_some();
        let lock = if shares { DirLock::share(&self.runs) } else { DirLock::take(&self.runs) };
        self._lock = Some(lock.map_err(diagnostic)?);
        self.turn("prepared")
    }

    /// Where there are shards, waits until this one alone has a folder of the runs.
    ///
    /// # Errors
    /// When it cannot be locked; after a signal that asks to stop.
    pub(crate) fn turn(&self, folder: &str) -> Result<Option<DirLock>> {
        self.shard.map(|_| claims::turn(&self.runs.join(folder))).transpose()
    }

    /// What shards have of a stage of the work; none where this process is alone.
    pub(crate) fn claims(&self, stage: &str) -> Option<Claims> {
        Some(Claims::new(self.runs.join("claims").join(stage.replace(' ', "-")), self.shard?))
    }

    /// A file of the profile's data.
    pub(crate) fn data(&self, file: &str) -> PathBuf {
        let given = self.sources.file(file).map(Path::to_path_buf);
        let made = if self.experiment.profile.language.is_some() { "language" } else { "data" };
        given.unwrap_or_else(|| self.runs.join("prepared").join(made).join(file))
    }

    /// A file of the profile's data where there is one: what the profile needs counts before it is made, so that
    /// settings are the same with data and without.
    pub(crate) fn optional_data(&self, file: &str) -> Option<PathBuf> {
        let (path, profile) = (self.data(file), &self.experiment.profile);
        let is_stored = || profile.data.iter().any(|data| data.file == file && self.has_sources(data));
        (profile.language.is_some() || profile.needs_data(file) || path.exists() || is_stored()).then_some(path)
    }

    /// The directory of kept results, and the folder of it for one command's, which may be empty. What is measured on
    /// more data than the profile needs is kept apart, because it stands in other tables.
    pub(crate) fn kept_dir(&self, under: &str) -> PathBuf {
        let mut optional = self.experiment.profile.data.iter().filter(|data| data.optional && data.file != CORPUS);
        let has_more = optional.any(|data| self.has_sources(data));
        kept::dir(&self.name, if has_more { "more-data" } else { "" }).join(under)
    }

    /// True when all that a file is cut from is there.
    fn has_sources(&self, file: &DataFile) -> bool {
        file.sources().iter().all(|source| stored(&self.sources.data_dirs, source).is_file())
    }

    /// Directory of a base model.
    pub(crate) fn base(&self, model: &str) -> PathBuf {
        let given = self.sources.models.get(model).cloned();
        given.unwrap_or_else(|| self.runs.join("prepared/base").join(model))
    }

    /// Adds a base model's weights to inputs.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn with_weights(&self, inputs: Inputs, model: &str) -> Result<Inputs> {
        let dir = self.base(model);
        let mut files = vec![dir.join("model.safetensors")];
        if self.sources.models.contains_key(model) {
            // A given checkpoint may be in shards, and its tokenizer is as much an input as its weights.
            files = list(&dir).map_err(diagnostic)?.into_iter().filter(|path| is_input(path)).collect();
        }
        let mut hashes = self.hashes.borrow_mut();
        files.into_iter().try_fold(inputs, |inputs, file| hashes.add_file(inputs, file))
    }

    /// Utility texts sampled from a base model.
    pub(crate) fn sampled_utility(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/utility").join(format!("{model}.jsonl"))
    }

    /// Utility texts of a row: the profile's neutral ones if it has any, else texts sampled from the base model.
    pub(crate) fn utility(&self, model: &str, own: bool) -> PathBuf {
        let given = !own && self.experiment.profile.has_data(UTILITY);
        if given { self.data(UTILITY) } else { self.sampled_utility(model) }
    }

    /// A scorer of the profile, and the file of its measured quality.
    pub(crate) fn scorer(&self, name: &str) -> (PathBuf, PathBuf) {
        let dir = self.runs.join("prepared/scorer");
        let quality = dir.join(format!("{name}.quality.json"));
        let mut files = self.experiment.profile.scorers.iter().filter(|scorer| scorer.name == name);
        if let Some(file) = files.find_map(|scorer| scorer.file.as_ref()) {
            return (self.data(file), quality);
        }
        let is_list = |scorer: &ProfileScorer| scorer.name == name && scorer.train.kind() == ScorerKind::Words;
        // `irepair` takes a `.txt` file for a word list.
        let list = self.experiment.profile.scorers.iter().any(is_list);
        let file = if list { format!("{name}.txt") } else { name.to_owned() };
        (dir.join(file), quality)
    }

    /// The profile's scorers, without those that there is nothing to train on.
    pub(crate) fn scorers(&self) -> impl Iterator<Item = &ProfileScorer> {
        let labels = self.optional_data(SCORER_LABELS).is_some();
        self.experiment.profile.scorers.iter().filter(move |scorer| labels || !scorer.optional)
    }

    pub(crate) fn sensitivity_dir(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/sensitivity").join(model)
    }

    /// True when the model is trained on the profile's own corpus.
    pub(crate) fn is_trained_here(&self, model: &BaseModel) -> bool {
        model.pretrain.is_some() && !self.sources.models.contains_key(&model.name)
    }

    /// The quality of each scorer, in words for the report.
    ///
    /// # Errors
    /// When a file is gone or broken.
    pub(crate) fn scorer_notes(&self) -> Result<Vec<String>> {
        let files = self.experiment.profile.scorers.iter().map(|scorer| self.scorer(&scorer.name).1);
        files.filter(|file| file.exists()).map(|file| scorer_note(&fs::read_to_string(file)?)).collect()
    }

    /// Sensitivities for the error-density table.
    ///
    /// # Errors
    /// When a file is gone or broken.
    pub(crate) fn sensitivities(&self) -> Result<Vec<SensitivityResult>> {
        let mut all = Vec::new();
        for model in &self.experiment.profile.models {
            for text in ["error", "chosen", "neutral"] {
                let path = self.sensitivity_dir(&model.name).join(format!("{text}.json"));
                let mut result: SensitivityResult = read_result(&path).map_err(diagnostic)?;
                // The command line knows no profile, and names a model after its directory.
                if result.profile != self.name || result.model != model.name {
                    (result.profile, result.model) = (self.name.clone(), model.name.clone());
                    write_result(&path, &result).map_err(diagnostic)?;
                }
                all.push(result);
            }
        }
        Ok(all)
    }
}

/// Reads every file of a profile.
///
/// # Errors
/// An unknown profile, or broken files.
pub(crate) fn read_experiment(name: &str) -> Result<Experiment> {
    let experiments = paths::root().join("experiments");
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain && experiments.join(name).join("profile.toml").exists() {
        return Ok(Experiment::load(&experiments.join(name)).map_err(diagnostic)?);
    }
    let known = list(&experiments).unwrap_or_default().into_iter().filter(|dir| dir.join("profile.toml").exists());
    let known: Vec<String> = known.filter_map(|dir| Some(dir.file_name()?.to_string_lossy().into_owned())).collect();
    let help = "each profile is a directory of experiments/";
    Err(Diagnostic::new(ExitKind::Usage, "unknown profile").want_got(known.join(" or "), name).help(help).into())
}

/// One line about a scorer, from the file that `irepair scorer eval` wrote.
fn scorer_note(json: &str) -> Result<String> {
    let found: serde_json::Value = serde_json::from_str(json)?;
    let (all, identity) = (&found["all"], &found["identity_terms"]);
    let number = |value: &serde_json::Value, digits: usize, factor: f64| {
        value.as_f64().map_or("missing".to_owned(), |value| format!("{:.digits$}", factor * value))
    };
    Ok(format!(
        "scorer {}: on {} labelled texts it was not trained on AUC {}, F1 {}, calibration error {}; neutral sentences called toxic \
         {} % with identity terms, {} % without",
        found["scorer"].as_str().unwrap_or("missing"),
        all["n"],
        number(&all["auc"], 3, 1.0),
        number(&all["f1"], 3, 1.0),
        number(&all["ece"], 3, 1.0),
        number(&identity["identity"]["false_positive_rate"], 1, 100.0),
        number(&identity["control"]["false_positive_rate"], 1, 100.0),
    ))
}

/// Files of a checkpoint directory that decide what the model computes.
fn is_input(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"];
    path.is_file() && (name.ends_with(".safetensors") || plain.contains(&&*name))
}
