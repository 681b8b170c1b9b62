//! A recipe of `docs/recipes/` as a program: its `sh` blocks are run, what they print is compared with the `text`
//! blocks.
//!
//! A `text` block holds all its `sh` block writes to stdout and stderr. It is compared line by line: words exactly,
//! numbers within a tolerance (see [`compare`]), since other CPUs round otherwise and a training multiplies that.
//! Masked are times, memory, hashes and the step of the best weights (see [`mask`]). A block marked `text sample` holds
//! generated text, of which the number of lines alone is compared. With `UPDATE_RECIPES=1` the blocks are rewritten
//! instead.

mod compare;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use compare::compare;

/// A recipe that was run, and the directory it was run in.
pub(crate) struct Recipe {
    dir: tempfile::TempDir,
}

/// The results of one `irepair eval`.
pub(crate) struct Measured(serde_json::Value);

impl Measured {
    /// The value of a metric.
    pub(crate) fn value(&self, key: &str) -> f64 {
        self.0["metrics"][key]["value"].as_f64().unwrap_or_else(|| panic!("no {key} in {}", self.0))
    }
}

/// An `sh` block and the `text` block after it; lines are indices into the file.
struct Step {
    script: String,
    first_line: usize,
    last_line: usize,
    shown: Vec<String>,
    sample: bool,
}

impl Recipe {
    /// Runs `docs/recipes/<name>.md` in a copy of `docs/recipes/data/<name>`, as the recipe tells its reader to.
    pub(crate) fn run(name: &str) -> Self {
        Self::run_beside(name, None)
    }

    /// [`Recipe::run`], with a link to a further file in that copy.
    pub(crate) fn run_beside(name: &str, further: Option<&Path>) -> Self {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes").canonicalize().unwrap();
        let path = docs.join(format!("{name}.md"));
        let dir = tempfile::tempdir().unwrap();
        for file in fs::read_dir(docs.join("data").join(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        if let Some(file) = further {
            std::os::unix::fs::symlink(file, dir.path().join(file.file_name().unwrap())).unwrap();
        }
        let recipe = Self { dir };
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let steps = steps(&lines).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(!steps.is_empty(), "{}: no commands", path.display());

        let update = std::env::var("UPDATE_RECIPES").is_ok_and(|value| value == "1");
        let mut misses = Vec::new();
        // From the last to the first, so that the lines of earlier blocks stay where they are.
        let printed: Vec<String> = steps.iter().map(|step| recipe.sh(&step.script)).collect();
        for (step, printed) in steps.iter().zip(&printed).rev() {
            let printed: Vec<String> = printed.lines().map(|line| line.trim_end().to_owned()).collect();
            if update {
                lines.splice(step.first_line..step.last_line, printed);
            } else if let Err(e) = compare(&step.shown, &printed, step.sample) {
                misses.push(format!(
                    "{}:{}: {e}\nprinted:\n{}",
                    path.display(),
                    step.first_line + 1,
                    printed.join("\n")
                ));
            }
        }
        if update {
            fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
        misses.reverse();
        assert!(misses.is_empty(), "{}\nUPDATE_RECIPES=1 pastes the present output", misses.join("\n\n"));
        recipe
    }

    /// What `irepair eval --json` measures with the given arguments.
    pub(crate) fn measure(&self, args: &str) -> Measured {
        let mut command = self.command(env!("CARGO_BIN_EXE_irepair").as_ref());
        let output = command.args(["eval", "--json", "--threads", "1"]).args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        Measured(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The path of a file the recipe made.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// All that a shell prints; the first command that fails ends it.
    fn sh(&self, script: &str) -> String {
        let output = self.command("sh".as_ref()).args(["-eu", "-c", &format!("exec 2>&1\n{script}")]).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}:\n{script}\n{printed}", output.status);
        // How many lines of progress there are depends on the machine.
        let is_progress = |line: &&str| line.contains(" passed, about ") && line.ends_with(" left");
        printed.lines().filter(|line| !is_progress(line)).map(|line| format!("{line}\n")).collect()
    }

    fn command(&self, program: &std::ffi::OsStr) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_irepair")).parent().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(binary.to_owned()).chain(std::env::split_paths(&path));
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env("PATH", std::env::join_paths(paths).unwrap())
            .env("IREPAIR_CACHE", "cache")
            .env_remove("IREPAIR_LOG");
        command
    }
}

/// The `sh` blocks of a recipe, each with the `text` block after it.
fn steps(lines: &[String]) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut i = 0;
    while i < lines.len() {
        if lines[i] != "```sh" {
            i += 1;
            continue;
        }
        let end = fence(lines, i)?;
        let script = lines[i + 1..end].join("\n");
        let next = (end + 1..lines.len()).find(|&j| !lines[j].is_empty());
        let Some(shown) = next.filter(|&j| lines[j] == "```text" || lines[j] == "```text sample") else {
            return Err(format!("line {}: no text block after the commands", end + 1));
        };
        let shown_end = fence(lines, shown)?;
        steps.push(Step {
            script,
            first_line: shown + 1,
            last_line: shown_end,
            shown: lines[shown + 1..shown_end].to_vec(),
            sample: lines[shown] == "```text sample",
        });
        i = shown_end + 1;
    }
    Ok(steps)
}

/// The line that ends the block opened at `start`.
fn fence(lines: &[String], start: usize) -> Result<usize, String> {
    let end = (start + 1..lines.len()).find(|&j| lines[j] == "```");
    end.ok_or_else(|| format!("line {}: the block does not end", start + 1))
}

#[test]
fn commands_without_output_are_refused() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let found = steps(&lines("a\n```sh\nls\n```\n\n```text\nb\n```\n")).unwrap();
    assert_eq!((found.len(), found[0].script.as_str(), &found[0].shown), (1, "ls", &vec!["b".to_owned()]));
    assert_eq!((found[0].first_line, found[0].last_line), (6, 7));
    assert!(steps(&lines("```sh\nls\n```\nwords\n")).is_err_and(|e| e.contains("line 3")));
    assert!(steps(&lines("```sh\nls\n")).is_err_and(|e| e.contains("line 1")));
}
