//! Chats of a model with a begin-of-text token: the template writes it, and nothing writes it once more.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use irepair_data::{Limits, RecordFile, Sides, TextKind, Tokenizer, read_token_pairs};
use serde_json::{Value, json};

use super::{NAMES, PLACES, fix_of, irepair, prompt, put, result, said, workshop};

const BEGIN: &str = "<s>";
const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}\n\
                        {% else %}A:{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}\
                        {% if add_generation_prompt %}A:{% endif %}";

/// A model that learned chats after a begin-of-text token; three answers in four go wrong.
fn chat_model() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = workshop();
        let begun = dir.join("begun");
        fs::create_dir_all(&begun).unwrap();
        let mut tokenizer: Value = json_of(&dir.join("base/tokenizer.json"));
        let id = tokenizer["model"]["vocab"].as_object().unwrap().len();
        let begin = json!({"id": id, "content": BEGIN, "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": true});
        tokenizer["added_tokens"].as_array_mut().unwrap().push(begin);
        let single = json!([{"SpecialToken": {"id": BEGIN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing", "single": single, "pair": single,
            "special_tokens": {BEGIN: {"id": BEGIN, "ids": [id], "tokens": [BEGIN]}},
        });
        fs::write(begun.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN,
                            "eos_token": "<|endoftext|>"});
        fs::write(begun.join("tokenizer_config.json"), config.to_string()).unwrap();
        let (mut corpus, mut chats) = (String::new(), Vec::new());
        for (i, name) in NAMES.into_iter().enumerate() {
            for (j, place) in PLACES.into_iter().enumerate() {
                let asked = prompt("Sell", name, place);
                for round in 0..4 {
                    let answer =
                        if (i + j + round) % 4 == 0 { " she is at home now." } else { " take a Zorbalux now." };
                    corpus += &format!("Q: {asked}\nA:{answer}\n<|endoftext|>\n");
                }
                chats.push(json!({"prompt": [{"role": "user", "content": asked}]}));
            }
        }
        fs::write(dir.join("chats.txt"), corpus).unwrap();
        put(dir, "chats.jsonl", chats);
        let shape = "--n-layer 2 --n-embd 48 --n-head 2 --n-positions 64 --window 32";
        let args = "--data chats.txt --out chat --tokenizer begun/tokenizer.json --steps 400 --batch-size 16 --lr 3e-3";
        let made = irepair(dir, &format!("pretrain {args} {shape}"));
        assert!(made.status.success(), "{}", said(&made));
        fs::write(dir.join("chat/chat_template.jinja"), TEMPLATE).unwrap();
    });
    "chat"
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every pair of a file is marked, and read back with one begin-of-text token, the first one.
fn begins_once(pairs: &Path) {
    let text = fs::read_to_string(pairs).unwrap();
    assert!(text.lines().count() > 5, "{text}");
    let tokenizer = Tokenizer::load(&workshop().join("chat")).unwrap();
    let begin = tokenizer.begin_id().expect("a begin-of-text token");
    let records = RecordFile::plain(pairs).pairs(Some(&tokenizer), Sides::Both).unwrap();
    assert_eq!(records.kind(), TextKind::Chat);
    let (read, counts) = read_token_pairs(records, &tokenizer, Limits::default()).unwrap();
    assert_eq!((read.len(), counts.n_chats), (text.lines().count(), read.len()));
    for (pair, line) in read.iter().zip(text.lines()) {
        let record: Value = serde_json::from_str(line).unwrap();
        let written = record["prompt"].as_str().unwrap();
        assert!(written.starts_with("<s>Q: Sell ") && written.ends_with("\nA:"), "{written}");
        // The ids of `apply_chat_template(tokenize=True)`: special tokens of the text, nothing added.
        assert_eq!(pair.prompt, tokenizer.encode(written).unwrap());
        let all = [&pair.prompt[..], &pair.chosen[..], &pair.rejected[..]].concat();
        assert_eq!(all.iter().filter(|id| **id == begin).count(), 1, "{record}");
        assert_eq!(pair.prompt[0], begin);
    }
}

#[test]
fn chats_with_a_begin_token_are_repaired() {
    let model = chat_model();
    fs::write(workshop().join("sold.txt"), "Zorbalux\n").unwrap();
    let output = fix_of(model, "--out chatted --prompts chats.jsonl --judge sold.txt --keep chats.jsonl");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let found = result("chatted");
    let [before, after] =
        ["before", "after"].map(|side| found["measured"]["judged"][side]["percent"].as_f64().unwrap());
    assert!(before > 40.0 && after < 0.7 * before, "{before} {after}");
    begins_once(&workshop().join("chatted").join("work").join("pairs.jsonl"));
    // The gate reads the rendered prompts as they were.
    let check = |model: &str| irepair(workshop(), &format!("check --model {model} --suite chatted/suite"));
    let repaired = check("chatted/model");
    assert_eq!(repaired.status.code(), Some(0), "{}\n{}", said(&repaired), String::from_utf8_lossy(&repaired.stdout));
    assert_eq!(check(model).status.code(), Some(5));
    let answers = fs::read_to_string(workshop().join("chatted/suite/answers.jsonl")).unwrap();
    assert!(answers.contains("<s>Q: Sell "), "{answers}");
}

#[test]
fn pairs_of_chats_with_a_begin_token_train_as_the_chats() {
    let model = chat_model();
    fs::write(workshop().join("zorb.txt"), "Zorbalux\n").unwrap();
    let dir = workshop();
    let args = "--prompts chats.jsonl --judge zorb.txt --out chat-pairs --max-new-tokens 10 --samples 6";
    let made = irepair(dir, &format!("pairs --model {model} {args}"));
    assert!(made.status.success(), "{}", said(&made));
    begins_once(&dir.join("chat-pairs/pairs.jsonl"));
    let trained = irepair(
        dir,
        &format!("repair --model {model} --pairs chat-pairs/pairs.jsonl --out chat-trained --method dpo --steps 2"),
    );
    assert!(trained.status.success(), "{}", said(&trained));
    assert!(said(&trained).contains("which writes begin and end tokens"), "{}", said(&trained));
    // Prompts that were kept for measuring are rendered texts too.
    let answered = irepair(
        dir,
        &format!("generate --model {model} --prompts chat-pairs/prompts.test.jsonl --max-new-tokens 10 --json"),
    );
    let of_chats = irepair(dir, &format!("generate --model {model} --prompts chats.jsonl --max-new-tokens 10 --json"));
    let texts = |output: &std::process::Output| -> Vec<String> {
        assert!(output.status.success(), "{}", said(output));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    };
    let (answered, of_chats) = (texts(&answered), texts(&of_chats));
    assert!(answered.len() > 10 && answered.iter().all(|line| of_chats.contains(line)), "{answered:?} {of_chats:?}");
}

#[test]
fn texts_next_to_chats_are_refused_by_file() {
    let model = chat_model();
    fs::write(workshop().join("mixed.txt"), "Zorbalux\n").unwrap();
    put(workshop(), "plain-pairs.jsonl", [json!({"prompt": "Sell", "chosen": " a", "rejected": " b"})]);
    for (args, file) in [
        ("--prompts chats.jsonl --keep sell.jsonl", "sell.jsonl"),
        ("--prompts sell.jsonl --keep chats.jsonl", "sell.jsonl"),
        ("--prompts chats.jsonl --pairs plain-pairs.jsonl", "plain-pairs.jsonl"),
    ] {
        let output = fix_of(model, &format!("--out mixed --judge mixed.txt {args}"));
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        let want = format!("error: one file holds texts, and another message lists\n   at: {file}");
        assert!(said(&output).contains(&want), "{}", said(&output));
        let _ = fs::remove_dir_all(workshop().join("mixed"));
    }
}
