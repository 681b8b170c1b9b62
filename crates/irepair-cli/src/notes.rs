//! What a user should know of the pairs that were read: cut, dropped, or such that they teach something else.

use std::path::Path;

use irepair_config::PromptSide;
use irepair_data::{Counts, Sides, TextKind, Tokenizer, columns_flag};

use crate::error::CliError;

/// What the counts of a file of pairs say, as lines for users. `compares` is true of a loss of which nothing is left
/// where both sides are the same.
///
/// # Errors
/// Pairs that are all the same on both sides, under such a loss.
pub(crate) fn of_pairs(path: &Path, counts: &Counts, sides: Sides, compares: bool) -> Result<Vec<String>, CliError> {
    let n = counts.n_total - counts.n_dropped_empty - counts.n_dropped_long;
    if compares && n > 0 && counts.n_identical == n {
        return Err(CliError::AllSame { path: path.to_owned(), n });
    }
    if !compares && counts.n_identical > 0 {
        // Such pairs may be meant: a loss of one side learns of them.
        tracing::info!("{} of {n} pairs have the same tokens on both sides", counts.n_identical);
    }
    let mut notes = Vec::new();
    let mut note = |count: usize, what: &str| {
        if count > 0 {
            notes.push(format!("{count} of {n} pairs {what}"));
        }
    };
    let same = if compares { counts.n_identical } else { 0 };
    note(same, "have the same tokens on both sides, of which a loss that compares them learns nothing");
    note(
        counts.n_prompt_repeated,
        "have a continuation that begins with the whole prompt: it is read after the prompt, so that the prompt stands \
         twice; give what follows it alone",
    );
    note(
        counts.n_words_joined,
        "have no space where prompt and continuation meet, so that two words become one: begin the continuation with it",
    );
    note(
        counts.n_end_inside,
        "hold the end-of-text token inside a text: its text is read as that token, as transformers reads it",
    );
    if sides.chosen() && counts.n_chosen_ended == 0 {
        let help = if counts.n_chats > 0 { "" } else { ": give --append-eos if they are whole texts" };
        notes.push(format!("no chosen text ends with the end-of-text token, so the model may learn not to stop{help}"));
    }
    Ok(notes)
}

/// That the prompts of a file were taken from its sides while texts of `unread` keys, the likeliest prompt first, are
/// read by nothing.
pub(crate) fn of_unread(path: &Path, unread: &[String]) -> Option<String> {
    let first = unread.first()?;
    let names: Vec<String> = unread.iter().take(8).map(|name| format!("`{}`", name.escape_debug())).collect();
    Some(format!(
        "{}: no `prompt`, so that each prompt is what both sides of its pair begin with, and nothing reads the text of \
         {}: if that is the prompt, name it with `{}`",
        path.display(),
        names.join(" or "),
        columns_flag("prompt", first)
    ))
}

/// How many of `n` prompts were cut to `length` tokens, and which end was kept; none where none was.
pub(crate) fn of_cut_prompts(n_cut: usize, n: usize, length: usize, side: PromptSide) -> Option<String> {
    let other = match side {
        PromptSide::Start => "; --prompt-side end keeps the last",
        PromptSide::End => "",
    };
    let kept = side.row().tokens;
    (n_cut > 0).then(|| format!("{n_cut} of {n} prompts are cut to their {kept} {length} tokens{other}"))
}

/// How many of `n` texts before a continuation lost their first tokens because the two did not fit the context.
pub(crate) fn of_cut_contexts(n_cut: usize, n: usize, what: &str, n_positions: usize) -> Option<String> {
    (n_cut > 0).then(|| {
        format!(
            "{n_cut} of {n} {what} do not fit the context of {n_positions} tokens with what follows them: their last \
             tokens are kept"
        )
    })
}

/// Says what transformers 4 does otherwise with generated texts.
pub(crate) fn say_text_rule(tokenizer: &Tokenizer) {
    if let Some(rule) = tokenizer.text_rule() {
        tracing::info!("{rule}");
    }
}

/// The rule for the begin-of-text token in texts of a kind.
pub(crate) fn begin_rule(tokenizer: &Tokenizer, kind: TextKind) -> String {
    match kind {
        TextKind::Plain => tokenizer.begin_rule(),
        TextKind::Chat => "begin-of-text token: the chat template's alone, none is added".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_words_and_none_without_it() {
        let fine = Counts { n_total: 9, n_chosen_ended: 9, ..Counts::default() };
        let of = |counts: &Counts, compares| of_pairs("p.jsonl".as_ref(), counts, Sides::Both, compares);
        assert_eq!(of(&fine, true).unwrap(), [""; 0]);
        let odd = Counts {
            n_dropped_empty: 1,
            n_identical: 4,
            n_prompt_repeated: 3,
            n_words_joined: 2,
            n_end_inside: 1,
            n_chosen_ended: 0,
            ..fine
        };
        let notes = of(&odd, true).unwrap();
        assert_eq!(notes.len(), 5);
        assert!(notes[0].starts_with("4 of 8 pairs have the same tokens on both sides"), "{notes:?}");
        let same = Counts { n_identical: 8, ..odd };
        assert!(matches!(of(&same, true), Err(CliError::AllSame { n: 8, .. })));
        assert!(of(&same, false).is_ok(), "a loss of one side learns of such pairs");
        assert_eq!(of_unread("p.csv".as_ref(), &[]), None);
        assert_eq!(
            of_unread("p.csv".as_ref(), &["question".to_owned(), "id".to_owned()]).unwrap(),
            "p.csv: no `prompt`, so that each prompt is what both sides of its pair begin with, and nothing reads the text \
             of `question` or `id`: if that is the prompt, name it with `--columns prompt=question`"
        );
        assert_eq!(of_cut_prompts(0, 9, 4, PromptSide::Start), None);
        let said = of_cut_prompts(2, 9, 4, PromptSide::Start).unwrap();
        assert_eq!(said, "2 of 9 prompts are cut to their first 4 tokens; --prompt-side end keeps the last");
        let said = of_cut_contexts(2, 9, "prompts", 48).unwrap();
        assert!(said.starts_with("2 of 9 prompts do not fit the context of 48 tokens"), "{said}");
        assert_eq!(of_cut_contexts(0, 9, "prompts", 48), None);
        assert_eq!(of_cut_prompts(2, 9, 4, PromptSide::End).unwrap(), "2 of 9 prompts are cut to their last 4 tokens");
    }
}
