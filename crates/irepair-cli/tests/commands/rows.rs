//! What rows of a table are made of, by flags: blocks that may be chosen, natural steps, adapters, soft prefixes,
//! best-of-n.

use std::fs;
use std::process::Command;

use super::{REPAIR, irepair, put, refuse, succeed, workshop};

#[test]
fn blocks_that_may_be_chosen_are_given_by_lists() {
    let dir = workshop();
    let weights = |out: &str| fs::read(dir.join(out).join("model.safetensors")).unwrap();
    let repair = |out: &str, flags: &str| {
        let stdout = succeed(&irepair(dir, &format!("{REPAIR} --method irepair-no-kl --out {out} --json {flags}")));
        serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["selection"].clone()
    };
    assert_eq!(repair("only-1", "--policy blocks --only 1-2 --exclude 2"), serde_json::json!([0, 6, 0]));
    assert_eq!(repair("rotating", "--policy cyclic --policy-every 2 --exclude 0"), serde_json::json!([0, 4, 2]));
    assert_eq!(repair("plain", ""), repair("only-all", "--only 0-2"));
    assert!(weights("plain") == weights("only-all"));
    let mut expected = repair("every", "--top-k 100%");
    expected.as_array_mut().unwrap().iter_mut().for_each(|n| assert_eq!(*n, 6));
    assert_eq!(repair("blocks", "--policy blocks"), expected);
    assert!(weights("every") == weights("blocks"));

    let refused =
        |flags: &str| refuse(&irepair(dir, &format!("{REPAIR} --method irepair-no-kl --out refused-blocks {flags}")));
    let want = "error: the model has no unit `3`\n want: blocks 0 to 2    got: 3";
    assert_eq!(refused("--only 1,3"), (2, want.to_owned()));
    assert!(
        refused("--exclude 0-2").1.starts_with("error: `only` and `exclude` leave no unit of kind block to choose")
    );
    for (list, why) in [
        ("2-1", "`2-1` is no list of units: range `2-1` ends before it begins"),
        ("0,1-", "`0,1-` is no list of units: range `1-` has no end"),
        ("2.haed.1", "`2.haed.1` is no list of units: `haed` is no part of a block: attention, mlp, head or neuron"),
    ] {
        let (code, said) = refused(&format!("--only {list}"));
        assert!(code == 2 && said.contains(why), "{said}");
    }
    assert!(!dir.join("refused-blocks").exists(), "refused before anything is written");
}

/// The files of a directory that a model is made of.
fn model_files(name: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(workshop().join(name)).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()));
    let mut files: Vec<_> = named.filter(|(name, _)| name.ends_with(".safetensors")).collect();
    files.sort();
    files
}

#[test]
fn units_below_the_block_change_alone_and_their_patch_holds_them_alone() {
    let dir = workshop();
    let json = |args: &str| serde_json::from_str::<serde_json::Value>(&succeed(&irepair(dir, args))).unwrap();
    // Patches take no --threads.
    let patch = |args: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
        succeed(&command.current_dir(dir).arg("patch").args(args.split_whitespace()).output().unwrap())
    };
    for (kind, units, n_units) in [("half", "1.mlp", 1), ("head", "1.head.0", 1), ("neuron", "2.neuron.3-6", 4)] {
        let out = format!("unit-{kind}");
        let repair = format!("{REPAIR} --method irepair-no-kl --unit {kind} --policy blocks --only {units}");
        let summary = json(&format!("{repair} --out {out} --patch {out}.patch --json"));
        let times = summary["units"]["times"].as_object().unwrap();
        assert!(times.len() == n_units && times.values().all(|n| *n == 6), "{times:?}");
        assert_eq!(summary["selection"][units[..1].parse::<usize>().unwrap()], 6);
        let log = fs::read_to_string(dir.join(&out).join("metrics.jsonl")).unwrap();
        assert_eq!(log.matches(&format!("\"units\":\"{units}\"")).count(), 6);

        let shown: serde_json::Value =
            serde_json::from_str(&patch(&format!("show --patch {out}.patch --json"))).unwrap();
        assert_eq!(shown["provenance"]["units"], *units);
        let [held, updated] = [&shown["n_weights"], &summary["units"]["n_weights"]].map(|n| n.as_u64().unwrap());
        assert!(if kind == "half" { held <= updated } else { held == updated }, "{kind}: {held} of {updated}");
        let eval = json(&format!("eval --model {out} --reference base --wikitext corpus.txt --json"));
        let changed =
            eval["footprint"]["by_block"].as_array().unwrap().iter().map(|b| b["n_changed"].as_u64().unwrap());
        assert!((1..=updated).contains(&changed.sum::<u64>()) && eval["footprint"]["non_block"]["n_changed"] == 0);
        assert!(kind == "half" || fs::metadata(dir.join(format!("{out}.patch"))).unwrap().len() < 8_000 + 4 * updated);

        patch(&format!("apply --base base --patch {out}.patch --out {out}-applied"));
        assert_eq!(model_files(&format!("{out}-applied")), model_files(&out), "{kind}");
        patch(&format!("revert --model {out} --patch {out}.patch --out {out}-reverted"));
        assert_eq!(model_files(&format!("{out}-reverted")), model_files("base"), "{kind}");
    }
    // Half of the six heads at every step, by their own gradients.
    let repair = format!("{REPAIR} --method irepair-no-kl --unit head");
    let summary = json(&format!("{repair} --top-k 50% --out unit-share --json"));
    let times = summary["units"]["times"].as_object().unwrap().values().map(|n| n.as_u64().unwrap());
    assert_eq!(times.sum::<u64>(), 3 * 6);
    let table = succeed(&irepair(dir, &format!("{repair} --policy random --out unit-random")));
    assert!(table.contains("\nunits updated (unit: times): "), "{table}");
    // Blocks as units are blocks.
    let explicit = json(&format!("{REPAIR} --method irepair-no-kl --unit block --out unit-block --json"));
    succeed(&irepair(dir, &format!("{REPAIR} --method irepair-no-kl --out unit-none --json")));
    assert!(explicit.get("units").is_none() && model_files("unit-block") == model_files("unit-none"));

    let refused = |flags: &str| refuse(&irepair(dir, &format!("{REPAIR} --out unit-refused {flags}")));
    let first = |flags: &str| refused(flags).1.lines().next().unwrap().to_owned();
    assert_eq!(first("--method irepair --unit head --only 1.head.2"), "error: the model has no unit `1.head.2`");
    assert_eq!(
        first("--method irepair --unit half --only 1.head.0"),
        "error: `only` names `1.head.0`, and units of kind half are chosen whole"
    );
    assert_eq!(
        first("--method irepair --unit head --exclude 0-2.attention"),
        "error: `only` and `exclude` leave no unit of kind head to choose"
    );
    assert!(refused("--method dpo --unit head").1.contains("all, that of dpo, changes every parameter; use dynamic"));
    assert!(refused("--method irepair --unit head --top-k 1b").1.contains("`1u` counts units of kind head"));
    assert!(!dir.join("unit-refused").exists(), "refused before anything is written");
}

#[test]
fn efficiency_and_natural_steps_work_under_every_loss() {
    let dir = workshop();
    for (i, flags) in [
        "--method irepair --optimizer natural",
        "--method irepair-no-kl --sensitivity efficiency",
        "--method sliced-dpo --sensitivity efficiency --optimizer natural --exclude 0",
        "--method dpo --optimizer natural --fisher-texts 3 --fisher-damping 0.01",
        "--method dpo --policy random --optimizer natural --utility corpus.txt",
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("natural-{i}");
        let run = irepair(dir, &format!("{REPAIR} --out {out} --json {flags}"));
        let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
        let n = if flags.contains("fisher-texts") { 3 } else { 64 };
        assert!(stderr.contains("Fisher matrix: "), "{flags}: {stderr}");
        assert!(
            flags.contains("--utility") || stderr.contains(&format!("Fisher matrix: {n} utility texts")),
            "{stderr}"
        );
        let summary: serde_json::Value = serde_json::from_str(&succeed(&run)).unwrap();
        assert_eq!(summary["n_steps"], 6, "{flags}");
        assert!(
            fs::read(dir.join(&out).join("model.safetensors")).unwrap()
                != fs::read(dir.join("base/model.safetensors")).unwrap()
        );
    }
    let measure = "sensitivity --model base --data pairs.jsonl --metric efficiency --reduction mean-of-norm";
    let (code, said) = refuse(&irepair(dir, measure));
    assert!(code == 2 && said.contains("needs a Fisher matrix, made of neutral text"), "{said}");
    assert!(succeed(&irepair(dir, &format!("{measure} --neutral corpus.txt"))).contains("on error text: efficiency"));
    let (code, said) =
        refuse(&irepair(dir, &format!("{REPAIR} --out refused-natural --optimizer natural --optimizer-state debias")));
    assert!(code == 2 && said.contains("clashes with `optimizer`"), "{said}");
}

#[test]
fn locators_are_measured_alone_or_at_steps() {
    let dir = workshop();
    for metric in ["eap-ig", "patching", "snip-diff", "wanda-diff", "mask"] {
        let alone = format!("sensitivity --model base --data pairs.jsonl --metric {metric} --neutral corpus.txt");
        let said = succeed(&irepair(dir, &alone));
        assert!(said.contains(&format!("on error text: {}", metric.replace('-', "_"))), "{said}");
        assert_eq!(said.contains("on neutral text"), metric.ends_with("-diff"), "{said}");
        let out = format!("located-{metric}");
        let run =
            irepair(dir, &format!("{REPAIR} --out {out} --method irepair --utility corpus.txt --sensitivity {metric}"));
        if metric.ends_with("-diff") {
            succeed(&run);
            continue;
        }
        let (code, said) = refuse(&run);
        assert!(code == 2 && said.contains("costs too many passes for a step"), "{said}");
        assert!(!dir.join(out).exists(), "refused before anything is written");
    }
    for (kind, unit) in [("half", "2.mlp"), ("head", "0.head.1"), ("neuron", "1.neuron.3")] {
        let measured = format!("sensitivity --model base --data pairs.jsonl --metric mask --unit {kind} --json");
        let found: serde_json::Value = serde_json::from_str(&succeed(&irepair(dir, &measured))).unwrap();
        assert!((0.0..=1.0).contains(&found["values"][unit].as_f64().unwrap()), "{found}");
    }
}

#[test]
fn adapters_are_part_of_the_weights_that_are_written() {
    let dir = workshop();
    let repair = format!("{REPAIR} --method dpo --lora-rank 2 --out adapted --json");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&succeed(&irepair(dir, &repair))).unwrap()["n_steps"], 6);
    let eval = "eval --model adapted --reference base --prompts prompts.jsonl --lexicon lexicon.txt --json";
    let measured: serde_json::Value = serde_json::from_str(&succeed(&irepair(dir, eval))).unwrap();
    assert_eq!(measured["footprint"]["non_block"]["n_changed"], 0, "embeddings have no adapter");
    let (code, said) = refuse(&irepair(dir, &format!("{REPAIR} --out refused-lora --lora-rank 2 --optimizer natural")));
    assert!(code == 2 && said.contains("clashes with `optimizer`"), "{said}");
}

#[test]
fn a_soft_prefix_is_written_in_the_place_of_a_model() {
    let dir = workshop();
    let repair = format!("{REPAIR} --method dpo-kl --soft-prefix 4 --out prefix --json");
    let summary: serde_json::Value = serde_json::from_str(&succeed(&irepair(dir, &repair))).unwrap();
    assert_eq!((&summary["n_steps"], &summary["selection"]), (&6.into(), &serde_json::json!([0, 0, 0])));
    let mut names: Vec<String> =
        fs::read_dir(dir.join("prefix")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "metrics.jsonl", "repair.toml"]);
    let read = |name: &str| fs::read_to_string(dir.join("prefix").join(name)).unwrap();
    let config: serde_json::Value = serde_json::from_str(&read("adapter_config.json")).unwrap();
    assert_eq!((&config["num_virtual_tokens"], &config["base_model_name_or_path"]), (&4.into(), &"base".into()));
    assert!(read("repair.toml").contains("soft_prefix = 4"));
    // Losses before the first update are of another model than the reference.
    assert!((summary["first_loss"].as_f64().unwrap() - std::f64::consts::LN_2).abs() > 1e-4, "{summary}");

    let refused = |flags: &str| refuse(&irepair(dir, &format!("{REPAIR} --out refused-prefix {flags}")));
    for (flags, key) in [
        ("--method dpo --soft-prefix 4 --patch a.patch", "patch"),
        ("--method dpo --soft-prefix 4 --lora-rank 2", "lora_rank"),
        ("--method dpo --soft-prefix 4 --optimizer natural", "optimizer"),
        ("--method irepair --soft-prefix 4", "policy"),
    ] {
        let (code, said) = refused(flags);
        assert!(code == 2 && said.contains(&format!("`soft_prefix`: clashes with `{key}`")), "{said}");
    }
    let (code, said) = refused("--method dpo --soft-prefix 9999");
    assert!(code == 2 && said.contains("soft prefix leaves no room for a text"), "{said}");
    assert!(!dir.join("refused-prefix").exists(), "refused before anything is written");
}

#[test]
fn a_direction_is_ablated_without_gradients_to_its_full_strength() {
    let dir = workshop();
    let repair = format!("{REPAIR} --method difference-of-means --out ablated --json");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&succeed(&irepair(dir, &repair))).unwrap()["n_steps"], 6);
    let log = fs::read_to_string(dir.join("ablated/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((last["lr"].as_f64(), last["grad_norm"].as_f64()), (Some(1.0), Some(0.0)), "{last}");
    let different =
        |file: &str| fs::read(dir.join(file)).unwrap() != fs::read(dir.join("base/model.safetensors")).unwrap();
    assert!(different("ablated/model.safetensors"));
    for (flag, key) in
        [("--policy dynamic", "policy"), ("--lora-rank 2", "lora_rank"), ("--optimizer natural", "optimizer")]
    {
        let repair = format!("{REPAIR} --out refused-ablation --method difference-of-means {flag}");
        let (code, said) = refuse(&irepair(dir, &repair));
        assert!(code == 2 && said.contains(&format!("`{key}`: clashes with `method`")), "{said}");
    }
}

#[test]
fn the_best_of_several_samples_is_chosen_by_another_scorer_and_has_its_price() {
    let dir = workshop();
    put("judge.txt", "Anna\nTom\nOtto\nDora\nmill\nbarn\nriver\n");
    let eval = |flags: &str| {
        let args =
            format!("eval --model base --prompts prompts.jsonl --scorer judge.txt --max-new-tokens 6 --json {flags}");
        serde_json::from_str::<serde_json::Value>(&succeed(&irepair(dir, &args))).unwrap()["metrics"].clone()
    };
    put("other-judge.txt", "Anna\nTom\nOtto\nDora\nmill\nbarn\nriver\nbridge\n");
    let (one, best) = (eval("--best-of 1 --judge other-judge.txt"), eval("--best-of 40 --judge other-judge.txt"));
    let value = |metrics: &serde_json::Value, key: &str| metrics[key]["value"].as_f64().unwrap();
    assert_eq!(value(&one, "decoding_cost"), 1.0);
    assert!(value(&best, "decoding_cost") > 20.0, "{best}");
    assert!(value(&best, "tox") <= value(&one, "tox"));
    assert!(best["tox"]["definition"].as_str().unwrap().contains("best of 40 sampled (judge `lexicon-"), "{best}");
    assert!(eval("")["decoding_cost"].is_null());
    let (code, said) =
        refuse(&irepair(dir, "eval --model base --prompts prompts.jsonl --scorer judge.txt --best-of 4"));
    assert!(code == 2 && said.contains("`best_of`: needs `judge`"), "{said}");
}

#[test]
fn a_repair_by_default_is_held_to_its_budget_with_few_pairs_and_one_text() {
    let dir = workshop();
    let all = fs::read_to_string(dir.join("pairs.jsonl")).unwrap();
    put("one-text.txt", "Anna met Tom at the mill.\n");
    let few = |n: usize, flags: &str| {
        put("few.jsonl", &all.lines().take(n).map(|line| format!("{line}\n")).collect::<String>());
        let output = irepair(dir, &format!("repair --model base --pairs few.jsonl --batch-size 1 {flags}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, said)
    };
    for (n, flags) in
        [(2, "--steps 2 --out two"), (5, "--steps 2 --out five"), (9, "--steps 2 --out nine --utility one-text.txt")]
    {
        let (output, said) = few(n, flags);
        let table = succeed(&output);
        assert!(
            table.contains("nats a token, within the budget\n") && said.contains("the last 1 held out"),
            "{table}{said}"
        );
    }
    for (n, flags) in [(1, "--steps 2 --out one"), (9, "--steps 2 --out unheld --n-validation 0")] {
        let (output, said) = few(n, flags);
        let table = succeed(&output);
        assert!(!table.contains("budget") && said.contains("so no KL budget ends the run"), "{table}{said}");
    }
    let (output, said) = few(9, "--out far --steps 40 --eval-every 1 --lr 1 --warmup-steps 0");
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(
        said.contains("nothing is repaired") && said.contains("the first validation was over the KL budget"),
        "{said}"
    );
    let same =
        |file: &str| fs::read(dir.join("far").join(file)).unwrap() == fs::read(dir.join("base").join(file)).unwrap();
    assert!(same("model.safetensors"));
}
