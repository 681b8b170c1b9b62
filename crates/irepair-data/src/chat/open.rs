//! A chat whose last message is to be continued: its text ends inside that message, as with
//! `apply_chat_template(continue_final_message=True)` of transformers.

use serde_json::Value;

use super::python::is_space;

/// Where a message is cut; transformers' own mark. The space at its end shows whether a template trims messages.
const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Puts the mark at the end of the last message; the text before it.
///
/// # Errors
/// Where transformers raises: there is no text to continue, or the template reads no `content`.
pub(super) fn marked(messages: &mut [Value], source: &str) -> Result<String, String> {
    let content = messages.last_mut().and_then(|message| message.get_mut("content"));
    let content =
        content.filter(|content| !content.is_null()).ok_or("the last message has no `content` to continue")?;
    if !source.contains("content") {
        return Err("the template reads no `content`, so that the last message cannot be continued".to_owned());
    }
    // Of several parts the last text is continued, whatever comes after it.
    let text = match content {
        Value::Array(parts) => parts.iter_mut().rev().find_map(|part| part.get_mut("text")),
        content => Some(content),
    };
    match text {
        Some(Value::String(text)) => {
            let before = text.clone();
            text.push_str(MARK);
            Ok(before)
        }
        _ => Err("the last message holds no text to continue".to_owned()),
    }
}

/// What a rendering holds before the mark that follows `before`.
///
/// # Errors
/// Where transformers raises: the template leaves out the message, or a part of it.
pub(super) fn cut(mut rendered: String, before: &str) -> Result<String, String> {
    let mark = MARK.trim_end();
    let at = rendered.rfind(mark).filter(|_| rendered.contains(before.trim_matches(is_space)));
    let at = at.ok_or("the template does not write the last message as it is, so that it cannot be continued")?;
    let is_trimmed = !rendered[at..].starts_with(MARK);
    rendered.truncate(at);
    if is_trimmed {
        rendered.truncate(rendered.trim_end_matches(is_space).len());
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::{Chat, ChatTemplate};

    fn rendered(template: &str, last: &Value) -> Result<String, String> {
        let messages = [json!({"role": "user", "content": "a"}), last.clone()];
        let chat = Chat { messages: &messages, is_open: true, ..Chat::default() };
        ChatTemplate::new(template, Map::new()).unwrap().render(chat)
    }

    #[test]
    fn the_text_ends_inside_the_message() {
        let [kept, trimmed] = ["m.content", "m.content | trim"]
            .map(|text| format!("{{% for m in messages %}}<{{{{ {text} }}}}>{{% endfor %}}"));
        let last = json!({"role": "assistant", "content": " b \n"});
        assert_eq!(rendered(&kept, &last).unwrap(), "<a>< b \n");
        assert_eq!(rendered(&trimmed, &last).unwrap(), "<a><b");
    }

    #[test]
    fn a_message_that_cannot_be_continued_is_refused() {
        let own = "{% for m in messages %}{{ m.content if m.role == 'user' }}{% endfor %}";
        let last = json!({"role": "assistant", "content": "b"});
        assert!(rendered(own, &last).unwrap_err().starts_with("the template does not write the last message"));
        assert!(rendered("{{ messages | length }}", &last).unwrap_err().starts_with("the template reads no `content`"));
        for last in [json!({"role": "assistant"}), json!({"role": "assistant", "content": null})] {
            assert!(rendered(own, &last).unwrap_err().contains("no `content`"));
        }
        for content in [json!(3), json!([]), json!([{"type": "image"}]), json!([{"text": 3}])] {
            assert!(rendered(own, &json!({"role": "assistant", "content": content})).unwrap_err().contains("no text"));
        }
    }
}
