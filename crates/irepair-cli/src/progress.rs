//! Progress bars with time left on a terminal; nothing where stderr is a file.

use std::io::{IsTerminal, Write, stderr};
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    let target = if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    MultiProgress::with_draw_target(target)
});

/// A bar of `n` steps called `what`; it is gone when it is dropped.
pub(crate) fn bar(what: &'static str, n: u64) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(n).with_finish(ProgressFinish::AndClear));
    let template = "{prefix:>10} {wide_bar:.cyan/dim} {pos}/{len} {msg} {elapsed} elapsed, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(what);
    bar
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
