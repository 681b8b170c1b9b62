//! SIGINT and SIGTERM during training: the step is finished and kept before the process ends.

use std::process::exit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use irepair_core::ExitKind;

static LISTENING: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);

/// While it lives, the first signal is remembered instead of ending the process; the second one ends it at once.
pub(crate) struct Listening(());

impl Listening {
    pub(crate) fn start() -> Self {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            let heard = || {
                if !LISTENING.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
                    exit(ExitKind::Interrupted as i32);
                }
                tracing::info!("finishing the step; once more to stop at once");
            };
            if let Err(error) = ctrlc::set_handler(heard) {
                tracing::warn!("an interrupt will end the run at once, back to its last checkpoint: {error}");
            }
        });
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
