//! Spaces before punctuation in decoded texts, which transformers takes out where a tokenizer's settings say so.

use serde_json::Value;
use tokenizers::Tokenizer;
use tokenizers::models::ModelWrapper;

const CLEANS: &str = "clean_up_tokenization_spaces";
const CLEANS_BPE: &str = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output";
/// What is replaced, in this order.
const REPLACED: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// What becomes of spaces before punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spaces {
    /// They stay, in both versions of transformers.
    Kept,
    /// They stay as in transformers 5; transformers 4 takes them out of the texts of a BPE too.
    KeptByVersion5,
    /// Both versions take them out.
    TakenOut,
}

impl Spaces {
    /// By the settings and the kind of model.
    pub(crate) fn of(inner: &Tokenizer, config: &Value) -> Self {
        let is_bpe = matches!(inner.get_model(), ModelWrapper::BPE(_));
        match (config[CLEANS] == true, is_bpe && config[CLEANS_BPE] != true) {
            (false, _) => Self::Kept,
            (true, true) => Self::KeptByVersion5,
            (true, false) => Self::TakenOut,
        }
    }

    /// The text as transformers gives it.
    pub(crate) fn settle(self, text: String) -> String {
        match self {
            Self::TakenOut => REPLACED.iter().fold(text, |text, (from, to)| text.replace(from, to)),
            _ => text,
        }
    }
}
