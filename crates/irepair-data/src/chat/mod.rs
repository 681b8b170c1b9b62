//! Chats: message lists, and the template of a model that renders them as transformers does (docs/FILES.md).

mod engine;
mod expression;
mod filters;
mod lazy;
mod methods;
mod object;
mod open;
mod operators;
mod python;
mod rewrite;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use irepair_core::fs::{list, read_to_string};
use minijinja::Environment;
use minijinja::value::Value as Variable;
use serde_json::{Map, Value};

use crate::added::{content, settings};
use crate::sources::{GEMMA, GPT2, LLAMA, NEOX, QWEN2, class_of};
use crate::{Error, Result};

const CONFIG: &str = "tokenizer_config.json";
const FILE: &str = "chat_template.jinja";
/// Further templates, one a file.
const FOLDER: &str = "additional_chat_templates";
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";
/// Variables of a template that hold the text of a token.
const TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Classes whose own special tokens are known, or that have none.
const KNOWN: [&str; 8] = ["", "PreTrainedTokenizer", "TokenizersBackend", GPT2, QWEN2, NEOX, LLAMA, GEMMA];
/// Names that a message's reasoning is given under; templates read the first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The chat template of a model directory, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    engine: Environment<'static>,
    tokens: Map<String, Value>,
}

/// A list of messages, and what else a template may read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chat<'a> {
    /// The messages: objects, most with `role` and `content`.
    pub messages: &'a [Value],
    /// Descriptions of tools, a list.
    pub tools: Option<&'a Value>,
    /// Further variables of the template.
    pub more: Option<&'a Map<String, Value>>,
    /// Whether the beginning of the assistant's next message follows.
    pub add_generation_prompt: bool,
    /// Whether the text ends inside the last message, which is to be continued.
    pub is_open: bool,
}

impl ChatTemplate {
    /// The template of a model directory: `chat_template.jinja`, or else `chat_template` of `tokenizer_config.json`,
    /// one or a list of named ones. Of named ones `default` is used, and `tool_use`, where there is one, for a chat
    /// with tools.
    ///
    /// # Errors
    /// `NoTemplate` naming the directory, `BadTemplate` for one that is no template, `BadTokenizer`, `File`.
    pub fn load(dir: &Path) -> Result<Self> {
        let (config, file) = (settings(dir)?, dir.join(FILE));
        let mut named = Vec::new();
        if file.exists() {
            named.push((DEFAULT.to_owned(), read_to_string(&file)?));
        }
        let folder = dir.join(FOLDER);
        let further = if folder.is_dir() { list(&folder)? } else { Vec::new() };
        for path in further.into_iter().filter(|path| path.extension().is_some_and(|end| end == "jinja")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            named.push((name, read_to_string(&path)?));
        }
        let path = if file.exists() {
            file
        } else {
            let path = dir.join(CONFIG);
            if named.is_empty() {
                named = of_config(&config["chat_template"], &path)?;
            }
            path
        };
        if !named.iter().any(|(name, _)| name == DEFAULT) {
            let names: Vec<&str> = named.iter().map(|(name, _)| &**name).collect();
            let why = match names.is_empty() {
                true => return Err(Error::NoTemplate { dir: dir.to_owned() }),
                false => format!("of the named templates {} none is `{DEFAULT}`", names.join(", ")),
            };
            return Err(Error::BadTemplate { path, why });
        }
        refuse_unknown_tokens(&path, &named, &config)?;
        Self::compile(path, named, special_tokens(&config))
    }

    fn compile(path: PathBuf, named: Vec<(String, String)>, tokens: Map<String, Value>) -> Result<Self> {
        let mut engine = engine::new();
        for (name, source) in named.into_iter().filter(|(name, _)| [DEFAULT, TOOL_USE].contains(&&**name)) {
            let bad = |why: String| Error::BadTemplate { path: path.clone(), why };
            let added = engine.add_template_owned(name, source::settled(&source).map_err(bad)?);
            added.map_err(|error| bad(engine::said(&error)))?;
        }
        Ok(Self { path, engine, tokens })
    }

    /// A template given as text, with the texts of special tokens by their names (`bos_token`).
    ///
    /// # Errors
    /// `BadTemplate` when it is none.
    pub fn new(source: &str, tokens: Map<String, Value>) -> Result<Self> {
        Self::compile(PathBuf::from(FILE), vec![(DEFAULT.to_owned(), source.to_owned())], tokens)
    }

    /// The file that the template is from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a chat, as `apply_chat_template` of transformers gives it: keys of messages that are null are left
    /// out, and a message's reasoning is found under each of its names.
    ///
    /// # Errors
    /// What the template raised or the engine refused, in one line; also when there is no message.
    pub fn render(&self, chat: Chat<'_>) -> Result<String, String> {
        if chat.messages.is_empty() {
            return Err("there is no message".to_owned());
        }
        let name = if chat.tools.is_some() { TOOL_USE } else { DEFAULT };
        let template = self.engine.get_template(name).or_else(|_| self.engine.get_template(DEFAULT));
        let template = template.map_err(|error| engine::said(&error))?;
        let mut messages: Vec<Value> = chat.messages.iter().map(settled).collect();
        let last = if chat.is_open { Some(open::marked(&mut messages, template.source())?) } else { None };
        let mut variables = self.tokens.clone();
        variables.extend(chat.more.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        variables.insert("messages".to_owned(), Value::Array(messages));
        variables.insert("tools".to_owned(), chat.tools.cloned().unwrap_or_default());
        variables.entry("documents").or_insert(Value::Null);
        variables.insert("add_generation_prompt".to_owned(), chat.add_generation_prompt.into());
        let context: BTreeMap<&str, Variable> =
            variables.iter().map(|(key, value)| (key.as_str(), object::value_of(value))).collect();
        let rendered = template.render(Variable::from(context)).map_err(|error| engine::said(&error))?;
        match last {
            None => Ok(rendered),
            Some(last) => open::cut(rendered, &last),
        }
    }
}

/// Templates of `chat_template`: one, or a list of objects with `name` and `template`.
fn of_config(value: &Value, path: &Path) -> Result<Vec<(String, String)>> {
    let bad = |why: &str| Error::BadTemplate { path: path.to_owned(), why: why.to_owned() };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(source) => Ok(vec![(DEFAULT.to_owned(), source.clone())]),
        Value::Array(list) => {
            let named =
                |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()));
            list.iter()
                .map(|entry| named(entry).ok_or_else(|| bad("an entry of the list has no `name` or no `template`")))
                .collect()
        }
        Value::Object(map) => {
            let named = |(name, source): (&String, &Value)| Some((name.clone(), source.as_str()?.to_owned()));
            map.iter().map(|entry| named(entry).ok_or_else(|| bad("a named template is no text"))).collect()
        }
        _ => Err(bad("chat_template is no text and no list")),
    }
}

/// Refuses a template that reads a special token which the settings do not name, where the tokenizer's class may have
/// one of its own.
fn refuse_unknown_tokens(path: &Path, named: &[(String, String)], config: &Value) -> Result<()> {
    let class = class_of(config);
    if KNOWN.contains(&class) {
        return Ok(());
    }
    let is_read = |key: &str| named.iter().any(|(_, source)| source.contains(key));
    let Some(key) = TOKENS.iter().find(|key| config.get(**key).is_none() && is_read(key)) else { return Ok(()) };
    let why = format!(
        "it reads `{key}`, which tokenizer_config.json does not have, and class `{class}` may have one of its own: \
         write the token there, or null"
    );
    Err(Error::BadTemplate { path: path.to_owned(), why })
}

/// Texts of special tokens: those of the settings, and of the tokenizer's class where they say nothing.
fn special_tokens(config: &Value) -> Map<String, Value> {
    let of_class: &[(&str, &str)] = match class_of(config) {
        GPT2 => &[("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>")],
        QWEN2 => &[("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>"), ("pad_token", "<|endoftext|>")],
        NEOX => &[
            ("bos_token", "<|endoftext|>"),
            ("eos_token", "<|endoftext|>"),
            ("unk_token", "<|endoftext|>"),
            ("pad_token", "<|padding|>"),
        ],
        LLAMA => &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")],
        GEMMA => &[
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
        _ => &[],
    };
    let token = |key: &str| match config.get(key) {
        Some(given) => content(given),
        None => of_class.iter().find(|(name, _)| *name == key).map(|(_, text)| *text),
    };
    let named = TOKENS.iter().filter_map(|key| Some(((*key).to_owned(), token(key)?.into())));
    let is_further = |key: &str| key.ends_with("_token") && !TOKENS.contains(&key);
    let further = config.as_object().into_iter().flatten().filter(|(key, _)| is_further(key));
    let further = further.chain(config["extra_special_tokens"].as_object().into_iter().flatten());
    named.chain(further.filter_map(|(key, token)| Some((key.clone(), content(token)?.into())))).collect()
}

/// A message without keys that are null, its reasoning under the names that templates read.
fn settled(message: &Value) -> Value {
    let Value::Object(message) = message else { return message.clone() };
    let mut kept: Map<String, Value> =
        message.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())).collect();
    if let Some(reasoning) = REASONING.iter().find_map(|key| kept.get(*key)).cloned() {
        kept.entry("thinking").or_insert_with(|| reasoning.clone());
        kept.insert("reasoning_content".to_owned(), reasoning);
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn dir(files: &[(&str, String)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn rendered(files: &[(&str, String)], tools: Option<&Value>) -> String {
        let messages = [json!({"role": "user", "content": "a"})];
        let template = ChatTemplate::load(dir(files).path()).unwrap();
        template.render(Chat { messages: &messages, tools, ..Chat::default() }).unwrap()
    }

    #[test]
    fn an_expression_without_end_is_refused_before_the_engine_sees_it() {
        let chains = [
            ("not ", "1"),
            ("1 ** ", "1"),
            ("1 ~ ", "1"),
            ("1 < ", "1"),
            ("(", "1"),
            ("-", "1"),
            ("1 if 1 else ", "1"),
        ];
        let made = chains.iter().map(|(link, end)| format!("{{{{ {}{end} }}}}", link.repeat(100_000)));
        let after = ["|string", ".a", "[0]"].map(|link| format!("{{{{ messages{} }}}}", link.repeat(100_000)));
        for source in made.chain(after) {
            let why = ChatTemplate::new(&source, Map::new()).map(|_| ()).unwrap_err().to_string();
            assert!(why.contains("an expression of it"), "{why}");
        }
    }

    #[test]
    fn the_file_beside_the_settings_comes_first_and_named_ones_have_their_uses() {
        let config = |template: Value| (CONFIG, json!({"chat_template": template, "bos_token": "<s>"}).to_string());
        let (file, tools) = ((FILE, "file {{ bos_token }}".to_owned()), json!([{"name": "t"}]));
        let list = json!([{"name": "tool_use", "template": "use"}, {"name": "default", "template": "plain"}]);
        assert_eq!(rendered(&[config(json!("config"))], None), "config");
        assert_eq!(rendered(&[config(json!("config")), file.clone()], None), "file <s>");
        assert_eq!(rendered(&[config(list.clone())], None), "plain");
        assert_eq!(rendered(&[config(list)], Some(&tools)), "use");
        assert_eq!(rendered(&[config(json!("config"))], Some(&tools)), "config");
        let further = ("additional_chat_templates/tool_use.jinja", "further".to_owned());
        assert_eq!(rendered(&[file.clone(), further.clone()], Some(&tools)), "further");
        assert_eq!(rendered(&[file.clone(), further], None), "file ");
        let further = ("additional_chat_templates/default.jinja", "further".to_owned());
        assert_eq!(rendered(&[file, further], None), "further");
        let map = [config(json!({"default": "plain", "tool_use": "use"}))];
        assert_eq!((rendered(&map, None), rendered(&map, Some(&tools))), ("plain".into(), "use".into()));
    }

    #[test]
    fn every_token_that_the_settings_name_is_a_variable_and_none_is_guessed() {
        let source = "{{ bos_token }}{{ image_token }}{{ own_token }}{{ add_bos_token }}";
        let mut config = json!({
            "chat_template": source, "image_token": {"content": "<i>"}, "add_bos_token": true, "bos_token": "<s>",
            "extra_special_tokens": {"own_token": "<o>"}
        });
        assert_eq!(rendered(&[(CONFIG, config.to_string())], None), "<s><i><o>");
        config["tokenizer_class"] = "CohereTokenizerFast".into();
        assert_eq!(rendered(&[(CONFIG, config.to_string())], None), "<s><i><o>");
        config.as_object_mut().unwrap().remove("bos_token");
        let said = ChatTemplate::load(dir(&[(CONFIG, config.to_string())]).path()).unwrap_err().to_string();
        assert!(said.contains("reads `bos_token`") && said.contains("class `CohereTokenizer`"), "{said}");
    }

    #[test]
    fn a_directory_without_a_template_or_with_a_broken_one_is_named() {
        let said = |files: &[(&str, String)]| ChatTemplate::load(dir(files).path()).unwrap_err().to_string();
        assert_eq!(said(&[]), "model has no chat template");
        assert_eq!(said(&[(CONFIG, "{}".to_owned())]), "model has no chat template");
        let broken = said(&[(FILE, "{% for m in messages %}".to_owned())]);
        assert!(broken.starts_with("chat template cannot be used: "), "{broken}");
        let list = json!({"chat_template": [{"name": "rag", "template": "x"}]}).to_string();
        assert_eq!(
            said(&[(CONFIG, list)]),
            "chat template cannot be used: of the named templates rag none is `default`"
        );
        let number = json!({"chat_template": 3}).to_string();
        assert_eq!(said(&[(CONFIG, number)]), "chat template cannot be used: chat_template is no text and no list");
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let template = ChatTemplate::new(
            "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
            Map::new(),
        );
        let messages = [json!({"role": "user", "content": "a"})];
        let chat = Chat { messages: &messages, ..Chat::default() };
        assert!(template.unwrap().render(chat).unwrap_err().contains("takes too long"));
        let source = "{% set ns = namespace(x='xxxxxxxxxxxxxxxx') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
        assert!(ChatTemplate::new(source, Map::new()).unwrap().render(chat).unwrap_err().contains("takes too long"));
        let endless = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
        assert!(ChatTemplate::new(endless, Map::new()).unwrap().render(chat).is_err());
    }
}
