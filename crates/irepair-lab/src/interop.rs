//! `cargo xtask interop`: transformers loads the checkpoints that irepair writes and computes the same numbers, and
//! llama.cpp the GGUF files.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use irepair_workspace::{paths, process, python};

/// Methods that each checkpoint is repaired with: one changes blocks alone, the other all weights with the tied head.
const METHODS: [&str; 2] = ["irepair-no-kl", "dapt"];
const FAMILIES: [&str; 2] = ["gpt2", "gpt-neo"];
const FORMS: [&str; 3] = ["f32", "bf16", "sharded"];

/// Later families, in one form each.
const LATER: [&str; 3] = ["gpt-neox-f32", "qwen3-sharded", "gemma2-bf16"];

/// Checkpoints whose low-rank repair becomes an adapter: joint and transposed projections, and one of Llama's form.
const ADAPTED: [&str; 3] = ["gpt2", "gpt-neo", "llama"];

/// GGUF files of other architectures and tokenizers than Llama's byte-level BPE. transformers warns about every `phi3`.
const GGUF: [&str; 5] = ["qwen2-arch", "qwen3", "gemma2", "gemma3", "llama-spm"];

/// The GGUF file whose repair is exported, and the difference of logits that llama.cpp's rounding to 16 bits explains,
/// as a share of their range.
const EXPORTED: [&str; 2] = ["llama-spm", "0.005"];

/// Repairs tiny checkpoints of every family and form, trains one of each family from scratch, imports GGUF files, and
/// compares them with transformers in a Python environment under `target/`.
///
/// # Errors
/// A step that fails, and a difference.
pub(crate) fn run() -> Result<()> {
    process::set_up()?;
    let home = paths::target().join("interop");
    let python = environment()?;
    process::run(&mut process::build_as_tests("irepair"))?;
    let work = home.join("work");
    let script = |name: &str| paths::root().join("parity/interop").join(name);
    process::run(process::command(&python).arg(script("make.py")).arg(&work))?;

    let mut check = process::command(&python);
    check.arg(script("check.py"));
    for case in cases(&work)? {
        let golden = work.join(format!("{case}.json"));
        if let Some(repaired) = case.strip_suffix("-adapter") {
            // After the repaired model, whose numbers it must have.
            check.arg(work.join(&case)).arg(work.join(format!("{repaired}.json")));
            continue;
        }
        let out = File::create(&golden).with_context(|| format!("writing {}", golden.display()))?;
        let mut logits = process::command(paths::built("debug", "examples/logits"));
        process::run(logits.arg(work.join(&case)).arg(work.join("texts.json")).stdout(out))?;
        check.arg(work.join(&case)).arg(golden);
    }
    process::run(&mut check)?;

    let [name, tolerance] = EXPORTED;
    let gguf = paths::root().join("parity/gguf");
    let (old, new) = (gguf.join(format!("{name}.gguf")), work.join(format!("{name}.repaired.gguf")));
    let repaired = work.join(format!("{name}-repaired"));
    let mut export = process::command(paths::built("debug", "irepair"));
    process::run(export.arg("export").arg(&repaired).arg("--like").arg(&old).arg("--out").arg(&new))?;
    let mut check = process::command(&python);
    check.arg(gguf.join("check_export.py")).args([old, new, repaired]);
    process::run(check.args(["--tokens", "16", "--tolerance", tolerance]))
}

/// Pairs and steps of a repair.
const DATA: &str = "--pairs pairs.jsonl --n-validation 4 --max-prompt 24 --max-continuation 24 --steps 3 --warmup-steps 1 \
                    --batch-size 4 --threads 1";

/// Makes every model to compare in `work` and returns their names.
fn cases(work: &Path) -> Result<Vec<String>> {
    let mut cases = Vec::new();
    let irepair = |args: &str| {
        process::run(process::command(paths::built("debug", "irepair")).current_dir(work).args(args.split(' ')))
    };
    let all = FAMILIES.iter().flat_map(|family| FORMS.map(|form| format!("{family}-{form}")));
    for base in all.chain(LATER.map(str::to_owned)) {
        for method in METHODS {
            let out = format!("{base}-{method}");
            irepair(&format!("repair --model {base} --method {method} --out {out} {DATA} --lr 1e-2"))?;
            cases.push(out);
        }
    }
    for family in ADAPTED {
        let (base, out) = (format!("{family}-f32"), format!("{family}-lora"));
        irepair(&format!("repair --model {base} --method dpo --out {out} {DATA} --lr 1e-2 --lora-rank 2"))?;
        irepair(&format!("adapter --base {base} --repaired {out} --rank 2 --out {out}-adapter"))?;
        cases.extend([out.clone(), format!("{out}-adapter")]);
    }
    for family in FAMILIES {
        let out = format!("{family}-pretrained");
        let shape = "--n-layer 2 --n-embd 16 --n-head 2 --n-positions 64 --window 32 --vocab-size 300";
        let steps = "--steps 3 --batch-size 4 --lr 1e-2 --threads 1";
        irepair(&format!("pretrain --data corpus.txt --family {family} --out {out} {shape} {steps}"))?;
        cases.push(out);
    }
    for name in GGUF {
        let (file, out) = (paths::root().join(format!("parity/gguf/{name}.gguf")), format!("{name}-imported"));
        let import = ["import".as_ref(), file.as_os_str(), "--out".as_ref(), out.as_ref()];
        process::run(process::command(paths::built("debug", "irepair")).current_dir(work).args(import))?;
        cases.push(out);
    }
    let [name, _] = EXPORTED;
    irepair(&format!("repair --model {name}-imported --method dpo --out {name}-repaired {DATA} --lr 1e-3"))?;
    Ok(cases)
}

/// Lists of the packages that [`environment`] installs.
const PACKAGES: [&str; 2] = ["xtask/libtorch/cuda.txt", "crates/irepair-lab/python/requirements.txt"];

/// The Python with torch and transformers; made at the first call.
///
/// # Errors
/// No Python, or a failure of pip.
pub(crate) fn environment() -> Result<PathBuf> {
    let venv = python::environment(&paths::target().join("interop"), &PACKAGES)?;
    Ok(python::program(&venv, "python"))
}
