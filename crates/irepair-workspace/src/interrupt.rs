//! SIGINT and SIGTERM while processes run: they finish their step and keep it, and nothing new is started.

use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use anyhow::Result;
use irepair_core::{Diagnostic, ExitKind};

use crate::stop::Stop;

/// Tells an `irepair` process that the end of its standard input is a request to stop.
pub const FOLLOW_STDIN: &str = "IREPAIR_STOP_WITH_STDIN";

static ASKED: AtomicBool = AtomicBool::new(false);

/// The standard inputs of what runs. They close when this process asks to stop, and when it ends, however it ends.
static LIFELINES: Mutex<Vec<(u32, ChildStdin)>> = Mutex::new(Vec::new());

/// From now on the first signal is a request to stop; the second one ends this process at once.
#[expect(clippy::print_stderr, reason = "progress goes to stderr")]
pub fn listen() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let heard = || {
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(ExitKind::Interrupted as i32);
            }
            eprintln!("finishing the steps that run; once more to stop at once");
            lifelines().clear();
        };
        if let Err(error) = ctrlc::set_handler(heard) {
            eprintln!("an interrupt will end the run at once: {error}");
        }
    });
}

/// True once a signal has come.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Holds the standard input of process `id` until [`let_go`].
pub fn hold(id: u32, stdin: ChildStdin) {
    let mut held = lifelines();
    if !asked() {
        held.push((id, stdin));
    }
}

/// Forgets a process that has ended.
pub fn let_go(id: u32) {
    lifelines().retain(|(held, _)| *held != id);
}

/// The error that ends this process once a signal has come.
///
/// # Errors
/// That one, saying how to go on.
pub fn refuse_when_asked() -> Result<()> {
    if !asked() {
        return Ok(());
    }
    let diagnostic = Diagnostic::new(ExitKind::Interrupted, "interrupted")
        .help("nothing that is finished is lost: the same command goes on from the last checkpoints");
    Err(Stop(diagnostic).into())
}

fn lifelines() -> std::sync::MutexGuard<'static, Vec<(u32, ChildStdin)>> {
    LIFELINES.lock().unwrap_or_else(PoisonError::into_inner)
}
