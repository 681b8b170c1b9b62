//! Judges that are programs: what they answer is scored, what they do wrong is a missing score.

use std::fs;
use std::time::{Duration, Instant};

use irepair_scorer::{Answer, Error, Program, Scorer};
use tempfile::TempDir;

/// A program from a script; `limit` in milliseconds.
fn program(interpreter: &str, script: &str, limit: u64) -> (TempDir, Program) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("the judge");
    fs::write(&path, script).unwrap();
    let program = Program::new(&format!("{interpreter} '{}'", path.display())).unwrap();
    (dir, program.within(Duration::from_millis(limit)))
}

fn scores(program: &Program, texts: &[&str]) -> Vec<Result<f64, String>> {
    program.score_all(texts)
}

/// Scores the length of a text in tenths, prompts included.
const LENGTH: &str = "
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked['text'] == 'crash': sys.exit(3)
    if asked['text'] == 'die': raise SystemExit(4)
    if asked['text'] == 'stop': sys.exit(0)
    if asked['text'] == 'garbage': print('Loading model', asked['text']); continue
    if asked['text'] == 'twice': print(json.dumps({'score': 0}))
    if asked['text'] == 'nan': print(json.dumps({'score': float('nan')})); continue
    if asked['text'] == 'text': print(json.dumps({'score': 'high'})); continue
    if asked['text'] == 'null': print(json.dumps({'score': None})); continue
    if asked['text'] == 'none': print('{}'); continue
    if asked['text'] == 'sleep': import time; time.sleep(100)
    print(json.dumps({'score': len(asked['prompt'] + asked['text']) / 10, 'why': 'length'}))
";

#[test]
fn texts_and_prompts_arrive_whole_and_scores_in_order() {
    let (_dir, judge) = program("python3", LENGTH, 60_000);
    let texts = ["", "a\nb", "\u{1f642}\"\\", "\u{2028}\u{0}"];
    assert_eq!(scores(&judge, &texts), [Ok(0.0), Ok(0.3), Ok(0.3), Ok(0.2)]);
    let answers = [Answer { prompt: "öl\n", text: "abc" }, Answer { prompt: "", text: "{}" }];
    assert_eq!(judge.score_answers(&answers), [Ok(0.6), Ok(0.2)]);
    assert_eq!(judge.score("four"), Ok(0.4));
    assert_eq!(scores(&judge, &[]), []);
}

#[test]
fn a_program_that_ends_is_started_again_for_the_rest() {
    let (_dir, judge) = program("python3", LENGTH, 60_000);
    let found = scores(&judge, &["a", "crash", "bb", "die", "ccc"]);
    let ended = |code: u8| Err(format!("the program ended: exit status: {code}"));
    assert_eq!(found, [Ok(0.1), ended(3), Ok(0.2), ended(4), Ok(0.3)]);
}

#[test]
fn a_program_that_keeps_failing_is_not_asked_again() {
    let (_dir, judge) = program("python3", LENGTH, 60_000);
    let found = scores(&judge, &["a", "crash", "crash", "crash", "b", "crash"]);
    let why = "the program failed 3 times and is not asked again; last: the program ended: exit status: 3";
    // The first crash comes after an answer; two more starts give none.
    assert_eq!(found[0], Ok(0.1));
    assert_eq!(found[3], Err("the program ended: exit status: 3".to_owned()));
    assert!(found[4].is_ok(), "{found:?}");
    let vain = scores(&judge, &["crash", "crash", "crash", "b", "c"]);
    assert_eq!(vain[2], Err("the program ended: exit status: 3".to_owned()));
    assert_eq!(vain[3..], [Err(why.to_owned()), Err(why.to_owned())]);
}

#[test]
fn what_is_no_score_is_missing() {
    let (_dir, judge) = program("python3", LENGTH, 60_000);
    let found = scores(&judge, &["a", "nan", "text", "null", "none", "eleven char", "b"]);
    let why = |i: usize| found[i].clone().unwrap_err();
    assert_eq!((found[0].clone(), found[6].clone()), (Ok(0.1), Ok(0.1)));
    assert_eq!(why(1), "the program answered `{\"score\": NaN}`: not JSON");
    assert!(why(2).ends_with("its score is no number") && why(3).ends_with("its score is no number"));
    assert_eq!(why(4), "the program answered `{}`: no score");
    assert!(why(5).ends_with("its score is not between 0 and 1"), "{}", why(5));
}

#[test]
fn garbage_is_missing_and_moves_no_other_score() {
    let (_dir, judge) = program("python3", LENGTH, 60_000);
    let found = scores(&judge, &["a", "garbage", "bb"]);
    let why = "the program wrote `Loading model garbage`, which is no answer".to_owned();
    assert_eq!(found, [Ok(0.1), Err(why), Ok(0.2)]);
}

#[test]
fn too_many_or_too_few_answers_leave_no_score() {
    let (_dir, judge) = program("python3", LENGTH, 60_000);
    let why = |got: &str| Err(format!("the program gave {got} to 3 texts: which belongs to which is not known"));
    assert_eq!(scores(&judge, &["a", "twice", "bb"]), vec![why("more answers"); 3]);
    assert_eq!(scores(&judge, &["a", "b", "stop"]), vec![why("2 answers"); 3]);
    let (_dir, deaf) = program("/bin/sh", "cat > /dev/null", 60_000);
    assert_eq!(scores(&deaf, &["a", "b", "c"]), vec![why("0 answers"); 3]);
    let (_dir, yes) = program("/bin/sh", "while :; do echo '{\"score\": 1}'; done", 60_000);
    assert_eq!(scores(&yes, &["a", "b", "c"]), vec![why("more answers"); 3]);
}

#[test]
fn a_program_that_is_silent_is_killed() {
    let (_dir, judge) = program("python3", LENGTH, 500);
    let start = Instant::now();
    let found = scores(&judge, &["a", "sleep", "bb"]);
    assert_eq!(found, [Ok(0.1), Err("the program gave no answer within 500ms".to_owned()), Ok(0.2)]);
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_program_ends_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let alive = dir.path().join("alive");
    // The inner shell holds the pipes open and would write the file after two seconds.
    let script = format!("(sleep 2; echo > '{}') & wait", alive.display());
    let (_dir, judge) = program("/bin/sh", &script, 20);
    let start = Instant::now();
    assert!(judge.score("a").is_err());
    assert!(start.elapsed() < Duration::from_secs(2));
    std::thread::sleep(Duration::from_secs(3));
    assert!(!alive.exists());
}

#[test]
fn answers_may_come_at_the_end_and_without_a_line_end() {
    let at_the_end =
        "{ n++ } END { for (i = 1; i <= n; i++) printf \"%s{\\\"score\\\": %.1f}\", (i > 1 ? \"\\n\" : \"\"), i / 10 }";
    let (_dir, judge) = program("awk -f", at_the_end, 60_000);
    assert_eq!(scores(&judge, &["a", "b", "c"]), [Ok(0.1), Ok(0.2), Ok(0.3)]);
    // A blank line is none.
    let (_dir, spaced) = program("awk -f", "{ printf \"\\n{\\\"score\\\": 0}\\n\\n\" }", 60_000);
    assert_eq!(scores(&spaced, &["a", "b"]), [Ok(0.0), Ok(0.0)]);
}

#[test]
fn large_texts_and_large_answers_do_not_wait_for_each_other() {
    // Far over what two pipes hold, and a program that writes before it has read.
    let text = "x".repeat(1 << 20);
    let texts = vec![text.as_str(); 12];
    let wordy = "import sys\nfor _ in sys.stdin: print('{\"score\": 0.5, \"pad\": \"' + 'y' * 300000 + '\"}')";
    let (_dir, judge) = program("python3", wordy, 60_000);
    assert_eq!(scores(&judge, &texts), vec![Ok(0.5); 12]);
    let early = "yes '{\"score\": 0.5, \"p\": \"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\"}' | head -5000; cat > /dev/null";
    let (_dir, judge) = program("/bin/sh", early, 60_000);
    assert_eq!(scores(&judge, &vec!["a"; 5000]), vec![Ok(0.5); 5000]);
    // One that answers without reading its input.
    let (_dir, blind) =
        program("/bin/sh", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo '{\"score\": 1}'; done", 60_000);
    assert_eq!(scores(&blind, &texts), vec![Ok(1.0); 12]);
}

#[test]
fn an_endless_line_is_no_answer() {
    let (_dir, judge) = program("/bin/sh", "cat /dev/zero", 60_000);
    let found = scores(&judge, &["a", "b"]);
    assert_eq!(found, vec![Err("the program wrote a line without an end".to_owned()); 2]);
}

#[test]
fn a_name_follows_the_words_and_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("judge.sh");
    let name = |text: &str, more: &str| {
        fs::write(&script, text).unwrap();
        Program::new(&format!("sh {}{more}", script.display())).unwrap().name().to_owned()
    };
    let first = name("one", "");
    assert!(first.starts_with("program:") && first.len() == 20, "{first}");
    assert_eq!(name("one", ""), first);
    assert_ne!(name("two", ""), first);
    assert_ne!(name("one", " --strict"), first);
    assert_eq!(Program::new("sh -c 'a b'").unwrap().name(), Program::new("sh  -c \"a b\"").unwrap().name());
}

#[test]
fn what_cannot_be_run_is_refused() {
    let refuse = |command: &str| Program::new(command).unwrap_err();
    assert!(matches!(refuse(""), Error::BadCommand { why: "it names no program", .. }));
    assert!(matches!(refuse("''"), Error::BadCommand { .. }));
    assert!(matches!(refuse("sh 'a"), Error::BadCommand { .. }));
    assert!(matches!(refuse("no-such-program-here x"), Error::NoProgram { why: "is not there", .. }));
    assert!(matches!(refuse("./no/such"), Error::NoProgram { why: "is not there", .. }));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.txt");
    fs::write(&path, "a").unwrap();
    let error = refuse(&path.display().to_string());
    assert!(matches!(error, Error::NoProgram { why: "is a file that may not be run", .. }));
}
