//! Texts at their edges: longer than the context, as long as it, of one token, with special tokens inside.

use super::*;

fn scored(args: &str) -> Vec<Value> {
    let output = irepair(workshop(), &format!("score --model base {args}"));
    succeed(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A text of `n` tokens: the words of the corpus are more than a token, so letters that meet nowhere.
fn of_tokens(n: usize) -> String {
    "#".repeat(n)
}

#[test]
fn a_text_over_the_context_is_refused_by_its_line_or_scored_in_windows() {
    let dir = workshop();
    let texts = ["Anna met Tom.", "Otto", &of_tokens(110), &of_tokens(48), &of_tokens(1)];
    let lines: String = texts.iter().map(|text| format!("{}\n\n", json!({"text": text}))).collect();
    fs::write(dir.join("long.jsonl"), lines).unwrap();
    let error = refused(&irepair(dir, "score --model base --input long.jsonl"), 4);
    assert_says(
        &error,
        &["longer than the model's context", "at: long.jsonl, line 5\n", "at most 48", "got: 110", "--long window"],
    );

    let windows = scored("--input long.jsonl --long window");
    // Every token but the first is scored once: 109 of 110 in three windows of 48, 48 and 13.
    assert_eq!((windows[2]["n_tokens"].clone(), windows[2]["n_windows"].clone()), (json!(109), json!(3)));
    assert_eq!((windows[3]["n_tokens"].clone(), windows[3].get("n_windows")), (json!(47), None), "it fits");
    assert_eq!((windows[4]["n_tokens"].clone(), windows[4]["nll_sum"].clone()), (json!(0), json!(0.0)));
    let batched = scored("--input long.jsonl --long window --batch-size 1");
    for (one, other) in windows.iter().zip(&batched) {
        let [one, other] = [one, other].map(|line| line["nll_sum"].as_f64().unwrap());
        assert!((one - other).abs() < 1e-3, "{one} {other}: the batch changes the number");
    }
    let cut = scored("--input long.jsonl --long cut");
    assert_eq!((cut[2]["n_tokens"].clone(), cut[2]["n_cut"].clone()), (json!(47), json!(62)));
    let near = |a: &Value, b: &Value| (a["nll_sum"].as_f64().unwrap() - b["nll_sum"].as_f64().unwrap()).abs() < 1e-3;
    assert!(near(&cut[2], &cut[3]), "the first 48 tokens of the one are the other");
    for i in [0, 1, 3] {
        assert!(near(&cut[i], &windows[i]), "a text that fits is scored as ever");
    }
    // Documents are named by the line that they begin at.
    fs::write(dir.join("long.txt"), format!("\nAnna met Tom.\n<|endoftext|>\n\n{}\n<|endoftext|>\n", of_tokens(60)))
        .unwrap();
    assert_says(&refused(&irepair(dir, "score --model base --input long.txt"), 4), &["at: long.txt, line 5\n"]);
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused_by_its_line_or_cut() {
    let dir = workshop();
    put(dir, "room.jsonl", ["Anna met", "Otto", &of_tokens(40)].map(|prompt| json!({"prompt": prompt})));
    let generate = "generate --model base --prompts room.jsonl --prompt-tokens 40 --max-new-tokens 20 --json";
    let error = refused(&irepair(dir, generate), 4);
    assert_says(&error, &["at: room.jsonl, line 3\n", "at most 48 positions    got: 60", "--long cut"]);
    let output = irepair(dir, &format!("{generate} --long cut"));
    assert_eq!(succeed(&output).lines().count(), 3);
    assert_says(&said(&output), &["1 of 3 prompts are cut to their first 28 tokens"]);
    let error = refused(&irepair(dir, &format!("{generate} --long window")), 2);
    assert_says(&error, &["`long`: must be refuse or cut"]);
}

#[test]
fn the_text_of_a_special_token_is_that_token_wherever_it_stands() {
    let dir = workshop();
    let inside = [json!({"text": "#<|endoftext|>#"}), json!({"text": "##"}), json!({"text": "#"})];
    put(dir, "inside.jsonl", inside);
    let lines = scored("--input inside.jsonl");
    // One token between the two, not the thirteen letters of its text, and no second text.
    assert_eq!(lines.iter().map(|line| line["n_tokens"].clone()).collect::<Vec<_>>(), [2, 1, 0]);
}

#[test]
fn many_prompts_at_once_are_continued_as_one_by_one_in_f32_and_bf16() {
    let dir = workshop();
    put(dir, "mixed.jsonl", (0..9).map(|i| json!({"prompt": of_tokens(1 + i * 4)})));
    for dtype in ["f32", "bf16"] {
        let generate = format!(
            "generate --model base --prompts mixed.jsonl --prompt-tokens 40 --max-new-tokens 8 --json --dtype {dtype}"
        );
        let [one, many] = [1, 8].map(|n| succeed(&irepair(dir, &format!("{generate} --batch-size {n}"))));
        let texts = |lines: &str| {
            lines
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["n_tokens"].as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        if dtype == "f32" {
            assert_eq!(one, many);
        }
        assert!(texts(&many).iter().sum::<u64>() > 0 && texts(&many).len() == 9, "{dtype}: {many}");
    }
}

#[test]
fn a_file_with_too_little_for_an_option_is_named_with_it() {
    let dir = workshop();
    put(dir, "one-token.jsonl", [json!({"text": of_tokens(1)})]);
    for (args, said) in [
        (
            "relearn --model base --texts corpus.txt --prompts prompts.jsonl --lexicon words.txt --counts 10,1000",
            ["file holds too little for --counts", "at: corpus.txt", "at least 1000 texts    got: 60"],
        ),
        (
            "pretrain --data corpus.txt --valid one-token.jsonl --vocab-size 300 --steps 1 --out no-valid",
            ["file holds too little for --valid", "at: one-token.jsonl", "at least 2 tokens    got: 1"],
        ),
    ] {
        assert_says(&refused(&irepair(dir, args), 4), &said);
    }
    assert!(!dir.join("no-valid").exists());
}
