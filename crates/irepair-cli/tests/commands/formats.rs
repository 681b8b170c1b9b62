//! Pairs and prompts in other forms and formats, and names of the hub, through the commands that read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{irepair, refuse, succeed, workshop};

/// A directory of the workshop with the base model under a chat template.
fn chat_model(name: &str) -> PathBuf {
    let dir = workshop().join(name);
    fs::create_dir(&dir).unwrap();
    for file in fs::read_dir(workshop().join("base")).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            fs::copy(&file, dir.join(file.file_name().unwrap())).unwrap();
        }
    }
    let template = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{{ eos_token }}{% endfor %}\
                    {% if add_generation_prompt %}<a>{% endif %}";
    fs::write(dir.join("chat_template.jinja"), template).unwrap();
    dir
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn message_lists_are_rendered_or_refused() {
    let dir = workshop();
    chat_model("chat");
    let pair = r#"{"prompt":[{"role":"user","content":"Tom?"}],"chosen":[{"role":"assistant","content":"good day"}],"rejected":[{"role":"assistant","content":"you grubnik"}]}"#;
    fs::write(dir.join("chats.json"), format!("[{}]", [pair; 12].join(",\n"))).unwrap();
    let repair = "--method dpo --steps 2 --batch-size 2 --n-validation 2";
    let done = irepair(dir, &format!("repair --model chat --pairs chats.json --out chatted {repair}"));
    succeed(&done);
    assert!(stderr(&done).contains("message lists, rendered by the model's chat template"), "{}", stderr(&done));
    assert!(!stderr(&done).contains("learn not to stop"), "{}", stderr(&done));
    assert!(fs::read_to_string(dir.join("chatted/repair.toml")).unwrap().contains("max_prompt = 24\n"));

    let (code, said) = refuse(&irepair(dir, &format!("repair --model base --pairs chats.json --out no {repair}")));
    assert_eq!((code, said.lines().next()), (4, Some("error: model has no chat template")));
    let (code, said) = refuse(&irepair(dir, "generate --model chat --prompts chats.json --prompt-tokens 3"));
    assert_eq!((code, said.lines().next()), (4, Some("error: prompts of messages would be cut")));
    let text = succeed(&irepair(dir, "generate --model chat --prompts chats.json --max-new-tokens 1 --json"));
    assert!(text.starts_with(r#"{"prompt":"<u>Tom?<|endoftext|><a>","#), "{text}");
}

#[test]
fn tables_with_other_names_give_the_same_as_jsonl() {
    let dir = workshop();
    fs::write(dir.join("q.csv"), "question,other\nTom said,x\nAnna met,y\n").unwrap();
    let of = |args: &str| succeed(&irepair(dir, &format!("generate --model base --max-new-tokens 3 --json {args}")));
    assert_eq!(of("--prompts q.csv --columns prompt=question"), of("--prompts prompts.jsonl"));
    let (code, said) = refuse(&irepair(dir, "generate --model base --prompts q.csv"));
    assert!(code == 4 && said.contains("q.csv, line 2, key `prompt`"), "{said}");
    let (code, said) =
        refuse(&irepair(dir, "sensitivity --model base --data q.csv --columns prompt=question,rejected=bad"));
    assert!(code == 4 && said.contains("q.csv, line 2, key `bad`"), "{said}");
    let bad = irepair(dir, "generate --model base --prompts q.csv --columns question=prompt");
    assert!(bad.status.code() == Some(2) && stderr(&bad).contains("`question` is none of prompt"), "{}", stderr(&bad));
}

#[test]
fn labelled_completions_become_pairs_and_the_rest_is_counted() {
    let dir = workshop();
    let row = |i: usize, good: bool| {
        format!(
            "{{\"prompt\":\"Tom {}:\",\"completion\":\" {}\",\"label\":{good}}}\n",
            i / 2,
            if good { "good" } else { "bad" }
        )
    };
    let rows: String = (0..21).map(|i| row(i, i % 2 == 0)).collect();
    fs::write(dir.join("labelled.jsonl"), rows).unwrap();
    let args = "repair --model base --pairs labelled.jsonl --out of-labels --method dpo --steps 1 --batch-size 2 --n-validation 2";
    let done = irepair(dir, args);
    succeed(&done);
    let said = "labelled completions: 10 pairs of equal prompts; without a partner: 1 desirable, 0 undesirable";
    assert!(stderr(&done).contains(said), "{}", stderr(&done));
}

/// Runs with a cache of the hub.
fn with_cache(cache: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(workshop()).args(args.split_whitespace()).args(["--threads", "1"]).env("HF_HUB_CACHE", cache);
    command.output().unwrap()
}

#[test]
fn names_of_the_hub_are_looked_for_in_its_cache_alone() {
    let cache = workshop().join("hub");
    let model = cache.join("models--me--base/snapshots/abc");
    fs::create_dir_all(&model).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(workshop().join("base").join(file), model.join(file)).unwrap();
    }
    let data = cache.join("datasets--me--prompts/snapshots/def/data");
    fs::create_dir_all(&data).unwrap();
    fs::copy(workshop().join("prompts.jsonl"), data.join("train.jsonl")).unwrap();
    let args = "--max-new-tokens 3 --json";
    let named = with_cache(&cache, &format!("generate --model me/base --prompts me/prompts {args}"));
    let plain = with_cache(&cache, &format!("generate --model base --prompts prompts.jsonl {args}"));
    assert_eq!(succeed(&named), succeed(&plain));
    assert!(stderr(&named).contains("me/base: "), "{}", stderr(&named));
    // A revision by its branch or commit; of two snapshots without `main` one has to be named.
    fs::create_dir_all(cache.join("models--me--base/snapshots/old")).unwrap();
    let (code, said) = refuse(&with_cache(&cache, &format!("generate --model me/base --prompts prompts.jsonl {args}")));
    assert!(code == 4 && said.contains("`me/base` has 2 snapshots and no `main`"), "{said}");
    assert!(said.contains("name one, such as `me/base@abc`; there are abc, old"), "{said}");
    fs::create_dir_all(cache.join("models--me--base/refs/pr")).unwrap();
    fs::write(cache.join("models--me--base/refs/pr/1"), "abc").unwrap();
    for revision in ["abc", "pr/1"] {
        let args = format!("generate --model me/base@{revision} --prompts me/prompts@def {args}");
        assert_eq!(succeed(&with_cache(&cache, &args)), succeed(&plain));
    }
    // Every command that takes a model or data.
    let run = |args: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
        command.current_dir(workshop()).args(args.split_whitespace()).env("HF_HUB_CACHE", &cache).output().unwrap()
    };
    succeed(&run("patch create --base me/base@abc --repaired base --out hub.patch"));
    succeed(&run("patch verify --model me/base@abc --patch hub.patch"));
    succeed(&run("patch apply --base me/base@abc --patch hub.patch --out hub-applied"));
    fs::write(workshop().join("hub-words.txt"), "grubnik\n").unwrap();
    let labels = cache.join("datasets--me--labels/snapshots/ghi");
    fs::create_dir_all(&labels).unwrap();
    fs::write(labels.join("train.csv"), "text,toxic\nyou grubnik,1\ngood day,0\n").unwrap();
    succeed(&run("scorer eval --scorer hub-words.txt --data me/labels"));
    succeed(&run("scorer apply --scorer hub-words.txt --input me/labels"));
    let (code, said) = refuse(&run("adapter --base me/other --repaired base --rank 1 --out hub-adapter"));
    assert!(code == 4 && said.contains("hf download me/other"), "{said}");
    let (code, said) = refuse(&with_cache(&cache, "generate --model me/other --prompts prompts.jsonl"));
    assert!(code == 4 && said.contains("neither a path nor a model in the hub's cache"), "{said}");
    assert!(said.contains("hf download me/other"), "{said}");
}
