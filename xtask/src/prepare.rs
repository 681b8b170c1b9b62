//! What all rows of a profile share: build, data, scorers, base models, utility texts, sensitivities.

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use irepair_config::{
    BaseModel, CORPUS, Dtype, Experiment, Options, PretrainOptions, ProfileScorer, SCORER_LABELS, ScorerKind,
    ScorerTrainOptions, stored, to_toml,
};
use irepair_core::fs::write_atomic;
use irepair_core::{Diagnostic, DirLock, ExitKind, is_unfinished};
use irepair_report::{SensitivityResult, read_result, write_result};

use crate::cache::{self, Inputs};
use crate::error::diagnostic;
use crate::identity::Hashes;
use crate::sources::{Given, Sources};
use crate::work::{Task, Workers};
use crate::{interrupt, libtorch, paths, process, setup};

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
    /// Locks `runs/<profile>` against other processes from [`Prepared::make`] on.
    lock: OnceCell<DirLock>,
}

/// Preference pairs that rows train on.
pub(crate) const PAIRS: &str = "pairs/train.jsonl";

/// Neutral texts for the KL term, in profiles that have them.
const UTILITY: &str = "general/utility.txt";

/// Labels that scorers are measured on.
const SCORER_HELD_OUT: &str = "toxicity/valid.jsonl";

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
        let (name, hashes, lock) = (name.to_owned(), RefCell::default(), OnceCell::new());
        Self { name, warning: None, experiment, device, workers, sources, runs, hashes, lock }
    }

    /// Reads the profile and makes what its rows need and is not there yet.
    ///
    /// # Errors
    /// As [`Prepared::plan`] and [`Prepared::make`].
    pub(crate) fn new(name: &str, given: &Given) -> Result<Self> {
        let prepared = Self::plan(name, given)?;
        prepared.make()?;
        Ok(prepared)
    }

    /// Makes what the rows need and is not there yet.
    ///
    /// # Errors
    /// A missing model or data file, before anything is started; a stage that fails.
    pub(crate) fn make(&self) -> Result<()> {
        self.sources.complete()?;
        interrupt::listen();
        if self.lock.get().is_none() {
            let _ = self.lock.set(DirLock::take(&self.runs).map_err(diagnostic)?);
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

    /// An optional file of the profile's data; none when it does not exist.
    pub(crate) fn optional_data(&self, file: &str) -> Option<PathBuf> {
        let path = self.data(file);
        (self.experiment.profile.language.is_some() || path.exists()).then_some(path)
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
            let entries = fs::read_dir(&dir)?.collect::<Result<Vec<_>, _>>()?;
            files = entries.into_iter().map(|entry| entry.path()).filter(|path| is_input(path)).collect();
            files.sort();
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
        let is_list = |scorer: &ProfileScorer| scorer.name == name && scorer.train.kind() == ScorerKind::Words;
        // `irepair` takes a `.txt` file for a word list.
        let list = self.experiment.profile.scorers.iter().any(is_list);
        let file = if list { format!("{name}.txt") } else { name.to_owned() };
        (dir.join(file), dir.join(format!("{name}.quality.json")))
    }

    fn sensitivity_dir(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/sensitivity").join(model)
    }

    /// Generates the language of profiles that have one.
    fn language(&self) -> Result<()> {
        let Some(language) = &self.experiment.profile.language else { return Ok(()) };
        let inputs = Inputs::default().text(&format!("{:?}", Some(language))).text("language 1");
        self.prepare("language", &inputs, |command| command.arg("language"))
    }

    /// Cuts the data files that are parts of others.
    fn cut(&self) -> Result<()> {
        let Some(dir) = &self.sources.data_dir else { return Ok(()) };
        // The corpus is not needed when no model is trained on it.
        let pretrains = self.experiment.profile.models.iter().any(|model| self.is_trained_here(model));
        let skipped: Vec<&str> = if pretrains { Vec::new() } else { vec![CORPUS] };
        let cut = self.experiment.profile.data.iter().filter(|file| file.cut.is_some());
        let wanted: Vec<_> = cut.filter(|file| !skipped.contains(&&*file.file)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut inputs = Inputs::default().text("data 1");
        for file in wanted {
            inputs = inputs.text(&format!("{} {:?}", file.file, file.cut));
            for source in file.sources() {
                let path = stored(dir, source);
                inputs = if path.is_file() { inputs.file(&path)? } else { inputs.text("none") };
            }
        }
        self.prepare("data", &inputs, |command| {
            command.arg("data").arg("--data").arg(dir).args(skipped.iter().flat_map(|file| ["--skip", file]))
        })
    }

    /// Runs an `irepair` command that reads the profile and writes `prepared/<name>`.
    fn prepare(&self, name: &str, inputs: &Inputs, args: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
        let out = self.runs.join("prepared").join(name);
        let profile = paths::root().join("experiments").join(&self.name).join("profile.toml");
        cache::once(&out, inputs, || {
            let mut command = process::command(paths::irepair());
            process::run_quietly(args(&mut command).arg("--profile").arg(profile).arg("--out").arg(&out))
        })
    }

    /// True when the model is trained on the profile's own corpus.
    pub(crate) fn is_trained_here(&self, model: &BaseModel) -> bool {
        model.pretrain.is_some() && !self.sources.models.contains_key(&model.name)
    }

    /// Trains the scorers, then measures them on labels they have not seen.
    fn train_scorers(&self) -> Result<()> {
        let (mut training, mut measuring) = (Vec::new(), Vec::new());
        for ProfileScorer { name, train, .. } in &self.experiment.profile.scorers {
            let (out, quality) = self.scorer(name);
            let labels = self.data(SCORER_LABELS);
            let inputs = Inputs::default().text(&to_toml(&train.with_defaults())).file(&labels)?;
            let threads = Some(self.workers.n_threads);
            let options = ScorerTrainOptions { data: Some(labels), out: Some(out.clone()), threads, ..train.clone() };
            let config = self.config(&format!("scorer-{name}"), &options)?;
            let args = ["scorer", "train", "--config", &config].map(str::to_owned).to_vec();
            training.extend(self.task(format!("scorer-{name}"), out.clone(), inputs.clone(), args)?);
            let Some(held_out) = self.optional_data(SCORER_HELD_OUT) else { continue };
            let inputs = inputs.file(&held_out)?;
            let args = ["scorer", "eval", "--identity-terms"].map(str::to_owned).into_iter().chain([
                format!("--scorer={}", out.display()),
                format!("--data={}", held_out.display()),
                format!("--out={}", quality.display()),
                format!("--threads={}", self.workers.n_threads),
            ]);
            measuring.extend(self.task(format!("quality-{name}"), quality, inputs, args.collect())?);
        }
        self.run_all("scorers", &training)?;
        self.run_all("scorer quality", &measuring)
    }

    /// Writes the settings of a task and returns the path, as an argument.
    fn config(&self, name: &str, options: &impl Options) -> Result<String> {
        let path = self.runs.join("prepared/config").join(format!("{name}.toml"));
        write_atomic(&path, to_toml(options).as_bytes()).map_err(diagnostic)?;
        Ok(shown(&path))
    }

    /// The quality of each scorer, in words for the report.
    ///
    /// # Errors
    /// When a file is gone or broken.
    pub(crate) fn scorer_notes(&self) -> Result<Vec<String>> {
        let files = self.experiment.profile.scorers.iter().map(|scorer| self.scorer(&scorer.name).1);
        files.filter(|file| file.exists()).map(|file| scorer_note(&fs::read_to_string(file)?)).collect()
    }

    /// Runs tasks of which none may fail.
    fn run_all(&self, what: &str, tasks: &[Task]) -> Result<()> {
        match self.workers.run(what, tasks)?.into_iter().next() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Runs one stage for every base model, in parallel.
    fn each_model(&self, what: &str, task: impl Fn(&Self, &BaseModel) -> Result<Option<Task>>) -> Result<()> {
        let tasks: Vec<Task> =
            self.experiment.profile.models.iter().filter_map(|m| task(self, m).transpose()).collect::<Result<_>>()?;
        self.run_all(what, &tasks)
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
        let (out, corpus) = (self.base(&model.name), self.data(CORPUS));
        // Without the paths and threads of this machine.
        let settings = to_toml(&PretrainOptions { checkpoint_every: None, ..pretrain.with_defaults() });
        let inputs = Inputs::default().text(&settings).file(&corpus)?;
        let options = PretrainOptions {
            data: Some(corpus),
            out: Some(out.clone()),
            device: Some(self.device.clone()),
            threads: Some(self.workers.n_threads),
            ..pretrain.clone()
        };
        let args = vec!["pretrain".to_owned(), "--config".to_owned(), self.config(&model.name, &options)?];
        if cache::is_done(&out, &inputs) {
            return Ok(None);
        }
        cache::begin(&out, &inputs, false)?;
        // Finished by a process that was killed before it wrote the stamp: pre-training would refuse to overwrite it.
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
        let flags = [
            format!("--n={}", utility.n_texts),
            format!("--max-new-tokens={}", utility.max_new_tokens),
            format!("--top-p={}", utility.top_p),
        ];
        self.model_task("utility", "generate", model, out, &format!("{utility:?}"), flags.to_vec())
    }

    fn sensitivity_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let (out, repair) = (self.sensitivity_dir(&model.name), &self.experiment.profile.repair);
        let mut flags = vec![
            format!("--n-batches={}", self.experiment.profile.density_batches()),
            format!("--batch-size={}", repair.batch_size()),
            format!("--max-prompt={}", repair.max_prompt()),
            format!("--max-continuation={}", repair.max_continuation()),
            "--chosen".to_owned(),
        ];
        let settings = format!("{} general/valid", flags.join(" "));
        flags.push(format!("--data={}", shown(&self.data(PAIRS))));
        flags.push(format!("--general={}", shown(&self.data("general/valid.txt"))));
        self.model_task("sensitivity", "sensitivity", model, out, &settings, flags)
    }

    /// A task on a base model: `irepair <verb>` with `flags`; `settings` are its identity, with the weights and their
    /// type.
    fn model_task(
        &self,
        name: &str,
        verb: &str,
        model: &BaseModel,
        out: PathBuf,
        settings: &str,
        flags: Vec<String>,
    ) -> Result<Option<Task>> {
        let model = &model.name;
        let mut inputs = self.with_weights(Inputs::default().text(settings), model)?;
        let mut args = vec![
            verb.to_owned(),
            format!("--model={}", shown(&self.base(model))),
            format!("--out={}", shown(&out)),
            format!("--device={}", self.device),
            format!("--threads={}", self.workers.n_threads),
        ];
        args.extend(flags);
        // The default type is left out, so that outputs made before there was a choice stay valid.
        let dtype = self.experiment.profile.repair.dtype();
        if dtype != Dtype::F32 {
            args.push(format!("--dtype={dtype}"));
            inputs = inputs.text(&format!("--dtype={dtype}"));
        }
        self.task(format!("{name}-{model}"), out, inputs, args)
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
    let entries = fs::read_dir(&experiments).into_iter().flatten().flatten();
    let known = entries.filter(|entry| entry.path().join("profile.toml").exists());
    let mut known: Vec<String> = known.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    known.sort();
    let help = "each profile is a directory of experiments/";
    Err(Diagnostic::new(ExitKind::Usage, "unknown profile").want_got(known.join(" or "), name).help(help).into())
}

/// Provisions libtorch and builds `irepair`, unless `IREPAIR_BIN` names a built one.
///
/// # Errors
/// Either fails.
pub(crate) fn build() -> Result<()> {
    if paths::users_irepair().is_some() {
        return Ok(());
    }
    setup::run()?;
    process::build_irepair()
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

/// A path as a command-line argument.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
