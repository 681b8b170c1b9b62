//! From a result to the exit code of a tool, with the error laid out on stderr.

use std::process::ExitCode;

use anyhow::Result;
use irepair_core::{Diagnose, Diagnostic, ExitKind};

use crate::process::say;

/// A library's error, laid out.
pub fn diagnostic(error: impl Diagnose) -> Diagnostic {
    error.diagnostic()
}

/// The exit code of `main`: success, or the printed diagnostic's own; 1 for any other error.
pub fn exit_code(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let (text, exit) = match error.downcast_ref::<Diagnostic>() {
        Some(diagnostic) => (diagnostic.to_string(), diagnostic.exit),
        None => (format!("error: {error:#}"), ExitKind::Bug),
    };
    say(text);
    ExitCode::from(exit as u8)
}
