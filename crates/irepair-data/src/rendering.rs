//! The message lists of a record, rendered: a prompt, and what follows it.

use serde_json::{Map, Value};

use crate::chat::{Chat, ChatTemplate};
use crate::record::Record;
use crate::rows::json::exact;
use crate::{Error, Result};

/// Variables of a chat template that a record may hold, by TRL's names.
pub(crate) const TOOLS: &str = "tools";
pub(crate) const VARIABLES: &str = "chat_template_kwargs";

/// Arguments of `apply_chat_template` that are no variables of the template: passed on, they would change how it works,
/// or be given twice.
const ARGUMENTS: [&str; 16] = [
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "max_length",
    "messages",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "sanitize_control_tokens",
    "self",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
];

impl Record<'_> {
    /// A list of at least one message.
    pub(crate) fn messages(&self, key: &'static str) -> Result<Vec<Value>> {
        let name = self.name(key);
        let messages = match self.get(key) {
            Some(Value::Array(messages)) => messages,
            other => return Err(self.bad(name, "a list of messages", other)),
        };
        if messages.is_empty() {
            return Err(self.bad(name, "at least one message", self.get(key)));
        }
        // ShareGPT's have a text in `value`, which no template of a model reads.
        let is_message =
            |message: &Value| message.is_object() && (message.get("role").is_some() || message.get("from").is_none());
        match messages.iter().enumerate().find(|(_, message)| !is_message(message)) {
            Some((i, other)) => {
                Err(self.bad(&format!("{name}[{i}]"), "a message, an object with `role` and `content`", Some(other)))
            }
            None => Ok(messages.clone()),
        }
    }
}

/// A template, and the record whose chats it renders.
pub(crate) struct Rendering<'a> {
    template: &'a ChatTemplate,
    record: &'a Record<'a>,
    tools: Option<Value>,
    more: Option<&'a Map<String, Value>>,
}

impl<'a> Rendering<'a> {
    /// Takes the variables that TRL takes from a record: `tools`, a list or its JSON, and `chat_template_kwargs`.
    pub(crate) fn of(template: &'a ChatTemplate, record: &'a Record<'a>) -> Result<Self> {
        let found = |key| record.value.get(key).filter(|value| !value.is_null());
        // An empty list is not none: templates that ask for none render other text, as in transformers.
        let tools = match found(TOOLS) {
            None => None,
            Some(Value::String(text)) => match exact(text) {
                Some(Value::Array(tools)) => Some(tools),
                _ => return Err(record.bad(TOOLS, "a list, or its JSON without numbers over 64 bits", found(TOOLS))),
            },
            Some(Value::Array(tools)) => Some(tools.clone()),
            other => return Err(record.bad(TOOLS, "a list, or its JSON", other)),
        };
        if let Some(i) = tools.iter().flatten().position(|tool| !tool.is_object()) {
            return Err(record.bad(&format!("{TOOLS}[{i}]"), "an object that describes a tool", found(TOOLS)));
        }
        let tools = tools.map(Value::Array);
        let more = match found(VARIABLES) {
            None => None,
            Some(Value::Object(more)) => {
                if let Some(key) = more.keys().find(|key| ARGUMENTS.contains(&&***key)) {
                    let want = "no such key: it is no variable of the template";
                    return Err(record.bad(&format!("{VARIABLES}.{key}"), want, more.get(key)));
                }
                Some(more)
            }
            other => return Err(record.bad(VARIABLES, "an object", other)),
        };
        Ok(Self { template, record, tools, more })
    }

    fn text(&self, key: &'static str, chat: Chat<'_>) -> Result<String> {
        let chat = Chat { tools: self.tools.as_ref(), more: self.more, ..chat };
        self.template.render(chat).map_err(|why| Error::NotRendered {
            path: self.record.path.to_owned(),
            place: self.record.place,
            key: self.record.name(key).to_owned(),
            template: self.template.path().to_owned(),
            why,
        })
    }

    /// The text of a prompt: to the beginning of its answer, or to the end of the assistant's last message, which the
    /// answer continues, as TRL's `apply_chat_template` has it.
    ///
    /// # Errors
    /// `BadKey` where the last message is the system's, which TRL refuses; `NotRendered`.
    pub(crate) fn prompt(&self, messages: &[Value]) -> Result<String> {
        let last = messages.last().map(|message| &message["role"]);
        if last.is_some_and(|role| role == "system") {
            let want = "a list of messages that ends with the user's, a tool's or the assistant's";
            return Err(self.record.bad(self.record.name("prompt"), want, self.record.get("prompt")));
        }
        let is_open = last.is_some_and(|role| role == "assistant");
        self.text("prompt", Chat { messages, is_open, add_generation_prompt: !is_open, ..Chat::default() })
    }

    /// The text that follows `text` when these messages follow the prompt.
    pub(crate) fn continuation(
        &self,
        key: &'static str,
        text: &str,
        prompt: &[Value],
        messages: &[Value],
    ) -> Result<String> {
        let messages = [prompt, messages].concat();
        let whole = self.text(key, Chat { messages: &messages, ..Chat::default() })?;
        if let Some(end) = whole.strip_prefix(text) {
            return Ok(end.to_owned());
        }
        let n = text.chars().zip(whole.chars()).take_while(|(a, b)| a == b).count();
        let excerpt = |text: &str| text.chars().skip(n).take(40).collect();
        Err(Error::NotContinued {
            path: self.record.path.to_owned(),
            place: self.record.place,
            key: self.record.name(key).to_owned(),
            template: self.template.path().to_owned(),
            excerpts: Box::new([excerpt(text), excerpt(&whole)]),
        })
    }
}
