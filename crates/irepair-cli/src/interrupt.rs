//! SIGINT and SIGTERM during training: the step is finished and kept before the process ends.

use std::io::{Read, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use irepair_core::{Diagnostic, ExitKind};
use irepair_model::exit_at_once;

static LISTENING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// Set by a program whose children are to end with it: the end of standard input is then its request to stop.
const FOLLOW_STDIN: &str = "IREPAIR_STOP_WITH_STDIN";

/// While it lives, the first signal is remembered instead of ending the process; the second one ends it at once.
pub(crate) struct Listening(());

/// From now on a signal ends the process with words, or waits for the end of a step while somebody is [`Listening`].
pub(crate) fn prepare() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let heard = || {
            if !LISTENING.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
                leave();
            }
            tracing::info!("finishing the step; once more to stop at once");
        };
        if let Err(error) = ctrlc::set_handler(heard) {
            tracing::warn!("an interrupt will end the run at once, back to its last checkpoint: {error}");
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

/// Stops when the program that started this one asks for it or is gone, where that program said it would.
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

/// Ends the process between steps, or where there are none.
fn leave() -> ! {
    let diagnostic = Diagnostic::new(ExitKind::Interrupted, "interrupted")
        .help("the same command goes on from its last checkpoint, if it has one, else anew");
    // Nothing is left to do if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{diagnostic}");
    exit_at_once(ExitKind::Interrupted as i32);
}
