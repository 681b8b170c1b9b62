//! Progress with time left: bars on a terminal, a line at intervals where stderr is a file.

use std::cell::{Cell, OnceCell, RefCell};
use std::io::{IsTerminal, Write, stderr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    let target = if stderr().is_terminal() && !crate::rank::is_silent() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    MultiProgress::with_draw_target(target)
});

/// Time between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(30);

/// The progress of some work.
pub(crate) struct Progress {
    bar: ProgressBar,
    lines: Option<Lines>,
}

/// Progress of `n` steps called `what`; a bar is gone when it is dropped.
pub(crate) fn bar(what: &'static str, n: u64) -> Progress {
    let bar = BARS.add(ProgressBar::new(n).with_finish(ProgressFinish::AndClear));
    let template = "{prefix:>10} {wide_bar:.cyan/dim} {pos}/{len} {msg} {elapsed} elapsed, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(what);
    Progress { bar, lines: (!stderr().is_terminal()).then(|| Lines::new(what, n, INTERVAL)) }
}

impl Progress {
    /// `n` steps more are done.
    pub(crate) fn inc(&self, n: u64) {
        self.bar.inc(n);
        self.say();
    }

    /// The first `n` steps are done.
    pub(crate) fn set_position(&self, n: u64) {
        self.bar.set_position(n);
        self.say();
    }

    /// What stands next to the number of steps.
    pub(crate) fn set_message(&self, message: String) {
        if let Some(lines) = &self.lines {
            lines.message.replace(message.clone());
        }
        self.bar.set_message(message);
    }

    /// The number of steps, where it was not known before.
    pub(crate) fn set_length(&self, n: u64) {
        self.bar.set_length(n);
        self.lines.iter().for_each(|lines| lines.n.set(n));
    }

    /// Removes a bar.
    pub(crate) fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self) {
        let line = self.lines.as_ref().and_then(|lines| lines.due(self.bar.position(), Instant::now()));
        line.iter().for_each(|line| tracing::info!("{line}"));
    }
}

/// Progress as lines.
struct Lines {
    what: &'static str,
    n: Cell<u64>,
    message: RefCell<String>,
    every: Duration,
    started: Instant,
    /// The first steps that were done, and when: before, there was the set-up, or another process did them.
    first: OnceCell<(u64, Instant)>,
    last: Cell<Instant>,
}

impl Lines {
    fn new(what: &'static str, n: u64, every: Duration) -> Self {
        let now = Instant::now();
        let (n, first, last) = (Cell::new(n), OnceCell::new(), Cell::new(now));
        Self { what, n, message: RefCell::default(), every, started: now, first, last }
    }

    /// The line that is due after `done` steps, if one is.
    fn due(&self, done: u64, now: Instant) -> Option<String> {
        let n = self.n.get();
        let &(first, since) = self.first.get_or_init(|| (done, now));
        if now.duration_since(self.last.get()) < self.every || done >= n {
            return None;
        }
        self.last.set(now);
        let passed = HumanDuration(now.duration_since(self.started));
        let left = match done.saturating_sub(first) {
            0 => String::new(),
            counted => {
                let left = now.duration_since(since).mul_f64((n - done) as f64 / counted as f64);
                format!(", about {} left", HumanDuration(left))
            }
        };
        let message = self.message.borrow();
        let message = if message.is_empty() { String::new() } else { format!(", {message}") };
        Some(format!("{}: {done} of {n}{message}; {passed} passed{left}", self.what))
    }
}

/// Writes log lines above the bars instead of through them.
pub(crate) struct StderrAboveBars;

impl Write for StderrAboveBars {
    /// A log line that cannot be written is lost; the run continues.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        BARS.suspend(|| Ok(stderr().write(bytes).unwrap_or(bytes.len())))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = stderr().flush();
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for StderrAboveBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_at_intervals_with_the_time_that_is_left() {
        let lines = Lines::new("repair", 100, Duration::from_secs(30));
        let at = |seconds| lines.started + Duration::from_secs(seconds);
        lines.message.replace("loss 0.693, block 0".to_owned());
        assert_eq!(lines.due(1, at(12)), None);
        let want = "repair: 25 of 100, loss 0.693, block 0; 60 seconds passed, about 3 minutes left";
        assert_eq!(lines.due(25, at(60)).as_deref(), Some(want), "48 seconds for 24 steps, 75 to go");
        assert_eq!(lines.due(26, at(61)), None, "one was just said");
        assert!(lines.due(27, at(91)).is_some());
        assert_eq!(lines.due(100, at(900)), None, "the end has words of its own");
    }

    #[test]
    fn set_up_and_what_was_done_before_say_nothing_about_the_time_that_is_left() {
        let lines = Lines::new("repair", 400, Duration::from_secs(30));
        let at = |seconds| lines.started + Duration::from_secs(seconds);
        assert_eq!(lines.due(201, at(47)).as_deref(), Some("repair: 201 of 400; 47 seconds passed"));
        let want = "repair: 221 of 400; 87 seconds passed, about 6 minutes left";
        assert_eq!(lines.due(221, at(87)).as_deref(), Some(want), "40 seconds for 20 steps, 179 to go");
    }
}
