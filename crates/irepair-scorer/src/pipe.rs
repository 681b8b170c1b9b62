//! A child on two pipes: lines in, lines out, each waited for with a limit; it ends with its owner.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Longest line that a program may write, in bytes.
const MAX_LINE: usize = 1 << 20;

/// Lines that wait to be read; a program that writes more waits.
const N_WAITING: usize = 64;

/// What came from a program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A line that is not blank.
    Line(String),
    /// A line over [`MAX_LINE`].
    Endless,
    /// Nothing within the limit.
    Nothing,
    /// It wrote all it had to.
    End,
}

/// A running program; dropped, it is killed with all that it has started.
pub(crate) struct Pipe {
    child: Child,
    lines: Receiver<Said>,
    ended: bool,
}

impl Pipe {
    /// Starts a program, which gets `input`, then the end of its input. Two threads serve the pipes, so that neither
    /// side waits for the other.
    pub(crate) fn start(words: &[String], input: Vec<String>) -> std::io::Result<Self> {
        let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // A Python program would keep its answers back until it has 8 KB of them.
        command.env("PYTHONUNBUFFERED", "1");
        // A group of its own, so that it ends whole.
        command.process_group(0);
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        if let Some(mut stdin) = stdin {
            // A program that does not read to the end is no error: what counts is what it answers.
            thread::spawn(move || input.iter().all(|line| stdin.write_all(line.as_bytes()).is_ok()));
        }
        let (sender, lines) = sync_channel(N_WAITING);
        if let Some(stdout) = stdout {
            thread::spawn(move || {
                let mut reader = BufReader::new(stdout);
                while let Some(said) = next_line(&mut reader) {
                    let more = matches!(said, Said::Line(_));
                    if sender.send(said).is_err() || !more {
                        break;
                    }
                }
            });
        }
        Ok(Self { child, lines, ended: false })
    }

    /// The next line that is not blank.
    pub(crate) fn next(&self, limit: Duration) -> Said {
        match self.lines.recv_timeout(limit) {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => Said::Nothing,
            Err(RecvTimeoutError::Disconnected) => Said::End,
        }
    }

    /// How the program ended; none where it is still there after a while.
    pub(crate) fn status(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.ended = true;
                return Some(status);
            }
            if Instant::now() >= until {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Waited for already, its number may be another program's.
        if self.ended {
            return;
        }
        let group = i32::try_from(self.child.id()).map(Pid::from_raw);
        let _ = group.map(|group| killpg(group, Signal::SIGKILL));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line that is not blank; none at the end.
fn next_line(reader: &mut impl BufRead) -> Option<Said> {
    loop {
        let mut bytes = Vec::new();
        // What cannot be read is the end.
        let n = reader.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut bytes).unwrap_or(0);
        if n == 0 {
            return None;
        }
        if n > MAX_LINE && !bytes.ends_with(b"\n") {
            return Some(Said::Endless);
        }
        let line = String::from_utf8_lossy(&bytes);
        if !line.trim().is_empty() {
            return Some(Said::Line(line.trim().to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_anywhere_and_have_a_limit() {
        let read = |text: &[u8]| {
            let mut reader = text;
            std::iter::from_fn(|| next_line(&mut reader)).take(3).collect::<Vec<_>>()
        };
        let line = |text: &str| Said::Line(text.to_owned());
        assert_eq!(read(b"a\r\n\n  \nb"), [line("a"), line("b")]);
        assert_eq!(read(b"\xff\n"), [line("\u{fffd}")]);
        assert_eq!(read(&vec![b'x'; MAX_LINE + 9])[0], Said::Endless);
        assert_eq!(read(b""), []);
    }
}
