//! The source of a template where the engine reads it otherwise than Jinja does.

use super::rewrite;

/// The template with line ends as Jinja has them, with `{% generation %}` blocks, which mark the assistant's texts for
/// trainers, as blocks of the same scope without an effect, and with texts whose escapes are Python's.
///
/// # Errors
/// For what the engine would read otherwise without a word.
pub(super) fn settled(source: &str) -> Result<String, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let (mut made, mut rest) = (String::with_capacity(source.len()), &*source);
    while let Some(at) = rest.find('{') {
        let (before, tag) = rest.split_at(at + 1);
        made += before;
        rest = tag;
        match tag.bytes().next() {
            Some(b'#') => copy(&mut made, &mut rest, tag.find("#}").map_or(tag.len(), |end| end + 2)),
            Some(b'{') => {
                let n = made.len();
                inside(&mut made, &mut rest, "}}")?;
                rewrite(&mut made, n, "}}", rewrite::printed)?;
            }
            Some(b'%') => {
                if word_of(tag) == "raw" {
                    let end = raw_length(tag);
                    copy(&mut made, &mut rest, end);
                    continue;
                }
                if word_of(tag) == "autoescape" {
                    return Err("it escapes text, with autoescape".to_owned());
                }
                let (n, word) = (made.len(), word_of(tag));
                rename_generation(&mut made, &mut rest);
                inside(&mut made, &mut rest, "%}")?;
                match word {
                    "macro" => refuse_linked(made[n..].split_once('(').map_or("", |(_, names)| names))?,
                    "with" => refuse_linked(made[n..].split_once("with").map_or("", |(_, names)| names))?,
                    _ => {}
                }
                rewrite(&mut made, n, "%}", rewrite::statement)?;
            }
            _ => {}
        }
    }
    Ok(made + rest)
}

/// Writes what is inside of a tag, from its second character at `n` on, as `written` has it; a tag without an end
/// stays.
fn rewrite(made: &mut String, n: usize, end: &str, written: fn(&str) -> Result<String, String>) -> Result<(), String> {
    let tag = made.split_off(n);
    let Some(inner) = tag.get(1..).and_then(|inner| inner.strip_suffix(end)) else {
        *made += &tag;
        return Ok(());
    };
    let from = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let inside = from.strip_suffix(['-', '+']).unwrap_or(from);
    let signs = (&inner[..inner.len() - from.len()], &from[inside.len()..]);
    *made += &format!("{}{} {} {}{end}", &tag[..1], signs.0, written(inside.trim())?, signs.1);
    Ok(())
}

fn copy(made: &mut String, rest: &mut &str, n: usize) {
    let (taken, left) = rest.split_at(n);
    *made += taken;
    *rest = left;
}

/// The first word of a tag that begins with its `%`.
fn word_of(tag: &str) -> &str {
    let word = tag[1..].trim_start_matches(['-', '+']).trim_start();
    &word[..word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len())]
}

/// Bytes of a raw block, to the `%` of the tag that ends it.
fn raw_length(tag: &str) -> usize {
    let ends = tag.match_indices("{%").map(|(at, _)| at + 1);
    ends.into_iter().find(|&at| word_of(&tag[at..]) == "endraw").unwrap_or(tag.len())
}

/// Takes the beginning of a tag of a generation block, under the name that the engine knows.
fn rename_generation(made: &mut String, rest: &mut &str) {
    for (from, to) in [("generation", "with"), ("endgeneration", "endwith")] {
        let at = rest.len() - rest[1..].trim_start_matches(['-', '+']).trim_start().len();
        if word_of(rest) == from
            && let Some(end) = rest[at..].strip_prefix(from)
            && end.trim_start().trim_start_matches(['-', '+']).starts_with("%}")
        {
            *made += &rest[..at];
            *made += to;
            *rest = end;
            return;
        }
    }
}

/// Takes what is inside of a tag, up to its end.
fn inside(made: &mut String, rest: &mut &str, end: &str) -> Result<(), String> {
    // The delimiter's own second character is no bracket.
    if made.ends_with('{') {
        copy(made, rest, rest.chars().next().map_or(0, char::len_utf8));
    }
    let mut depth = 0_usize;
    while let Some(c) = rest.chars().next() {
        match c {
            _ if depth == 0 && rest.starts_with(end) => {
                copy(made, rest, end.len());
                return Ok(());
            }
            '\'' | '"' => string(made, rest, c)?,
            _ => {
                match c {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                copy(made, rest, c.len_utf8());
            }
        }
    }
    Ok(())
}

/// Takes a text with its quotes. The engine reads `\/` as `/` and knows no `\a`, `\v`, `\U` and `\N`.
fn string(made: &mut String, rest: &mut &str, quote: char) -> Result<(), String> {
    copy(made, rest, 1);
    while let Some(c) = rest.chars().next() {
        if c != '\\' {
            copy(made, rest, c.len_utf8());
            if c == quote {
                return Ok(());
            }
            continue;
        }
        match rest[1..].chars().next() {
            Some('/') => {
                *made += "\\\\/";
                *rest = &rest[2..];
            }
            Some('\n') => *rest = &rest[2..],
            Some(c @ ('a' | 'v')) => {
                made.push(if c == 'a' { '\u{7}' } else { '\u{b}' });
                *rest = &rest[2..];
            }
            Some('U') => {
                let digits = rest.get(2..10).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let c = digits.and_then(char::from_u32).filter(|c| !['\\', '\'', '"'].contains(c));
                made.push(c.ok_or("a text has the escape \\U without a character's number")?);
                *rest = &rest[10..];
            }
            Some('N') => return Err("a text has a character by its name, \\N".to_owned()),
            other => copy(made, rest, 1 + other.map_or(0, char::len_utf8)),
        }
    }
    Ok(())
}

/// Refuses names of a macro's arguments, or of a `with`, where the value of one reads an earlier one: in Jinja an
/// argument's default finds that, and a `with` does not; in the engine it is the other way round.
fn refuse_linked(names: &str) -> Result<(), String> {
    let (mut rest, mut before, mut known) = (names, ',', Vec::new());
    while let Some(c) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let n = match c {
            '\'' | '"' => rest[1..].find(c).map_or(rest.len(), |end| end + 2),
            c if is_name(c) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let name = &rest[..n];
        if is_name(c) && before == ',' {
            known.push(name);
        } else if before != '.' && known.contains(&name) {
            return Err(format!("the value of a name in a macro or a `with` reads the name `{name}` before it"));
        }
        before = if c.is_whitespace() { before } else { c };
        rest = &rest[n..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_keep_their_trims_and_nothing_else_is_touched() {
        let same = |text: &str| assert_eq!(settled(text).unwrap(), text);
        let made =
            settled("{%- generation -%}a{% endgeneration%}{%generation +%} {% generations %}{% if generation %}");
        assert_eq!(made.unwrap(), "{%- with  -%}a{% endwith %}{% with  +%} {% generations %}{% if generation %}");
        assert_eq!(settled("a\r\nb\rc\n").unwrap(), "a\nb\nc\n");
        for text in [
            "{% generation",
            "{",
            "{{",
            "{%",
            "{#",
            "{{ 'a",
            "{{ 'a\\",
            "{% raw %}{{ '\\/' }}{% endraw %}",
            "{# '\\/ #}'\\/'",
        ] {
            same(text);
        }
        same("{{ {'a': {'b': \"}}\"}} }} {%- macro m(a, b='a', c=none, d=none) -%} { '\\/' }");
    }

    #[test]
    fn escapes_of_texts_are_those_of_python() {
        assert_eq!(settled(r#"{{ {'\/': "\U0001F642\d\\/'"} }}\/"#).unwrap(), "{{ {'\\\\/': \"🙂\\d\\\\/'\"} }}\\/");
        assert_eq!(settled("{% set a = 'b\\\nc' %}").unwrap(), "{% set a = 'bc' %}");
    }

    #[test]
    fn what_the_engine_reads_otherwise_is_refused() {
        let why = |text| settled(text).unwrap_err();
        assert!(why("{{ '\\N{BULLET}' }}").contains("by its name"));
        assert!(why("{{ '\\U0001' }}").contains("without a character's number"));
        assert!(why("{% autoescape true %}").contains("autoescape"));
        for text in ["{% macro m(a, b=a) %}", "{%- with a = 1, b = [a] -%}", "{% macro m(a, b='x', c=b ~ 'y') %}"] {
            assert!(why(text).contains("before it"), "{text}");
        }
        for text in ["{% macro m(a, b=x.a, c=x, d='a') %}", "{% with a = a, b = x %}", "{% macro m() %}", "{% macro m"]
        {
            // The name itself, in its own value, is the outer one.
            assert_eq!(settled(text).is_ok(), !text.contains("a = a"), "{text}");
        }
    }
}
