//! Whole files of every kind that a fuzz target reads: where its search begins.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use irepair_core::metric::{Metric, Metrics, TOKEN_PERPLEXITY, TOX};
use irepair_core::spec::{Method, Operator, UnitKind};
use irepair_data::{Labeled, Tokenizer};
use irepair_fault::{Fault, Faults};
use irepair_model::{Architecture, CausalLm, Shape, UnitMap};
use irepair_patch::{Kind, Provenance};
use irepair_repair::SliceLocaliser;
use irepair_report::{Cost, RowResult, SCHEMA, Sample, SensitivityResult, TrajectoryPoint, VANILLA};
use irepair_scorer::{FeatureSettings, LinearSettings, train_linear};
use irepair_train::Engine;
use serde_json::json;
use tch::{Device, Kind as Dtype};

use crate::files::shared::written;
use crate::models::{checkpoint, state};

/// A target, a name, a file.
pub(crate) type Seed = (&'static str, String, Vec<u8>);

/// All of them.
pub(crate) fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| seeds.push((target, name.to_owned(), bytes));
    let dir = tempfile::tempdir().unwrap();

    for name in ["smollm", "blocks", "gemma2", "phi3"] {
        let path = format!("{}/../../parity/gguf/{name}.gguf", env!("CARGO_MANIFEST_DIR"));
        add("gguf", name, fs::read(path).unwrap());
    }
    for (name, text) in faults() {
        add("fault", name, text.into_bytes());
    }
    let map = UnitMap::new(&Architecture::gpt2(2, 4, 2, 8, 5));
    for (name, kind) in [("blocks", UnitKind::Block), ("heads", UnitKind::Head)] {
        let units = map.units(kind).enumerate();
        let line = |(i, unit)| json!({"unit": unit, "score": (i * 5 % 3) as f64 - 0.5}).to_string() + "\n";
        add("ranking", name, units.map(line).collect::<String>().into_bytes());
    }
    let ties = [("0.mlp", "-0.0"), ("1.attention", "0"), ("1.mlp", "1e-320"), ("0.attention", "0.0")];
    let line = |(unit, score): (&str, &str)| format!("{{\"score\": {score}, \"unit\": \"{unit}\"}}\r\n\n");
    add("ranking", "ties", ties.map(line).concat().into_bytes());
    add("index", "two", br#"{"metadata":{},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#.to_vec());
    for (kind, bytes) in patches(dir.path()) {
        add("patch", &kind, bytes);
    }
    let floats = [0, 0, 128, 63, 0, 0, 0, 64];
    let tensors: [(&str, &str, &[usize], &[u8]); 4] =
        [("a", "F32", &[2, 1], &floats), ("b", "BF16", &[1], &[1, 2]), ("c", "I8", &[], &[3]), ("d", "U8", &[0], &[])];
    add("weights", "types", written(&tensors));
    add("weights", "floats", written(&tensors[..2]));
    add("scorer", "small", header_first(&scorer(dir.path())));
    let tfidf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/tfidf/small.scorer");
    add("scorer", "tfidf", header_first(&fs::read(tfidf).unwrap()));
    add("scorer", "page", b"<html>404</html>".to_vec());
    add("scorer", "expressions", b"# words\n(?i)grubnik\n[a-z]{2,}!\n".to_vec());

    for (reader, line) in [
        r#"{"prompt":"p\u0000","chosen":" c \ud83d\ude42","rejected":" r"}"#,
        r#"{"prompt":{"text":"RTL \u202e"}}"#,
        r#"{"text":"he came home"}"#,
        r#"{"prompt":"p","rejected":"\ud83d"}"#,
        r#"{"text":"one"}"#,
        r#"{"text":"one","toxic":1,"source":"posts"}"#,
        r#"{"stereotype":"a","anti_stereotype":"b"}"#,
        r#"{"sentence_good":"a","sentence_bad":"b"}"#,
        r#"{"prompt":{"text":"a"},"continuation":"b"}"#,
        r#"{"activity_label":"a","ctx_a":"b","ctx_b":"c","ctx":"b [x] c","endings":["d [title]","e"],"label":"1"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let line = format!("{}\u{feff}{line}\r\n\n{line}", char::from(reader as u8));
        add("records", &reader.to_string(), line.into_bytes());
    }
    for (reader, line) in [
        (0, r#"[{"chosen":"a b","rejected":"a c"},{"chosen":"d e","rejected":"d f"}]"#),
        (0, r#"{"prompt":"a","completion":"b","label":true}"#),
        (253, "prompt,chosen,rejected\np,\"c\n\"\"\",r"),
        (
            254,
            "{% for m in messages %}{{ m.role | upper }}{{ m['content'].strip().split('a')[0] | tojson(indent=1) }}{% endfor %}",
        ),
        (
            254,
            "{{ bos_token }}{% set ns = namespace(x=1) %}{% generation %}{{ raise_exception('no') }}{% endgeneration %}",
        ),
    ] {
        add("records", &format!("{reader}-{}", line.len()), [&[reader], line.as_bytes()].concat());
    }
    // Parquet is known by its first bytes, whatever the name; 0 reads pairs, 3 one side alone, and 253 a table.
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/formats");
    for (reader, name) in [
        (0, "plain.none.parquet"),
        (0, "plain.snappy.parquet"),
        (0, "plain.gzip.parquet"),
        (0, "plain.zstd.parquet"),
        (0, "plain.v2.parquet"),
        (0, "labelled.parquet"),
        (3, "plain.none.parquet"),
        (253, "plain.csv"),
    ] {
        let bytes = fs::read(formats.join(name)).unwrap();
        add("records", &format!("{reader}-{name}"), [&[reader], &bytes[..]].concat());
    }
    add(
        "texts",
        "documents",
        "\u{feff}one\r\n\n two\0\n<|endoftext|>\n🙂 größer\n<|endoftext|>\r\n".as_bytes().to_vec(),
    );
    add("texts", "wikitext", b" = The mill = \n \n 1 @,@ 000 ( \" a lot \" ) 's /' 5/\n = = Part = = \n".to_vec());
    add("texts", "gzip", vec![31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 75, 228, 2, 0, 7, 161, 234, 221, 2, 0, 0, 0]);
    for (name, bytes) in tokenizers(dir.path()) {
        add("tokenizer", name, bytes);
    }
    for (kind, name, text) in settings() {
        add("settings", &name, [&[kind], text.as_bytes()].concat());
    }
    add("results", "report", report());
    let step = json!({"step": 3, "loss": 0.5, "nll": 1.5, "kl": null, "grad_norm": 1e-300, "lr": 0.1, "slice": [1, 0],
                      "tokens": 7, "seconds": 0.25});
    let point = json!({"step": 3, "toxicity": null, "perplexity": 12.5});
    add("steps", "lines", format!("{step}\n{point}\n").into_bytes());

    for (name, config) in [("gpt2", checkpoint::config()), ("neo", Architecture::gpt_neo(2, 4, 2, 8, 9, 4))] {
        add("config", name, [b"\0", config.to_json().as_bytes()].concat());
    }
    for family in irepair_model::FAMILIES {
        let shape = Shape { window_size: Some(4), ..Shape::new(family.name, [2, 16, 2], 8, 9) };
        let config = shape.architecture().unwrap().to_json();
        add("config", family.name, [b"\0", config.as_bytes()].concat());
    }
    let long = json!({"type": "su", "short_factor": [1.0, 2.0], "long_factor": [3.0, 4.0]});
    let phi3 = json!({"model_type": "phi3", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
                      "num_attention_heads": 2, "vocab_size": 9, "max_position_embeddings": 16, "rope_theta": 1e4,
                      "rope_scaling": long, "original_max_position_embeddings": 4});
    add("config", "longrope", format!("\0{phi3}").into_bytes());
    let bert = json!({"model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": 8,
                      "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 9,
                      "max_position_embeddings": 16, "type_vocab_size": 2, "id2label": {"0": "ok", "1": "toxic"}});
    add("config", "bert", format!("\u{1}{bert}").into_bytes());
    add("config", "huge", br#"0{"model_type":"gpt2","n_layer":1000000000000000000,"n_embd":1e18}"#.to_vec());
    let model = CausalLm::random(checkpoint::config(), 1, Device::Cpu, Dtype::Float).unwrap();
    model.save(&dir.path().join("model")).unwrap();
    add("checkpoint", "model", header_first(&fs::read(dir.path().join("model/model.safetensors")).unwrap()));
    add("state", "two-steps", header_first(&two_steps(&model, &dir.path().join("state"))));
    seeds
}

/// A safetensors file in the form that `shared::safetensors` reads.
fn header_first(bytes: &[u8]) -> Vec<u8> {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    [&bytes[8..8 + n], b"\n", &bytes[8 + n..]].concat()
}

/// A `fault.toml` with one fault, and one with a fault of every operator.
fn faults() -> [(&'static str, String); 2] {
    let every = Operator::ALL.iter().map(|operator| {
        let (units, strength) = match operator {
            Operator::HeadSwap => ("0.head.0-1", None),
            Operator::SignFlip => ("0-1", None),
            Operator::ScaleKeys | Operator::ScaleValues => ("0.neuron.3,1.neuron.0-4", Some(0.0)),
            Operator::Noise | Operator::BitFlip | Operator::TrainIn => ("1.mlp", Some(8.0)),
        };
        let data = operator.trains().then(|| "0a".repeat(32));
        Fault { data, ..Fault::new(units.parse().unwrap(), *operator, strength, u64::MAX >> 1) }
    });
    let base = Some("f0".repeat(32));
    let one = Fault { base, ..Fault::new("3.head.5".parse().unwrap(), Operator::Noise, Some(0.1), 7) };
    [("one", vec![one]), ("every", every.collect())]
        .map(|(name, faults)| (name, Faults::new(faults).to_toml().unwrap()))
}

/// A patch of every kind for the model of target `patch`.
fn patches(dir: &Path) -> Vec<(String, Vec<u8>)> {
    crate::files::patch::run(dir, b"");
    let seed = |kind: Kind| {
        let path = dir.join(format!("seed-{kind}"));
        let provenance = Provenance { method: Some("irepair".into()), seed: Some(1), ..Provenance::default() };
        irepair_patch::create(&dir.join("base"), &dir.join("other"), kind, provenance, &path).unwrap();
        (kind.to_string(), header_first(&fs::read(path).unwrap()))
    };
    [Kind::Xor, Kind::Replace, Kind::Delta].map(seed).to_vec()
}

fn scorer(dir: &Path) -> Vec<u8> {
    let label = |i: usize| Labeled {
        text: format!("{} {i}", if i.is_multiple_of(3) { "you grubnik" } else { "good day" }),
        toxic: i.is_multiple_of(3),
        source: None,
    };
    let features = FeatureSettings { word_bits: 2, char_bits: 3, ..FeatureSettings::default() };
    let settings = LinearSettings { features, ..LinearSettings::default() };
    let labels: Vec<Labeled> = (0..200).map(label).collect();
    let path = dir.join("scorer");
    train_linear(&labels, "00".repeat(32), settings).unwrap().write(&path).unwrap();
    fs::read(path).unwrap()
}

fn tokenizers(dir: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let config = br#"{"eos_token":{"content":"<|endoftext|>","lstrip":true},"added_tokens_decoder":{"0":{"content":"<|endoftext|>"}}}"#;
    let map = b"\x01{\"eos_token\":\"<|endoftext|>\",\"pad_token\":\"<pad>\"}\xff{\"eos_token_id\":[0]}\xff{}".to_vec();
    let older = b"\x03{\"a\":0,\"b\":1,\"ab\":2,\"<|endoftext|>\":3}\xff#version: 0.2\na b\n\xff{\"<pad>\":4}".to_vec();
    // A byte-level BPE of a few tokens, in the form that the library writes.
    let tokenizer = Tokenizer::train_bpe(&["ab ab"], 257).unwrap();
    tokenizer.save(&dir.join("tokenizer")).unwrap();
    let mut whole: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("tokenizer/tokenizer.json")).unwrap()).unwrap();
    whole["model"]["vocab"] = json!({"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3});
    whole["model"]["merges"] = json!([["a", "b"]]);
    let small = [b"\x02", whole.to_string().as_bytes()].concat();
    let mut pieces = whole.clone();
    pieces["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "a"}]});
    pieces["pre_tokenizer"] =
        json!({"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false});
    pieces["post_processor"] =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let split = [b"\x02", pieces.to_string().as_bytes()].concat();
    pieces["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<|endoftext|>", 0.0], ["a", -1.0]],
                             "byte_fallback": false});
    let unigram = [b"\x02", pieces.to_string().as_bytes()].concat();
    pieces["model"] = json!({"type": "WordPiece", "unk_token": "<|endoftext|>", "continuing_subword_prefix": "##",
                             "max_input_chars_per_word": 100, "vocab": {"<|endoftext|>": 0, "a": 1, "##b": 2}});
    let pieces = [b"\x02", pieces.to_string().as_bytes()].concat();
    vec![
        ("config", [&[0], &config[..]].concat()),
        ("map", map),
        ("older", older),
        ("small", small),
        ("split", split),
        ("unigram", unigram),
        ("word-pieces", pieces),
    ]
}

/// Settings by the number of their kind in target `settings`: two profiles whole, and some of everything else.
fn settings() -> Vec<(u8, String, String)> {
    let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    let read = |path: &str| fs::read_to_string(experiments.join(path)).unwrap();
    let mut seeds = vec![
        (2, "profile".to_owned(), read("planted/profile.toml")),
        (1, "row".to_owned(), read("planted/irepair.toml")),
        (3, "rates".to_owned(), "[irepair]\ngpt2 = 1e-3\n".to_owned()),
        (
            0,
            "job".to_owned(),
            "profile = 'p'\nmethod = 'm'\ntitle = 't'\nmodel = 'g'\n[repair]\nmodel = 'x'\npairs = 'y'\ntop_k = '20%'\n\
             [watch]\nevery = 3\n[watch.eval]\nwindow = 4\n"
                .to_owned(),
        ),
    ];
    let one = "seed = 3\nlr = 1e-3\nmodel = 'm'\nsteps = 7\nbatch_size = 2\n";
    seeds.extend((4..13).map(|kind| (kind, format!("options-{kind}"), one.to_owned())));
    let judged =
        "model = 'm'\nprompts = 'p'\njudge = 'command:judge --fast'\nbudget_kl = 0.1\ntarget = 0.05\nchoose = 2\n";
    let suite = "format = 1\njudge = 'words:words.txt'\nprompt_tokens = 32\nmax_new_tokens = 20\ndtype = 'f32'\n[weights]\n\
                 'model.safetensors' = 'ab'\n[[clauses]]\nname = 'failures'\nkind = 'failures'\nfile = 'p.jsonl'\nmost = 0.1\n";
    seeds.extend([
        (252, "fix".to_owned(), judged.to_owned()),
        (253, "check".to_owned(), "model = 'm'\nsuite = 's'\nsame_weights = true\n".to_owned()),
        (254, "suite".to_owned(), suite.to_owned()),
    ]);
    seeds
}

/// Rows of a report, and a sensitivity.
fn report() -> Vec<u8> {
    let metric = |value: f64| Metric {
        value: Some(value),
        unit: "%".into(),
        n: 2,
        n_failed: 0,
        definition: "made up".into(),
        version: 1,
        values: Vec::new(),
    };
    let row = |method: &str, seed: u64, tox: f64| RowResult {
        schema: SCHEMA,
        profile: "planted".into(),
        row: format!("{method}-gpt2"),
        title: method.into(),
        model: "gpt2".into(),
        seed,
        lr: (method != VANILLA).then_some(1e-3),
        metrics: Metrics::from_iter([(TOX, metric(tox)), (TOKEN_PERPLEXITY, metric(9.5))]),
        prompt_scores: vec![Some(tox / 100.0), None],
        prompt_scores_by_scorer: BTreeMap::new(),
        sampled_max_scores: Vec::new(),
        cost: (method != VANILLA).then_some(Cost {
            train_s: 1.5,
            median_step_s: 0.1,
            tokens: 9,
            tokens_per_s: 90.0,
            peak_rss_bytes: 1 << 20,
            flops: 1e9,
            n_steps: 2,
            best_step: 1,
        }),
        selection: vec![1, 1],
        selected_steps: vec![vec![0], vec![1]],
        weight_change: vec![0.1, 0.0],
        trajectory: vec![TrajectoryPoint { step: 0, toxicity: Some(40.0), perplexity: Some(9.0), more: None }],
        samples: vec![Sample { prompt: "p".into(), before: "b".into(), after: "a".into() }],
        ..RowResult::default()
    };
    let sensitivity = SensitivityResult {
        schema: SCHEMA,
        profile: "planted".into(),
        model: "gpt2".into(),
        metric: "grad_l2".into(),
        reduction: "norm_of_mean".into(),
        text: "error".into(),
        n_batches: 2,
        values: vec![0.5, 1.5],
    };
    let lines = [row(VANILLA, 0, 45.0), row("irepair", 0, 5.0), row("dpo", 0, 9.0)].map(|row| json!(row).to_string());
    format!("{}\n{}", lines.join("\n"), json!(sensitivity)).into_bytes()
}

/// The state of target `state`'s run after two steps.
fn two_steps(model: &CausalLm, path: &Path) -> Vec<u8> {
    let (data, settings) = (state::data(), state::settings());
    let mut localiser = SliceLocaliser::new(&state::policy(), &data, &settings).unwrap();
    let mut engine = Engine::new(model, Method::Dapt, &mut localiser, &data, settings).unwrap();
    engine.step().unwrap();
    engine.step().unwrap();
    engine.save(path).unwrap();
    fs::read(path).unwrap()
}
