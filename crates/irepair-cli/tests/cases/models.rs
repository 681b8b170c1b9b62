//! Model directories that are not quite what they seem.

use super::*;

/// A copy of the base model without its weights.
fn copy(name: &str) -> PathBuf {
    let (from, to) = (workshop().join("base"), workshop().join(name));
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(&from).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|end| end == "json") {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
    to
}

/// Header and data of the base model's weights.
fn weights() -> (serde_json::Map<String, Value>, Vec<u8>) {
    let bytes = fs::read(workshop().join("base/model.safetensors")).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    header.remove("__metadata__");
    (header, bytes[8 + n..].to_vec())
}

/// Writes these tensors of the base model as one file, under the names that `named` gives.
fn write(path: &Path, keep: impl Fn(usize) -> bool, named: impl Fn(&str) -> String) {
    let (header, data) = weights();
    let (mut out, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (_, (name, tensor)) in header.iter().enumerate().filter(|(i, _)| keep(*i)) {
        let [from, to] = [0, 1].map(|i| tensor["data_offsets"][i].as_u64().unwrap() as usize);
        let start = bytes.len();
        bytes.extend(&data[from..to]);
        let mut tensor = tensor.clone();
        tensor["data_offsets"] = json!([start, bytes.len()]);
        out.insert(named(name), tensor);
    }
    let header = serde_json::to_vec(&out).unwrap();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, &bytes].concat()).unwrap();
}

fn index(dir: &Path, shard: impl Fn(usize) -> String) {
    let map: serde_json::Map<String, Value> =
        weights().0.keys().enumerate().map(|(i, name)| (name.clone(), shard(i).into())).collect();
    fs::write(dir.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
}

fn score(model: &str) -> Output {
    irepair(workshop(), &format!("score --model {model} --input short.jsonl"))
}

fn unchanged(name: &str) -> String {
    name.to_owned()
}

#[test]
fn an_index_that_names_missing_shards_lists_them_all_and_says_when_it_is_stale() {
    let dir = copy("cut-short");
    index(&dir, |i| format!("model-0000{}-of-00004.safetensors", 1 + i % 4));
    write(&dir.join("model-00001-of-00004.safetensors"), |i| i % 4 == 0, unchanged);
    write(&dir.join("model-00002-of-00004.safetensors"), |i| i % 4 == 1, unchanged);
    let error = refused(&score("cut-short"), 4);
    assert_says(
        &error,
        &[
            "2 of 4 shards are missing",
            "model-00003-of-00004.safetensors, model-00004-of-00004.safetensors",
            "fetch the missing files",
        ],
    );
    write(&dir.join("rest.safetensors"), |i| i % 4 > 1, unchanged);
    assert_says(&refused(&score("cut-short"), 4), &["hold every tensor that the index names"]);
}

#[test]
fn one_file_and_shards_are_refused_and_shards_alone_are_the_model() {
    let want = succeed(&score("base"));
    let dir = copy("sharded");
    let shard = |i: usize| format!("model-0000{}-of-00002.safetensors", 1 + i % 2);
    index(&dir, shard);
    (0..2).for_each(|n| write(&dir.join(shard(n)), |i| i % 2 == n, unchanged));
    assert_eq!(succeed(&score("sharded")), want);
    fs::copy(workshop().join("base/model.safetensors"), dir.join("model.safetensors")).unwrap();
    let error = refused(&score("sharded"), 4);
    assert_says(&error, &["directory holds two sets of weights", "model-00001-of-00002.safetensors", "remove it"]);
    // Nor does a repair or a patch make such a directory.
    let repair = "repair --model base --pairs pairs.jsonl --method dpo --steps 1 --out sharded";
    assert_says(&refused(&irepair(workshop(), repair), 2), &["output directory is not empty"]);
}

#[test]
fn older_names_without_a_prefix_load_as_the_same_model() {
    let dir = copy("bare");
    write(&dir.join("model.safetensors"), |_| true, |name| name.replace("transformer.", ""));
    assert_eq!(succeed(&score("bare")), succeed(&score("base")));
}

#[test]
fn weights_in_another_form_say_how_to_convert_them() {
    let dir = copy("pickled");
    fs::write(dir.join("pytorch_model.bin"), "PK").unwrap();
    assert_says(&refused(&score("pickled"), 4), &["pickle checkpoints can run code", "save_pretrained(NEW_DIR)"]);
    let adapter = workshop().join("adapter");
    fs::create_dir_all(&adapter).unwrap();
    fs::write(adapter.join("adapter_config.json"), "{\"peft_type\": \"LORA\"}").unwrap();
    fs::write(adapter.join("adapter_model.safetensors"), "").unwrap();
    assert_says(&refused(&score("adapter"), 4), &["directory holds an adapter, not a model", "merge_and_unload()"]);
    let repair = "repair --model base --pairs pairs.jsonl --method dpo --steps 2 --warmup-steps 0 --lr 1e-2";
    succeed(&irepair(workshop(), &format!("{repair} --soft-prefix 2 --out prefix")));
    let error = refused(&score("prefix"), 4);
    assert_says(&error, &["directory holds a soft prefix, not a model", "its base model `base`"]);
    assert!(!error.contains("merge_and_unload"), "a prefix cannot be merged: {error}");
}

#[test]
fn an_end_token_past_the_vocabulary_blames_the_settings_that_name_it() {
    let dir = copy("far-end");
    fs::copy(workshop().join("base/model.safetensors"), dir.join("model.safetensors")).unwrap();
    let edit = |file: &str, change: &dyn Fn(&mut Value)| {
        let path = dir.join(file);
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
    };
    fs::remove_file(dir.join("generation_config.json")).unwrap_or_default();
    edit("config.json", &|config| config["eos_token_id"] = 50256.into());
    edit("tokenizer_config.json", &|config| drop(config.as_object_mut().unwrap().remove("eos_token")));
    let error = refused(&score("far-end"), 4);
    assert_says(
        &error,
        &["end token is not in the vocabulary", "far-end/config.json, key `eos_token_id`", "got: 50256"],
    );
    assert!(!error.contains("tokenizer file"), "{error}");
}

#[test]
fn a_bad_merge_is_named_by_its_entry() {
    let dir = copy("merges");
    let path = dir.join("tokenizer.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    json["model"]["merges"][3] = json!("a b c");
    json["model"]["merges"].as_array_mut().unwrap().iter_mut().for_each(|merge| {
        if let Some([left, right]) = merge.as_array().map(Vec::as_slice) {
            *merge = format!("{} {}", left.as_str().unwrap(), right.as_str().unwrap()).into();
        }
    });
    fs::write(path, json.to_string()).unwrap();
    assert_says(
        &refused(&score("merges"), 4),
        &["entry 4 of `model.merges`, \"a b c\", is no pair of tokens", "merges/tokenizer.json"],
    );
}

/// A whole copy of the base model, with other keys in one of its files.
pub(crate) fn with_keys(name: &str, file: &str, keys: Value) -> PathBuf {
    let dir = copy(name);
    fs::copy(workshop().join("base/model.safetensors"), dir.join("model.safetensors")).unwrap();
    let path = dir.join(file);
    let mut config: Value = fs::read(&path).map_or(json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    fs::write(path, config.to_string()).unwrap();
    dir
}

#[test]
fn an_adapter_next_to_a_model_is_not_ignored() {
    let dir = with_keys("with-adapter", "adapter_config.json", json!({"peft_type": "LORA"}));
    succeed(&score("with-adapter"));
    fs::write(dir.join("adapter_model.safetensors"), "").unwrap();
    let error = refused(&score("with-adapter"), 4);
    assert!(error.contains("directory holds a model and an adapter for it"), "{error}");
}

#[test]
fn special_tokens_that_would_be_taken_apart_are_refused() {
    with_keys("split", "tokenizer_config.json", json!({"split_special_tokens": true}));
    let error = refused(&score("split"), 4);
    assert!(error.contains("split_special_tokens is true"), "{error}");
}

#[test]
fn named_special_tokens_are_tokens() {
    let text = |name: &str, keys: Value| {
        with_keys(name, "tokenizer_config.json", keys);
        let line: Value = serde_json::from_str(succeed(&score(name)).lines().next().unwrap()).unwrap();
        line["n_tokens"].as_u64().unwrap()
    };
    let plain = text("no-extra", json!({}));
    let extra = text("with-extra", json!({"extra_special_tokens": {"who": "n"}}));
    assert_eq!(extra, text("with-list", json!({"additional_special_tokens": ["n"]})));
    assert!(extra > plain, "{extra} {plain}: every n is one token of its own");
}

#[test]
fn settings_that_change_greedy_text_elsewhere_are_said() {
    let keys = json!({
        "repetition_penalty": 1.1, "no_repeat_ngram_size": 0, "suppress_tokens": [3], "temperature": 0.6, "num_beams": 4,
        "guidance_scale": 1.0, "token_healing": false
    });
    with_keys("penalised", "generation_config.json", keys);
    let output = score("penalised");
    succeed(&output);
    assert!(
        said(&output).contains("generation_config.json sets num_beams, repetition_penalty, suppress_tokens"),
        "{}",
        said(&output)
    );
    with_keys("cut", "config.json", json!({"sliding_window": 3}));
    assert!(said(&score("cut")).contains("transformers' cache keeps 3 tokens all the same"), "{}", said(&score("cut")));
    with_keys("unpenalised", "generation_config.json", json!({"repetition_penalty": 1.0, "temperature": 0.6}));
    assert!(!said(&score("unpenalised")).contains("generation_config.json sets"));
}

#[test]
fn licence_code_and_further_templates_are_kept() {
    let dir = with_keys("licensed", "tokenizer_config.json", json!({"chat_template": "{{ messages[0].content }}"}));
    fs::create_dir_all(dir.join("additional_chat_templates")).unwrap();
    let files = ["LICENSE", "modeling_own.py", "additional_chat_templates/tool_use.jinja"];
    files.iter().for_each(|file| fs::write(dir.join(file), *file).unwrap());
    let args = "--pairs pairs.jsonl --method dapt --steps 1 --n-validation 0 --max-prompt 8 --max-continuation 8";
    succeed(&irepair(workshop(), &format!("repair --model licensed --out licensed-out {args}")));
    for file in files {
        assert_eq!(fs::read_to_string(workshop().join("licensed-out").join(file)).unwrap(), file);
    }
}

#[test]
fn a_prompt_that_ends_with_an_answer_is_continued() {
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}";
    with_keys("templated", "tokenizer_config.json", json!({"chat_template": template}));
    let pair = |last: &str| {
        let prompt = json!([{"role": "user", "content": "a"}, {"role": last, "content": "b"}]);
        let side = |text: &str| json!([{"role": "assistant", "content": text}]);
        json!({"prompt": prompt, "chosen": side("c"), "rejected": side("d")})
    };
    put(workshop(), "prefilled.jsonl", (0..4).map(|_| pair("assistant")));
    let args = "--model templated --prompts prefilled.jsonl --max-new-tokens 2 --json";
    let generated = succeed(&irepair(workshop(), &format!("generate {args}")));
    assert!(generated.contains(r#""prompt":"<user>a</><assistant>b","#), "{generated}");
    let args = "--steps 1 --batch-size 2 --n-validation 0 --max-prompt 24 --max-continuation 24";
    succeed(&irepair(
        workshop(),
        &format!("repair --model templated --pairs prefilled.jsonl --out prefilled-out {args}"),
    ));
    // TRL refuses the system's message at the end.
    put(workshop(), "system-last.jsonl", [pair("system")]);
    let args = "repair --model templated --pairs system-last.jsonl --out system-last-out --steps 1";
    let error = refused(&irepair(workshop(), args), 4);
    assert!(error.contains("system-last.jsonl, line 1"), "{error}");
    assert!(
        error.contains("want: a list of messages that ends with the user's, a tool's or the assistant's"),
        "{error}"
    );
    // A template that does not write the message.
    with_keys("templated", "tokenizer_config.json", json!({"chat_template": "{{ messages[0].content }}"}));
    let error = refused(&irepair(workshop(), "generate --model templated --prompts prefilled.jsonl"), 4);
    assert!(error.contains("prefilled.jsonl, line 1") && error.contains("cannot be continued"), "{error}");
}
