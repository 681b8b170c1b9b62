//! What all rows of a profile share, made where it is not there yet: build, data, scorers, base models, utility texts,
//! sensitivities.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use irepair_config::{
    BaseModel, CORPUS, Dtype, Options, PretrainOptions, ProfileScorer, SCORER_LABELS, ScorerTrainOptions, stored,
    to_toml,
};
use irepair_core::fs::{sha256_file, write_atomic};
use irepair_core::is_unfinished;

use crate::cache::{self, Inputs};
use crate::error::diagnostic;
use crate::prepare::{Prepared, UTILITY};
use crate::work::Task;
use crate::{fetch, interrupt, paths, process, setup};

/// Labels that scorers are measured on.
const SCORER_HELD_OUT: &str = "toxicity/valid.jsonl";

impl Prepared {
    /// Makes what the rows need and is not there yet.
    ///
    /// # Errors
    /// A missing model or data file, before anything is started; a stage that fails.
    pub(crate) fn make(&mut self) -> Result<()> {
        self.sources.complete()?;
        interrupt::listen();
        // Where there are shards, one makes what all need.
        let _turn = self.lock()?;
        fetch::fetch(&self.sources.manifests)?;
        build()?;
        self.language()?;
        self.cut()?;
        self.train_scorers()?;
        self.each_model("base model", Self::base_task)?;
        self.each_model("base model", Self::import_task)?;
        self.each_model("pairs", Self::pairs_task)?;
        self.experiment.profile.models.iter().try_for_each(|model| self.keep_pairs(model))?;
        self.each_model("utility texts", Self::utility_task)?;
        self.each_model("sensitivities", Self::sensitivity_task)
    }

    /// Generates the language of profiles that have one.
    fn language(&self) -> Result<()> {
        let Some(language) = &self.experiment.profile.language else { return Ok(()) };
        let inputs = Inputs::default().text(&format!("{:?}", Some(language))).text("language 2");
        self.prepare("language", &inputs, |command| command.arg("language"))
    }

    /// Cuts the data files that are parts of others.
    fn cut(&self) -> Result<()> {
        let dirs = &self.sources.data_dirs;
        // The corpus is not needed when no model is trained on it.
        let pretrains = self.experiment.profile.models.iter().any(|model| self.is_trained_here(model));
        let files = self.experiment.profile.data.iter();
        let (skipped, others): (Vec<_>, Vec<_>) = files.partition(|file| !pretrains && file.file == CORPUS);
        let wanted: Vec<_> = others.into_iter().filter(|file| file.cut.is_some()).collect();
        if wanted.is_empty() || dirs.is_empty() {
            return Ok(());
        }
        let mut inputs = Inputs::default().text("data 1");
        for file in wanted {
            inputs = inputs.text(&format!("{} {:?}", file.file, file.cut));
            for source in file.sources() {
                let path = stored(dirs, source);
                inputs = if path.is_file() { inputs.file(&path)? } else { inputs.text("none") };
            }
        }
        self.prepare("data", &inputs, |command| {
            command.arg("data");
            for dir in dirs {
                command.arg("--data").arg(dir);
            }
            command.args(skipped.iter().flat_map(|file| ["--skip", &file.file]))
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

    /// Trains the scorers, then measures them on labels they have not seen.
    fn train_scorers(&self) -> Result<()> {
        let (mut training, mut measuring) = (Vec::new(), Vec::new());
        for ProfileScorer { name, train, file, .. } in self.scorers() {
            let (out, quality) = self.scorer(name);
            let inputs = if file.is_some() {
                Inputs::default().file(&out)?
            } else {
                let labels = self.data(SCORER_LABELS);
                let inputs = Inputs::default().text(&to_toml(&train.with_defaults())).file(&labels)?;
                let threads = Some(self.workers.n_threads);
                let paths = ScorerTrainOptions { data: Some(labels), out: Some(out.clone()), threads, ..train.clone() };
                let config = self.config(&format!("scorer-{name}"), &paths)?;
                let args = ["scorer", "train", "--config", &config].map(str::to_owned).to_vec();
                training.extend(self.task(format!("scorer-{name}"), out.clone(), inputs.clone(), args)?);
                inputs
            };
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
    pub(crate) fn config(&self, name: &str, options: &impl Options) -> Result<String> {
        let path = self.runs.join("prepared/config").join(format!("{name}.toml"));
        write_atomic(&path, to_toml(options).as_bytes()).map_err(diagnostic)?;
        Ok(path.display().to_string())
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

    pub(crate) fn task(
        &self,
        name: String,
        output: PathBuf,
        inputs: Inputs,
        args: Vec<String>,
    ) -> Result<Option<Task>> {
        if cache::is_done(&output, &inputs) {
            return Ok(None);
        }
        cache::clear(&output)?;
        Ok(Some(self.task_of(name, output, inputs, args)))
    }

    fn task_of(&self, name: String, output: PathBuf, inputs: Inputs, args: Vec<String>) -> Task {
        let log = self.runs.join("prepared/log").join(format!("{name}.txt"));
        Task { name, args, output, inputs, log, device: None, kept: None }
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
        if self.experiment.profile.has_data(UTILITY) && !self.has_own_texts {
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
        let mut settings = format!("{} general/valid", flags.join(" "));
        let pairs = self.pairs(&model.name);
        let neutral = self.data("general/valid.txt");
        if self.experiment.profile.pairs.is_some() {
            for file in [&pairs, &neutral] {
                settings += &sha256_file(file).map_err(diagnostic)?;
            }
        }
        flags.push(format!("--data={}", pairs.display()));
        flags.push(format!("--general={}", neutral.display()));
        let task = self.model_task("sensitivity", "sensitivity", model, out, &settings, flags)?;
        self.unless_kept_sensitivities(model, task)
    }

    /// A task on a base model: `irepair <verb>` with `flags`; `settings` are its identity, with the weights and their
    /// type.
    pub(crate) fn model_task(
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
            format!("--model={}", self.base(model).display()),
            format!("--out={}", out.display()),
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
