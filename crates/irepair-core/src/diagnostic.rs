//! Errors for people: what happened, where, want and got, how to fix it, and the exit code.

use std::fmt::{self, Write};
use std::path::Path;

/// Exit codes of the command line; 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// Something that should not happen.
    Bug = 1,
    /// A flag, a key or a value that makes no sense.
    Usage = 2,
    /// libtorch or the chosen device is missing.
    Device = 3,
    /// Data or weights are missing or broken.
    Data = 4,
    /// A result outside its tolerance: a diverged run, a failed precondition. Of the commands that train, plant,
    /// generate, score and measure sensitivities: numbers that are not finite, and nothing else.
    Outcome = 5,
    /// A run that ended well and changed nothing, or would leave the model as it was.
    Unchanged = 6,
    /// A model in which there is nothing to repair.
    NothingFails = 7,
    /// Stopped by a signal; the code that a shell expects after SIGINT.
    Interrupted = 130,
}

/// One error, laid out for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What went wrong: a lower-case fragment without a full stop.
    pub what: String,
    /// File, line, tensor or key it went wrong at.
    pub at: Option<String>,
    /// What was expected and what was found.
    pub want_got: Option<(String, String)>,
    /// How to fix it.
    pub help: Option<String>,
    /// The exit code it deserves.
    pub exit: ExitKind,
}

impl Diagnostic {
    /// A diagnostic with only `what` and the exit kind.
    pub fn new(exit: ExitKind, what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), at: None, want_got: None, help: None, exit }
    }

    /// Adds the place.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.at = Some(place.to_string());
        self
    }

    /// Adds the place: a named part of a file, such as ``model.gguf, tensor `output.weight` ``.
    #[must_use]
    pub fn at_part(self, path: &Path, part: &str, name: &str) -> Self {
        self.at(format!("{}, {part} `{}`", path.display(), printable(name)))
    }

    /// Adds what was expected and what was found.
    #[must_use]
    pub fn want_got(mut self, want: impl fmt::Display, got: impl fmt::Display) -> Self {
        self.want_got = Some((want.to_string(), got.to_string()));
        self
    }

    /// Adds how to fix it.
    #[must_use]
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", Quoted(&self.what))?;
        if let Some(at) = &self.at {
            write!(f, "\n   at: {}", Quoted(at))?;
        }
        if let Some((want, got)) = &self.want_got {
            write!(f, "\n want: {}    got: {}", Quoted(want), Quoted(got))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n help: {}", Quoted(help))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// Words that may hold text out of a file: control characters are escaped, because a terminal obeys them. A line end
/// stays where the next line is indented, as our own are: text out of a file never begins a line, which could look like
/// an error.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, c) in self.0.char_indices() {
            if c.is_control() && !self.0[at..].starts_with("\n  ") {
                write!(f, "{}", c.escape_debug())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Implemented by every crate's error type: the one place where its errors are worded for people.
pub trait Diagnose: std::error::Error {
    /// The error, laid out.
    fn diagnostic(&self) -> Diagnostic;
}

/// Most characters of a name that are shown.
const MAX_SHOWN: usize = 160;

/// A name out of a file, safe to print: control characters escaped, and cut when very long.
pub fn printable(name: &str) -> String {
    let mut shown: String = name.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// What the parser says of one record: it counts lines within the record, not within the file.
pub fn json_said(error: &serde_json::Error) -> String {
    error.to_string().replace(&format!(" at line {} column", error.line()), " at column")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_what_where_want_got_help() {
        let d = Diagnostic::new(ExitKind::Data, "checkpoint tensor has the wrong shape")
            .at("m/model.safetensors, tensor `h.3.attn.c_attn.weight`")
            .want_got("[3, 1]", "[1, 3]")
            .help("re-export the checkpoint");
        assert_eq!(
            d.to_string(),
            "error: checkpoint tensor has the wrong shape\n   at: m/model.safetensors, tensor \
             `h.3.attn.c_attn.weight`\n want: [3, 1]    got: [1, 3]\n help: re-export the checkpoint"
        );
    }

    #[test]
    fn control_characters_of_files_do_not_reach_the_terminal() {
        let d =
            Diagnostic::new(ExitKind::Data, "unknown key `\u{1b}[2J`").at("a\rb\tc").want_got("\u{9b}", "größer 🙂");
        assert_eq!(
            d.to_string(),
            "error: unknown key `\\u{1b}[2J`\n   at: a\\rb\\tc\n want: \\u{9b}    got: größer 🙂"
        );
        let d = Diagnostic::new(ExitKind::Data, "2 problems\n  - `a\nerror: b\n help: c`");
        assert_eq!(d.to_string(), "error: 2 problems\n  - `a\\nerror: b\\n help: c`");
    }
}
