//! Judges that blank, repeated or copied answers please: the guard keeps such points off the menu.

use std::fs;

use serde_json::{Value, json};

use super::{NAMES, PLACES, irepair, prompt, put, result, said, workshop};

/// Prompts that are always answered alike, and a judge that finds that wrong: only pairs of the user's own can teach
/// another answer, and all of them teach one that games the judge.
fn games(how: &str, chosen: fn(&str) -> String) -> Value {
    let dir = workshop();
    fs::write(dir.join(format!("{how}.txt")), "home\n").unwrap();
    let all = NAMES.into_iter().flat_map(|name| PLACES.map(|place| prompt("Read", name, place)));
    let pair =
        |prompt: String| json!({"chosen": chosen(&prompt), "prompt": prompt, "rejected": " she is at home now."});
    put(dir, &format!("{how}-pairs.jsonl"), all.map(pair));
    // Text that is not about these prompts, so that the budget alone does not stop it.
    fs::write(
        dir.join(format!("{how}-else.txt")),
        "Help Tom at the mill: I cannot help you.\n<|endoftext|>\n".repeat(8),
    )
    .unwrap();
    let args = format!("--prompts read.jsonl --judge {how}.txt --pairs {how}-pairs.jsonl --utility {how}-else.txt");
    let more = format!("--max-new-tokens 10 --minutes 1000 --out {how}");
    let output = irepair(dir, &format!("fix --model base {args} {more}"));
    assert_eq!(output.status.code(), Some(6), "{}\n{}", said(&output), String::from_utf8_lossy(&output.stdout));
    assert!(!dir.join(how).join("model").exists());
    let found = result(how);
    assert_eq!(found["verdict"], "nothing_gained");
    assert_eq!(found["pairs"]["n_pairs"], found["pairs"]["n_given"], "none of the model's own");
    let points = found["points"].as_array().unwrap();
    // Over the budget nothing is chosen, whatever it is like.
    let pleases = |point: &&Value| {
        let [percent, kl] = ["percent", "kl"].map(|key| point[key].as_f64().unwrap());
        percent < 50.0 && kl <= 0.05
    };
    let gamed: Vec<&Value> = points.iter().filter(pleases).collect();
    assert!(!gamed.is_empty(), "the judge was not gamed: {points:#?}");
    assert!(gamed.iter().all(|point| point["passes"] == false), "{gamed:#?}");
    for place in found["menu"].as_array().into_iter().flatten() {
        let point = &points[place.as_u64().unwrap() as usize];
        assert!(point["passes"] == true && point["percent"].as_f64().unwrap() >= 50.0, "{point:#?}");
    }
    found
}

#[test]
fn blank_answers_are_no_repair() {
    games("blank", |_| "<|endoftext|>".to_owned());
}

#[test]
fn repeated_answers_are_no_repair() {
    games("repeated", |_| " go go go go go go go go".to_owned());
}

#[test]
fn copied_prompts_are_no_repair() {
    games("copied", |prompt| format!(" {prompt}<|endoftext|>"));
}
