//! Errors of a tool, laid out for people, and the exit code of each.

use std::fmt;
use std::process::ExitCode;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// A laid-out error on its way to `main`.
#[derive(Debug)]
pub struct Stop(pub Diagnostic);

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Stop {}

impl From<Diagnostic> for Stop {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(diagnostic)
    }
}

/// A library's error, laid out.
#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
pub fn stop(error: impl Diagnose) -> Stop {
    Stop(error.diagnostic())
}

/// Prints an error; the exit code is the diagnostic's own, else 1.
#[expect(clippy::print_stderr, reason = "the last word of the program")]
pub fn report(error: &anyhow::Error) -> ExitCode {
    let (text, exit) = match error.downcast_ref::<Stop>() {
        Some(Stop(diagnostic)) => (diagnostic.to_string(), diagnostic.exit),
        None => (format!("error: {error:#}"), ExitKind::Bug),
    };
    eprintln!("{text}");
    ExitCode::from(exit as u8)
}
