//! Plain words, and comments that wrap.

/// Whether violations are errors; otherwise `cargo xtask tidy --words` lists them.
pub(super) const ENFORCED: bool = true;

/// Longest line of a comment, in characters.
const MAX_COMMENT: usize = 120;

/// The file with the words, which does not look at itself.
const THIS_FILE: &str = "xtask/src/tidy/words.rs";

/// Texts of the planted language and of recipes are data: only their comments are prose.
const DATA: [&str; 2] = ["crates/irepair-data/src/planted/", "docs/recipes/data/"];

/// Words and phrases to avoid, in lower case, and what to write instead.
const WORDS: [(&str, &str); 33] = [
    ("nobody", "no one, or name the reader or caller"),
    ("somebody", "the user, another program, or name them"),
    ("everybody", "all, or name them"),
    ("anybody", "any user, or name them"),
    ("anew", "again"),
    ("whence", "provenance, or from which"),
    ("strangers", "others, unknown, disallowed"),
    ("told from", "distinguished from"),
    ("told apart", "distinguished"),
    ("tell apart", "distinguish"),
    ("is told", "is given, receives, or is reported"),
    ("are told", "are given, receive, or are reported"),
    ("was told", "was given, received, or was reported"),
    ("who it is", "its name"),
    ("what it is", "its name, kind or meaning"),
    ("beside", "next to, with, or compared with"),
    ("aside", "temporary file, or away"),
    ("goes on", "continues"),
    ("go on", "continue"),
    ("going on", "continuing"),
    ("went on", "continued"),
    ("at its fullest", "at most"),
    ("is much", "give the number and say what it means"),
    ("mended", "corrected, fixed"),
    ("mends", "corrects, fixes"),
    ("in the manner of", "like, in the form of"),
    ("on the spot", "here, during the run"),
    ("turn by turn", "in alternation"),
    ("as it stands", "unchanged"),
    ("says nothing", "is no evidence, or is not given"),
    ("says it all", "is enough"),
    ("must not be taken for", "is no"),
    ("one's own", "your own"),
];

/// Violations of one file; `name` is its path from the root.
pub(super) fn violations(name: &str, text: &str) -> Vec<String> {
    if name == THIS_FILE {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        let is_data = DATA.iter().any(|dir| name.starts_with(dir)) && !is_comment(name, line);
        for (word, instead) in WORDS.iter().filter(|(word, _)| !is_data && has_word(&lower, word)) {
            found.push(format!("line {}: `{word}`: {instead}", i + 1));
        }
        let n = line.chars().count();
        if is_comment(name, line) && n > MAX_COMMENT {
            found.push(format!("line {}: a comment of {n} characters, over {MAX_COMMENT}", i + 1));
        }
    }
    found
}

fn is_comment(name: &str, line: &str) -> bool {
    let line = line.trim_start();
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("rs") => line.starts_with("//"),
        Some("py" | "toml" | "sh") => line.starts_with('#'),
        _ => false,
    }
}

/// Whether a phrase stands in a line in whole words.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !is_letter(line[..at].chars().next_back()) && !is_letter(line[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole() {
        assert_eq!(violations("a.md", "Nobody knows"), ["line 1: `nobody`: no one, or name the reader or caller"]);
        assert_eq!(violations("a.md", "renewed manew anew_"), [""; 0]);
        assert_eq!(violations("a.rs", "x\n// It goes on.").len(), 1);
    }

    #[test]
    fn only_comments_must_wrap() {
        let long = "x".repeat(120);
        assert_eq!(violations("a.rs", &format!("    // {long}")).len(), 1);
        assert_eq!(violations("a.py", &format!("# {long}")).len(), 1);
        assert_eq!(violations("a.rs", &format!("\"{long}\"")), [""; 0]);
        assert_eq!(violations("a.md", &format!("# {long}")), [""; 0]);
    }
}
