//! Results on stdout.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;

/// Whether text on this stream may have colours.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes to stdout; a closed pipe is not an error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(source) if source.kind() != ErrorKind::BrokenPipe => {
            Err(irepair_core::Error::Io { action: "write", path: "standard output".into(), source }.into())
        }
        _ => Ok(()),
    }
}

/// Writes JSON over several lines to stdout.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes JSON as one line to stdout.
pub(crate) fn print_json_line(value: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string(value)? + "\n"))
}

/// A number with four decimals, or `missing`.
pub(crate) fn four_decimals(value: Option<f64>) -> String {
    value.map_or("missing".to_owned(), |value| format!("{value:.4}"))
}
