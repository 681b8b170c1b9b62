//! SIGINT and SIGTERM while child processes run: each child finishes its step and saves it, and no new child is
//! started.

use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use anyhow::Result;
use irepair_core::{Diagnostic, ExitKind};

use crate::process::say;

/// Environment variable that makes an `irepair` process stop when its standard input ends.
pub const FOLLOW_STDIN: &str = "IREPAIR_STOP_WITH_STDIN";

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Standard inputs of the running children, by process id. They close when this process asks the children to stop, and
/// when it ends, for whatever reason.
static CHILD_STDINS: Mutex<Vec<(u32, ChildStdin)>> = Mutex::new(Vec::new());

/// From now on the first signal is a request to stop; the second one ends this process at once.
pub fn listen() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let on_signal = || {
            if REQUESTED.swap(true, Ordering::SeqCst) {
                std::process::exit(ExitKind::Interrupted as i32);
            }
            say("stopping after the current steps; interrupt again to stop at once");
            child_stdins().clear();
        };
        if let Err(error) = ctrlc::set_handler(on_signal) {
            say(format!(
                "an interrupt will end the run at once, because no signal handler could be installed: {error}"
            ));
        }
    });
}

/// True after a signal.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Holds the standard input of child `id` open until [`close_stdin`].
pub fn keep_stdin(id: u32, stdin: ChildStdin) {
    let mut stdins = child_stdins();
    if !requested() {
        stdins.push((id, stdin));
    }
}

/// Drops the standard input of a child that has ended.
pub fn close_stdin(id: u32) {
    child_stdins().retain(|(child, _)| *child != id);
}

/// Ends this process after a signal.
///
/// # Errors
/// After a signal: an error that says how to continue.
pub fn check() -> Result<()> {
    if !requested() {
        return Ok(());
    }
    let help = "finished work is kept: give the same command again to continue from the last checkpoints";
    Err(Diagnostic::new(ExitKind::Interrupted, "interrupted").help(help).into())
}

fn child_stdins() -> MutexGuard<'static, Vec<(u32, ChildStdin)>> {
    CHILD_STDINS.lock().unwrap_or_else(PoisonError::into_inner)
}
