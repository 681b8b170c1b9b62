//! The forms of records of pairs, and records that contradict theirs.

use serde_json::Value;

use crate::found::Found;
use crate::preference::TextKind;
use crate::record::Record;
use crate::{Error, Result};

/// Where a pair has its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In a key of its own.
    Explicit,
    /// At the beginning of both sides.
    Implicit,
    /// Next to one labelled completion.
    Labelled,
}

/// The form of a pair, and the kind of its texts.
pub(crate) fn form_of(record: &Record<'_>) -> Result<(Form, TextKind)> {
    let has = |key| record.get(key).is_some();
    if has("completion") && !has("chosen") && !has("rejected") {
        return Ok((Form::Labelled, kind_of(record.get("completion"))));
    }
    let side = if has("chosen") { "chosen" } else { "rejected" };
    // Whatever the sides are, one list as text is the mistake to name.
    record.refuse_written_list(side)?;
    record.refuse_written_list("prompt")?;
    // A column that was named by hand is there, or nothing is guessed in its place.
    let named = record.name("prompt");
    if named != "prompt" && !has("prompt") {
        return Err(record.bad(named, "the prompt, as --columns says", None));
    }
    let kind = kind_of(record.get(side));
    // Data sets of messages may hold the prompt once more, as text.
    let has_prompt = match kind {
        TextKind::Plain => has("prompt"),
        TextKind::Chat => record.get("prompt").is_some_and(|prompt| !prompt.is_string() && !prompt.is_null()),
    };
    if record.is_rendered() && kind == TextKind::Chat {
        return Err(record.bad(record.name(side), "text, which was rendered before", record.get(side)));
    }
    let is_whole = has("chosen") && has("rejected");
    Ok((if has_prompt || !is_whole { Form::Explicit } else { Form::Implicit }, kind))
}

/// The kind of a text or of a list of messages; a list of texts is no list of messages.
pub(crate) fn kind_of(value: Option<&Value>) -> TextKind {
    match value {
        Some(Value::Array(list)) if !list.first().is_some_and(Value::is_string) => TextKind::Chat,
        _ => TextKind::Plain,
    }
}

/// Refuses a prompt where the first record had none, or none of its kind: the file would have two meanings.
pub(crate) fn refuse_prompt(record: &Record<'_>, want: &'static str) -> Result<()> {
    match record.get("prompt") {
        Some(prompt) => Err(record.bad(record.name("prompt"), want, Some(prompt))),
        None => Ok(()),
    }
}

/// Refuses text as the prompt of lists that say nothing of it. TRL takes the prompt from what both lists begin with,
/// whatever the text is; here it has to be theirs: a message, a part of one, or a chat that ends with one.
pub(crate) fn refuse_other_prompt(record: &Record<'_>, common: &[Value]) -> Result<()> {
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(Value::String(text)) = record.get("prompt") else { return Ok(()) };
    let text = squeezed(text);
    let contents: Vec<String> = common.iter().map(|message| squeezed(&content_of(message))).collect();
    let is_last = contents.last().is_some_and(|last| !last.is_empty() && text.contains(last));
    if text.is_empty() || is_last || contents.iter().any(|content| content.contains(&text)) {
        return Ok(());
    }
    let want = match common {
        [] => "a list of messages, as `chosen` and `rejected` are, or lists that begin with the prompt",
        _ => "text of the messages that `chosen` and `rejected` begin with, or no prompt",
    };
    let got = if common.is_empty() { "text" } else { "other text" };
    let key = record.name("prompt").to_owned();
    let found = Found::value(got);
    Err(Error::BadKey { path: record.path.to_owned(), place: record.place, key, want, found })
}

/// The text of a message, of all its parts.
fn content_of(message: &Value) -> String {
    match &message["content"] {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "),
        content => content.as_str().unwrap_or_default().to_owned(),
    }
}

/// Refuses an answer that begins with its prompt: rendered, the chat would hold the prompt twice.
pub(crate) fn refuse_repeated(
    record: &Record<'_>,
    key: &'static str,
    prompt: &[Value],
    answer: &[Value],
) -> Result<()> {
    let is_same = |(a, b): (&Value, &Value)| a["role"] == b["role"] && a["content"] == b["content"];
    let repeats = |n: usize| prompt[prompt.len() - n..].iter().zip(answer).all(is_same);
    // The end of a prompt may be what the assistant said, which an answer may repeat.
    let is_answer = |n: usize| n < prompt.len() && answer[0]["role"] == "assistant";
    if !(1..=prompt.len().min(answer.len())).any(|n| repeats(n) && !is_answer(n)) {
        return Ok(());
    }
    let want = "the messages that follow the prompt, or no prompt where both sides hold it";
    let (key, got) = (record.name(key).to_owned(), "a list that begins with messages of the prompt");
    let found = Found::value(got);
    Err(Error::BadKey { path: record.path.to_owned(), place: record.place, key, want, found })
}
