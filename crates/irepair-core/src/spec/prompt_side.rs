//! Which end of a prompt is kept when it is longer than its limit.

/// A row of the table: the word for it in messages and definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptSideRow {
    /// `first` or `last`.
    pub tokens: &'static str,
}

table! {
    /// Which tokens of a prompt over its limit are kept (METHOD §2).
    pub enum PromptSide("side of a prompt"): PromptSideRow {
        /// Its first ones, as the reference code has it [D].
        Start = "start" { tokens: "first" }
        /// Its last ones, next to the continuation, as TRL has it [S].
        End = "end" { tokens: "last" }
    }
}

#[expect(clippy::derivable_impls, reason = "the table's macro takes no attribute of a variant")]
impl Default for PromptSide {
    fn default() -> Self {
        Self::Start
    }
}

impl PromptSide {
    /// Cuts `ids` to `n` of them. A begin-of-text token at their start stays the first one.
    pub fn cut(self, ids: &mut Vec<u32>, n: usize, begin_id: Option<u32>) {
        let n_cut = ids.len().saturating_sub(n);
        if n_cut == 0 {
            return;
        }
        match self {
            Self::Start => ids.truncate(n),
            Self::End => {
                let begin = begin_id.filter(|begin| n > 0 && ids.first() == Some(begin));
                ids.drain(..n_cut);
                begin.into_iter().for_each(|begin| ids[0] = begin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_is_kept_and_so_is_the_token_that_begins() {
        let cut = |side: PromptSide, n, begin| {
            let mut ids = vec![9, 1, 2, 3];
            side.cut(&mut ids, n, begin);
            ids
        };
        assert_eq!(cut(PromptSide::Start, 2, None), [9, 1]);
        assert_eq!(cut(PromptSide::End, 2, None), [2, 3]);
        assert_eq!(cut(PromptSide::End, 2, Some(9)), [9, 3]);
        assert_eq!(cut(PromptSide::End, 2, Some(7)), [2, 3], "another token begins texts");
        assert_eq!(cut(PromptSide::End, 4, Some(9)), [9, 1, 2, 3], "nothing is cut");
        assert_eq!(cut(PromptSide::End, 0, Some(9)), [0; 0]);
    }
}
