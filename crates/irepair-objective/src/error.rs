//! The crate's error type.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with the input of an objective.
    #[derive(PartialEq, Eq)]
    pub enum Error {
        /// Two tensors that must agree in shape do not; `what` is the one with the wrong shape.
        ShapeMismatch { what: &'static str, want: Vec<i64>, got: Vec<i64> } = "{what} has the wrong shape" =>
            Bug.want_got(format!("{want:?}"), format!("{got:?}"));
        /// No token of the text `what` counts, so there is no mean.
        NothingCounted { what: &'static str } = "no token counts in the {what}" =>
            Data.help("a text of one token has nothing to predict: give longer texts or drop them");
        /// The objective needs `what`, a text or a reference, and it was not given.
        Missing { objective: String, what: &'static str } = "objective `{objective}` needs the {what}" => Bug;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            ShapeMismatch: [Error::ShapeMismatch {
                what: "reference logits",
                want: vec![4, 24, 50257],
                got: vec![4, 23, 50257]
            }],
            NothingCounted: [Error::NothingCounted { what: "chosen text" }],
            Missing: [Error::Missing { objective: "dpo".into(), what: "reference" }],
        }));
    }
}
