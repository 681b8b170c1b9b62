//! Runs tasks side by side: each an `irepair` process, its words in a log, its output stamped when whole.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use irepair_core::{Diagnostic, ExitKind};

use crate::cache::{self, Inputs};
use crate::stop::Stop;
use crate::{interrupt, paths, process};

/// One `irepair` call.
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) output: PathBuf,
    pub(crate) inputs: Inputs,
    pub(crate) log: PathBuf,
}

/// How many processes run at a time, and on how many threads each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workers {
    n_workers: usize,
    n_threads: u32,
}

impl Workers {
    /// On a CPU one single-threaded process per core: these models are too small to share. A GPU runs one at a time.
    pub(crate) fn for_device(device: &str) -> Self {
        let n_cores = thread::available_parallelism().map_or(1, usize::from);
        if device == "cpu" {
            Self { n_workers: n_cores, n_threads: 1 }
        } else {
            Self { n_workers: 1, n_threads: n_cores as u32 }
        }
    }

    /// How rows were run, for the report: it bears on the measured cost.
    pub(crate) fn describe(self) -> String {
        format!(
            "rows ran {} at a time, {} CPU thread(s) each; measured times are of that",
            self.n_workers, self.n_threads
        )
    }

    /// Processes at a time.
    pub(crate) fn n_workers(self) -> usize {
        self.n_workers
    }

    /// CPU threads of each process.
    pub(crate) fn threads(self) -> u32 {
        self.n_threads
    }

    /// Runs all tasks and returns the failures; one failure does not stop the others.
    ///
    /// # Errors
    /// When a process cannot be started or a stamp cannot be written, and after a signal that asks to stop.
    pub(crate) fn run(self, what: &str, tasks: Vec<Task>) -> Result<Vec<Stop>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let progress = Progress::new(what, tasks.len());
        let queue = Mutex::new(VecDeque::from(tasks));
        let failures = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.n_workers)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        while let Some(task) = next(&queue) {
                            let started = Instant::now();
                            if let Some(failure) = run_one(&task)? {
                                failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(failure);
                            }
                            progress.done(&task.name, started.elapsed());
                        }
                        Ok(())
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        progress.finish();
        interrupt::refuse_when_asked()?;
        Ok(failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

fn next(queue: &Mutex<VecDeque<Task>>) -> Option<Task> {
    if interrupt::asked() {
        return None;
    }
    queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front()
}

/// Runs one task; a process that fails is reported with its last words.
fn run_one(task: &Task) -> Result<Option<Stop>> {
    let dir = task.log.parent().unwrap_or(&task.log);
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let log = File::create(&task.log).with_context(|| format!("writing {}", task.log.display()))?;
    let mut command = process::command(paths::irepair());
    command.args(&task.args).stdout(log.try_clone()?).stderr(log);
    if let Some(commit) = process::commit() {
        command.env("IREPAIR_COMMIT", commit);
    }
    let status = process::wait_for(&mut command).with_context(|| format!("starting {}", paths::irepair().display()))?;
    if status.success() {
        cache::mark_done(&task.output, &task.inputs)?;
        return Ok(None);
    }
    let words = fs::read_to_string(&task.log).unwrap_or_default();
    let last = words.find("error:").map_or(words.as_str(), |at| &words[at..]).trim().replace('\n', "\n  ");
    let exit = match status.code() {
        Some(2) => ExitKind::Usage,
        Some(3) => ExitKind::Device,
        Some(4) => ExitKind::Data,
        Some(5) => ExitKind::Outcome,
        _ => ExitKind::Bug,
    };
    Ok(Some(Stop(Diagnostic::new(exit, format!("{} failed ({status})\n  {last}", task.name)).at(task.log.display()))))
}

/// A bar on a terminal, a line per task elsewhere; both say how much time is left.
struct Progress {
    bar: ProgressBar,
    what: String,
    n: usize,
    started: Instant,
    n_done: Mutex<usize>,
}

impl Progress {
    fn new(what: &str, n: usize) -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(n as u64), target);
        let template = "{prefix} {wide_bar:.cyan/dim} {pos}/{len} {msg} {elapsed} elapsed, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, what: what.to_owned(), n, started: Instant::now(), n_done: Mutex::new(0) }
    }

    #[expect(clippy::print_stderr, reason = "progress goes to stderr")]
    fn done(&self, name: &str, took: Duration) {
        let mut n_done = self.n_done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *n_done += 1;
        self.bar.inc(1);
        self.bar.set_message(name.to_owned());
        if self.bar.is_hidden() {
            let left = self.started.elapsed().as_secs_f64() / *n_done as f64 * (self.n - *n_done) as f64;
            let (what, n) = (&self.what, self.n);
            eprintln!("{what} {n_done}/{n}: {name} in {:.1} s, about {left:.0} s left", took.as_secs_f64());
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
