//! Asked to stop, and kept out: signals, the end of standard input, and directories that another process works in.

use std::process::{Child, Command, Stdio};

use irepair_core::DirLock;

use crate::scene::{Victim, apply, pretrain, repair, scene};
use crate::strike::{calm, finish, words};
use crate::wait_for_lines;

/// Starts a long pre-training, stops it in the middle, and compares its end with that of one that was never stopped.
fn stopped(prepare: impl FnOnce(&mut Command), stop: impl FnOnce(&mut Child)) {
    let scene = scene();
    let victim = pretrain(150, 1000);
    let calm = calm(scene, &victim);
    let stage = scene.stage();
    let mut command = victim.command(&stage);
    prepare(&mut command);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_lines(&stage.join("out/.irepair-steps.jsonl"), 3);
    stop(&mut child);
    let output = child.wait_with_output().unwrap();
    let said = words(&output);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("interrupted after step ") && said.contains("run the same command again to continue"),
        "{said}"
    );
    assert!(!stage.join("out/config.json").exists() && stage.join("out/.irepair-state.safetensors").exists());
    finish(&victim, &stage, &calm.outcome).unwrap();
}

#[test]
fn an_interrupted_pretraining_goes_on_to_the_same_bytes() {
    let interrupt = |child: &mut Child| {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    };
    stopped(|_| {}, interrupt);
}

#[test]
fn a_process_stops_with_the_one_that_started_it() {
    let follow = |command: &mut Command| {
        command.env("IREPAIR_STOP_WITH_STDIN", "1").stdin(Stdio::piped());
    };
    stopped(follow, |child| drop(child.stdin.take()));
}

#[test]
fn a_second_process_is_kept_out_of_a_directory() {
    let scene = scene();
    let revert =
        Victim { name: "revert", args: "patch revert --model fixed --patch ../inputs/fix --out out".to_owned() };
    for victim in [pretrain(2, 1), repair(2, 1), apply(), revert] {
        let stage = scene.stage();
        if victim.name == "revert" {
            let fixed = Victim { name: "fixed", args: apply().args.replace("--out out", "--out fixed") };
            assert!(fixed.command(&stage).output().unwrap().status.success());
        }
        let held = DirLock::take(&stage.join("out")).unwrap();
        let output = victim.command(&stage).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", words(&output));
        assert!(
            words(&output).contains("error: another process works in this directory\n   at: out\n"),
            "{}",
            words(&output)
        );
        assert_eq!(std::fs::read_dir(stage.join("out")).unwrap().count(), 0, "{}", victim.name);
        drop(held);
        let output = victim.command(&stage).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
    }
}
