//! SIGINT and SIGTERM during training: the process ends after the step, and keeps its state.

use std::io::Read;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use irepair_core::{Diagnostic, ExitKind};
use irepair_model::exit_at_once;

use crate::diagnose;

static LISTENING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// Set by a program that starts this one: the end of standard input is then the request to stop.
pub(crate) const FOLLOW_STDIN: &str = "IREPAIR_STOP_WITH_STDIN";

/// While a value exists, the first signal is remembered instead of ending the process; the second one ends it at once.
pub(crate) struct Listening(());

/// From now on a signal ends the process with a message, or, under [`Listening`], waits for the end of the step.
pub(crate) fn prepare() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let heard = || {
            if !LISTENING.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
                leave();
            }
            tracing::info!("stopping after this step; interrupt again to stop at once");
        };
        if let Err(error) = ctrlc::set_handler(heard) {
            tracing::warn!(
                "an interrupt will end the run at once, and the steps since its last checkpoint will be lost: {error}"
            );
        }
    });
}

impl Listening {
    pub(crate) fn start() -> Self {
        prepare();
        LISTENING.store(true, Ordering::SeqCst);
        Self(())
    }

    /// True once a signal has come.
    pub(crate) fn asked(&self) -> bool {
        ASKED.load(Ordering::SeqCst)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENING.store(false, Ordering::SeqCst);
    }
}

/// Stops when the program that started this one ends or asks for it, where that program set [`FOLLOW_STDIN`].
pub(crate) fn follow_parent() {
    if std::env::var_os(FOLLOW_STDIN).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let mut nothing = [0];
        while std::io::stdin().read(&mut nothing).is_ok_and(|n| n > 0) {}
        ASKED.store(true, Ordering::SeqCst);
        if !LISTENING.load(Ordering::SeqCst) {
            leave();
        }
    });
}

/// Ends the process at once.
fn leave() -> ! {
    diagnose::show(&interrupted());
    exit_at_once(ExitKind::Interrupted as i32);
}

/// The message of a process that a signal ended.
pub(crate) fn interrupted() -> Diagnostic {
    Diagnostic::new(ExitKind::Interrupted, "interrupted")
        .help("run the same command again: it continues from its last checkpoint, or starts again where there is none")
}
