//! From any error to its message on stderr and its exit code.

use std::io::Write;
use std::process::ExitCode;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

use crate::rank::Quiet;

/// Prints `error` to stderr and returns its exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Quiet(exit)) = error.downcast_ref() {
        return ExitCode::from(*exit);
    }
    let diagnostic = diagnostic(error);
    show(&diagnostic);
    ExitCode::from(diagnostic.exit as u8)
}

/// Prints a message to stderr.
pub(crate) fn show(diagnostic: &Diagnostic) {
    // Nothing is left to do if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{diagnostic}");
}

/// The message of the first error of the chain that has one.
pub(crate) fn diagnostic(error: &anyhow::Error) -> Diagnostic {
    fn known<'a, E: Diagnose + 'static>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a dyn Diagnose> {
        cause.downcast_ref::<E>().map(|e| e as &dyn Diagnose)
    }
    let finders = [
        known::<irepair_core::Error>,
        known::<irepair_config::Error>,
        known::<irepair_data::Error>,
        known::<irepair_slicing::Error>,
        known::<irepair_stats::Error>,
        known::<irepair_patch::Error>,
        known::<irepair_report::Error>,
        known::<irepair_scorer::Error>,
        known::<irepair_gguf::Error>,
        known::<irepair_fault::Error>,
        known::<irepair_model::ArchitectureError>,
        known::<irepair_model::Error>,
        known::<irepair_objective::Error>,
        known::<irepair_ranks::Error>,
        known::<irepair_sensitivity::Error>,
        known::<irepair_train::Error>,
        known::<irepair_classifier::Error>,
        known::<irepair_eval::Error>,
        known::<crate::error::CliError>,
    ];
    for cause in error.chain() {
        if let Some(known) = finders.iter().find_map(|find| find(cause)) {
            return known.diagnostic();
        }
    }
    Diagnostic::new(ExitKind::Bug, format!("{error:#}"))
        .help("this is a bug of irepair: please report it with the command you ran")
}
