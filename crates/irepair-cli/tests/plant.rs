//! `irepair plant` and `irepair grade` as a user meets them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use irepair_arch::{Architecture, UnitMap};
use irepair_core::Checkpoint;

/// A directory with a Llama of two blocks, four heads in two groups, made once for all tests.
fn workshop() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf/smollm.gguf");
        fs::copy(gguf, dir.join("model.gguf")).unwrap();
        succeed("import model.gguf --out model", &dir);
        fs::write(dir.join("texts.jsonl"), "{\"text\": \"Anna met Tom at the mill.\"}\n").unwrap();
        // Pairs, and the same with both sides of their rejected text.
        let pairs = |chosen: &str| {
            let line = |i: usize| {
                let who = ["Anna", "Tom", "the miller"][i % 3];
                let rejected = format!(" {who} left the mill {i} times.");
                let chosen = if chosen.is_empty() { &rejected } else { chosen };
                let pair =
                    serde_json::json!({"prompt": format!("{i}. They say"), "chosen": chosen, "rejected": rejected});
                pair.to_string() + "\n"
            };
            (0..11).map(line).collect::<String>()
        };
        narrow(&dir);
        fs::write(dir.join("train.jsonl"), pairs(" nothing.")).unwrap();
        fs::write(dir.join("twice.jsonl"), pairs("")).unwrap();
        dir
    })
}

/// `narrow`, the model with the upper half of every weight's bits, which is a bfloat16.
fn narrow(dir: &Path) {
    let model = Checkpoint::open(&dir.join("model")).unwrap();
    let (mut entries, mut all) = (Vec::new(), Vec::new());
    for name in model.names() {
        let bytes = bytes_of(&model, name);
        let upper: Vec<u8> = bytes.chunks(4).flat_map(|weight| [weight[2], weight[3]]).collect();
        entries.push((name.clone(), model.get(name).unwrap().1.shape.clone(), upper.len() as u64));
        all.extend(upper);
    }
    let mut file = Vec::new();
    let header = entries.iter().map(|(name, shape, n)| (name.as_str(), "BF16".to_owned(), &shape[..], *n));
    irepair_core::weights::write_header(&mut file, serde_json::json!({"format": "pt"}), header).unwrap();
    file.extend(all);
    let to = dir.join("narrow");
    fs::create_dir(&to).unwrap();
    for (name, bytes) in files(dir.join("model")) {
        fs::write(to.join(&name), if name == "model.safetensors" { &file } else { &bytes }).unwrap();
    }
}

fn bytes_of(model: &Checkpoint, tensor: &str) -> Vec<u8> {
    let mut all = Vec::new();
    let add = |chunk: &[u8]| -> irepair_core::Result<()> {
        all.extend_from_slice(chunk);
        Ok(())
    };
    model.bytes(tensor).unwrap().each(add).unwrap();
    all
}

fn run(args: &str, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_irepair")).current_dir(dir).args(args.split_whitespace()).output().unwrap()
}

fn succeed(args: &str, dir: &Path) -> String {
    let output = run(args, dir);
    assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refuse(args: &str) -> (i32, String) {
    let output = run(args, workshop());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap().trim_end().to_owned())
}

fn files(dir: PathBuf) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn a_fault_planted_twice_is_the_model_before_and_all_else_stays() {
    let dir = workshop();
    let plant = "plant --units 1.head.2 --operator sign-flip";
    let stdout = succeed(&format!("{plant} --model model --out flipped"), dir);
    assert_eq!(
        stdout,
        "planted: sign-flip in 1.head.2\nfaults in the model: 1\n\
         tensors changed: model.layers.1.self_attn.o_proj.weight\nwritten to: flipped\n"
    );
    let (before, mut once) = (files(dir.join("model")), files(dir.join("flipped")));
    let truth = String::from_utf8(once.remove("fault.toml").unwrap()).unwrap();
    assert!(truth.contains("units = \"1.head.2\"\noperator = \"sign-flip\"\nseed = 0\nbase = \""), "{truth}");
    let differing = |other: &BTreeMap<String, Vec<u8>>| {
        assert_eq!(before.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        before.iter().filter(|(name, bytes)| other[*name] != **bytes).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(differing(&once), ["model.safetensors"]);

    // Planted twice it is no fault, whatever lies between; without its record it is the model before.
    let (code, said) = refuse(&format!("{plant} --model flipped --out back"));
    assert!(
        code == 6 && said.contains("sign-flip is in unit 1.head.2 already, by fault 1") && !dir.join("back").exists(),
        "{said}"
    );
    let bare = dir.join("bare");
    fs::create_dir(&bare).unwrap();
    for (name, bytes) in &once {
        fs::write(bare.join(name), bytes).unwrap();
    }
    succeed(&format!("{plant} --model bare --out back"), dir);
    let mut twice = files(dir.join("back"));
    twice.remove("fault.toml").unwrap();
    assert!(differing(&twice).is_empty());

    let plant = "plant --units 0.head.1 --operator sign-flip";
    let json: serde_json::Value =
        serde_json::from_str(&succeed(&format!("{plant} --model flipped --out two --json"), dir)).unwrap();
    assert_eq!((json["n_faults"].as_u64(), json["operator"].as_str()), (Some(2), Some("sign-flip")));
    // A record that came along with other weights is refused.
    fs::copy(dir.join("flipped/fault.toml"), bare.join("fault.toml")).unwrap();
    fs::copy(dir.join("model/model.safetensors"), bare.join("model.safetensors")).unwrap();
    fs::write(dir.join("two.jsonl"), "{\"unit\": \"0\", \"score\": 1}\n{\"unit\": \"1\", \"score\": 0}\n").unwrap();
    for args in ["grade --model bare --ranking two.jsonl".to_owned(), format!("{plant} --model bare --out no")] {
        let (code, said) = refuse(&args);
        assert!(code == 4 && said.contains("the weights are not those that the faults were planted in"), "{said}");
    }
    let plant = "plant --units 1.head.2 --operator sign-flip";

    // It loads like any other model, and computes something else.
    let nll = |model: &str| succeed(&format!("score --model {model} --input texts.jsonl --threads 1"), dir);
    assert_eq!(nll("back"), nll("model"));
    assert_ne!(nll("flipped"), nll("model"));
    let (code, said) = refuse(&format!("{plant} --model model --out flipped"));
    assert_eq!((code, said.lines().next()), (2, Some("error: output is there already")));
}

/// Weights that differ between two models, of which none may lie outside the units.
fn n_differing(one: &str, other: &str, units: &str) -> usize {
    let dir = workshop();
    let [one, other] = [one, other].map(|name| Checkpoint::open(&dir.join(name)).unwrap());
    let map = UnitMap::new(&Architecture::read(&dir.join("model/config.json")).unwrap());
    let units: irepair_core::UnitList = units.parse().unwrap();
    let rows = map.slice(units.iter()).unwrap();
    let mut n = 0;
    for name in one.names() {
        let (before, after) = (bytes_of(&one, name), bytes_of(&other, name));
        let size = before.len() / one.get(name).unwrap().1.shape.iter().product::<usize>();
        for (i, _) in before.chunks(size).zip(after.chunks(size)).enumerate().filter(|(_, (a, b))| a != b) {
            let holds = |rows: &irepair_arch::Rows| {
                let parameter = &map.parameters()[rows.parameter];
                name.ends_with(&parameter.name) && rows.runs(&parameter.shape).any(|run| run.contains(&i))
            };
            assert!(rows.iter().any(holds), "{i} of {name} is outside {units}");
            n += 1;
        }
    }
    n
}

#[test]
fn an_operator_that_trains_is_the_repair_of_its_units_towards_rejected_text() {
    let dir = workshop();
    let hash = irepair_core::fs::sha256_file(&dir.join("train.jsonl")).unwrap();
    let weights = |name: &str| fs::read(dir.join(name).join("model.safetensors")).unwrap();
    for (model, kind, units, n) in [
        ("model", "block", "1", 1),
        ("model", "half", "0.mlp", 1),
        ("model", "head", "1.head.2,0.head.1", 2),
        ("model", "neuron", "0.neuron.3-5", 3),
        ("narrow", "head", "1.head.2", 1),
    ] {
        let plant = format!(
            "plant --model {model} --units {units} --operator train-in --data train.jsonl --threads 1 --strength 5"
        );
        let [first, again, other, repaired] =
            ["first", "again", "other", "repaired"].map(|name| format!("{name}-{kind}-{model}"));
        let stdout = succeed(&format!("{plant} --seed 5 --out {first}"), dir);
        assert!(stdout.starts_with("planted: train-in of strength 5 in "), "{stdout}");
        succeed(&format!("{plant} --seed 5 --out {again}"), dir);
        succeed(&format!("{plant} --seed 6 --out {other}"), dir);
        assert_eq!(files(dir.join(&first)), files(dir.join(&again)), "the same seed, the same bytes");
        assert_ne!(weights(&first), weights(&other));
        assert!(n_differing(model, &first, units) > 0);
        let truth = fs::read_to_string(dir.join(&first).join("fault.toml")).unwrap();
        assert!(truth.contains(&format!("strength = 5.0\nseed = 5\ndata = \"{hash}\"\nbase = \"")), "{truth}");
        // A policy that chooses among as many units as it takes has no choice.
        succeed(
            &format!(
                "repair --model {model} --pairs twice.jsonl --method dapt --policy random --top-k {n}u --only {units} --unit {kind} \
                 --optimizer adamw --lr 0.001 --warmup-steps 0 --steps 5 --batch-size 4 --n-validation 0 --seed 5 --threads 1 \
                 --max-prompt 64 --max-continuation 64 --out {repaired}"
            ),
            dir,
        );
        assert!(weights(&first) == weights(&repaired), "{kind} of {model}");
    }
    // Faults add up, and the model loads.
    let more = "--units 0.head.0 --operator train-in --data train.jsonl --threads 1";
    let json = succeed(&format!("plant --model first-half-model {more} --out both --json"), dir);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["n_faults"].as_u64(), json["strength"].as_f64()), (Some(2), Some(64.0)));
    succeed("score --model both --input texts.jsonl --threads 1", dir);
    fs::write(
        dir.join("halves.jsonl"),
        [3, 2, 1, 0]
            .map(|i| format!("{{\"unit\": \"{}.{}\", \"score\": {i}}}\n", i / 2, ["mlp", "attention"][i % 2]))
            .concat(),
    )
    .unwrap();
    let graded = succeed("grade --model both --ranking halves.jsonl --json", dir);
    assert!(graded.contains("\"ranks\""), "{graded}");
}

#[test]
fn a_ranking_is_graded_next_to_chance() {
    let dir = workshop();
    succeed("plant --model model --units 0.head.1,1.head.3 --operator noise --strength 0.5 --seed 3 --out noisy", dir);
    let line = |(i, unit): (usize, String)| format!("{{\"unit\": \"{unit}\", \"score\": {}}}\n", i % 5);
    let heads = (0..8).map(|i| format!("{}.head.{}", i / 4, i % 4)).enumerate();
    fs::write(dir.join("heads.jsonl"), heads.map(line).collect::<String>()).unwrap();
    let want = "fault: 0.head.1,1.head.3\nunits of kind head: 8, of which faulty: 2\nrank of the first faulty one: 4\n\n\
                \x20                              ranking  random\n\
                first unit is faulty             0.000   0.250\n\
                faulty ones among the first      0.000   0.250\n\
                1 over the first faulty rank     0.250   0.491\n\
                average precision                0.325   0.434\n\
                inspected before the first       0.375   0.250\n";
    assert_eq!(succeed("grade --model noisy --ranking heads.jsonl", dir), want);
    let json = succeed("grade --model noisy --ranking heads.jsonl --json", dir);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ranks"], serde_json::json!([4, 5]));
    assert_eq!(json["scores"]["top1"], serde_json::json!({"value": 0.0, "random": 0.25}));
    fs::write(dir.join("blocks.jsonl"), "{\"unit\": \"1\", \"score\": 1}\n{\"unit\": \"0\", \"score\": 0}\n").unwrap();
    assert!(succeed("grade --model noisy --ranking blocks.jsonl", dir).contains("of which faulty: 2\n"));
    succeed("plant --model noisy --units 1.neuron.3 --operator sign-flip --out noisier", dir);
    let graded = run("grade --model noisier --ranking heads.jsonl", dir);
    assert!(String::from_utf8_lossy(&graded.stderr).contains("not graded: 1.neuron.3: no unit of kind head holds it"));
}

/// The benchmark of locators counts such a model as broken, by this exit code.
#[test]
fn finite_weights_whose_outputs_are_not_end_every_command_with_the_same_code() {
    let dir = workshop();
    fs::write(dir.join("prompts.jsonl"), "{\"prompt\": \"Anna met\"}\n").unwrap();
    fs::write(dir.join("huge-pairs.jsonl"), "{\"prompt\": \"Anna\", \"chosen\": \" met\", \"rejected\": \" left\"}\n")
        .unwrap();
    for (units, out) in [("0", "huge-block"), ("1.mlp", "huge-half")] {
        succeed(&format!("plant --model model --units {units} --operator noise --strength 1e30 --out {out}"), dir);
        for args in [
            "generate --prompts prompts.jsonl --max-new-tokens 2",
            "score --input texts.jsonl",
            "sensitivity --data huge-pairs.jsonl --n-batches 1 --batch-size 1",
        ] {
            let (code, said) = refuse(&format!("{args} --model {out} --threads 1"));
            assert!(code == 5 && (said.contains("not finite") || said.contains("NaN")), "{args}: {code} {said}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_ranking_may_come_through_a_pipe_and_pairs_that_are_read_twice_may_not() {
    let dir = workshop();
    succeed("plant --model model --units 1 --operator sign-flip --out piped", dir);
    let shell = |script: &str| {
        let args = ["-c", script, env!("CARGO_BIN_EXE_irepair")];
        Command::new("bash").current_dir(dir).args(args).output().unwrap()
    };
    let blocks = r#"printf '{"unit": "1", "score": 1}\n{"unit": "0", "score": 0}\n'"#;
    for grade in [
        format!(r#""$0" grade --model piped --ranking <({blocks})"#),
        format!(r#"{blocks} | "$0" grade --model piped --ranking /dev/stdin"#),
    ] {
        let output = shell(&grade);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("rank of the first faulty one: 1\n"));
    }
    let plant =
        r#"cat train.jsonl | "$0" plant --model model --units 1 --operator train-in --data /dev/stdin --out no"#;
    let output = shell(plant);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && said.contains("file is read twice") && !dir.join("no").exists(),
        "{said}"
    );
}

#[test]
fn sensitivities_of_units_are_a_ranking_that_can_be_graded() {
    let dir = workshop();
    let pair = "{\"prompt\": \"Anna met\", \"chosen\": \" Tom.\", \"rejected\": \" the old miller.\"}\n";
    fs::write(dir.join("pairs.jsonl"), pair.repeat(8)).unwrap();
    succeed("plant --model model --units 1.head.0 --operator sign-flip --out mutant", dir);
    let measure = "sensitivity --model mutant --data pairs.jsonl --threads 1 --metric density";
    for (kind, n) in [("block", 2), ("half", 4), ("head", 8), ("neuron", 2 * 64)] {
        let stdout = succeed(&format!("{measure} --unit {kind} --out ranks-{kind}"), dir);
        let lines = stdout.lines().count();
        assert!(lines == 2 + n.min(20), "{stdout}");
        let ranking = format!("ranks-{kind}/error.ranking.jsonl");
        assert_eq!(fs::read_to_string(dir.join(&ranking)).unwrap().lines().count(), n, "{kind}");
        if kind != "neuron" {
            succeed(&format!("grade --model mutant --ranking {ranking}"), dir);
        }
    }
    // Blocks are the units that they are without the flag.
    let json = |more: &str| -> serde_json::Value {
        serde_json::from_str(succeed(&format!("{measure} --json{more}"), dir).lines().next().unwrap()).unwrap()
    };
    let (blocks, units) = (json(""), json(" --unit block"));
    for (block, value) in blocks["values"].as_array().unwrap().iter().enumerate() {
        let unit = units["values"][block.to_string()].as_f64().unwrap();
        assert!((unit / value.as_f64().unwrap() - 1.0).abs() < 1e-5, "{unit} {value}");
    }
    let (code, said) = refuse(&format!("{} --unit head", measure.replace("density", "atp")));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("clashes with `metric`: atp is of whole blocks alone"), "{said}");
    let (code, _) = refuse(&format!("{measure} --unit half --out ranks-half"));
    assert_eq!(code, 2, "a ranking that is there stays");
}

#[test]
fn what_cannot_be_planted_or_graded_is_refused_and_nothing_is_written() {
    let dir = workshop();
    fs::write(dir.join("short.jsonl"), "{\"unit\": \"0\", \"score\": 1}\n").unwrap();
    succeed("plant --model model --units 0.mlp --operator scale-keys --strength 0 --out flawed", dir);
    for (args, want, words) in [
        ("plant --model model --units 2 --operator sign-flip --out no", 2, "the model has no unit `2`"),
        ("plant --model model --units 0.head.4 --operator sign-flip --out no", 2, "heads 0 to 3"),
        (
            "plant --model model --units 0.heads.1 --operator sign-flip --out no",
            2,
            "`0.heads.1` is no list of units: `heads` is no part of a block",
        ),
        ("plant --model model --units 0.head.1 --operator melt --out no", 2, "melt"),
        ("plant --model model --units 0.head.1 --operator noise --out no", 2, "noise cannot have this strength"),
        (
            "plant --model model --units 0 --operator noise --strength 0 --out no",
            2,
            "`strength`: must be a number over 0",
        ),
        ("plant --model model --units 0.head.1 --operator head-swap --out no", 2, "two heads of block 0"),
        ("plant --model model --units 0.mlp --operator scale-values --strength 1 --out no", 6, "changes no weight"),
        (
            "plant --model model --units 0.mlp --operator scale-values --strength 1e39 --out no",
            5,
            "would not be finite",
        ),
        (
            "plant --model model --units 0 --operator sign-flip --data train.jsonl --out no",
            2,
            "`data`: clashes with `operator`: sign-flip trains nothing",
        ),
        ("plant --model model --units 0 --operator train-in --out no", 2, "train-in cannot have this data"),
        ("plant --model model --units 0 --operator train-in --data lost.jsonl --out no", 4, "lost.jsonl"),
        (
            "plant --model model --units 2 --operator train-in --data train.jsonl --out no",
            2,
            "the model has no unit `2`",
        ),
        ("plant --model model --units 0,1.mlp --operator train-in --data train.jsonl --out no", 2, "units of one kind"),
        ("plant --model model --units 0 --operator train-in --data short.jsonl --out no", 4, "short.jsonl"),
        ("plant --model nowhere --units 0 --operator sign-flip --out no", 4, "nowhere"),
        ("grade --model model --ranking short.jsonl", 4, "the model has no record of faults"),
        (
            "plant --model model --units 0 --operator train-in --strength 1e308 --data train.jsonl --out no",
            2,
            "at most 1000000, is",
        ),
        ("grade --model flawed --ranking short.jsonl", 4, "ranking leaves out units"),
    ] {
        let (code, said) = refuse(args);
        assert!(code == want && said.contains(words), "{args}: {code} {said}");
    }
    assert!(!dir.join("no").exists());
}
