//! What is wrong with the model of a `tokenizer.json` that the library refused: the key and the entry, in words.

use serde_json::{Map, Value};

/// The models that the library knows.
const TYPES: [&str; 4] = ["BPE", "WordPiece", "WordLevel", "Unigram"];

/// The first fault of `model` in a `tokenizer.json`; none where it lies elsewhere.
pub(crate) fn misfit(json: &Value) -> Option<String> {
    let Some(model) = json.get("model").and_then(Value::as_object) else {
        return Some("`model` is not there, or no object".to_owned());
    };
    let kind = match model.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        // The library takes a model without a type for the first one that fits.
        None if model.contains_key("merges") => "BPE",
        None => return None,
        Some(other) => return Some(format!("`model.type` is {other}, which is no name")),
    };
    match kind {
        "BPE" => vocabulary(model).or_else(|| merges(model)),
        "WordPiece" | "WordLevel" => vocabulary(model),
        "Unigram" => None,
        other => Some(format!("`model.type` is `{other}`; known: {}", TYPES.join(", "))),
    }
}

fn vocabulary(model: &Map<String, Value>) -> Option<String> {
    let Some(vocab) = model.get("vocab").and_then(Value::as_object) else {
        return Some("`model.vocab` is not there, or no object of tokens and ids".to_owned());
    };
    let is_id = |id: &Value| id.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
    let (token, id) = vocab.iter().find(|(_, id)| !is_id(id))?;
    Some(format!("`model.vocab` gives token `{token}` the id {id}, which is no token id"))
}

fn merges(model: &Map<String, Value>) -> Option<String> {
    let (Some(vocab), Some(merges)) = (model.get("vocab")?.as_object(), model.get("merges").and_then(Value::as_array))
    else {
        return Some("`model.merges` is not there, or no list".to_owned());
    };
    merges.iter().enumerate().find_map(|(i, merge)| {
        let place = format!("entry {} of `model.merges`, {merge},", i + 1);
        let parts: Vec<&str> = match merge {
            // The newer form: tokens with spaces in them have no other.
            Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect(),
            Value::String(parts) => parts.split(' ').collect(),
            _ => Vec::new(),
        };
        let [left, right] = parts[..] else {
            return Some(format!("{place} is no pair of tokens: write two with a space between, or a list of two"));
        };
        // Continuing parts of words may have a mark that the merged token lacks.
        let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
        let whole = format!("{left}{}", right.strip_prefix(prefix).unwrap_or(right));
        let missing = [left, right, &whole].into_iter().find(|token| !vocab.contains_key(*token))?;
        Some(format!("{place} needs the token `{missing}`, which is not in `model.vocab`"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use crate::Tokenizer;
    use crate::library::read_tokenizer;

    #[test]
    fn a_bad_entry_is_named_and_both_forms_of_merges_load() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        Tokenizer::train_bpe(&["the mill by the mill"], 270).unwrap().save(dir.path()).unwrap();
        let whole: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let parts = |merge: &serde_json::Value| match merge {
            serde_json::Value::String(text) => text.split(' ').map(str::to_owned).collect::<Vec<_>>(),
            list => list.as_array().unwrap().iter().map(|part| part.as_str().unwrap().to_owned()).collect(),
        };
        let merges: Vec<Vec<String>> = whole["model"]["merges"].as_array().unwrap().iter().map(parts).collect();
        let read = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut json = whole.clone();
            change(&mut json["model"]);
            fs::write(&path, json.to_string()).unwrap();
            read_tokenizer(&path).map(|tokenizer| tokenizer.encode("the mill", false).unwrap().get_ids().to_vec())
        };
        let said = |change: &dyn Fn(&mut serde_json::Value)| {
            read(change).unwrap_err().to_string().replace("tokenizer file cannot be used: ", "")
        };
        let older: Vec<String> = merges.iter().map(|pair| pair.join(" ")).collect();
        let ids = read(&|model| model["merges"] = json!(merges)).unwrap();
        assert_eq!(read(&|model| model["merges"] = json!(older)).unwrap(), ids);

        let pair = "is no pair of tokens: write two with a space between, or a list of two";
        let three = |model: &mut serde_json::Value| {
            model["merges"] = json!(older);
            model["merges"][1] = json!("a b c");
        };
        assert_eq!(said(&three), format!("entry 2 of `model.merges`, \"a b c\", {pair}"));
        assert_eq!(
            said(&|model| model["merges"][0] = json!({"a": "b"})),
            format!("entry 1 of `model.merges`, {{\"a\":\"b\"}}, {pair}")
        );
        assert_eq!(
            said(&|model| model["merges"][0] = json!(["t", "nowhere"])),
            "entry 1 of `model.merges`, [\"t\",\"nowhere\"], needs the token `nowhere`, which is not in `model.vocab`"
        );
        assert_eq!(
            said(&|model| model["type"] = json!("Nope")),
            "`model.type` is `Nope`; known: BPE, WordPiece, WordLevel, Unigram"
        );
        assert_eq!(
            said(&|model| model["vocab"]["t"] = json!(-1)),
            "`model.vocab` gives token `t` the id -1, which is no token id"
        );
    }
}
