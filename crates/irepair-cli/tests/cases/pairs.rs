//! Pairs that teach something else than their writer meant.

use super::*;

const DPO: &str = "repair --model base --method dpo --steps 2 --warmup-steps 0 --lr 1e-3 --n-validation 2";

fn run(name: &str, pairs: impl IntoIterator<Item = Value>, args: &str) -> Output {
    let dir = workshop();
    put(dir, &format!("{name}.jsonl"), pairs);
    irepair(dir, &format!("{args} --pairs {name}.jsonl --out out-{name}"))
}

#[test]
fn pairs_of_twice_the_same_text_are_refused_where_the_loss_compares_and_counted_elsewhere() {
    let same = || (0..20).map(|i| pair(&format!("The city {i} was"), " nice.", " nice."));
    let error = refused(&run("same", same(), DPO), 4);
    assert_says(&error, &["chosen and rejected are the same tokens in every pair", "same.jsonl", "20 pairs"]);
    assert!(!workshop().join("out-same").exists(), "refused before anything is written");
    let nll = DPO.replace("--method dpo", "--method irepair-no-kl");
    let learned = run("same-nll", same(), &nll);
    succeed(&learned);
    assert_says(&said(&learned), &["20 of 20 pairs have the same tokens on both sides"]);
    let half = (0..20).map(|i| pair("The city was", " nice.", if i % 2 == 0 { " nice." } else { " a dump." }));
    let half = run("half", half, DPO);
    succeed(&half);
    assert_says(&said(&half), &["10 of 20 pairs have the same tokens on both sides"]);
}

#[test]
fn sides_that_differ_only_behind_the_limit_are_the_same() {
    let long = " nice and clean and large and old and well known to Anna and Tom".repeat(2);
    let pairs = (0..20).map(|_| pair("The city was", &format!("{long} good"), &format!("{long} bad")));
    let error = refused(&run("behind", pairs, &format!("{DPO} --max-prompt 12 --max-continuation 12")), 4);
    assert_says(&error, &["the same tokens in every pair", "--max-continuation"]);
}

#[test]
fn a_repeated_prompt_a_missing_space_and_an_end_inside_are_counted() {
    let pairs = (0..20).map(|i| match i {
        0..3 => pair("The city was", " The city was nice.", " a dump."),
        3..7 => pair("The city was", "nice.", " a dump."),
        7..9 => pair("The <|endoftext|> city was", " nice.", " a dump."),
        _ => pair("The city was", " nice.<|endoftext|>", " a dump.<|endoftext|>"),
    });
    let output = run("odd", pairs, DPO);
    succeed(&output);
    let stderr = said(&output);
    assert_says(
        &stderr,
        &[
            "3 of 20 pairs have a continuation that begins with the whole prompt",
            "4 of 20 pairs have no space where prompt and continuation meet",
            "2 of 20 pairs hold the end-of-text token inside a text",
        ],
    );
    assert!(!stderr.contains("no chosen text ends"), "some do: {stderr}");
}

#[test]
fn a_prompt_under_another_name_is_asked_for_where_both_sides_begin_alike() {
    let dir = workshop();
    let rows = (0..20).map(|i| format!("{i},Which city is {i}?,The city was nice {i}.,The city was a dump {i}.\n"));
    fs::write(dir.join("question.csv"), format!("id,question,chosen,rejected\n{}", rows.collect::<String>())).unwrap();
    let warned = "WARN question.csv: no `prompt`, so that each prompt is what both sides of its pair begin with, and \
                  nothing reads the text of `question`: if that is the prompt, name it with `--columns prompt=question`";
    let repair = DPO.replace("--steps 2", "--steps 1") + " --pairs question.csv --out out-question";
    for args in [
        &*repair,
        "sensitivity --model base --data question.csv --n-batches 1",
        "eval --model base --pairs question.csv",
        "eval --model base --memorised question.csv --max-new-tokens 2",
    ] {
        let output = irepair(dir, args);
        succeed(&output);
        assert_says(&said(&output), &[warned]);
    }
    let mapped = irepair(dir, &format!("{repair}-2 --columns prompt=question"));
    succeed(&mapped);
    assert!(!said(&mapped).contains("question.csv: no `prompt`"), "{}", said(&mapped));
    // Nothing else is there that could be the prompt.
    put(dir, "bare.jsonl", [json!({"chosen": "The city was nice.", "rejected": "The city was a dump."})]);
    let bare = irepair(dir, "eval --model base --pairs bare.jsonl");
    assert!(!said(&bare).contains("no `prompt`"), "{}", said(&bare));
}

#[test]
fn a_method_asks_for_the_sides_that_it_reads_and_no_other() {
    let without = |key: &str| {
        (0..20)
            .map(|i| {
                let mut pair = pair(&format!("The city {i} was"), " nice.", " a dump.");
                pair.as_object_mut().unwrap().remove(key);
                pair
            })
            .collect::<Vec<_>>()
    };
    let with = |method: &str| DPO.replace("--method dpo", &format!("--method {method}"));
    succeed(&run("unrejected", without("rejected"), &with("dapt")));
    succeed(&run("unchosen", without("chosen"), &with("npo-no-kl")));
    for (method, key) in
        [("dpo", "rejected"), ("dpo", "chosen"), ("irepair-no-kl", "rejected"), ("npo-no-kl", "rejected")]
    {
        let error = refused(&run("lacking", without(key), &with(method)), 4);
        assert_says(&error, &[&format!("lacking.jsonl, line 1, key `{key}`")]);
    }
}

#[test]
fn the_kept_end_of_a_long_prompt_is_said_and_chosen() {
    let dir = workshop();
    let pairs =
        || (0..20).map(|i| pair(&format!("{} {i} the city was", "Anna met Tom".repeat(4)), " nice.", " a dump."));
    let short = format!("{DPO} --max-prompt 4 --max-continuation 8");
    let output = run("start", pairs(), &short);
    succeed(&output);
    assert_says(
        &said(&output),
        &["20 of 20 prompts are cut to their first 4 tokens; --prompt-side end keeps the last"],
    );
    assert!(!fs::read_to_string(dir.join("out-start/repair.toml")).unwrap().contains("prompt_side"));
    let output = run("end", pairs(), &format!("{short} --prompt-side end"));
    succeed(&output);
    assert_says(&said(&output), &["20 of 20 prompts are cut to their last 4 tokens\n"]);
    assert_says(&fs::read_to_string(dir.join("out-end/repair.toml")).unwrap(), &["prompt_side = \"end\""]);
    // Prompts with one end and two beginnings are one prompt where the end is kept, for every command.
    put(
        dir,
        "two.jsonl",
        [json!({"prompt": "Otto met Dora at the mill"}), json!({"prompt": "Anna saw Tom at the mill"})],
    );
    let texts = |side: &str| {
        let generate = "generate --model base --prompts two.jsonl --prompt-tokens 2 --max-new-tokens 6 --json";
        let output = irepair(dir, &format!("{generate} --prompt-side {side}"));
        let lines: Vec<Value> = succeed(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (said(&output), lines[0]["text"].clone(), lines[1]["text"].clone())
    };
    let (stderr, first, second) = texts("end");
    assert_says(&stderr, &["2 of 2 prompts are cut to their last 2 tokens\n"]);
    assert_eq!(first, second);
    let eval = "eval --model base --prompts two.jsonl --lexicon words.txt --prompt-tokens 2 --prompt-side end --json";
    let measured: Value = serde_json::from_str(&succeed(&irepair(dir, eval))).unwrap();
    assert_eq!(measured["prompt_scores"][0], measured["prompt_scores"][1]);
    assert_says(measured["metrics"]["tox"]["definition"].as_str().unwrap(), &["after the last 2 of a prompt"]);
}
