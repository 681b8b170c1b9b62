//! What all rows of a profile stand on: build, language, base models, utility texts, sensitivities.

use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_config::{BaseModel, Experiment, Options, to_toml};
use irepair_core::fs::write_atomic;
use irepair_core::{Diagnostic, ExitKind};
use irepair_report::{SensitivityResult, read_result, write_result};

use crate::cache::{self, Inputs};
use crate::stop::{Stop, stop};
use crate::work::{Task, Workers};
use crate::{paths, process, setup};

/// Batches behind the error-density estimate (METHOD §17 has 500 [F]; these models have one or two epochs of pairs).
const DENSITY_BATCHES: u32 = 200;

/// A profile ready to run.
pub(crate) struct Prepared {
    pub(crate) name: String,
    pub(crate) experiment: Experiment,
    pub(crate) device: String,
    pub(crate) workers: Workers,
    /// `runs/<profile>`.
    pub(crate) runs: PathBuf,
}

/// Which of a profile's data a cell is measured on.
#[derive(Clone, Copy)]
pub(crate) enum Split {
    /// For results.
    Test,
    /// For choosing settings.
    Valid,
}

impl Prepared {
    /// Reads the profile and makes whatever its rows need that is not there yet.
    ///
    /// # Errors
    /// An unknown profile, broken experiment files, or a stage that fails.
    pub(crate) fn new(name: &str, device: &str) -> Result<Self> {
        let dir = paths::root().join("experiments").join(name);
        if !dir.join("profile.toml").exists() {
            let known = "planted".to_owned();
            let help = "the profiles of this version are the directories of experiments/";
            return Err(
                Stop(Diagnostic::new(ExitKind::Usage, "unknown profile").want_got(known, name).help(help)).into()
            );
        }
        let experiment = Experiment::load(&dir).map_err(stop)?;
        setup::run()?;
        process::run_quietly(process::cargo().args(["build", "--release", "--package", "irepair-cli"]))?;
        let runs = paths::root().join("runs").join(name);
        let prepared = Self {
            name: name.to_owned(),
            experiment,
            device: device.to_owned(),
            workers: Workers::for_device(device),
            runs,
        };
        prepared.language()?;
        prepared.each_model("base model", Self::base_task)?;
        prepared.each_model("utility texts", Self::utility_task)?;
        prepared.each_model("sensitivities", Self::sensitivity_task)?;
        Ok(prepared)
    }

    /// A file of the profile's data.
    pub(crate) fn data(&self, file: &str) -> PathBuf {
        self.runs.join("prepared/language").join(file)
    }

    /// Directory of a base model.
    pub(crate) fn base(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/base").join(model)
    }

    /// Utility texts sampled from a base model.
    pub(crate) fn utility(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/utility").join(format!("{model}.jsonl"))
    }

    fn sensitivity_dir(&self, model: &str) -> PathBuf {
        self.runs.join("prepared/sensitivity").join(model)
    }

    fn language(&self) -> Result<()> {
        let (out, profile) = (self.runs.join("prepared/language"), self.experiment_file("profile.toml"));
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

    fn experiment_file(&self, file: &str) -> PathBuf {
        paths::root().join("experiments").join(&self.name).join(file)
    }

    /// Runs one stage for every base model, side by side where there are cores for it.
    fn each_model(&self, what: &str, task: impl Fn(&Self, &BaseModel) -> Result<Option<Task>>) -> Result<()> {
        let tasks: Vec<Task> =
            self.experiment.profile.models.iter().filter_map(|m| task(self, m).transpose()).collect::<Result<_>>()?;
        let failures = self.workers.run(what, tasks)?;
        match failures.into_iter().next() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    fn task(&self, name: String, output: PathBuf, inputs: Inputs, args: Vec<String>) -> Result<Option<Task>> {
        if cache::is_done(&output, &inputs) {
            return Ok(None);
        }
        cache::clear(&output)?;
        let log = self.runs.join("prepared/log").join(format!("{name}.txt"));
        Ok(Some(Task { name, args, output, inputs, log }))
    }

    fn base_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let out = self.base(&model.name);
        let mut options = model.pretrain.clone();
        options.data = Some(self.data("corpus/train.txt"));
        options.out = Some(out.clone());
        options.device = Some(self.device.clone());
        options.threads = Some(self.workers.threads());
        // What the model is made from, without the paths and threads of this machine.
        let recipe = to_toml(&model.pretrain.with_defaults());
        let inputs = Inputs::default().text(&recipe).file(&self.data("corpus/train.txt"))?;
        let config = self.runs.join("prepared/config").join(format!("{}.toml", model.name));
        write_atomic(&config, to_toml(&options).as_bytes()).map_err(stop)?;
        let args = vec!["pretrain".to_owned(), "--config".to_owned(), shown(&config)];
        self.task(format!("base-{}", model.name), out, inputs, args)
    }

    fn utility_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let (out, utility) = (self.utility(&model.name), &self.experiment.profile.utility);
        let inputs =
            Inputs::default().text(&format!("{utility:?}")).file(&self.base(&model.name).join("model.safetensors"))?;
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
        self.task(format!("utility-{}", model.name), out, inputs, args.to_vec())
    }

    fn sensitivity_task(&self, model: &BaseModel) -> Result<Option<Task>> {
        let (out, repair) = (self.sensitivity_dir(&model.name), &self.experiment.profile.repair);
        let args = [
            "sensitivity".to_owned(),
            format!("--model={}", shown(&self.base(&model.name))),
            format!("--data={}", shown(&self.data("pairs/train.jsonl"))),
            format!("--general={}", shown(&self.data("general/valid.txt"))),
            format!("--out={}", shown(&out)),
            format!("--n-batches={DENSITY_BATCHES}"),
            format!("--batch-size={}", repair.batch_size()),
            format!("--max-prompt={}", repair.max_prompt()),
            format!("--max-continuation={}", repair.max_continuation()),
            format!("--device={}", self.device),
            format!("--threads={}", self.workers.threads()),
        ];
        let settings = [&args[5..9], &["general/valid".to_owned()]].concat().join(" ");
        let inputs = Inputs::default().text(&settings).file(&self.base(&model.name).join("model.safetensors"))?;
        self.task(format!("sensitivity-{}", model.name), out, inputs, args.to_vec())
    }

    /// The sensitivities behind the error-density table.
    ///
    /// # Errors
    /// When a file is gone or broken.
    pub(crate) fn sensitivities(&self) -> Result<Vec<SensitivityResult>> {
        let mut all = Vec::new();
        for model in &self.experiment.profile.models {
            for text in ["error", "neutral"] {
                let path = self.sensitivity_dir(&model.name).join(format!("{text}.json"));
                let mut result: SensitivityResult = read_result(&path).map_err(stop)?;
                if result.profile != self.name {
                    result.profile = self.name.clone();
                    write_result(&path, &result).map_err(stop)?;
                }
                all.push(result);
            }
        }
        Ok(all)
    }
}

pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
