//! The same records from every format that is read (`parity/formats/`, written by Python and pyarrow), and what is
//! wrong in them named by line or row and column.

use std::io::Write;
use std::path::{Path, PathBuf};

use irepair_core::{Columns, Diagnose};
use irepair_data::{
    Labeled, Limits, MAX_LINE_BYTES, Pair, RecordFile, Sides, TextKind, Tokenizer, Whole, read_labels, read_pairs,
    read_prompts, read_texts, read_token_pairs,
};
use serde_json::{Value, json};

fn parity(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/formats").join(path)
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(parity("golden.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].clone()
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// What is said of a file, without its directory.
fn said(name: &str, bytes: &[u8]) -> String {
    let (dir, path) = file(name, bytes);
    let error = read_pairs(&path, Sides::Both).unwrap_err();
    error.diagnostic().to_string().replace(&format!("{}/", dir.path().display()), "")
}

#[test]
fn dates_and_decimal_numbers_of_parquet_are_no_texts() {
    for (name, what) in [("date", "dates or times"), ("decimal", "decimal numbers")] {
        let error = read_pairs(&parity(&format!("{name}.parquet")), Sides::Both).unwrap_err();
        let said = error.diagnostic().to_string();
        assert!(said.contains(&format!("a column that is read holds {what}")) && said.contains("row 1"), "{said}");
    }
    let want = [Pair { prompt: "a".into(), chosen: " b".into(), rejected: " c".into() }];
    assert_eq!(read_pairs(&parity("unread.parquet"), Sides::Both).unwrap(), want);
}

#[test]
fn every_format_holds_the_same_pairs() {
    let want: Vec<Pair> = serde_json::from_value(golden("plain")).unwrap();
    assert_eq!(want.len(), 40);
    for name in [
        "plain.json",
        "plain.json.gz",
        "plain.csv",
        "plain.tsv",
        "plain.none.parquet",
        "plain.snappy.parquet",
        "plain.zstd.parquet",
        "plain.gzip.parquet",
        "plain.v2.parquet",
    ] {
        assert_eq!(read_pairs(&parity(name), Sides::Both).unwrap(), want, "{name}");
        let prompts: Vec<String> = want.iter().map(|pair| pair.prompt.clone()).collect();
        assert_eq!(read_prompts(&parity(name)).unwrap(), prompts, "{name}");
    }
    // Known by its first bytes, whatever its name is.
    let (_dir, path) = file("data", &std::fs::read(parity("plain.snappy.parquet")).unwrap());
    assert_eq!(read_pairs(&path, Sides::Both).unwrap(), want);
}

/// A tokenizer with a template that writes messages down as they are.
fn chats() -> (tempfile::TempDir, Tokenizer) {
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::train_bpe(&[""], 257).unwrap().save(dir.path()).unwrap();
    let template = "{% for m in messages %}[{{ m.role }}: {{ m.content if m.content is string else m.content[0].text }}]{% endfor %}";
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    (dir, tokenizer)
}

#[test]
fn messages_are_the_same_from_json_and_parquet() {
    let (_dir, tokenizer) = chats();
    let read = |name: &str| RecordFile::plain(&parity(name)).read_pairs(Some(&tokenizer), Sides::Both).unwrap();
    assert_eq!(read("chats.json"), read("chats.parquet"));
    let first = Pair {
        prompt: "[system: Be brief.][user: City 0?]".into(),
        chosen: "[assistant: Nice 0.]".into(),
        rejected: "[assistant: Awful.]".into(),
    };
    assert_eq!((read("chats.json").kind, &read("chats.json").items[0]), (TextKind::Chat, &first));
    // Without a template they are refused, never written down as text.
    let error = read_pairs(&parity("chats.parquet"), Sides::Both).unwrap_err().diagnostic().to_string();
    assert!(error.contains("chats.parquet, row 1, key `") && error.contains("got: a list"), "{error}");
    let bare = Tokenizer::train_bpe(&[""], 257).unwrap();
    let error = RecordFile::plain(&parity("chats.json")).read_pairs(Some(&bare), Sides::Both).unwrap_err();
    assert_eq!(error.to_string(), "model has no chat template");
}

#[test]
fn labelled_completions_are_paired_in_file_order() {
    let pair = |prompt: &str, chosen: &str, rejected: &str| Pair {
        prompt: prompt.into(),
        chosen: chosen.into(),
        rejected: rejected.into(),
    };
    let want = [pair("a", " good 1", " bad 2"), pair("b", " good 3", " bad 1"), pair("a", " good 2", " bad 3")];
    assert_eq!(read_pairs(&parity("labelled.parquet"), Sides::Both).unwrap(), want);
    let tokenizer = Tokenizer::train_bpe(&[""], 257).unwrap();
    let read = |sides| {
        let path = parity("labelled.parquet");
        let pairs = RecordFile::plain(&path).pairs(None, sides).unwrap();
        read_token_pairs(pairs, &tokenizer, Limits::default()).unwrap()
    };
    let (pairs, counts) = read(Sides::Both);
    assert_eq!((pairs.len(), counts.n_labelled, counts.n_without_partner), (3, 3, [1, 1]));
    assert!(read(Sides::Rejected).0.iter().all(|pair| pair.chosen.is_empty()));

    let row = |label: Value| json!({"prompt": "a", "completion": "b", "label": label}).to_string() + "\n";
    let alone = [row(json!(true)), row(json!(1))].concat();
    assert!(said("k.jsonl", alone.as_bytes()).contains("got: 2 desirable and 0 undesirable completions"));
    assert!(said("k.jsonl", row(json!("maybe")).as_bytes()).contains("k.jsonl, line 1, key `label`"));
    let (_dir, path) = file("k.csv", b"prompt,completion,label\na, b,True\na, c,False\n");
    assert_eq!(read_pairs(&path, Sides::Both).unwrap(), [pair("a", " b", " c")]);
}

#[test]
fn labelled_texts_of_scorers_are_read_from_parquet() {
    let label = |text: &str, toxic: bool, source: Option<&str>| Labeled {
        text: text.into(),
        toxic,
        source: source.map(str::to_owned),
    };
    let want = [
        label("you grubnik", true, Some("forum")),
        label("good day", false, None),
        label("größer 🙂\n", false, None),
        label("", true, Some("forum")),
    ];
    for kind in ["bool", "int", "float"] {
        assert_eq!(read_labels(&parity(&format!("labels.{kind}.parquet"))).unwrap(), want, "{kind}");
    }
    // A file without the column names it by its first row.
    let error = read_labels(&parity("plain.none.parquet")).unwrap_err().diagnostic().to_string();
    assert!(error.contains("plain.none.parquet, row 1, key `text`"), "{error}");
}

#[test]
fn labelled_messages_are_paired_by_their_rendered_prompt() {
    let (dir, tokenizer) = chats();
    let path = dir.path().join("k.jsonl");
    let row = |content: &str, label: bool| {
        let message = |role: &str, content: &str| json!([{"role": role, "content": content}]);
        json!({"prompt": message("user", "q"), "completion": message("assistant", content), "label": label}).to_string()
    };
    std::fs::write(&path, [row("x", false), row("y", true)].join("\n")).unwrap();
    let pairs = RecordFile::plain(&path).read_pairs(Some(&tokenizer), Sides::Both).unwrap();
    let want = Pair { prompt: "[user: q]".into(), chosen: "[assistant: y]".into(), rejected: "[assistant: x]".into() };
    assert_eq!((pairs.items, pairs.kind), (vec![want], TextKind::Chat));
}

#[test]
fn columns_have_the_names_that_are_given() {
    let (_dir, path) = file("q.csv", b"question,good,bad,prompt\nq, g, b,other\n");
    let columns: Columns = "prompt=question,chosen=good,rejected=bad".parse().unwrap();
    let read = |columns: &Columns| RecordFile { path: &path, columns }.read_pairs(None, Sides::Both);
    let want = Pair { prompt: "q".into(), chosen: " g".into(), rejected: " b".into() };
    assert_eq!(read(&columns).unwrap().items, [want]);
    let error = read(&"prompt=question,chosen=god,rejected=bad".parse().unwrap()).unwrap_err();
    assert!(error.diagnostic().to_string().contains("q.csv, line 2, key `god`"), "{error:?}");
    let prompts = RecordFile { path: &path, columns: &columns }.read_prompts(None).unwrap();
    assert_eq!(prompts.items, ["q"]);
    // Both sides begin alike: without a prompt of that name, none is taken from them.
    let (_dir, path) = file("t.jsonl", b"{\"question\":\"q\",\"chosen\":\"It is a\",\"rejected\":\"It is b\"}\n");
    let typo = "prompt=qustion".parse().unwrap();
    let error = RecordFile { path: &path, columns: &typo }.read_pairs(None, Sides::Both).unwrap_err();
    assert!(error.diagnostic().to_string().contains("t.jsonl, line 1, key `qustion`"), "{error:?}");
    let (_dir, path) = file("q.jsonl", b"{\"question\":{\"text\":1}}\n");
    let error = RecordFile { path: &path, columns: &columns }.read_prompts(None).unwrap_err();
    assert!(error.diagnostic().to_string().contains("key `question.text`"), "{error:?}");
}

#[test]
fn pairs_without_a_prompt_begin_with_it_or_are_refused() {
    let written = b"prompt,chosen,rejected\n\"[{\"\"role\"\": \"\"user\"\"}]\",a,b\n";
    assert!(said("p.csv", written).contains("a list of messages written as text"));
    let (_dir, path) = file("p.jsonl", b"{\"chosen\":\"It is so nice\",\"rejected\":\"It is so bad\"}\n");
    let want = Pair { prompt: "It is so".into(), chosen: " nice".into(), rejected: " bad".into() };
    assert_eq!(read_pairs(&path, Sides::Both).unwrap(), std::slice::from_ref(&want));
    assert_eq!(read_pairs(&path, Sides::Rejected).unwrap(), [Pair { chosen: String::new(), ..want }]);
    let strange = said("p.jsonl", b"{\"question\":\"q\",\"chosen\":\" a\",\"rejected\":\" b\"}\n");
    assert!(
        strange.contains("do not begin with the same text") && strange.contains("--columns prompt=question"),
        "{strange}"
    );
    let mixed =
        b"{\"chosen\":\"a b\",\"rejected\":\"a c\"}\n{\"prompt\":\"p\",\"chosen\":\"a b\",\"rejected\":\"a c\"}\n";
    assert!(said("p.jsonl", mixed).contains("line 2, key `prompt`"));
    let mixed =
        b"{\"prompt\":\"p\",\"chosen\":\"a b\",\"rejected\":\"a c\"}\n{\"chosen\":\"a b\",\"rejected\":\"a c\"}\n";
    assert!(said("p.jsonl", mixed).contains("line 2, key `prompt`"));
}

#[test]
fn what_is_wrong_in_a_file_is_named_by_its_place() {
    for (name, bytes, what, at) in [
        ("a.json", &b"[{\"prompt\":\"p\"}"[..], "record has a wrong `chosen`", "a.json, line 1, key `chosen`"),
        ("a.json", b"[\n {\"prompt\":1}\n]", "record has a wrong `prompt`", "a.json, line 2, key `prompt`"),
        ("a.json", b"[]", "file holds no pairs", "a.json"),
        ("a.json", b"[ ", "row cannot be read: the list has no end", "a.json, line 1"),
        ("a.json", b"[{\"a\":\n[1, 2}]", "line is not JSON", "a.json, line 2"),
        ("a.json", b"[,]", "line is not JSON", "a.json, line 1"),
        ("a.json", b"[{\"prompt\":\"\xff\"}]", "line is not UTF-8", "a.json, line 1"),
        ("a.csv", b"prompt,chosen\n", "file holds no pairs", "a.csv"),
        (
            "a.csv",
            b"prompt,chosen,rejected\na,b\n",
            "row cannot be read: 2 fields, not the 3 of the first row",
            "a.csv, line 2",
        ),
        // A quote that is not closed takes the line ends behind it.
        (
            "a.csv",
            b"prompt,chosen,rejected\na,b,c\n\"d,e,f\n",
            "row cannot be read: 1 fields, not the 3 of the first row",
            "a.csv, line 3",
        ),
        (
            "a.csv",
            b"prompt,chosen,rejected\r\na,b,c\r\n\r\n\"d,\r\n\r\n",
            "row cannot be read: 1 fields, not the 3 of the first row",
            "a.csv, line 4",
        ),
        (
            "a.csv",
            b"prompt,chosen,rejected\n\"a\n\",b,\"c\n\"\nd,e\n",
            "row cannot be read: 2 fields, not the 3 of the first row",
            "a.csv, line 5",
        ),
        ("a.csv", b"prompt,prompt\na,b\n", "row cannot be read: the column `prompt` occurs twice", "a.csv, line 1"),
        ("a.csv", b"prompt,chosen,rejected\na,b,\xff\n", "line is not UTF-8", "a.csv, line 2"),
        (
            "a.csv",
            b"prompt,chosen\n\"a\nb\",c\nd,e\n",
            "record has a wrong `rejected`",
            "a.csv, line 2, key `rejected`",
        ),
        (
            "a.parquet",
            b"{\"prompt\":1}",
            "parquet file cannot be read: it does not begin as Parquet does, or it is packed",
            "a.parquet",
        ),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "data file is a git-LFS pointer", "a.parquet"),
    ] {
        let said = said(name, bytes);
        assert!(
            said.starts_with(&format!("error: {what}\n   at: {at}\n")) || said == format!("error: {what}\n   at: {at}"),
            "{said}"
        );
    }
    let records = "[{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}";
    for (end, what) in [
        ("", "the list has no end"),
        (" {}]", "trailing characters"),
        ("]\n[]", "text follows the end of the list"),
        ("]x", "text follows the end of the list"),
    ] {
        assert!(said("a.json", format!("{records}{end}").as_bytes()).contains(what), "{end}");
    }
    let written = "prompt,chosen,rejected\nq,\"[{'role': 'assistant', 'content': 'a'}]\",b\n";
    assert!(said("a.csv", written.as_bytes()).contains("a list of messages written as text"));
    let brotli = read_pairs(&parity("plain.brotli.parquet"), Sides::Both).unwrap_err();
    assert!(brotli.to_string().starts_with("parquet file cannot be read: "), "{brotli}");
}

/// Line ends, blank lines and fields of several lines in every combination: a row is where an editor shows it.
#[test]
fn rows_of_a_table_have_the_lines_that_an_editor_shows() {
    for end in ["\n", "\r\n"] {
        for (text, lines) in [
            ("prompt,chosen|a,b|c,d|", vec![2, 3]),
            ("prompt,chosen|a,b|c,d", vec![2, 3]),
            ("|prompt,chosen||a,b|||c,d||", vec![4, 7]),
            ("\"pro\nmpt\",chosen|\"a\nb\r\nc\",\"\nd\"|e,f|\"g\",\"|\"|h,i|", vec![3, 7, 8, 10]),
        ] {
            let text = text.replace('|', end);
            let (dir, path) = file("a.csv", text.as_bytes());
            let name = if text.starts_with('"') { "pro\nmpt" } else { "prompt" };
            let columns: Columns = format!("prompt={name},chosen=chosen,rejected=chosen").parse().unwrap();
            let pairs = RecordFile { path: &path, columns: &columns }.read_pairs(None, Sides::Both).unwrap();
            assert_eq!(pairs.items.len(), lines.len(), "{text:?}");
            // A column that is missing is named in the first row; one row too long, wherever it is.
            for (i, line) in lines.iter().enumerate() {
                let damaged = with_field(&text, i + 1, end);
                std::fs::write(&path, damaged).unwrap();
                let error = RecordFile { path: &path, columns: &columns }.read_pairs(None, Sides::Both).unwrap_err();
                let want = format!("{}/a.csv, line {line}", dir.path().display());
                assert_eq!(error.diagnostic().at, Some(want), "{text:?} {i}");
            }
        }
    }
    // A longer table than the parser reads at once.
    let rows: String = (0..9000).map(|i| format!("p{i},c,r\r\n")).collect();
    let said = said("a.csv", format!("prompt,chosen,rejected\r\n{rows}p,c\r\n").as_bytes());
    assert!(said.contains("at: a.csv, line 9002"), "{said}");
}

/// A table with a field more at the end of row `index`, that of names being row 0.
fn with_field(text: &str, index: usize, end: &str) -> String {
    let (mut rows, mut quoted, mut out) = (0, false, String::new());
    let mut done = false;
    let mut in_row = false;
    for c in text.chars() {
        quoted ^= c == '"';
        let ends = !quoted && end.starts_with(c);
        if ends && in_row {
            if rows == index {
                out += ",more";
                done = true;
            }
            rows += 1;
            in_row = false;
        }
        in_row |= !ends && (c != '\n' || quoted);
        out.push(c);
    }
    if done { out } else { out + ",more" }
}

#[test]
fn a_table_under_another_name_or_with_another_separator_is_called_that() {
    for (name, bytes, words) in [
        ("a.csv", "prompt;chosen;rejected\na;b;c\n", "its separator looks like `;`, not a comma"),
        ("a.csv", "prompt\tchosen\trejected\na\tb\tc\n", "its separator looks like a tab, not a comma"),
        ("a.tsv", "prompt,chosen,rejected\na,b,c\n", "its separator looks like `,`, not a tab"),
        ("a", "prompt,chosen,rejected\na,b,c\n", "let it end in `.csv`"),
        ("a.jsonl", "\"prompt\",\"chosen\"\na,b\n", "let it end in `.csv`"),
        ("a.csv", "PK\u{3}\u{4}...", "data file is a zip archive"),
        ("a.csv", "prompt,chosen,rejected\n", "file holds no pairs"),
    ] {
        let said = said(name, bytes.as_bytes());
        assert!(said.contains(words), "{said}");
    }
    // One column is a table too, and may hold any sign.
    let (_dir, path) = file("t.csv", b"text\n\"a; b\"\n");
    assert_eq!(read_texts(&path).unwrap(), ["a; b"]);
    // A later line that is not JSON is no table.
    let mixed = b"{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}\na,b\n";
    assert!(!said("a.jsonl", mixed).contains(".csv"));
}

#[test]
fn a_number_of_python_matters_where_it_is_read() {
    let pair = "\"prompt\":\"p\",\"chosen\":\" c\",\"rejected\":\" r\"";
    let want = Pair { prompt: "p".into(), chosen: " c".into(), rejected: " r".into() };
    for (name, text) in [
        ("p.jsonl", format!("{{{pair},\"score\":NaN}}\n{{\"of\":[-Infinity],{pair}}}\n")),
        ("p.json", format!("[{{{pair},\n\"score\":NaN}},{{\"of\":[-Infinity],{pair}}}]")),
    ] {
        let (_dir, path) = file(name, text.as_bytes());
        assert_eq!(read_pairs(&path, Sides::Both).unwrap(), [want.clone(), want.clone()]);
    }
    let said = said("p.jsonl", format!("{{{pair}}}\n{{\"prompt\":NaN}}\n").as_bytes());
    assert!(said.contains("`NaN` is not JSON") && said.contains("p.jsonl, line 2, key `prompt`"), "{said}");
    let (_dir, path) = file("t.jsonl", b"{\"text\":\"a\",\"toxicity\":NaN}\n");
    assert_eq!(read_texts(&path).unwrap(), ["a"]);
}

#[test]
fn a_message_list_as_text_is_refused_in_every_format_and_record() {
    let list = "[{\"role\": \"user\", \"content\": \"a\"}]";
    let record = |prompt: &str, chosen: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": "r"}).to_string();
    for (name, text, at) in [
        ("p.jsonl", record(list, "c"), "p.jsonl, line 1, key `prompt`"),
        ("p.jsonl", record("p", list), "p.jsonl, line 1, key `chosen`"),
        ("p.jsonl", record("p", "c") + "\n" + &record("p", list), "p.jsonl, line 2, key `chosen`"),
        ("p.jsonl", record("[{'role': 'user', 'content': 'a'}]", "c"), "p.jsonl, line 1, key `prompt`"),
        ("p.json", format!("[{},\n{}]", record("p", "c"), record(list, "c")), "p.json, line 2, key `prompt`"),
        ("p.jsonl", json!({"prompt": "p", "completion": list, "label": true}).to_string(), "line 1, key `completion`"),
        ("p.jsonl", json!({"chosen": list, "rejected": list}).to_string(), "p.jsonl, line 1, key `chosen`"),
    ] {
        let said = said(name, text.as_bytes());
        assert!(said.contains("a list of messages written as text") && said.contains(at), "{said}");
    }
    let (_dir, path) = file("p.jsonl", json!({"prompt": list}).to_string().as_bytes());
    assert!(read_prompts(&path).unwrap_err().to_string().contains("written as text"));
    // Text about such lists is text.
    let (_dir, path) = file("p.jsonl", record("Explain [{\"role\": \"user\"}]:", "[{\"a\": 1}]").as_bytes());
    assert_eq!(read_pairs(&path, Sides::Both).unwrap().len(), 1);
}

#[test]
fn a_text_next_to_message_lists_is_their_prompt_or_refused() {
    let (dir, tokenizer) = chats();
    let path = dir.path().join("p.jsonl");
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let read = |prompt: Value, before: &[Value]| {
        let side = |text: &str| [before, &[message("assistant", text)]].concat();
        let record = json!({"prompt": prompt, "chosen": side("good"), "rejected": side("bad")});
        std::fs::write(&path, record.to_string()).unwrap();
        RecordFile::plain(&path).read_pairs(Some(&tokenizer), Sides::Both).map_err(|e| e.diagnostic().to_string())
    };
    let before = [message("system", "Be brief."), message("user", "What is\n it?")];
    let parts = [json!({"role": "user", "content": [{"type": "text", "text": "What is it?"}]})];
    let want = |whole: Whole<Pair>| assert_eq!((whole.items.len(), &*whole.items[0].chosen), (1, "[assistant: good]"));
    // As TRL has it, the lists hold the prompt; the text repeats it, or is empty.
    for text in ["What is\n it?", " What is it? ", "", "Human: What is it?\n\nAssistant:", "is it"] {
        want(read(json!(text), &before).unwrap());
    }
    want(read(Value::Null, &before).unwrap());
    want(read(json!("What is it?"), &parts).unwrap());
    let other = read(json!("Who was it?"), &before).unwrap_err();
    assert!(other.contains("line 1, key `prompt`") && other.contains("got: other text"), "{other}");
    let alone = read(json!("What is it?"), &[]).unwrap_err();
    assert!(alone.contains("line 1, key `prompt`") && alone.contains("a list of messages, as `chosen`"), "{alone}");
    // A list as prompt, and lists that hold it once more.
    let twice = read(json!([before[1]]), &before[1..]).unwrap_err();
    assert!(twice.contains("key `chosen`") && twice.contains("begins with messages of the prompt"), "{twice}");
    let twice = read(json!(before), &before[1..]).unwrap_err();
    assert!(twice.contains("key `chosen`") && !twice.contains("template"), "{twice}");
    want(read(json!(before), &[]).unwrap());
    // What was said before may be said again.
    let again = [before[1].clone(), message("assistant", "good"), before[1].clone()];
    want(read(json!(again), &[]).unwrap());
    let (asked, said) = (&before[1], |text: &str| message("assistant", text));
    let twice = json!({"chosen": [asked, asked, said("good")], "rejected": [asked, said("bad")]});
    std::fs::write(&path, twice.to_string()).unwrap();
    let pairs = RecordFile::plain(&path).read_pairs(Some(&tokenizer), Sides::Both).unwrap();
    assert_eq!(pairs.items[0].chosen, "[user: What is\n it?][assistant: good]");
}

#[test]
fn pairs_that_are_all_empty_are_called_that() {
    let tokenizer = Tokenizer::train_bpe(&[""], 257).unwrap();
    let record = |chosen: &str| json!({"prompt": "p", "chosen": chosen, "rejected": "r"}).to_string() + "\n";
    let (_dir, path) = file("p.jsonl", [record(""), record("")].concat().as_bytes());
    let read = |path: &Path| {
        read_token_pairs(RecordFile::plain(path).pairs(None, Sides::Both).unwrap(), &tokenizer, Limits::default())
    };
    let error = read(&path).unwrap_err().diagnostic().to_string();
    assert!(error.contains("all 2 pairs are left out: a continuation is empty"), "{error}");
    std::fs::write(&path, [record(""), record("c")].concat()).unwrap();
    assert_eq!(read(&path).unwrap().1.n_dropped_empty, 1);
}

#[test]
fn a_quote_that_is_not_closed_does_not_take_the_memory() {
    let mut text = b"prompt,chosen,rejected\n\"".to_vec();
    text.resize(MAX_LINE_BYTES + (1 << 20), b'a');
    assert!(said("a.csv", &text).starts_with("error: line is longer than 16777216 bytes"));
}

#[test]
fn texts_are_read_from_tables_too() {
    let (_dir, path) = file("t.csv", b"text\none\n\"two\nlines\"\n");
    assert_eq!(read_texts(&path).unwrap(), ["one", "two\nlines"]);
}

/// Every byte of a Parquet file changed in turn, and every length: an error or other records, never a panic.
#[test]
fn a_damaged_table_is_refused_or_read() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), std::fs::read(parity("labelled.parquet")).unwrap());
    let path = dir.path().join("a.parquet");
    let mut n_refused = 0;
    for i in 0..whole.len() {
        for change in [0xff, 0x01] {
            let mut bytes = whole.clone();
            bytes[i] ^= change;
            std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
            n_refused += usize::from(read_pairs(&path, Sides::Both).is_err());
        }
    }
    for n in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..n]).unwrap();
        assert!(read_pairs(&path, Sides::Both).is_err(), "{n}");
    }
    assert!(n_refused > 100, "{n_refused}");
}

#[test]
fn parquet_in_parts_is_the_parts_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    for part in 0..2 {
        std::fs::copy(parity("plain.none.parquet"), dir.path().join(format!("a-0000{part}-of-00002.parquet"))).unwrap();
    }
    let whole = read_pairs(&parity("plain.none.parquet"), Sides::Both).unwrap();
    let parts = read_pairs(&dir.path().join("a-*-of-00002.parquet"), Sides::Both).unwrap();
    assert_eq!(parts, [whole.clone(), whole].concat());
}
