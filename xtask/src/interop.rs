//! `cargo xtask interop`: does transformers load what irepair writes, and compute the same with it?

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{paths, process, setup};

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
    setup::run()?;
    let home = paths::target().join("interop");
    let python = environment(&home)?;
    process::run(process::cargo().args(["build", "-p", "irepair-cli", "--bin", "irepair", "--example", "logits"]))?;
    let work = home.join("work");
    let script = |name: &str| paths::root().join("parity/interop").join(name);
    process::run(process::command(&python).arg(script("make.py")).arg(&work))?;

    let mut check = process::command(&python);
    check.arg(script("check.py"));
    for case in cases(&work)? {
        let golden = work.join(format!("{case}.json"));
        let out = File::create(&golden).with_context(|| format!("writing {}", golden.display()))?;
        let mut logits = process::command(program("examples/logits"));
        process::run(logits.arg(work.join(&case)).arg(work.join("texts.json")).stdout(out))?;
        check.arg(work.join(&case)).arg(golden);
    }
    process::run(&mut check)
}

/// Makes every model to compare, below `work`, and says their names.
fn cases(work: &Path) -> Result<Vec<String>> {
    let mut cases = Vec::new();
    let irepair =
        |args: &str| process::run(process::command(program("irepair")).current_dir(work).args(args.split(' ')));
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

/// A debug program of this workspace.
fn program(name: &str) -> PathBuf {
    paths::target().join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// The Python with torch and transformers, made once and again when a pin changes.
pub(crate) fn environment(home: &Path) -> Result<PathBuf> {
    let lists = ["xtask/libtorch/cuda.txt", "xtask/interop/requirements.txt"].map(|list| paths::root().join(list));
    let mut pins = String::new();
    for list in &lists {
        pins += &fs::read_to_string(list).with_context(|| format!("reading {}", list.display()))?;
    }
    let (venv, stamp) = (home.join("venv"), home.join("pins.txt"));
    let python = venv.join("bin/python");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == pins) {
        return Ok(python);
    }
    let _ = fs::remove_file(&stamp);
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("removing {}", venv.display()))?;
    }
    fs::create_dir_all(home).with_context(|| format!("making {}", home.display()))?;
    process::run_quietly(process::command(setup::python()?).args(["-m", "venv"]).arg(&venv))?;
    let mut install = process::pip_install(&python);
    for list in &lists {
        install.arg("--requirement").arg(list);
    }
    process::run_quietly(&mut install)?;
    fs::write(&stamp, pins).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(python)
}
