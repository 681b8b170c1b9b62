//! Files of pairs, labels and words in other forms, and models with chat templates.

use super::*;

/// A directory with the base model, another name and a chat template.
fn chat_model() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = copy_of_base("with-template");
        let template = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{{ eos_token }}{% endfor %}\
                        {% if add_generation_prompt %}<a>{% endif %}";
        fs::write(dir.join("chat_template.jinja"), template).unwrap();
    });
    "with-template"
}

/// A copy of the base model.
fn copy_of_base(name: &str) -> PathBuf {
    let to = workshop().join(name);
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(workshop().join("base")).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    to
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

#[test]
fn prompts_that_do_not_fit_with_their_continuation_are_counted() {
    let dir = workshop();
    let long = |i: usize| pair(&"Anna met Tom at the mill. ".repeat(if i < 3 { 20 } else { 1 }), " nice.", " awful.");
    put(dir, "over.jsonl", (0..8).map(long));
    let output = irepair(dir, "eval --model base --pairs over.jsonl");
    assert_says(&succeed(&output), &["wrong_preference"]);
    let want = "over.jsonl: 3 of 8 prompts do not fit the context of 48 tokens with what follows them: their last tokens \
                are kept";
    assert_says(&said(&output), &[want]);
    assert!(!said(&irepair(dir, "eval --model base --pairs pairs.jsonl")).contains("do not fit"));
}

#[test]
fn a_message_list_as_text_is_never_trained_on_with_its_brackets() {
    let dir = workshop();
    let list = json!([message("user", "Tom?")]).to_string();
    put(dir, "written.jsonl", (0..20).map(|_| pair(&list, " nice.", " awful.")));
    let error = refused(&irepair(dir, "repair --model base --pairs written.jsonl --out x --method dpo --steps 1"), 4);
    assert_says(
        &error,
        &["a list of messages written as text", "at: written.jsonl, line 1, key `prompt`", "write the list itself"],
    );
    let error = refused(&irepair(dir, "generate --model base --prompts written.jsonl"), 4);
    assert_says(&error, &["written.jsonl, line 1, key `prompt`"]);
}

#[test]
fn a_text_prompt_that_its_lists_contradict_is_refused_by_name() {
    let dir = workshop();
    let model = chat_model();
    let record = |prompt: Value, before: &[Value]| {
        let side = |text: &str| [before, &[message("assistant", text)]].concat();
        json!({"prompt": prompt, "chosen": side("nice"), "rejected": side("awful")})
    };
    let repair = |name: &str, record: &Value| {
        put(dir, name, std::iter::repeat_n(record.clone(), 12));
        irepair(
            dir,
            &format!("repair --model {model} --pairs {name} --out out-{name} --method dpo --steps 1 --n-validation 2"),
        )
    };
    let user = [message("user", "Tom?")];
    let output = repair("same-prompt.jsonl", &record(json!("Tom?"), &user));
    succeed(&output);
    // The context of 48 halves the limits of chats.
    assert_says(
        &said(&output),
        &["limits of chats: 24 tokens of a prompt and 24 of a continuation, half of the model's 48 positions"],
    );
    let other = refused(&repair("other-prompt.jsonl", &record(json!("Dora?"), &user)), 4);
    assert_says(&other, &["other-prompt.jsonl, line 1, key `prompt`", "got: other text"]);
    let alone = refused(&repair("text-prompt.jsonl", &record(json!("Tom?"), &[])), 4);
    assert_says(
        &alone,
        &["text-prompt.jsonl, line 1, key `prompt`", "a list of messages, as `chosen` and `rejected` are"],
    );
    let twice = refused(&repair("twice.jsonl", &record(json!(user), &user)), 4);
    assert_says(&twice, &["twice.jsonl, line 1, key `chosen`", "a list that begins with messages of the prompt"]);
    assert!(!twice.contains("template"), "the template has no part in it: {twice}");
}

#[test]
fn pairs_that_are_all_empty_are_not_called_too_few() {
    let dir = workshop();
    put(dir, "empty.jsonl", (0..9).map(|_| pair("The city was", "", " awful.")));
    let repair = "--out x --method dpo --steps 1";
    let error = refused(&irepair(dir, &format!("repair --model base --pairs empty.jsonl {repair}")), 4);
    assert_says(&error, &["all 9 pairs are left out: a continuation is empty", "at: empty.jsonl"]);
    put(dir, "nearly.jsonl", (0..9).map(|i| pair("The city was", if i < 8 { "" } else { " nice." }, " awful.")));
    let error =
        refused(&irepair(dir, &format!("repair --model base --pairs nearly.jsonl --n-validation 1 {repair}")), 4);
    assert_says(&error, &["got: 1; 8 others are left out"]);
}

#[test]
fn a_row_of_a_table_with_cr_lf_has_its_own_line() {
    let dir = workshop();
    fs::write(dir.join("dos.csv"), "prompt,chosen,rejected\r\na, b, c\r\nd, e, f\r\ng, h\r\n").unwrap();
    let error = refused(&irepair(dir, "eval --model base --pairs dos.csv"), 4);
    assert_says(&error, &["at: dos.csv, line 4"]);
    fs::write(dir.join("semicolon.csv"), "prompt;chosen;rejected\na;b;c\n").unwrap();
    let error = refused(&irepair(dir, "eval --model base --pairs semicolon.csv"), 4);
    assert_says(&error, &["its separator looks like `;`, not a comma", "at: semicolon.csv, line 1"]);
    fs::write(dir.join("unnamed"), "prompt,chosen,rejected\na, b, c\n").unwrap();
    let error = refused(&irepair(dir, "eval --model base --pairs unnamed"), 4);
    assert_says(&error, &["at: unnamed, line 1", "let it end in `.csv`"]);
    fs::write(dir.join("pairs.zip"), b"PK\x03\x04\x14\0").unwrap();
    assert_says(&refused(&irepair(dir, "eval --model base --pairs pairs.zip"), 4), &["zip archive", "unpack it"]);
}

#[test]
fn a_number_of_python_in_a_key_that_nobody_reads_is_no_error() {
    let dir = workshop();
    let lines = fs::read_to_string(dir.join("pairs.jsonl")).unwrap().replace("{\"", "{\"score\":NaN,\"");
    fs::write(dir.join("nan.jsonl"), lines).unwrap();
    let eval = |name: &str| succeed(&irepair(dir, &format!("eval --model base --pairs {name}")));
    assert_eq!(eval("nan.jsonl"), eval("pairs.jsonl"));
    fs::write(dir.join("nan-prompt.jsonl"), "{\"prompt\": NaN, \"chosen\": \" a\", \"rejected\": \" b\"}\n").unwrap();
    let error = refused(&irepair(dir, "eval --model base --pairs nan-prompt.jsonl"), 4);
    assert_says(&error, &["`NaN` is not JSON", "at: nan-prompt.jsonl, line 1, key `prompt`", "write null"]);
}

#[test]
fn a_prompt_that_was_cut_is_not_shown_as_if_it_were_read() {
    let dir = workshop();
    put(dir, "cut.jsonl", ["##########", "##"].map(|prompt| json!({"prompt": prompt})));
    let generate = "generate --model base --prompts cut.jsonl --prompt-tokens 4 --max-new-tokens 2";
    let lines = succeed(&irepair(dir, &format!("{generate} --json")));
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rows[0]["prompt"], &rows[0]["n_cut"]), (&json!("##########"), &json!(6)));
    assert_eq!((&rows[0]["prompt_read"], rows[1].get("n_cut")), (&json!("####"), None));
    let text = succeed(&irepair(dir, generate));
    assert!(text.starts_with("#### […] ‖ ") && text.contains("\n## ‖ "), "{text}");
    let text = succeed(&irepair(dir, &format!("{generate} --prompt-side end")));
    assert!(text.starts_with("[…] #### ‖ "), "{text}");
}

#[test]
fn what_changed_outside_the_blocks_is_named_and_bytes_are_those_of_the_files() {
    let dir = workshop();
    succeed(&irepair(
        dir,
        "repair --model base --pairs pairs.jsonl --method dpo --steps 6 --warmup-steps 0 --lr 1e-2 --out all-moved",
    ));
    let changed = |of: &str| {
        let text = succeed(&irepair(dir, &format!("eval --model {of} --reference base")));
        text.lines().find(|line| line.starts_with("changed: ")).unwrap().to_owned()
    };
    let whole = changed("all-moved");
    assert_says(&whole, &["changed: blocks 0,1,2 and outside of them wte.weight ", " bytes"]);
    let bytes = |line: &str| line.split(' ').rev().nth(1).unwrap().parse::<u64>().unwrap();
    // The same weights, stored in half the bytes.
    let narrow = copy_of_base("narrow");
    let file = fs::read(dir.join("all-moved/model.safetensors")).unwrap();
    fs::write(narrow.join("model.safetensors"), in_bf16(&file)).unwrap();
    assert_eq!(bytes(&changed("narrow")) * 2, bytes(&whole));
}

/// A safetensors file of float32 with every value cut to bfloat16.
fn in_bf16(file: &[u8]) -> Vec<u8> {
    let n = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&file[8..8 + n]).unwrap();
    for (_, tensor) in header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
        tensor["dtype"] = json!("BF16");
        let half = |i: usize| json!(tensor["data_offsets"][i].as_u64().unwrap() / 2);
        tensor["data_offsets"] = json!([half(0), half(1)]);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let values: Vec<u8> = file[8 + n..].chunks(4).flat_map(|value| [value[2], value[3]]).collect();
    [&(header.len() as u64).to_le_bytes()[..], &header, &values].concat()
}

#[test]
fn phrases_of_a_word_list_are_counted() {
    let dir = workshop();
    fs::write(dir.join("phrases.txt"), "grubnik\nawful dump\nd*mp\n").unwrap();
    let eval = irepair(dir, "eval --model base --prompts prompts.jsonl --lexicon phrases.txt");
    succeed(&eval);
    let note = "phrases.txt: 2 of 3 entries hold a space or punctuation and never match";
    assert_eq!(said(&eval).matches(note).count(), 1, "{}", said(&eval));
    let apply = irepair(dir, "scorer apply --scorer phrases.txt --input corpus.txt");
    assert_eq!(said(&apply).matches(note).count(), 1, "{}", said(&apply));
    assert!(!said(&irepair(dir, "scorer apply --scorer words.txt --input corpus.txt")).contains("never match"));
}

#[test]
fn labels_of_tables_are_read() {
    let dir = workshop();
    let text = |i: usize| if i.is_multiple_of(2) { format!("you grubnik {i}") } else { format!("good day {i}") };
    let label = |i: usize| [["1", "0"], ["True", "False"]][i % 3 % 2][i % 2];
    let rows = |separator: char| {
        let row = |i: usize| format!("{}{separator}{}\n", text(i), label(i));
        format!("text{separator}toxic\n") + &(0..60).map(row).collect::<String>()
    };
    fs::write(dir.join("labels.csv"), rows(',')).unwrap();
    fs::write(dir.join("labels.tsv"), rows('\t')).unwrap();
    put(dir, "labels.jsonl", (0..60).map(|i| json!({"text": text(i), "toxic": i % 2 == 0})));
    fs::write(dir.join("grubnik.txt"), "grubnik\n").unwrap();
    let measured = |data: &str| {
        let eval = format!("scorer eval --scorer grubnik.txt --data {data} --json");
        let mut json: Value = serde_json::from_str(&succeed(&irepair(dir, &eval))).unwrap();
        json.as_object_mut().unwrap().remove("data_sha256");
        json
    };
    assert_eq!(measured("labels.jsonl")["all"]["n_toxic"], 30);
    assert_eq!(measured("labels.csv"), measured("labels.jsonl"));
    assert_eq!(measured("labels.tsv"), measured("labels.jsonl"));
    succeed(&irepair(dir, "scorer train --data labels.csv --out of-csv.scorer"));
}

#[test]
fn the_begin_token_of_chats_is_the_templates() {
    let dir = workshop();
    put(dir, "chats.jsonl", [json!({"prompt": [message("user", "Tom?")]})]);
    let generate = |model: &str, prompts: &str| {
        let output = irepair(dir, &format!("generate --model {model} --prompts {prompts} --max-new-tokens 2"));
        succeed(&output);
        said(&output)
    };
    let chats = generate(chat_model(), "chats.jsonl");
    assert_says(&chats, &["begin-of-text token: the chat template's alone"]);
    assert!(!chats.contains("as tokenizer.json says"), "{chats}");
    assert_says(&generate("base", "prompts.jsonl"), &["begin-of-text token: none, as tokenizer.json says"]);
}
