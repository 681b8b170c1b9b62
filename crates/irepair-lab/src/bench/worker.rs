//! A benchmark process that waits for a line on its standard input before each repetition.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

use super::run::Sample;

/// A process started with `--paced`, ready for its first repetition.
pub(crate) struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: File,
}

impl Worker {
    /// Starts the process and waits until it has made its inputs and warmed up.
    ///
    /// # Errors
    /// When it cannot be started or fails, with its stderr.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let stderr = tempfile::tempfile()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr.try_clone()?);
        let mut child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("no pipes to {}", command.get_program().display())
        };
        let mut worker = Self { child, stdin, stdout: BufReader::new(stdout), stderr };
        while worker.line()?.trim() != "ready" {}
        Ok(worker)
    }

    /// One repetition: its seconds.
    ///
    /// # Errors
    /// When the process fails, with its stderr.
    pub(crate) fn repeat(&mut self) -> Result<f64> {
        // The error of a process that has ended is read below.
        let _ = writeln!(self.stdin).and_then(|()| self.stdin.flush());
        let line = self.line()?;
        line.trim().parse().with_context(|| format!("expected seconds, got `{}`", line.trim()))
    }

    /// Ends the process and reads its measurements.
    ///
    /// # Errors
    /// When the process fails, with its stderr.
    pub(crate) fn finish(self) -> Result<Sample> {
        let Self { mut child, stdin, mut stdout, .. } = self;
        drop(stdin);
        let mut text = String::new();
        stdout.read_to_string(&mut text)?;
        anyhow::ensure!(child.wait()?.success(), "the process failed at its end");
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("expected a result, got `{line}`"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? > 0 {
            return Ok(line);
        }
        let (status, mut stderr) = (self.child.wait()?, String::new());
        self.stderr.rewind()?;
        self.stderr.read_to_string(&mut stderr)?;
        anyhow::bail!("the process ended too early ({status}): {}", stderr.trim())
    }
}
