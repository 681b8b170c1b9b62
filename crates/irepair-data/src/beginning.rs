//! What the two sides of a pair begin with: its prompt, where it has none of its own.

use serde_json::Value;

/// What two texts begin with, as TRL's `extract_prompt` takes the prompt out of a pair: up to the first character
/// that differs, or, where a space is just before it, up to that space. Of equal texts, and where one is the
/// beginning of the other, up to the last character of the shorter one.
///
/// One case differs from TRL: where the first characters differ, nothing is common. TRL looks at the character before
/// the first, which is the last of `chosen`, and takes nearly all of it when that is a space.
pub fn common_beginning<'a>(chosen: &'a str, rejected: &str) -> &'a str {
    let mut end = 0;
    for (c, other) in chosen.chars().zip(rejected.chars()) {
        if c != other {
            let before = &chosen[..end];
            return before.strip_suffix(' ').unwrap_or(before);
        }
        end += c.len_utf8();
    }
    let last = chosen[..end].chars().next_back().map_or(0, char::len_utf8);
    &chosen[..end - last]
}

/// The number of messages that two chats begin with; of chats of which one is the beginning of the other, without the
/// last message of the shorter one.
pub(crate) fn n_common(chosen: &[Value], rejected: &[Value]) -> usize {
    let n = chosen.len().min(rejected.len());
    (0..n).find(|&i| chosen[i] != rejected[i]).unwrap_or(n.saturating_sub(1))
}
