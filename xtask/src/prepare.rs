//! What all rows of a profile stand on: build, language, base models, utility texts, sensitivities.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_config::{
    BaseModel, CORPUS, Dtype, Experiment, Options, PretrainOptions, ProfileScorer, SCORER_LABELS, ScorerKind, stored,
    to_toml,
};
use irepair_core::fs::{sha256_file, write_atomic};
use irepair_core::{Diagnostic, DirLock, ExitKind, is_unfinished};
use irepair_report::{SensitivityResult, read_result, write_result};

use crate::cache::{self, Inputs};
use crate::sources::{Given, Sources};
use crate::stop::{Stop, stop};
use crate::work::{Task, Workers};
use crate::{interrupt, libtorch, paths, process, setup};

/// A profile, read; after [`Prepared::make`] ready to run.
pub(crate) struct Prepared {
    /// Name in results.
    pub(crate) name: String,
    /// Words over every table of a run whose numbers mean nothing; none otherwise.
    pub(crate) warning: Option<String>,
    pub(crate) experiment: Experiment,
    pub(crate) device: String,
    pub(crate) workers: Workers,
    /// What is given, not made.
    pub(crate) sources: Sources,
    /// `runs/<profile>`.
    pub(crate) runs: PathBuf,
    /// Hashes of weights: gigabytes that every row asks for.
    hashes: RefCell<BTreeMap<PathBuf, String>>,
    /// Keeps other processes out of `runs/<profile>` once something is made there.
    held: OnceCell<DirLock>,
}

/// Neutral texts for the KL term, in profiles that have such.
const UTILITY: &str = "general/utility.txt";

/// Labels that scorers are measured on.
const SCORER_HELD_OUT: &str = "toxicity/valid.jsonl";

/// Which of a profile's data a cell is measured on.
#[derive(Clone, Copy)]
pub(crate) enum Split {
    /// For results.
    Test,
    /// For choosing settings.
    Valid,
}

impl Prepared {
    /// Reads the profile and looks for what it is given. Makes and starts nothing.
    ///
    /// # Errors
    /// An unknown profile, broken experiment files, or directories that the profile would not read.
    pub(crate) fn plan(name: &str, given: &Given) -> Result<Self> {
        let experiment = read_experiment(name)?;
        let sources = Sources::look(&experiment.profile, given)?;
        let device = given.device.clone().or_else(|| experiment.profile.device.clone());
        let device = device.unwrap_or_else(|| "cpu".to_owned());
        let sources = sources.and_device(&device, libtorch::driver());
        Ok(Self::of(name, experiment, sources, device))
    }

    /// A profile from its parts.
    pub(crate) fn of(name: &str, experiment: Experiment, sources: Sources, device: String) -> Self {
        let workers = Workers::for_device(&device);
        let runs = paths::root().join("runs").join(name);
        let (name, hashes, held) = (name.to_owned(), RefCell::default(), OnceCell::new());
        Self { name, warning: None, experiment, device, workers, sources, runs, hashes, held }
    }

    /// Reads the profile and makes whatever its rows need that is not there yet.
    ///
    /// # Errors
    /// As [`Prepared::plan`] and [`Prepared::make`].
    pub(crate) fn new(name: &str, given: &Given) -> Result<Self> {
        let prepared = Self::plan(name, given)?;
        prepared.make()?;
        Ok(prepared)
    }

    /// Makes whatever the rows need that is not there yet.
    ///
    /// # Errors
    /// Something given that is missing, before anything is started; a stage that fails.
    pub(crate) fn make(&self) -> Result<()> {
        self.sources.complete()?;
        interrupt::listen();
        if self.held.get().is_none() {
            let _ = self.held.set(DirLock::take(&self.runs).map_err(stop)?);
        }
        build()?;
        self.language()?;
        self.cut()?;
        self.train_scorers()?;
        self.each_model("base model", Self::base_task)?;
        self.each_model("utility texts", Self::utility_task)?;
        self.each_model("sensitivities", Self::sensitivity_task)
    }

    /// A file of the profile's data.
    pub(crate) fn data(&self, file: &str) -> PathBuf {
        let given = self.sources.file(file).map(Path::to_path_buf);
        let made = if self.experiment.profile.language.is_some() { "language" } else { "data" };
        given.unwrap_or_else(|| self.runs.join("prepared").join(made).join(file))
    }

    /// A file of the profile's data that rows do without when there is none.
    pub(crate) fn optional_data(&self, file: &str) -> Option<PathBuf> {
        let path = self.data(file);
        (self.experiment.profile.language.is_some() || path.exists()).then_some(path)
    }

    /// Directory of a base model.
    pub(crate) fn base(&self, model: &str) -> PathBuf {
        let given = self.sources.models.get(model).cloned();
        given.unwrap_or_else(|| self.runs.join("prepared/base").join(model))
    }

    /// Adds a base model's weights to the inputs of a piece of work.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn with_weights(&self, inputs: Inputs, model: &str) -> Result<Inputs> {
        let dir = self.base(model);
        let mut files = vec![dir.join("model.safetensors")];
        if self.sources.models.contains_key(model) {
            // A given checkpoint may be in shards, and its tokenizer is as much an input as its weights.
            let entries = fs::read_dir(&dir)?.collect::<Result<Vec<_>, _>>()?;
            files = entries.into_iter().map(|entry| entry.path()).filter(|path| is_input(path)).collect();
            files.sort();
        }
        let mut hashes = self.hashes.borrow_mut();
        files.into_iter().try_fold(inputs, |inputs, file| {
            let hash = match hashes.get(&file) {
                Some(hash) => hash.clone(),
                None => sha256_file(&file).map_err(stop)?,
            };
            hashes.insert(file, hash.clone());
            Ok(inputs.hash(&hash))
        })
    }

    /// Utility texts sampled from a base model.
    pub(crate) fn sampled_utility(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/utility").join(format!("{model}.jsonl"))
    }

    /// Utility texts of a row: the profile's neutral ones where it has such, else what the base model writes.
    pub(crate) fn utility(&self, model: &str, own: bool) -> PathBuf {
        let given = !own && self.experiment.profile.has_data(UTILITY);
        if given { self.data(UTILITY) } else { self.sampled_utility(model) }
    }

    /// A scorer of the profile, and what it was found to be worth.
    pub(crate) fn scorer(&self, name: &str) -> (PathBuf, PathBuf) {
        let dir = self.runs.join("prepared/scorer");
        let is_list = |scorer: &ProfileScorer| scorer.name == name && scorer.train.kind() == ScorerKind::Words;
        // What a scorer is follows from its path.
        let list = self.experiment.profile.scorers.iter().any(is_list);
        let file = if list { format!("{name}.txt") } else { name.to_owned() };
        (dir.join(file), dir.join(format!("{name}.quality.json")))
    }

    fn sensitivity_dir(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/sensitivity").join(model)
    }

    fn language(&self) -> Result<()> {
        let (out, profile) = (self.runs.join("prepared/language"), self.experiment_file("profile.toml"));
        if self.experiment.profile.language.is_none() {
            return Ok(());
        }
        let language = format!("{:?}", self.experiment.profile.language);
        let inputs = Inputs::default().text(&language).text("language 1");
        if cache::is_done(&out, &inputs) {
            return Ok(());
        }
        cache::clear(&out)?;
        let mut command = process::command(paths::irepair());
        process::run_quietly(command.arg("language").arg("--profile").arg(profile).arg("--out").arg(&out))?;
        cache::mark_done(&out, &inputs)
    }

    /// Cuts the data files that are cut.
    fn cut(&self) -> Result<()> {
        let Some(dir) = &self.sources.data_dir else { return Ok(()) };
        // What nothing is trained on need not be there.
        let pretrains = self.experiment.profile.models.iter().any(|model| self.is_trained_here(model));
        let skipped: Vec<&str> = if pretrains { Vec::new() } else { vec![CORPUS] };
        let cut = self.experiment.profile.data.iter().filter(|file| file.cut.is_some());
        let wanted: Vec<_> = cut.filter(|file| !skipped.contains(&&*file.file)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let (out, profile) = (self.runs.join("prepared/data"), self.experiment_file("profile.toml"));
        let mut inputs = Inputs::default().text("data 1");
        for file in wanted {
            inputs = inputs.text(&format!("{} {:?}", file.file, file.cut));
            for source in file.sources() {
                let path = stored(dir, source);
                inputs = if path.is_file() { inputs.file(&path)? } else { inputs.text("none") };
            }
        }
        if cache::is_done(&out, &inputs) {
            return Ok(());
        }
        cache::clear(&out)?;
        let mut command = process::command(paths::irepair());
        let command = command.arg("data").arg("--profile").arg(profile).arg("--data").arg(dir).arg("--out").arg(&out);
        process::run_quietly(command.args(skipped.iter().flat_map(|file| ["--skip", file])))?;
        cache::mark_done(&out, &inputs)
    }

    /// True when the profile's own corpus makes the model.
    pub(crate) fn is_trained_here(&self, model: &BaseModel) -> bool {
        model.pretrain.is_some() && !self.sources.models.contains_key(&model.name)
    }

    /// Trains the scorers, then measures them on labels they have not seen.
    fn train_scorers(&self) -> Result<()> {
        let (mut training, mut measuring) = (Vec::new(), Vec::new());
        for scorer in &self.experiment.profile.scorers {
            let (out, quality) = self.scorer(&scorer.name);
            let mut options = scorer.train.clone();
            options.data = Some(self.data(SCORER_LABELS));
            options.out = Some(out.clone());
            options.threads = Some(self.workers.threads());
            let inputs = Inputs::default().text(&to_toml(&scorer.train.with_defaults()));
            let inputs = inputs.file(&self.data(SCORER_LABELS))?;
            let config = self.runs.join("prepared/config").join(format!("scorer-{}.toml", scorer.name));
            write_atomic(&config, to_toml(&options).as_bytes()).map_err(stop)?;
            let args = ["scorer", "train", "--config", &shown(&config)].map(str::to_owned).to_vec();
            training.extend(self.task(format!("scorer-{}", scorer.name), out.clone(), inputs.clone(), args)?);
            let Some(held_out) = self.optional_data(SCORER_HELD_OUT) else { continue };
            let inputs = inputs.file(&held_out)?;
            let (out, labels, quality_file) = (shown(&out), shown(&held_out), shown(&quality));
            let args =
                ["scorer", "eval", "--identity-terms", "--scorer", &out, "--data", &labels, "--out", &quality_file];
            let args = [&args.map(str::to_owned)[..], &[format!("--threads={}", self.workers.threads())]].concat();
            measuring.push((format!("quality-{}", scorer.name), quality, inputs, args));
        }
        self.must("scorers", training)?;
        let measuring = measuring
            .into_iter()
            .filter_map(|(name, out, inputs, args)| self.task(name, out, inputs, args).transpose());
        self.must("scorer quality", measuring.collect::<Result<_>>()?)
    }

    /// What each scorer was found to be worth, for the report.
    ///
    /// # Errors
    /// When a file is gone or broken.
    pub(crate) fn scorer_notes(&self) -> Result<Vec<String>> {
        let files = self.experiment.profile.scorers.iter().map(|scorer| self.scorer(&scorer.name).1);
        files.filter(|file| file.exists()).map(|file| scorer_note(&fs::read_to_string(file)?)).collect()
    }

    /// Runs tasks of which none may fail.
    fn must(&self, what: &str, tasks: Vec<Task>) -> Result<()> {
        match self.workers.run(what, tasks)?.into_iter().next() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    fn experiment_file(&self, file: &str) -> PathBuf {
        paths::root().join("experiments").join(&self.name).join(file)
    }

    /// Runs one stage for every base model, side by side where there are cores for it.
    fn each_model(&self, what: &str, task: impl Fn(&Self, &BaseModel) -> Result<Option<Task>>) -> Result<()> {
        let tasks: Vec<Task> =
            self.experiment.profile.models.iter().filter_map(|m| task(self, m).transpose()).collect::<Result<_>>()?;
        self.must(what, tasks)
    }

    fn task(&self, name: String, output: PathBuf, inputs: Inputs, args: Vec<String>) -> Result<Option<Task>> {
        if cache::is_done(&output, &inputs) {
            return Ok(None);
        }
        cache::clear(&output)?;
        Ok(Some(self.task_of(name, output, inputs, args)))
    }

    fn task_of(&self, name: String, output: PathBuf, inputs: Inputs, args: Vec<String>) -> Task {
        let log = self.runs.join("prepared/log").join(format!("{name}.txt"));
        Task { name, args, output, inputs, log }
    }

    fn base_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let Some(pretrain) = model.pretrain.as_ref().filter(|_| self.is_trained_here(model)) else { return Ok(None) };
        let out = self.base(&model.name);
        let mut options = pretrain.clone();
        options.data = Some(self.data(CORPUS));
        options.out = Some(out.clone());
        options.device = Some(self.device.clone());
        options.threads = Some(self.workers.threads());
        // What the model is made from, without the paths and threads of this machine.
        let recipe = to_toml(&PretrainOptions { checkpoint_every: None, ..pretrain.with_defaults() });
        let inputs = Inputs::default().text(&recipe).file(&self.data(CORPUS))?;
        let config = self.runs.join("prepared/config").join(format!("{}.toml", model.name));
        write_atomic(&config, to_toml(&options).as_bytes()).map_err(stop)?;
        let args = vec!["pretrain".to_owned(), "--config".to_owned(), shown(&config)];
        if cache::is_done(&out, &inputs) {
            return Ok(None);
        }
        cache::begin(&out, &inputs, false)?;
        // Finished by a process that was killed before it could be said: pre-training does not write over it.
        if out.join("config.json").exists() && !is_unfinished(&out) {
            cache::mark_done(&out, &inputs)?;
            return Ok(None);
        }
        Ok(Some(self.task_of(format!("base-{}", model.name), out, inputs, args)))
    }

    fn utility_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let own = self.experiment.rows.values().any(|row| row.own_utility);
        if self.experiment.profile.has_data(UTILITY) && !own {
            return Ok(None);
        }
        let (out, utility) = (self.sampled_utility(&model.name), &self.experiment.profile.utility);
        let inputs = self.with_weights(Inputs::default().text(&format!("{utility:?}")), &model.name)?;
        let args = [
            "generate".to_owned(),
            format!("--model={}", shown(&self.base(&model.name))),
            format!("--n={}", utility.n_texts),
            format!("--max-new-tokens={}", utility.max_new_tokens),
            format!("--top-p={}", utility.top_p),
            format!("--out={}", shown(&out)),
            format!("--device={}", self.device),
            format!("--threads={}", self.workers.threads()),
        ];
        self.task(format!("utility-{}", model.name), out, self.typed(inputs), [&args[..], &self.dtype()].concat())
    }

    fn sensitivity_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let (out, repair) = (self.sensitivity_dir(&model.name), &self.experiment.profile.repair);
        let args = [
            "sensitivity".to_owned(),
            format!("--model={}", shown(&self.base(&model.name))),
            format!("--data={}", shown(&self.data("pairs/train.jsonl"))),
            format!("--general={}", shown(&self.data("general/valid.txt"))),
            format!("--out={}", shown(&out)),
            format!("--n-batches={}", self.experiment.profile.density_batches()),
            format!("--batch-size={}", repair.batch_size()),
            format!("--max-prompt={}", repair.max_prompt()),
            format!("--max-continuation={}", repair.max_continuation()),
            "--chosen".to_owned(),
            format!("--device={}", self.device),
            format!("--threads={}", self.workers.threads()),
        ];
        let settings = [&args[5..10], &["general/valid".to_owned()]].concat().join(" ");
        let inputs = self.with_weights(Inputs::default().text(&settings), &model.name)?;
        self.task(format!("sensitivity-{}", model.name), out, self.typed(inputs), [&args[..], &self.dtype()].concat())
    }

    /// The flag for the number type of the profile's rows, where it is not the default.
    fn dtype(&self) -> Vec<String> {
        let dtype = self.experiment.profile.repair.dtype();
        if dtype == Dtype::F32 { Vec::new() } else { vec![format!("--dtype={dtype}")] }
    }

    fn typed(&self, inputs: Inputs) -> Inputs {
        self.dtype().iter().fold(inputs, |inputs, flag| inputs.text(flag))
    }

    /// The sensitivities behind the error-density table.
    ///
    /// # Errors
    /// When a file is gone or broken.
    pub(crate) fn sensitivities(&self) -> Result<Vec<SensitivityResult>> {
        let mut all = Vec::new();
        for model in &self.experiment.profile.models {
            for text in ["error", "chosen", "neutral"] {
                let path = self.sensitivity_dir(&model.name).join(format!("{text}.json"));
                let mut result: SensitivityResult = read_result(&path).map_err(stop)?;
                // The command line knows no profile, and calls a model what its directory is called.
                if result.profile != self.name || result.model != model.name {
                    (result.profile, result.model) = (self.name.clone(), model.name.clone());
                    write_result(&path, &result).map_err(stop)?;
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
        return Ok(Experiment::load(&experiments.join(name)).map_err(stop)?);
    }
    let entries = fs::read_dir(&experiments).into_iter().flatten().flatten();
    let known = entries.filter(|entry| entry.path().join("profile.toml").exists());
    let mut known: Vec<String> = known.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    known.sort();
    let help = "the profiles of this version are the directories of experiments/";
    let diagnostic = Diagnostic::new(ExitKind::Usage, "unknown profile").want_got(known.join(" or "), name).help(help);
    Err(Stop(diagnostic).into())
}

/// Provisions libtorch and builds `irepair`, unless `IREPAIR_BIN` names one that is built.
///
/// # Errors
/// Either fails.
pub(crate) fn build() -> Result<()> {
    if paths::users_irepair().is_some() {
        return Ok(());
    }
    setup::run()?;
    process::run_quietly(process::cargo().args(["build", "--release", "--package", "irepair-cli"]))
}

/// One line about a scorer, from what `irepair scorer eval` wrote.
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

pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
