//! What a record holds where a value is wanted, and what a user can do about it: which key is meant, or which form the
//! record has.

use serde_json::Value;

/// Keys that a message lists.
const MOST: usize = 8;

/// Names that data sets give to what `--columns` can map, the likeliest first.
const NAMES: [(&str, &[&str]); 5] = [
    ("prompt", &["question", "instruction", "query", "input", "user", "problem", "context", "source"]),
    (
        "chosen",
        &["good", "preferred", "accepted", "winner", "better", "positive", "correct", "answer", "response", "output"],
    ),
    (
        "rejected",
        &["bad", "dispreferred", "reject", "loser", "worse", "negative", "incorrect", "wrong", "response", "output"],
    ),
    ("completion", &["response", "answer", "output", "generation"]),
    ("label", &["desirable", "score", "rating", "class"]),
];

/// What a record holds in place of a value that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What is there, in words (`a number`); none where the key is not.
    pub value: Option<String>,
    /// The keys of the record, those of columns that are not read included; none where it is no object.
    pub keys: Vec<String>,
    /// The name of the key in `--columns`, where that can map it, and the names in the file of the other ones.
    pub column: Option<(&'static str, Vec<String>)>,
    /// The form of the record, where it is a known one that is not read.
    pub form: Option<OtherForm>,
}

/// A form of records that is not read, or not where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherForm {
    /// A list of messages under `messages`, without a pair.
    Messages,
    /// ShareGPT's: messages with `from` and `value`.
    ShareGpt,
    /// A message, where a record or a list of messages is wanted.
    Message,
    /// A list of messages, where a record is wanted.
    MessageList,
    /// A table by columns, as `to_json` of pandas writes it.
    Table,
    /// A record that holds the list of all records.
    Wrapped,
}

impl OtherForm {
    /// The form of a record, whose keys are `keys`; `value` is what is under the key that is read.
    pub(crate) fn of(record: &Value, keys: &[String], value: Option<&Value>) -> Option<Self> {
        let has = |key: &str| keys.iter().any(|known| known == key);
        let first = |list: &Value| list.get(0).cloned().unwrap_or_default();
        if has_from(value) || value.is_some_and(|list| has_from(Some(&first(list)))) {
            return Some(Self::ShareGpt);
        }
        if is_message(value) {
            return Some(Self::Message);
        }
        let Some(object) = record.as_object() else {
            let is_list = is_message(Some(&first(record))) || has_from(Some(&first(record)));
            return is_list.then_some(Self::MessageList);
        };
        if is_table(object) {
            return Some(Self::Table);
        }
        if value.is_some() {
            return None;
        }
        match () {
            () if is_message(Some(record)) || has_from(Some(record)) => Some(Self::Message),
            () if has("conversations") || has("conversation") => Some(Self::ShareGpt),
            () if has("messages") => Some(Self::Messages),
            () if object.len() == 1 && object.values().map(first).all(|record| is_record(&record)) => {
                Some(Self::Wrapped)
            }
            () => None,
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Messages => {
                "`messages` is one chat: as a prompt it is read with `--columns prompt=messages`; a pair has two lists of \
                 messages, `chosen` and `rejected`"
            }
            Self::ShareGpt => {
                "this is ShareGPT's form, which is not read: write messages as {\"role\": \"user\", \"content\": \"...\"} \
                 (`from` is `role`, `human` is `user`, `gpt` is `assistant`, `value` is `content`), in lists under \
                 `prompt`, `chosen` and `rejected`"
            }
            Self::Message => {
                "this is one message: write a list of messages, as {\"prompt\": [{\"role\": \"user\", \"content\": \
                 \"...\"}]}, and one record a line"
            }
            Self::MessageList => {
                "this is a list of messages without a key: write it as {\"prompt\": [...]}, and a pair as {\"prompt\": \
                 [...], \"chosen\": [...], \"rejected\": [...]}"
            }
            Self::Table => {
                "this is a whole table by columns, as pandas writes it: write one record a line, in Python with \
                 `table.to_json(FILE, orient=\"records\", lines=True)`"
            }
            Self::Wrapped => {
                "this is one record that holds all of them: write the list that is in it, or one record a line"
            }
        }
    }
}

impl Found {
    /// Something else than what is wanted, in words.
    pub(crate) fn value(value: impl Into<String>) -> Box<Self> {
        Box::new(Self { value: Some(value.into()), ..Self::default() })
    }

    /// What is there.
    pub(crate) fn got(&self) -> String {
        let keys: Vec<String> = self.keys.iter().take(MOST).map(|key| format!("`{}`", key.escape_debug())).collect();
        match (&self.value, self.keys.len()) {
            (Some(value), _) => value.clone(),
            (None, 0) => "nothing".to_owned(),
            (None, n) if n > MOST => format!("nothing; the keys are {} and {} more", keys.join(", "), n - MOST),
            (None, _) => format!("nothing; the keys are {}", keys.join(", ")),
        }
    }

    /// What to do about the key `key` of the file.
    pub(crate) fn help(&self, key: &str) -> String {
        match (self.form, &self.value, &self.column) {
            (Some(form), ..) => form.help().to_owned(),
            (None, Some(_), _) => "docs/FILES.md has the forms that are read".to_owned(),
            (None, None, Some((column, others))) => match meant(column, key, &self.keys, others) {
                // Not every command that reads pairs or prompts has the flag.
                Some(name) => format!(
                    "if `{}` is meant, give `{}`, or rename the key",
                    name.escape_debug(),
                    columns_flag(column, name)
                ),
                None => format!(
                    "name a key of the file with `--columns {column}=NAME`, or rename the key; \
                     docs/FILES.md has the forms"
                ),
            },
            (None, None, None) => match nearest(key, self.keys.iter()) {
                Some(name) => {
                    format!("if `{}` is meant, rename it; docs/FILES.md has the forms", name.escape_debug())
                }
                None => "docs/FILES.md has the forms that are read".to_owned(),
            },
        }
    }
}

/// The flag that reads a column from the key `name`, as a shell takes it.
pub fn columns_flag(column: &str, name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    match is_plain {
        true => format!("--columns {column}={name}"),
        false => format!("--columns '{column}={}'", name.escape_debug()),
    }
}

/// The key of a record that is likely the `column` of `--columns`, which is called `key` now; none of `others`, which
/// are other columns.
pub(crate) fn meant<'k>(column: &str, key: &str, keys: &'k [String], others: &[String]) -> Option<&'k str> {
    let free = || keys.iter().filter(|name| !others.contains(name));
    let names = NAMES.iter().find(|(known, _)| *known == column).map_or(&[][..], |(_, names)| names);
    let mut known = std::iter::once(&column).chain(names);
    nearest(key, free()).or_else(|| known.find_map(|word| free().find(|name| has_word(name, word)).map(String::as_str)))
}

/// The name that differs from `key` in case or by a slip.
fn nearest<'k>(key: &str, names: impl Iterator<Item = &'k String>) -> Option<&'k str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&key.to_lowercase(), &name.to_lowercase());
    let near = names.map(|name| (distance(name), name)).filter(|(distance, _)| *distance <= key.chars().count() / 4);
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name.as_str())
}

/// True where one of the words of a name is `word`: `chosen_response`.
fn has_word(name: &str, word: &str) -> bool {
    name.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
}

fn is_message(value: Option<&Value>) -> bool {
    value.is_some_and(|value| value.get("role").is_some() && value.get("content").is_some())
}

fn has_from(value: Option<&Value>) -> bool {
    value
        .is_some_and(|value| value.get("from").is_some() && value.get("value").is_some() && value.get("role").is_none())
}

fn is_record(value: &Value) -> bool {
    value.is_object() && !is_message(Some(value)) && !has_from(Some(value))
}

/// True where a record is a table: columns of values by row number, rows by number, lists of values, or `columns` and
/// `data`.
fn is_table(record: &serde_json::Map<String, Value>) -> bool {
    let is_number = |key: &str| !key.is_empty() && key.bytes().all(|c| c.is_ascii_digit());
    let by_number =
        |value: &Value| value.as_object().is_some_and(|rows| !rows.is_empty() && rows.keys().all(|key| is_number(key)));
    let is_texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().any(Value::is_string));
    let all = |of: &dyn Fn(&Value) -> bool| !record.is_empty() && record.values().all(of);
    all(&by_number)
        || all(&is_texts)
        || (record.keys().all(|key| is_number(key)) && all(&Value::is_object))
        || ["columns", "data"].iter().all(|key| record.get(*key).is_some_and(Value::is_array))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_key_that_is_meant_is_named_and_no_other_column() {
        let is =
            |column, key, of: &[&str], others: &[&str]| meant(column, key, &keys(of), &keys(others)).map(str::to_owned);
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(is("rejected", "rejected", &["prompt", "chosen", "bad"], &["prompt", "chosen"]), some("bad"));
        assert_eq!(is("prompt", "prompt", &["id", "Question"], &[]), some("Question"));
        assert_eq!(is("chosen", "chosen", &["text", "response_chosen"], &[]), some("response_chosen"));
        assert_eq!(is("prompt", "qustion", &["question", "prompt"], &[]), some("question"), "a slip");
        assert_eq!(is("rejected", "rejected", &["chosen", "Rejectd"], &["chosen"]), some("Rejectd"));
        assert_eq!(is("chosen", "chosen", &["response", "id"], &["response"]), None, "it is another column");
        assert_eq!(is("label", "label", &["a", "b"], &[]), None);
    }

    #[test]
    fn a_record_of_another_form_is_known_by_it() {
        let of = |record: Value, value: Option<Value>| {
            let keys = record.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default();
            let keys: Vec<String> = keys;
            OtherForm::of(&record, &keys, value.as_ref())
        };
        let (chat, share) = (json!([{"role": "user", "content": "a"}]), json!([{"from": "human", "value": "a"}]));
        assert_eq!(of(json!({"messages": chat}), None), Some(OtherForm::Messages));
        assert_eq!(of(json!({"conversations": share}), None), Some(OtherForm::ShareGpt));
        assert_eq!(of(json!({"chosen": share}), Some(share.clone())), Some(OtherForm::ShareGpt));
        assert_eq!(of(json!({"chosen": share[0]}), Some(share[0].clone())), Some(OtherForm::ShareGpt));
        assert_eq!(of(json!({"chosen": chat[0]}), Some(chat[0].clone())), Some(OtherForm::Message));
        assert_eq!(of(chat[0].clone(), None), Some(OtherForm::Message));
        assert_eq!(of(chat.clone(), None), Some(OtherForm::MessageList));
        assert_eq!(of(json!([1]), None), None);
        for table in [
            json!({"prompt": {"0": "a", "1": "b"}, "chosen": {"0": "a", "1": "b"}}),
            json!({"0": {"prompt": "a"}, "1": {"prompt": "b"}}),
            json!({"prompt": ["a", "b"], "chosen": ["a", null]}),
            json!({"columns": ["prompt"], "index": [0], "data": [["a"]]}),
        ] {
            assert_eq!(of(table.clone(), table.get("prompt").cloned()), Some(OtherForm::Table), "{table}");
        }
        assert_eq!(of(json!({"train": [{"prompt": "a"}]}), None), Some(OtherForm::Wrapped));
        for record in [json!({"prompt": "a"}), json!({}), json!({"chosen": chat}), json!({"id": 1, "chosen": ["a"]})] {
            assert_eq!(of(record.clone(), None), None, "{record}");
        }
    }
}
