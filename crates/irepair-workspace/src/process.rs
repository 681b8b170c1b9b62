//! Running other programs: the command line is printed on stderr, and a failure names it.

use std::fmt::Display;
use std::io;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::Result;
use irepair_core::{Diagnostic, ExitKind};

use crate::interrupt::{self, FOLLOW_STDIN};
use crate::paths;

/// Prints progress on stderr.
#[expect(clippy::print_stderr, reason = "progress goes to stderr")]
pub fn say(text: impl Display) {
    eprintln!("{text}");
}

/// A command that runs in the workspace root.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(paths::root());
    command
}

/// The cargo that runs this program, in the environment it was called in.
pub fn cargo() -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if paths::users_libtorch().is_none() {
        // `.cargo/config.toml` has filled it in. Left set, cargo would see another environment than when it is called
        // directly, and compile torch-sys again at every change between the two.
        cargo.env_remove("LIBTORCH");
    }
    cargo
}

/// cargo-fuzz on the nightly compiler, by rustup's cargo: the cargo that runs this program is of another toolchain.
pub fn cargo_fuzz() -> Command {
    let mut cargo = command("cargo");
    // Set by cargo for this program; they would bind the other cargo to this toolchain.
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "CARGO_MANIFEST_DIR", "LIBTORCH"] {
        if name != "LIBTORCH" || paths::users_libtorch().is_none() {
            cargo.env_remove(name);
        }
    }
    cargo.args(["+nightly", "fuzz"]);
    cargo
}

/// `cargo xtask setup`: libtorch where every build looks for it.
///
/// # Errors
/// As [`run_quietly`].
pub fn set_up() -> Result<()> {
    run_quietly(cargo().args(["xtask", "setup"]))
}

/// The release build of `irepair`.
///
/// # Errors
/// As [`run_quietly`].
pub fn build_irepair() -> Result<()> {
    run_quietly(cargo().args(["build", "--release", "--package", "irepair-cli"]))
}

/// Builds a program, and the example `logits`, in the debug profile with the features that `cargo test --workspace`
/// resolves, so that what tests have built is not built again: `--package` would resolve others, and an example is what
/// makes cargo resolve those of tests.
pub fn build_as_tests(program: &str) -> Command {
    let mut build = cargo();
    build.args(["build", "--workspace", "--bin", program, "--example", "logits"]);
    build
}

/// Prints the command line, then runs it with this program's own stdout and stderr.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    say(format!("$ {}", shown(command)));
    let status = status(command)?;
    check(command, status)
}

/// Runs a command with this program's own streams and waits for it.
///
/// # Errors
/// When it cannot be started.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    Ok(command.status().map_err(|error| not_started(command, &error))?)
}

/// Runs a command that ends with this process: an `irepair` stops when its standard input ends.
///
/// # Errors
/// When it cannot be started.
pub fn wait_for(command: &mut Command) -> io::Result<ExitStatus> {
    let mut child = command.env(FOLLOW_STDIN, "1").stdin(Stdio::piped()).spawn()?;
    // `wait` would close it.
    if let Some(stdin) = child.stdin.take() {
        interrupt::keep_stdin(child.id(), stdin);
    }
    let status = child.wait();
    interrupt::close_stdin(child.id());
    status
}

/// [`run`] for set-up work, whose output is no result: its stdout goes to stderr, and it ends with this process.
///
/// # Errors
/// As [`run`].
pub fn run_quietly(command: &mut Command) -> Result<()> {
    say(format!("$ {}", shown(command)));
    let status = wait_for(command.stdout(Stdio::from(io::stderr()))).map_err(|error| not_started(command, &error))?;
    check(command, status)
}

/// What a command prints, trimmed; `None` when it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The workspace's commit, with `-dirty` where files differ from it; none outside a repository.
pub fn commit() -> Option<String> {
    let commit = output(command("git").args(["rev-parse", "HEAD"]))?;
    // Results that a run keeps as it goes change no program.
    let status = ["status", "--porcelain", "--", ":(top,exclude)experiments/*/results"];
    let clean = output(command("git").args(status)).is_some_and(|changes| changes.is_empty());
    Some(if clean { commit } else { commit + "-dirty" })
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    interrupt::check()?;
    if status.success() {
        return Ok(());
    }
    Err(Diagnostic::new(ExitKind::Bug, format!("command failed: {status}")).at(shown(command)).into())
}

fn not_started(command: &Command, error: &io::Error) -> Diagnostic {
    Diagnostic::new(ExitKind::Device, format!("command cannot be started: {error}")).at(shown(command))
}

fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
