//! Runs tasks in parallel: each an `irepair` process, its output in a log, its result stamped when it is complete.

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use irepair_core::{Diagnostic, ExitKind};
use irepair_report::read_result;

use crate::cache::{self, Inputs};
use crate::claims::Claims;
use crate::error::diagnostic;
use crate::kept::Place;
use crate::{interrupt, paths, process};

/// One `irepair` call.
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) output: PathBuf,
    pub(crate) inputs: Inputs,
    pub(crate) log: PathBuf,
    /// What the device is called in results; none for a CPU.
    pub(crate) device: Option<String>,
    /// Where the result of a row is kept.
    pub(crate) kept: Option<Place>,
}

/// How many processes run at a time, and on how many threads each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workers {
    /// Processes at a time.
    pub(crate) n_workers: usize,
    /// CPU threads of each process.
    pub(crate) n_threads: u32,
}

impl Workers {
    /// As many processes as `asked`, which share the cores. Else on a CPU one single-threaded process per core, because
    /// these models are too small for several threads; on a GPU one process at a time.
    pub(crate) fn for_device(device: &str, asked: Option<u32>) -> Self {
        let n_cores = thread::available_parallelism().map_or(1, usize::from);
        let own = if device == "cpu" { n_cores } else { 1 };
        let n_workers = asked.map_or(own, |n| n as usize);
        Self { n_workers, n_threads: (n_cores / n_workers).max(1) as u32 }
    }

    /// How rows were run, for the report: it bears on the measured cost.
    pub(crate) fn describe(self) -> String {
        format!("{} at a time, {} CPU thread(s) each; measured times are of that", self.n_workers, self.n_threads)
    }

    /// Runs all tasks and returns the failures; one failure does not stop the others.
    ///
    /// # Errors
    /// When a process cannot be started or a stamp cannot be written, and after a signal that asks to stop.
    pub(crate) fn run(self, what: &str, tasks: &[Task]) -> Result<Vec<Diagnostic>> {
        Ok(self.each(what, tasks, |task| task.name.clone(), run_one)?.into_iter().flatten().collect())
    }

    /// Does the work of all items that are not done, with other shards where there are `claims`, and returns the
    /// failures of this process. It ends when no item is left that a living process has not done or failed at.
    ///
    /// # Errors
    /// Those of `is_done` and `work`; a signal that asks to stop.
    pub(crate) fn share<T: Sync>(
        self,
        what: &str,
        claims: Option<&Claims>,
        items: &[T],
        name: impl Fn(&T) -> String + Sync,
        is_done: impl Fn(&T) -> Result<bool> + Sync,
        work: impl Fn(&T) -> Result<Option<Diagnostic>> + Sync,
    ) -> Result<Vec<Diagnostic>> {
        let name = |item: &&T| name(item);
        let Some(claims) = claims else {
            let mut left = Vec::new();
            for item in items {
                left.extend((!is_done(item)?).then_some(item));
            }
            say_done(what, items.len() - left.len(), items.len());
            return Ok(self.each(what, &left, name, |item| work(item))?.into_iter().flatten().collect());
        };
        let mut left = claims.order(items.iter().collect::<Vec<_>>());
        say_done(what, claims.offer(&left, name, |item| is_done(item))?, items.len());
        let mut failures = Vec::new();
        loop {
            let done = self.each_claimed(what, &left, name, |item| {
                let Some(claim) = claims.take(&name(item))? else { return Ok(None) };
                // Done since this process looked.
                if is_done(item)? {
                    claim.end(true)?;
                    return Ok(None);
                }
                let failure = work(item)?;
                // What was interrupted is for another process.
                if !interrupt::requested() {
                    claim.end(failure.is_none())?;
                }
                Ok(Some(failure))
            })?;
            failures.extend(done.into_iter().flatten());
            let mut open = Vec::new();
            for item in left {
                open.extend(claims.is_open(&name(&item))?.then_some(item));
            }
            if open.is_empty() {
                return Ok(failures);
            }
            left = open;
            claims.pause()?;
        }
    }

    /// What `work` gives for each item, in their order, several at a time, with progress by `name`.
    ///
    /// # Errors
    /// The first error, after which no item is begun; a signal that asks to stop.
    pub(crate) fn each<T: Sync, R: Send>(
        self,
        what: &str,
        items: &[T],
        name: impl Fn(&T) -> String + Sync,
        work: impl Fn(&T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        self.each_claimed(what, items, name, |item| work(item).map(Some))
    }

    /// [`Workers::each`] of the items for which `work` gives something; the others count as those of another process.
    fn each_claimed<T: Sync, R: Send>(
        self,
        what: &str,
        items: &[T],
        name: impl Fn(&T) -> String + Sync,
        work: impl Fn(&T) -> Result<Option<R>> + Sync,
    ) -> Result<Vec<R>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (progress, next) = (Progress::new(what, items.len()), AtomicUsize::new(0));
        let worker = || -> Result<Vec<(usize, R)>> {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(at).filter(|_| !interrupt::requested()) else { return Ok(done) };
                let started = Instant::now();
                // No item is begun after one that failed.
                let found = work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
                if let Some(found) = found {
                    done.push((at, found));
                    progress.done(&name(item), started.elapsed());
                }
            }
        };
        let done = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.n_workers).map(|_| scope.spawn(worker)).collect();
            let joined = workers.into_iter().map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.collect::<Result<Vec<_>>>()
        })?;
        progress.bar.finish_and_clear();
        interrupt::check()?;
        let mut done: Vec<(usize, R)> = done.into_iter().flatten().collect();
        done.sort_by_key(|(at, _)| *at);
        Ok(done.into_iter().map(|(_, found)| found).collect())
    }
}

fn say_done(what: &str, n_done: usize, n: usize) {
    if n_done > 0 {
        process::say(format!("{what}: {n_done} of {n} are done or kept"));
    }
}

/// Runs one task; a failure holds the last lines of the process.
pub(crate) fn run_one(task: &Task) -> Result<Option<Diagnostic>> {
    let dir = task.log.parent().unwrap_or(&task.log);
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let failure = irepair(&task.name, &task.args, &task.log, &task.log, task.device.as_deref())?;
    if failure.is_none() {
        cache::mark_done(&task.output, &task.inputs)?;
        if let Some(place) = &task.kept {
            place.keep(&read_result(&task.output).map_err(diagnostic)?, &task.inputs)?;
        }
    }
    Ok(failure)
}

/// Runs `irepair`, with what it prints in `printed` and its words in `log`, which may be one file. A failure holds its
/// last words.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn irepair(
    name: &str,
    args: &[String],
    printed: &Path,
    log: &Path,
    device: Option<&str>,
) -> Result<Option<Diagnostic>> {
    let create = |path: &Path| File::create(path).with_context(|| format!("writing {}", path.display()));
    let words = create(log)?;
    let output = if printed == log { words.try_clone()? } else { create(printed)? };
    let mut command = process::command(paths::irepair());
    command.args(args).stdout(output).stderr(words);
    if let Some(commit) = process::commit() {
        command.env("IREPAIR_COMMIT", commit);
    }
    if let Some(device) = device {
        command.env("IREPAIR_DEVICE", device);
    }
    let status = process::wait_for(&mut command).with_context(|| format!("starting {}", paths::irepair().display()))?;
    if status.success() {
        return Ok(None);
    }
    let words = fs::read_to_string(log).unwrap_or_default();
    let last = words.find("error:").map_or(words.as_str(), |at| &words[at..]).trim().replace('\n', "\n  ");
    let what = format!("{name} failed ({status})\n  {last}");
    Ok(Some(Diagnostic::new(exit_kind(status.code()), what).at(log.display())))
}

/// What the exit code of a process says; a process that was killed has none.
fn exit_kind(code: Option<i32>) -> ExitKind {
    use ExitKind::{Data, Device, Interrupted, NothingFails, Outcome, Unchanged, Usage};
    let known = [Usage, Device, Data, Outcome, Unchanged, NothingFails, Interrupted];
    known.into_iter().find(|kind| Some(*kind as i32) == code).unwrap_or(ExitKind::Bug)
}

/// A bar on a terminal, a line per task elsewhere; both say how much time is left.
struct Progress {
    bar: ProgressBar,
    what: String,
    started: Instant,
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
        Self { bar, what: what.to_owned(), started: Instant::now() }
    }

    fn done(&self, name: &str, took: Duration) {
        self.bar.inc(1);
        self.bar.set_message(name.to_owned());
        if self.bar.is_hidden() {
            let (what, n_done, n) = (&self.what, self.bar.position(), self.bar.length().unwrap_or_default());
            let left = self.started.elapsed().as_secs_f64() / n_done as f64 * n.saturating_sub(n_done) as f64;
            process::say(format!("{what} {n_done}/{n}: {name} in {:.1} s, about {left:.0} s left", took.as_secs_f64()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_changes_nothing_did_not_diverge() {
        let kinds = [Some(5), Some(6), Some(4), Some(130), Some(101), None].map(exit_kind);
        let want = [
            ExitKind::Outcome,
            ExitKind::Unchanged,
            ExitKind::Data,
            ExitKind::Interrupted,
            ExitKind::Bug,
            ExitKind::Bug,
        ];
        assert_eq!(kinds, want);
    }
}
