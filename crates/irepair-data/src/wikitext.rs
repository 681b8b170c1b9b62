//! WikiText as the evaluation harness reads it: pages, their words, and pages as ordinary text.

/// Replaced first, in this order: contractions, the marks inside numbers, the spaces before punctuation.
const MARKS: [(&str, &str); 9] = [
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
];

/// Delimiters without inner space in ordinary text, in the order in which the space is removed.
const DELIMITERS: [(char, char); 5] = [('(', ')'), ('[', ']'), ('{', '}'), ('"', '"'), ('\'', '\'')];

/// Replaced last, in this order: headings, the degree sign, spaces around line ends, the unknown number, the genitive.
const REST: [(&str, &str); 8] = [
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" \u{b0} ", "\u{b0}"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
];

/// A page of WikiText as ordinary text: `( 1 @,@ 000 ) .` becomes `(1,000).`
///
/// The replacements of the evaluation harness, oddities included: `/' 5/` becomes `/'[0-9]/`, because its replacement
/// is a pattern by mistake. Its numbers do not compare without them.
///
/// # Source
/// METHOD §10 \[S\]: `WIKI_word`; lm-evaluation-harness, task `wikitext`.
pub fn wikitext_detokenized(page: &str) -> String {
    let mut text = slashed_digits(&page.replace("s '", "s'"));
    for (from, to) in MARKS {
        text = text.replace(from, to);
    }
    for (open, close) in DELIMITERS {
        text = tight(&text, open, close);
    }
    for (from, to) in REST {
        text = text.replace(from, to);
    }
    text
}

/// Words of a page as the evaluation harness counts them: one more than its runs of white space.
///
/// # Source
/// METHOD §10 \[S\]: `n_words` of `WIKI_word`, of the page before [`wikitext_detokenized`].
pub fn wikitext_words(page: &str) -> usize {
    let before = std::iter::once('-').chain(page.chars());
    1 + page.chars().zip(before).filter(|(c, before)| is_space(*c) && !is_space(*before)).count()
}

/// The pages of a text given as lines without line ends: each starts at a top-level heading ` = Title = `.
///
/// The text before the first heading is a page too, unless it is blank. Empty when there is no heading at all: the text
/// is then not WikiText.
///
/// # Source
/// METHOD §10 \[S\]: the documents of `WIKI_word`.
pub fn wikitext_pages<S: AsRef<str>>(lines: &[S]) -> Vec<String> {
    let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
    let headings: Vec<usize> = (0..lines.len()).filter(|&i| is_top_heading(lines[i])).collect();
    if headings.is_empty() {
        return Vec::new();
    }
    let starts = std::iter::once(0).chain(headings.iter().copied());
    let ends = headings.iter().copied().chain([lines.len()]);
    let pages = starts.zip(ends).map(|(start, end)| lines[start..end].join("\n"));
    pages.filter(|page| !page.trim_matches(is_space).is_empty()).collect()
}

/// ` = Title = `, but not ` = = Section = = `.
fn is_top_heading(line: &str) -> bool {
    let line = line.replace("= = =", "===").replace("= =", "==");
    let line = line.trim_matches(is_space);
    line.starts_with("= ") && line.ends_with(" =")
}

/// White space as Python's `\s` has it: Unicode's, and the four separators of ASCII.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text` without white space next to the inner side of its delimiters.
fn tight(text: &str, open: char, close: char) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(open) {
        let Some((inside, after)) = inside.split_once(close) else { break };
        out += before;
        out.push(open);
        out += inside.trim_matches(is_space);
        out.push(close);
        rest = after;
    }
    out + rest
}

/// The harness's pattern that was to close up `' 90`.
fn slashed_digits(text: &str) -> String {
    const START: &str = "/' ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        let after = &rest[at + START.len()..];
        let found = matches!(after.as_bytes(), [b'0'..=b'9', b'/', ..]);
        out += &rest[..at];
        out += if found { "/'[0-9]/" } else { "/" };
        // Without a match, only the slash is finished.
        rest = if found { &after[2..] } else { &rest[at + 1..] };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_start_at_top_level_headings() {
        let lines = [" ", " = One = ", " ", " text ", " = = Part = = ", " = = = Deep = = = ", " = Two = ", "more"];
        let pages = wikitext_pages(&lines);
        assert_eq!(pages.len(), 2, "a blank start is no page");
        assert_eq!(pages[0], " = One = \n \n text \n = = Part = = \n = = = Deep = = = ");
        assert_eq!(pages[1], " = Two = \nmore");
        assert_eq!(wikitext_pages(&["before", "= T ="]), ["before", "= T ="]);
        assert!(wikitext_pages(&["plain", "text"]).is_empty() && wikitext_pages::<&str>(&[]).is_empty());
    }

    #[test]
    fn words_are_runs_of_white_space_and_one() {
        assert_eq!(["", "a", " a b ", "a \n b", "\u{a0}"].map(wikitext_words), [1, 1, 4, 2, 2]);
    }

    #[test]
    fn pages_become_ordinary_text() {
        let page = " = The mill = \n \n Anna 's mill cost 1 @,@ 000 ( \" a lot \" ) , he said . ";
        assert_eq!(wikitext_detokenized(page), " = The mill =\n\nAnna's mill cost 1,000 (\"a lot\"), he said. ");
        assert_eq!(wikitext_detokenized("/' 1/' 2/"), "/'[0-9]/' 2/");
        assert_eq!(wikitext_detokenized("( open"), "( open");
    }
}
