//! Equal to transformers' `apply_chat_template` and TRL's `extract_prompt` on `parity/chat/` (generator in the same
//! folder): templates of thirteen chat models over awkward conversations, prompts and continuations of pairs, token
//! ids.

use std::path::{Path, PathBuf};

use irepair_core::Diagnose;
use irepair_data::{
    Chat, ChatTemplate, Limits, Pair, RecordFile, Sides, TextKind, Tokenizer, common_beginning, read_token_pairs,
    write_pairs_of, write_prompts_of,
};
use serde_json::{Map, Value, json};

fn parity(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/chat").join(path)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn golden(name: &str) -> Value {
    serde_json::from_str(&text(&parity(name))).unwrap()
}

fn special(golden: &Value) -> Map<String, Value> {
    golden["special"].as_object().unwrap().clone()
}

/// What is rendered otherwise than in `golden`, and how often we refuse a list that Python prints in its own notation.
fn differences(golden: &Value, source: impl Fn(&str) -> String) -> (Vec<String>, usize, usize) {
    let (mut found, mut n_refused_lists, mut n) = (Vec::new(), 0, 0);
    for row in golden["rendered"].as_array().unwrap() {
        let (template, conversation) = (row["template"].as_str().unwrap(), row["conversation"].as_str().unwrap());
        let mut more = row["more"].as_object().unwrap().clone();
        let tools = more.remove("tools");
        let chat = Chat {
            messages: golden["conversations"][conversation].as_array().unwrap(),
            tools: tools.as_ref(),
            more: Some(&more),
            add_generation_prompt: row["generation"] == true,
            is_open: row["generation"].is_null(),
        };
        let rendered = ChatTemplate::new(&source(template), special(golden)).map_err(|e| e.to_string());
        let rendered = rendered.and_then(|template| template.render(chat));
        n += 1;
        match (rendered, row["text"].as_str()) {
            (Ok(got), Some(want)) if got == want => {}
            (Err(_), None) => {}
            (Err(why), Some(_)) if why.contains("where text is wanted") => n_refused_lists += 1,
            (got, want) => {
                let want = want.map_or_else(|| row["error"].to_string(), |want| format!("{want:?}"));
                found.push(format!("{template}, {conversation}, {}\n   got {got:?}\n  want {want}", row["generation"]));
            }
        }
    }
    (found, n_refused_lists, n)
}

#[test]
fn every_template_renders_every_conversation_as_transformers_does() {
    let source = |name: &str| text(&parity(&format!("templates/{name}.jinja")));
    let (found, n_refused_lists, n) = differences(&golden("golden.json"), source);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    assert!(n > 700 && n_refused_lists < 20, "{n} {n_refused_lists}");
}

#[test]
fn every_template_is_continued_inside_the_last_message_as_transformers_does() {
    let source = |name: &str| text(&parity(&format!("templates/{name}.jinja")));
    let golden = golden("continued.json");
    let (found, n_refused_lists, n) = differences(&golden, source);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    let n_texts = golden["rendered"].as_array().unwrap().iter().filter(|row| row["text"].is_string()).count();
    assert!(n > 400 && n_texts > 200 && n_refused_lists < 20, "{n} {n_texts} {n_refused_lists}");
}

/// `python parity/chat/make.py --trl TRL.whl --all FILE`, then `CHATS=FILE cargo test -p irepair-data --test chats --
/// --ignored`.
#[test]
#[ignore = "needs templates of the trl wheel, which are not all free to copy"]
fn every_template_of_trl_renders_as_transformers_does() {
    let golden: Value = serde_json::from_str(&text(Path::new(&std::env::var("CHATS").unwrap()))).unwrap();
    let source = |name: &str| golden["templates"][name].as_str().unwrap().to_owned();
    let (found, n_refused_lists, n) = differences(&golden, source);
    assert!(found.is_empty(), "{} of {n} differ:\n{}", found.len(), found.join("\n"));
    assert!(n > 3000 && n_refused_lists < 100, "{n} {n_refused_lists}");
}

/// Jinja's expressions, tags, filters, tests and methods, one a template: equal or refused. The snapshot has what is
/// refused.
#[test]
fn every_expression_is_that_of_jinja_or_refused() {
    let golden = golden("expressions.json");
    let messages = golden["messages"].as_array().unwrap();
    let chat = Chat { messages, tools: Some(&golden["tools"]), ..Chat::default() };
    let (mut n_equal, mut refused, mut other) = (0, Vec::new(), Vec::new());
    for row in golden["rendered"].as_array().unwrap() {
        let source = row["template"].as_str().unwrap();
        let made = ChatTemplate::new(source, special(&golden)).map_err(|e| e.to_string());
        match (made.and_then(|template| template.render(chat)), row["text"].as_str()) {
            (Ok(got), Some(want)) if got == want => n_equal += 1,
            (Err(_), None) => n_equal += 1,
            (Err(why), Some(_)) => refused.push(format!("{source}   {why}")),
            (Ok(got), want) => other.push(format!("{source}   {got:?} for {want:?}")),
        }
    }
    assert!(n_equal > 1100 && other.is_empty(), "{n_equal} {other:?}");
    insta::assert_snapshot!(format!("refused:\n{}\n\nother:\n{}", refused.join("\n"), other.join("\n")));
}

#[test]
fn variables_of_a_record_are_the_templates_and_no_arguments_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::train_bpe(&[""], 257).unwrap().save(dir.path()).unwrap();
    let template =
        "{{ documents[0].text if documents else 'none' }}{% for m in messages %}[{{ m.content }}]{% endfor %}";
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    let path = dir.path().join("p.jsonl");
    let read = |more: Value| {
        let prompt = json!([{"role": "user", "content": "a"}]);
        std::fs::write(&path, json!({"prompt": prompt, "chat_template_kwargs": more}).to_string()).unwrap();
        RecordFile::plain(&path).read_prompts(Some(&tokenizer)).map(|read| read.items.concat())
    };
    assert_eq!(read(json!(null)).unwrap(), "none[a]");
    assert_eq!(read(json!({"documents": [{"title": "t", "text": "d"}]})).unwrap(), "d[a]");
    for key in ["chat_template", "tools", "add_generation_prompt", "messages"] {
        let said = read(json!({key: "x"})).unwrap_err().diagnostic().to_string();
        assert!(said.contains(&format!("line 1, key `chat_template_kwargs.{key}`")), "{said}");
    }
}

/// `apply_chat_template(tools=[])` of transformers 5.23 gives the same two texts, and raises where a tool is no object.
#[test]
fn an_empty_list_of_tools_is_a_list_and_not_none() {
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::train_bpe(&[""], 257).unwrap().save(dir.path()).unwrap();
    // As the templates of Llama 3.1 to 3.3 ask.
    let template = "{% if tools is not none %}Environment: ipython {% endif %}{{ messages[0].content }}";
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    let path = dir.path().join("p.jsonl");
    let read = |tools: Value| {
        let prompt = json!([{"role": "user", "content": "a"}]);
        std::fs::write(&path, json!({"prompt": prompt, "tools": tools}).to_string()).unwrap();
        RecordFile::plain(&path).read_prompts(Some(&tokenizer)).map(|read| read.items.concat())
    };
    assert_eq!(read(json!(null)).unwrap(), "a");
    for empty in [json!([]), json!("[]")] {
        assert_eq!(read(empty).unwrap(), "Environment: ipython a");
    }
    let said = read(json!([{"name": "f"}, "get_weather"])).unwrap_err().diagnostic().to_string();
    assert!(said.contains("line 1, key `tools[1]`"), "{said}");
}

#[test]
fn prompts_of_pairs_without_one_are_those_of_trl() {
    let golden = golden("prompts.json");
    let mut n_as_messages = 0;
    for row in golden["implicit"].as_array().unwrap() {
        let (chosen, rejected) = (&row["given"][0], &row["given"][1]);
        if let (Some(chosen), Some(rejected)) = (chosen.as_str(), rejected.as_str()) {
            assert_eq!(common_beginning(chosen, rejected), row["prompt"].as_str().unwrap(), "{row}");
            continue;
        }
        // Rendered by a template that writes messages down as they are, so that the split is seen in the text.
        let dir = tempfile::tempdir().unwrap();
        Tokenizer::train_bpe(&[""], 257).unwrap().save(dir.path()).unwrap();
        let own = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}";
        std::fs::write(dir.path().join("chat_template.jinja"), own).unwrap();
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        let path = dir.path().join("p.jsonl");
        std::fs::write(&path, json!({"chosen": chosen, "rejected": rejected}).to_string()).unwrap();
        let written = |key: &str| {
            let messages = row[key].as_array().unwrap().iter();
            let message = |m: &Value| format!("[{}:{}]", m["role"].as_str().unwrap(), m["content"].as_str().unwrap());
            messages.map(message).collect::<String>()
        };
        let read = RecordFile::plain(&path).read_pairs(Some(&tokenizer), Sides::Both);
        if row["prompt"].as_array().unwrap().is_empty() {
            assert!(read.unwrap_err().to_string().contains("do not begin with the same text"), "{row}");
            continue;
        }
        n_as_messages += 1;
        let want = Pair { prompt: written("prompt"), chosen: written("chosen"), rejected: written("rejected") };
        assert_eq!(read.unwrap().items, [want], "{row}");
    }
    assert_eq!(n_as_messages, 4);
    // TRL's own slip: it looks at the last character where the first ones differ.
    assert_eq!(common_beginning("x ", "y"), "");
    assert_eq!(common_beginning("", "y"), "");
}

/// A model directory of `parity/chat/model/` with the template `name` in place of its own.
fn model(name: &str) -> (tempfile::TempDir, Tokenizer) {
    let dir = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(parity("model/begun").join(file), dir.path().join(file)).unwrap();
    }
    std::fs::copy(parity(&format!("templates/{name}.jinja")), dir.path().join("chat_template.jinja")).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    (dir, tokenizer)
}

/// Pairs of messages against TRL's split; how many were split and how many refused.
fn assert_split(golden: &Value) -> (usize, usize) {
    let (mut n_split, mut n_refused) = (0, 0);
    for row in golden["chats"].as_array().unwrap() {
        let pair = &golden["pairs"][row["pair"].as_u64().unwrap() as usize];
        let (dir, tokenizer) = model(row["template"].as_str().unwrap());
        let path = dir.path().join("p.jsonl");
        let record = json!({"prompt": pair[0], "chosen": pair[1], "rejected": pair[2]});
        std::fs::write(&path, record.to_string()).unwrap();
        let read = RecordFile::plain(&path).read_pairs(Some(&tokenizer), Sides::Both);
        let Some(split) = row["split"].as_array() else {
            n_refused += 1;
            let said = read.unwrap_err().diagnostic().to_string();
            let known = ["messages cannot be rendered", "text of the whole chat does not begin"];
            assert!(
                known.iter().any(|known| said.contains(known)) && said.contains("p.jsonl, line 1, key `"),
                "{said}"
            );
            continue;
        };
        n_split += 1;
        let [prompt, chosen, rejected] = [0, 1, 2].map(|i| split[i].as_str().unwrap().to_owned());
        assert_eq!(read.unwrap().items, [Pair { prompt: prompt.clone(), chosen, rejected }], "{row}");
        // The prompt alone, as `generate` reads it.
        std::fs::write(&path, json!({"prompt": pair[0]}).to_string()).unwrap();
        assert_eq!(RecordFile::plain(&path).read_prompts(Some(&tokenizer)).unwrap().items, [prompt], "{row}");
    }
    (n_split, n_refused)
}

#[test]
fn prompt_and_continuation_are_the_whole_chat_or_the_pair_is_refused() {
    let (n_split, n_refused) = assert_split(&golden("prompts.json"));
    assert!(n_split > 25 && n_refused > 8, "{n_split} {n_refused}");
}

#[test]
fn a_prompt_that_ends_with_an_answer_is_continued() {
    let (n_split, n_refused) = assert_split(&golden("continued.json"));
    assert!(n_split > 25 && n_refused > 8, "{n_split} {n_refused}");
}

#[test]
fn a_chat_has_the_ids_of_transformers_and_no_second_begin_token() {
    for case in ["begun", "bare"] {
        let tokenizer = Tokenizer::load(&parity("model").join(case)).unwrap();
        assert!(tokenizer.begin_id().is_some());
        let (template, conversations) = (tokenizer.chat_template().unwrap(), golden("golden.json"));
        let ids: Value = serde_json::from_str(&text(&parity(&format!("model/{case}/ids.json")))).unwrap();
        for row in ids.as_array().unwrap() {
            let messages = conversations["conversations"][row["conversation"].as_str().unwrap()].as_array().unwrap();
            let rendered = template.render(Chat { messages, ..Chat::default() }).unwrap();
            let tokenizer = tokenizer.of_kind(irepair_data::TextKind::Chat);
            let want: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
            assert_eq!(tokenizer.encode_text(&rendered).unwrap(), want, "{case} {row}");
        }
        // The same through the reader of pairs, which cuts the text in two.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.jsonl");
        let [prompt, chosen] = ["user", "assistant"].map(|role| json!([{"role": role, "content": "Hi."}]));
        std::fs::write(&path, json!({"prompt": prompt, "chosen": chosen, "rejected": chosen}).to_string()).unwrap();
        let open = || RecordFile::plain(&path).pairs(Some(&tokenizer), Sides::Both).unwrap();
        let limits = Limits { max_prompt: 999, max_continuation: 999, append_eos: true, ..Limits::default() };
        let (pairs, counts) = read_token_pairs(open(), &tokenizer, limits).unwrap();
        assert_eq!((counts.n_chats, counts.n_chosen_ended), (1, 0));
        let chat = [prompt.as_array().unwrap().clone(), chosen.as_array().unwrap().clone()].concat();
        let whole = tokenizer.encode(&template.render(Chat { messages: &chat, ..Chat::default() }).unwrap()).unwrap();
        assert_eq!([&pairs[0].prompt[..], &pairs[0].chosen[..]].concat(), whole);
        let short = Limits { max_prompt: pairs[0].prompt.len() - 1, ..limits };
        let none = read_token_pairs(open(), &tokenizer, short).unwrap_err();
        assert_eq!(none.to_string(), "prompts of all 1 chats are too long");
        let begins = whole.iter().filter(|id| Some(**id) == tokenizer.begin_id()).count();
        assert_eq!(begins, usize::from(case == "begun"));
        // The rendered texts, written down and read again.
        let texts = RecordFile::plain(&path).read_pairs(Some(&tokenizer), Sides::Both).unwrap();
        assert_eq!(tokenizer.marked_kind(texts.kind), TextKind::Chat);
        write_pairs_of(&path, &texts.items, TextKind::Chat).unwrap();
        assert_eq!(RecordFile::plain(&path).read_pairs(Some(&tokenizer), Sides::Both).unwrap(), texts);
        assert_eq!(read_token_pairs(open(), &tokenizer, limits).unwrap(), (pairs, counts));
        let prompts = [texts.items[0].prompt.clone()];
        write_prompts_of(&path, &prompts, TextKind::Chat).unwrap();
        let read = RecordFile::plain(&path).read_prompts(Some(&tokenizer)).unwrap();
        assert_eq!((&read.items[..], read.kind), (&prompts[..], TextKind::Chat));
    }
}

#[test]
fn a_file_is_rendered_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.jsonl");
    let said = |records: &[Value]| {
        std::fs::write(&path, records.iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
        let pairs = RecordFile::plain(&path).read_pairs(None, Sides::Both).map(|read| read.kind);
        let prompts = RecordFile::plain(&path).read_prompts(None).map(|read| read.kind);
        [pairs, prompts].map(|read| read.map_err(|error| error.diagnostic().to_string()))
    };
    let plain = json!({"prompt": "a", "chosen": "b", "rejected": "c"});
    let with = |mark: Value| {
        let mut record = plain.clone();
        record["rendered"] = mark;
        record
    };
    assert_eq!(said(&[plain.clone(), plain.clone()]), [Ok(TextKind::Plain), Ok(TextKind::Plain)]);
    assert_eq!(said(&[with(true.into()), with(true.into())]), [Ok(TextKind::Chat), Ok(TextKind::Chat)]);
    // Another column of that name is not read.
    assert_eq!(said(&[with("yes".into()), with(false.into())]), [Ok(TextKind::Plain), Ok(TextKind::Plain)]);
    for found in said(&[with(true.into()), plain.clone()]).into_iter().chain(said(&[plain.clone(), with(true.into())]))
    {
        let said = found.unwrap_err();
        assert!(said.contains("p.jsonl, line 2, key `rendered`") && said.contains("as in the first record"), "{said}");
    }
    // A list is rendered by the template, and not marked.
    let list = json!([{"role": "user", "content": "a"}]);
    let listed = json!({"prompt": list, "chosen": list, "rejected": list, "rendered": true});
    assert!(said(&[listed])[0].as_ref().unwrap_err().contains("text, which was rendered before"));
}
