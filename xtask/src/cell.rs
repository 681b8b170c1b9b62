//! A row for one model and one seed: its job, the directory of its result, and what of it is done or kept.

use std::path::PathBuf;

use anyhow::Result;
use irepair_config::Job;
use irepair_core::Diagnostic;
use irepair_core::fs::{list, remove, write_atomic};
use irepair_report::{RowResult, Stopped, read_result, write_result};

use crate::cache::Inputs;
use crate::error::diagnostic;
use crate::kept::Place;
use crate::work::{Task, run_one};
use crate::{cache, identity, kept};

/// A row for one model and one seed, and the directory of its result.
#[derive(Clone)]
pub(crate) struct Cell {
    pub(crate) job: Job,
    pub(crate) dir: PathBuf,
    /// Where its result is kept; none in a rehearsal.
    pub(crate) kept: Option<PathBuf>,
}

impl Cell {
    /// The same run, paused after `n_steps`, or not at all: the identity of its work does not change with it.
    pub(crate) fn pausing(mut self, n_steps: Option<u64>) -> Self {
        if let Some(kept) = self.job.watch.as_mut().and_then(|watch| watch.kept.as_mut()) {
            kept.pause_at = n_steps;
        }
        self
    }

    /// Removes what a paused run would continue from: gigabytes of weights that nothing needs any more.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn end(&self) -> Result<()> {
        let files = list(&self.dir).unwrap_or_default();
        for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "safetensors")) {
            remove(file).map_err(diagnostic)?;
        }
        Ok(())
    }

    fn pause_at(&self) -> Option<u64> {
        self.job.watch.as_ref()?.kept.as_ref()?.pause_at
    }

    /// True when a result of the same run went as far as this one is to go.
    fn is_reached_by(&self, result: &RowResult) -> bool {
        let n_steps = result.cost.map_or(0, |cost| cost.n_steps);
        result.stopped != Some(Stopped::Paused) || self.pause_at().is_some_and(|at| n_steps >= at)
    }

    /// True when there is a result, also one of other inputs.
    pub(crate) fn has_result(&self) -> bool {
        self.dir.join("result.json").exists() || self.kept.as_ref().is_some_and(|path| path.exists())
    }

    /// The kept result of these settings; none when there is none, also not one of other settings. One from before the
    /// profile asked for a relearning curve is shown without it.
    ///
    /// # Errors
    /// When the kept file cannot be read, or the job has no TOML form.
    pub(crate) fn kept_result(&self) -> Result<Option<kept::Kept>> {
        let before = Job { relearn: None, ..self.job.clone() };
        let settings = [identity::settings(&self.job)?.key(), identity::settings(&before)?.key()];
        let kept: Option<kept::Kept> = self.kept.as_deref().map_or(Ok(None), kept::get)?;
        Ok(kept.filter(|kept| settings.contains(&kept.settings)).map(|kept| self.titled(kept)))
    }

    /// Where its result is kept.
    #[cfg(test)]
    pub(crate) fn place(&self) -> Option<&std::path::Path> {
        self.kept.as_deref()
    }

    /// A kept result under the row's present title.
    fn titled(&self, kept: kept::Kept) -> kept::Kept {
        let title = self.job.title.clone();
        kept::Kept { result: RowResult { title, ..kept.result }, ..kept }
    }

    /// Takes the kept result of the same work, which went far enough, for one of this checkout.
    fn take_kept(&self, inputs: &Inputs) -> Result<bool> {
        let kept = self.kept.as_deref().and_then(kept::find::<kept::Kept>);
        // A kept file holds no model.
        let kept = kept.filter(|_| self.job.keep_model == Some(false));
        let Some(kept) = kept.filter(|kept| kept.identity == inputs.key() && self.is_reached_by(&kept.result)) else {
            return Ok(false);
        };
        cache::begin(&self.dir, inputs, false)?;
        let output = self.dir.join("result.json");
        write_result(&output, &self.titled(kept).result).map_err(diagnostic)?;
        cache::mark_done(&output, inputs)?;
        Ok(true)
    }
}

/// What is to be done for a cell.
pub(crate) struct Work<'a> {
    pub(crate) cell: &'a Cell,
    /// The job in the form that the process reads.
    pub(crate) job: String,
    pub(crate) inputs: Inputs,
    pub(crate) kept: Option<Place>,
    /// What the device is called in results; none for a CPU.
    pub(crate) device: Option<String>,
    /// What was done before does not count.
    pub(crate) fresh: bool,
}

impl Work<'_> {
    pub(crate) fn name(&self) -> String {
        format!("{} seed {}", self.cell.job.row(), self.cell.job.repair.seed())
    }

    fn output(&self) -> PathBuf {
        self.cell.dir.join("result.json")
    }

    /// True when there is a result of this work; one that is kept is taken.
    pub(crate) fn is_done(&self) -> Result<bool> {
        let Self { cell, inputs, kept, .. } = self;
        if self.fresh {
            return Ok(false);
        }
        if cache::is_done(&self.output(), inputs) {
            let result = read_result(&self.output()).map_err(diagnostic)?;
            if cell.is_reached_by(&result) {
                kept.iter().try_for_each(|place| place.keep(&result, inputs))?;
                return Ok(true);
            }
        }
        cell.take_kept(inputs)
    }

    pub(crate) fn run(&self) -> Result<Option<Diagnostic>> {
        let Self { cell, inputs, kept, device, .. } = self;
        cache::begin(&cell.dir, inputs, self.fresh)?;
        let (file, log) = (cell.dir.join("job.toml"), cell.dir.join("log.txt"));
        write_atomic(&file, self.job.as_bytes()).map_err(diagnostic)?;
        let args = vec!["job".to_owned(), format!("--job={}", file.display()), format!("--out={}", cell.dir.display())];
        let (output, inputs, device, kept) = (self.output(), inputs.clone(), device.clone(), kept.clone());
        run_one(&Task { name: self.name(), args, output, inputs, log, device, kept })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use irepair_config::RelearnOptions;
    use irepair_report::SCHEMA;

    use super::*;

    fn cell(home: &Path, lr: &str) -> Cell {
        let job = format!(
            "profile = 'p'\nmethod = 'm'\ntitle = 't'\nmodel = 'g'\nkeep_model = false\n[repair]\nlr = {lr}\n[eval]\n"
        );
        let (dir, kept) = (home.join("runs/m-g/0"), Some(home.join("results/m-g.0.json")));
        Cell { job: toml::from_str(&job).unwrap(), dir, kept }
    }

    /// Keeps a result of the cell, made from `inputs`.
    fn keep(cell: &Cell, inputs: &Inputs, stopped: Stopped) -> RowResult {
        let (lr, stopped) = (Some(0.1 + 0.2), Some(stopped));
        let result = RowResult {
            schema: SCHEMA,
            row: "m-g".into(),
            title: "t".into(),
            model: "g".into(),
            lr,
            stopped,
            ..Default::default()
        };
        let (settings, identity) = (identity::settings(&cell.job).unwrap().key(), inputs.key());
        let (measured_on, trained_on) = ("data".into(), "pairs".into());
        let kept = kept::Kept { settings, measured_on, trained_on, identity, result };
        kept::put(cell.kept.as_ref().unwrap(), &kept).unwrap();
        kept.result
    }

    #[test]
    fn a_kept_row_of_other_settings_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let (cell, other) = (cell(home.path(), "1e-4"), cell(home.path(), "1e-5"));
        assert!(cell.kept_result().unwrap().is_none());
        let result = keep(&cell, &Inputs::default().text("1e-4"), Stopped::Cap);
        assert_eq!(cell.kept_result().unwrap().map(|kept| kept.result), Some(result));
        assert!(other.kept_result().unwrap().is_none());
        assert!(!other.take_kept(&Inputs::default().text("1e-5")).unwrap());
        assert!(!home.path().join("runs").exists());
    }

    #[test]
    fn a_kept_row_without_a_curve_that_is_new_is_shown_and_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let mut cell = cell(home.path(), "1e-4");
        let result = keep(&cell, &Inputs::default().text("before"), Stopped::Cap);
        cell.job.relearn = Some(RelearnOptions { counts: Some("10".to_owned()), ..RelearnOptions::default() });
        assert_eq!(cell.kept_result().unwrap().map(|kept| kept.result), Some(result));
        assert!(!cell.take_kept(&Inputs::default().text("with the curve")).unwrap());
        keep(&cell, &Inputs::default().text("with the curve"), Stopped::Cap);
        cell.job.relearn = Some(RelearnOptions { counts: Some("100".to_owned()), ..RelearnOptions::default() });
        assert!(cell.kept_result().unwrap().is_none(), "its curve is another");
    }

    #[test]
    fn a_kept_row_is_taken_for_the_same_work_where_runs_was_removed() {
        let home = tempfile::tempdir().unwrap();
        let (mut cell, inputs) = (cell(home.path(), "1e-4"), Inputs::default().text("work"));
        let (output, result) = (cell.dir.join("result.json"), keep(&cell, &inputs, Stopped::Cap));
        for _ in 0..2 {
            assert!(cell.take_kept(&inputs).unwrap() && cache::is_done(&output, &inputs));
            assert_eq!(read_result::<RowResult>(&output).unwrap(), result);
            fs::remove_dir_all(home.path().join("runs")).unwrap();
        }
        cell.job.keep_model = None;
        assert!(!cell.take_kept(&inputs).unwrap(), "its model is not kept");
        cell.job.keep_model = Some(false);
        keep(&cell, &inputs, Stopped::Paused);
        assert!(!cell.take_kept(&inputs).unwrap(), "the run continues");
        assert!(!output.exists());
    }

    #[test]
    fn a_broken_kept_row_is_named_in_a_report_and_run_again() {
        let home = tempfile::tempdir().unwrap();
        let (cell, inputs) = (cell(home.path(), "1e-4"), Inputs::default().text("work"));
        keep(&cell, &inputs, Stopped::Cap);
        let path = cell.kept.clone().unwrap();
        fs::write(&path, &fs::read(&path).unwrap()[..40]).unwrap();
        let error = cell.kept_result().unwrap_err().to_string();
        assert!(error.contains("no kept result") && error.contains("m-g.0.json"), "{error}");
        assert!(!cell.take_kept(&inputs).unwrap());
    }
}
