//! Real limits of a disk: one clear error, and the run continues from its checkpoint when there is room again.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::outcome::Outcome;
use crate::scene::{Victim, apply, pretrain, repair, scene};
use crate::strike::{calm, finish, words};
use crate::wait_for_lines;

/// The error alone, and the exit code.
fn refused(output: &Output) -> (i32, String) {
    let said = words(output);
    let start = said.find("error:").unwrap_or_else(|| panic!("no error in {said}"));
    assert_eq!(said.matches("error:").count(), 1, "{said}");
    (output.status.code().unwrap_or_default(), said[start..].to_owned())
}

/// The command under a limit that a shell sets.
fn limited(victim: &Victim, stage: &Path, shell: &str) -> Output {
    let command = victim.command(stage);
    let mut limited = Command::new("sh");
    limited.current_dir(stage).args(["-c", &format!("{shell} && exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.output().unwrap()
}

#[test]
fn a_file_over_the_limit_is_one_error_and_the_run_goes_on() {
    let scene = scene();
    // Blocks of 512 bytes: too few for the checkpoint, or for the weights.
    for victim in [pretrain(4, 2), repair(4, 2), apply()] {
        let calm = calm(scene, &victim);
        let stage = scene.stage();
        let (code, error) = refused(&limited(&victim, &stage, "trap '' XFSZ; ulimit -f 40"));
        assert_eq!(code, 4, "{error}");
        assert!(
            error.contains("write failed: file is larger than may be written here")
                && error.contains("the same command"),
            "{error}"
        );
        assert!(Outcome::of(&stage).litter().is_empty(), "{}", victim.name);
        assert!(!stage.join("out/config.json").exists());
        finish(&victim, &stage, &calm.outcome).unwrap();
    }
    scene.check_inputs().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_place_that_may_not_be_written_to_is_one_error() {
    let scene = scene();
    for victim in [pretrain(2, 1), repair(2, 1), apply()] {
        // No process may make directories there.
        let args = victim.args.replace("--out out", "--out /sys/irepair-out");
        let (code, error) = refused(&Victim { args, ..victim }.command(&scene.stage()).output().unwrap());
        assert_eq!(code, 4, "{error}");
        assert!(error.contains("create directory failed: ") && error.contains("at: /sys/irepair-out"), "{error}");
        assert!(error.contains("help: give a place that may be written to"), "{error}");
    }
}

#[test]
fn files_removed_while_they_are_written_are_made_again_and_a_directory_is_one_error() {
    let scene = scene();
    let victim = pretrain(120, 30);
    let calm = calm(scene, &victim);
    let start = |stage: &Path| {
        let child = victim.command(stage).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for_lines(&stage.join("out/.irepair-steps.jsonl"), 40);
        child
    };
    let stage = scene.stage();
    let child = start(&stage);
    fs::remove_file(stage.join("out/.irepair-steps.jsonl")).unwrap();
    fs::remove_file(stage.join("out/.irepair-state.safetensors")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && words(&output).contains("written again"), "{}", words(&output));
    Outcome::of(&stage).check(&calm.outcome).unwrap();

    let stage = scene.stage();
    let child = start(&stage);
    fs::rename(stage.join("out"), stage.join("gone")).unwrap();
    let (code, error) = refused(&child.wait_with_output().unwrap());
    assert_eq!(code, 4, "{error}");
    assert!(error.starts_with("error: directory was removed while it was written to\n   at: out\n"), "{error}");
    assert!(!stage.join("out").exists(), "it is not made again behind the user's back");
    // Put back, it continues.
    fs::rename(stage.join("gone"), stage.join("out")).unwrap();
    finish(&victim, &stage, &calm.outcome).unwrap();
}

#[test]
#[ignore = "mounts a small disk: as root, or where users may have namespaces of their own"]
fn a_full_disk_is_one_error_and_the_run_goes_on() {
    let scene = scene();
    for victim in [pretrain(4, 2), repair(4, 2), apply()] {
        let calm = calm(scene, &victim);
        for kib in [8, 40] {
            let stage = scene.stage();
            fs::create_dir(stage.join("small")).unwrap();
            let args = victim.args.replace("--out out", "--out small/out");
            let small = Victim { args, ..victim.clone() };
            let mount = format!("mount -t tmpfs -o size={kib}k none small");
            // What a full disk holds is copied out of the namespace, for it to be looked at.
            let command = small.command(&stage);
            let script = format!("{mount} && \"$@\"; code=$?; cp -a small/out . 2>/dev/null; exit $code");
            let mut inside = Command::new("unshare");
            inside.current_dir(&stage).args(["-rm", "sh", "-c", &script, "sh"]).arg(command.get_program());
            inside.args(command.get_args()).env("IREPAIR_CACHE", stage.join("cache")).stdin(Stdio::null());
            let (code, error) = refused(&inside.output().unwrap());
            assert_eq!(code, 4, "{error}");
            assert!(error.contains("failed: no space left") && error.contains("help: free some space"), "{error}");
            assert!(Outcome::of(&stage).litter().is_empty(), "{}", victim.name);
            fs::remove_dir(stage.join("small")).unwrap();
            finish(&victim, &stage, &calm.outcome)
                .map_err(|why| format!("{} on {kib} KiB: {why}", victim.name))
                .unwrap();
        }
    }
}
