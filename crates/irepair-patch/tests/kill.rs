//! A process killed after any step of writing leaves no directory that looks whole and is not, and the same command
//! finishes what was begun.

#[expect(dead_code, reason = "each test file uses a part of the workshop")]
mod workshop;

use std::path::{Path, PathBuf};
use std::process::Command;

use irepair_core::is_unfinished;
use irepair_patch::{Error, Kind, Lossy, Patch, Step, Verdict, verify};
use workshop::{create, f32s, files, write_model};

const DIR: &str = "IREPAIR_TEST_DIR";
const STEP: &str = "IREPAIR_TEST_STEP";

/// A sharded base and a patch that changes both shards.
fn prepare(dir: &Path) -> Patch {
    let base = [f32s("h.0.w", &[1.0, 2.0]), f32s("h.1.w", &[3.0]), f32s("wte", &[4.0])];
    let repaired = [f32s("h.0.w", &[1.5, 2.0]), f32s("h.1.w", &[2.0]), f32s("wte", &[4.0])];
    write_model(&dir.join("base"), &base, 2);
    write_model(&dir.join("repaired"), &repaired, 2);
    create(&dir.join("base"), &dir.join("repaired"), Kind::Xor, &dir.join("fix")).unwrap()
}

fn apply(dir: &Path, out: &Path, on_step: &mut dyn FnMut(Step<'_>)) -> Result<(), Error> {
    let patch = Patch::open(&dir.join("fix"))?;
    irepair_patch::apply(&dir.join("base"), &patch, out, Lossy::Refuse, on_step).map(drop)
}

#[test]
#[ignore = "the child process of a_kill_after_any_step_leaves_a_directory_that_is_whole_or_says_it_is_not"]
fn child() {
    let dir = PathBuf::from(std::env::var(DIR).unwrap());
    let last: usize = std::env::var(STEP).unwrap().parse().unwrap();
    let mut n_steps = 0;
    apply(&dir, &dir.join("out"), &mut |_| {
        n_steps += 1;
        if n_steps == last {
            std::process::abort();
        }
    })
    .unwrap();
}

#[test]
fn a_kill_after_any_step_leaves_a_directory_that_is_whole_or_says_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let patch = prepare(dir.path());
    let before = files(&dir.path().join("base"));
    let mut steps: Vec<String> = Vec::new();
    apply(dir.path(), &dir.path().join("calm"), &mut |step| steps.push(format!("{step:?}"))).unwrap();
    // The mark; two tensors; two shards, index, two companions, config; the end.
    assert_eq!(steps.len(), 10, "{steps:?}");
    assert!(steps[8].contains("config.json"), "the config comes last: {steps:?}");

    for (step, name) in steps.iter().enumerate() {
        let here = dir.path().join(format!("kill-{step}"));
        prepare(&here);
        let out = here.join("out");
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored"])
            .env(DIR, &here)
            .env(STEP, (step + 1).to_string())
            .output()
            .unwrap()
            .status;
        assert!(!status.success(), "the child outlived {name}");
        assert_eq!(files(&here.join("base")), before, "inputs are never touched");
        if out.join("config.json").exists() {
            assert_eq!(verify(&out, &patch).unwrap(), Verdict::Result, "after {name}");
        } else {
            assert!(
                matches!(verify(&out, &patch), Err(Error::File(irepair_core::Error::MissingFile { .. }))),
                "after {name}"
            );
        }
        if is_unfinished(&out) {
            apply(&here, &out, &mut |_| {}).unwrap();
        } else {
            assert!(
                matches!(apply(&here, &out, &mut |_| {}), Err(Error::File(irepair_core::Error::OutExists { .. }))),
                "after {name}"
            );
        }
        assert_eq!(files(&out), files(&dir.path().join("calm")), "taken up again after {name}");
    }
}

#[test]
fn a_patch_that_cannot_be_finished_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    // The shard changes between the check and the copy: the outcome is not the one promised.
    let out = dir.path().join("out");
    let shard = dir.path().join("base/model-2-of-2.safetensors");
    let result = apply(dir.path(), &out, &mut |step| {
        if step == Step::Marked {
            let mut bytes = std::fs::read(&shard).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&shard, bytes).unwrap();
        }
    });
    assert!(matches!(result, Err(Error::Corrupt { tensor, .. }) if tensor == "h.1.w"));
    assert!(!out.join("config.json").exists() && !out.join("model-2-of-2.safetensors").exists());
}
