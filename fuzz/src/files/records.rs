//! Files of records and chat templates; the first byte selects the reader.

use std::path::Path;

use irepair_data::{
    Chat, ChatTemplate, Error, Place, Sides, read_acceptability, read_cloze, read_continuations, read_labels,
    read_minimal_pairs, read_multiple_endings, read_pairs, read_prompts, read_running_text, read_texts, write_cloze,
    write_jsonl, write_prompts,
};

use serde_json::{Map, Value, json};

use super::shared::{put, said};

/// First bytes of a CSV file, and of a chat template with its messages after a byte 255.
const TABLE: u8 = 253;
const CHAT: u8 = 254;

/// Pairs, prompts and last-word items read back equal after writing; the other readers do not panic.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let Some((reader, data)) = data.split_first() else { return };
    if *reader == CHAT {
        return chat(data);
    }
    if *reader == TABLE {
        let path = put(dir, "fuzzed.csv", data);
        return read_pairs(&path, Sides::Both).map(drop).unwrap_or_else(|error| said(&error));
    }
    let (path, again) = (put(dir, "fuzzed.jsonl", data), dir.join("again.jsonl"));
    let done = match reader % 10 {
        0 => read_pairs(&path, Sides::Both).map(|pairs| {
            write_jsonl(&again, &pairs).expect("the target's own directory");
            assert_eq!(read_pairs(&again, Sides::Both).expect("just written"), pairs);
        }),
        1 => read_prompts(&path).map(|prompts| {
            write_prompts(&again, &prompts).expect("the target's own directory");
            assert_eq!(read_prompts(&again).expect("just written"), prompts);
        }),
        2 => read_cloze(&path).map(|items| {
            write_cloze(&again, &items).expect("the target's own directory");
            assert_eq!(read_cloze(&again).expect("just written"), items);
        }),
        3 => read_pairs(&path, Sides::Rejected).map(drop),
        4 => read_texts(&path).map(drop),
        5 => read_labels(&path).map(drop),
        6 => read_minimal_pairs(&path).map(drop),
        7 => read_acceptability(&path).map(drop),
        8 => read_continuations(&path).map(drop),
        _ => read_multiple_endings(&path).map(drop).and_then(|()| read_running_text(&path).map(drop)),
    };
    if let Err(error) = done {
        assert!(!matches!(error, Error::Tokenize { .. }));
        said(&error);
    }
}

/// A template is refused, renders the messages or says in a line why it does not.
fn chat(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 255);
    let template = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let given = parts.next().and_then(|messages| serde_json::from_slice::<Vec<Value>>(messages).ok());
    let messages = given.unwrap_or_else(|| vec![json!({"role": "user", "content": "a \u{202e}<b>"})]);
    let tokens = Map::from_iter([("bos_token".to_owned(), json!("<s>"))]);
    let template = match ChatTemplate::new(&template, tokens) {
        Ok(template) => template,
        Err(error) => return said(&error),
    };
    let chat = Chat { messages: &messages, add_generation_prompt: true, ..Chat::default() };
    if let Err(why) = template.render(chat) {
        let (path, place, key) = ("pairs.jsonl".into(), Place::Line(1), "prompt".to_owned());
        said(&Error::NotRendered { path, place, key, template: "chat_template.jinja".into(), why });
    }
}
