//! `cargo xtask interop`: does transformers load what irepair writes, and compute the same with it?

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use irepair_workspace::{paths, process, python};

/// How each checkpoint is repaired: blocks alone, and everything with the tied head.
const METHODS: [&str; 2] = ["irepair-no-kl", "dapt"];
const FAMILIES: [&str; 2] = ["gpt2", "gpt-neo"];
const FORMS: [&str; 3] = ["f32", "bf16", "sharded"];

/// Repairs tiny checkpoints of every family and form, trains one of each family from nothing, and compares with
/// transformers in a Python environment of its own under `target/`.
///
/// # Errors
/// What failed; a difference is one.
pub(crate) fn run() -> Result<()> {
    process::set_up()?;
    let home = paths::target().join("interop");
    let python = environment()?;
    process::run(process::cargo().args(["build", "-p", "irepair-cli", "--bin", "irepair", "--example", "logits"]))?;
    let work = home.join("work");
    let script = |name: &str| paths::root().join("parity/interop").join(name);
    process::run(process::command(&python).arg(script("make.py")).arg(&work))?;

    let mut check = process::command(&python);
    check.arg(script("check.py"));
    for case in cases(&work)? {
        let golden = work.join(format!("{case}.json"));
        let out = File::create(&golden).with_context(|| format!("writing {}", golden.display()))?;
        let mut logits = process::command(paths::built("debug", "examples/logits"));
        process::run(logits.arg(work.join(&case)).arg(work.join("texts.json")).stdout(out))?;
        check.arg(work.join(&case)).arg(golden);
    }
    process::run(&mut check)
}

/// Makes every model to compare, below `work`, and says their names.
fn cases(work: &Path) -> Result<Vec<String>> {
    let mut cases = Vec::new();
    let irepair = |args: &str| {
        process::run(process::command(paths::built("debug", "irepair")).current_dir(work).args(args.split(' ')))
    };
    for family in FAMILIES {
        for form in FORMS {
            for method in METHODS {
                let (base, out) = (format!("{family}-{form}"), format!("{family}-{form}-{method}"));
                let data = "--pairs pairs.jsonl --n-validation 4 --max-prompt 24 --max-continuation 24";
                let steps = "--steps 3 --lr 1e-2 --warmup-steps 1 --batch-size 4 --threads 1";
                irepair(&format!("repair --model {base} --method {method} --out {out} {data} {steps}"))?;
                cases.push(out);
            }
        }
        let out = format!("{family}-pretrained");
        let shape = "--n-layer 2 --n-embd 16 --n-head 2 --n-positions 64 --window 32 --vocab-size 300";
        let steps = "--steps 3 --batch-size 4 --lr 1e-2 --threads 1";
        irepair(&format!("pretrain --data corpus.txt --family {family} --out {out} {shape} {steps}"))?;
        cases.push(out);
    }
    Ok(cases)
}

/// Everything that [`environment`] installs.
const PACKAGES: [&str; 2] = ["xtask/libtorch/cuda.txt", "crates/irepair-lab/python/requirements.txt"];

/// The Python with torch and transformers; made at the first call.
///
/// # Errors
/// No Python, or what pip says.
pub(crate) fn environment() -> Result<PathBuf> {
    let venv = python::environment(&paths::target().join("interop"), &PACKAGES)?;
    Ok(python::program(&venv, "python"))
}
