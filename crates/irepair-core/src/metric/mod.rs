//! Every number that is reported: its key, name, unit, direction and meaning, once, in the order reports give them.
//!
//! ```
//! use irepair_core::metric::{self, MetricKey};
//!
//! let key: MetricKey = "tox:rtp@words".parse()?;
//! assert_eq!((key.metric, key.heading()), (metric::TOX, "Toxicity % ↓, rtp, by words".to_owned()));
//! assert!(metric::TOX < metric::TOKEN_PERPLEXITY, "the error comes before what must not be lost");
//! # Ok::<(), metric::UnknownMetric>(())
//! ```

mod key;
mod measured;

pub use key::{MetricKey, UnknownMetric};
pub use measured::{Metric, Metrics};

/// What is true of a metric whatever its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Key in result files and on the command line.
    pub key: &'static str,
    /// The key that earlier versions wrote; still read.
    pub old_key: Option<&'static str>,
    /// Name in tables.
    pub name: &'static str,
    /// Unit; empty for a pure number.
    pub unit: &'static str,
    /// Which direction is good.
    pub better: Better,
    /// Digits after the point in tables.
    pub digits: usize,
    /// The definition.
    pub meaning: &'static str,
}

/// Which values of a metric are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Low ones.
    Lower,
    /// High ones.
    Higher,
    /// Those near the model's before repair.
    Near,
}

impl Better {
    fn arrow(self) -> &'static str {
        match self {
            Self::Lower => " ↓",
            Self::Higher => " ↑",
            Self::Near => "",
        }
    }
}

/// One row of the table of metrics. They compare by their place in it, most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricId(usize);

impl MetricId {
    /// All of them, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..DEFINITIONS.len()).map(Self)
    }

    /// What is true of it.
    pub fn definition(self) -> &'static Definition {
        &DEFINITIONS[self.0]
    }

    /// Name, unit where it is percent, and an arrow towards the good values.
    pub fn heading(self) -> String {
        let Definition { name, unit, better, .. } = self.definition();
        format!("{name}{}{}", if *unit == "%" { " %" } else { "" }, better.arrow())
    }
}

impl std::fmt::Display for MetricId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.definition().key)
    }
}

/// `NAME = key, name, unit, better, digits, meaning;` for each metric, most important first; `key | old key` keeps an
/// old key readable.
macro_rules! metrics {
    ($($id:ident = $key:literal $(| $old:literal)?, $name:literal, $unit:literal, $better:ident, $digits:literal, $meaning:literal;)*) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "numbers the constants of the same names")]
        enum Row { $($id,)* }
        $(
            #[doc = concat!("`", $key, "`: ", $meaning, ".")]
            pub const $id: MetricId = MetricId(Row::$id as usize);
        )*
        const DEFINITIONS: &[Definition] = &[$(Definition {
            key: $key,
            old_key: metrics!(@old $($old)?),
            name: $name,
            unit: $unit,
            better: Better::$better,
            digits: $digits,
            meaning: $meaning,
        },)*];
        const KEYS: &[&str] = &[$($key,)*];
    };
    (@old) => { None };
    (@old $old:literal) => { Some($old) };
}

metrics! {
    TOX = "tox", "Toxicity", "%", Lower, 2, "mean toxicity of greedy continuations of the error prompts (METHOD §9)";
    TOXFRAC = "toxfrac", "Toxic share", "%", Lower, 1, "share of those continuations over the threshold (METHOD §9)";
    EXPECTED_MAX_TOXICITY = "expected_max_toxicity", "Expected maximum", "", Lower, 3,
        "mean over prompts of the highest toxicity among the samples (METHOD §9)";
    TOXICITY_PROBABILITY = "toxicity_probability", "Toxicity probability", "", Lower, 3,
        "share of prompts with a toxic continuation among the samples (METHOD §9)";
    CLEAN_TOX = "clean_tox", "Clean toxicity", "%", Lower, 2, "mean toxicity of greedy continuations of clean prompts";
    STEREOTYPE_SHARE = "stereotype_share", "Stereotypes preferred", "%", Near, 1,
        "minimal pairs whose stereotype is the likelier sentence (METHOD §15)";
    STEREOTYPE_BIAS = "stereotype_bias", "Stereotype bias", "percentage points", Lower, 1,
        "distance of that share from one half (METHOD §15)";
    EXTRACTION_RATE = "extraction_rate", "Extraction rate", "%", Lower, 1,
        "continuations that greedy decoding gives verbatim (METHOD §15)";
    MEAN_TOKEN_RANK = "mean_token_rank", "Mean token rank", "", Higher, 1,
        "mean rank of the tokens of those continuations, 1 = likeliest (METHOD §15)";
    WRONG_PREFERENCE = "wrong_preference", "Wrong preference", "%", Lower, 1,
        "pairs whose rejected continuation is preferred (METHOD §15)";
    TOKEN_PERPLEXITY = "token_perplexity", "Perplexity", "", Lower, 2,
        "perplexity per token of general text (METHOD §10: WIKI)";
    STRIDED_PERPLEXITY = "strided_perplexity", "Strided perplexity", "", Lower, 2,
        "the same with windows that overlap (METHOD §10)";
    WORD_PERPLEXITY = "word_perplexity", "Word perplexity", "", Lower, 2,
        "perplexity per word of whole documents (METHOD §10: WIKI_word)";
    LAST_WORD_ACCURACY = "last_word_accuracy" | "cloze_accuracy", "Last word", "%", Higher, 1,
        "share of last words predicted exactly (METHOD §10: LAMBADA)";
    LAST_WORD_PERPLEXITY = "last_word_perplexity" | "cloze_perplexity", "Last-word perplexity", "", Lower, 2,
        "perplexity of the last word (METHOD §10: LAMBADA)";
    LAST_WORD_CORPUS_PERPLEXITY = "last_word_corpus_perplexity" | "cloze_corpus_perplexity", "Last-word texts, perplexity",
        "", Lower, 2, "perplexity per token of the last-word texts as running text (METHOD §10: LAMBADA_corpus)";
    BLIMP_ACCURACY = "blimp_accuracy", "BLiMP", "%", Higher, 1,
        "minimal pairs whose acceptable sentence is the likelier one (METHOD §10: BLiMP)";
    HELLASWAG_ACCURACY = "hellaswag_accuracy", "HellaSwag", "%", Higher, 1,
        "questions whose right ending is the likeliest (METHOD §10: HellaSwag, `acc`)";
    HELLASWAG_ACCURACY_BY_BYTES = "hellaswag_accuracy_by_bytes", "HellaSwag by bytes", "%", Higher, 1,
        "the same with likelihoods per byte (METHOD §10: HellaSwag, `acc_norm`)";
    TOKEN_F1 = "token_f1", "Token F1", "", Higher, 3, "F1 of greedy continuations against the true ones (METHOD §10)";
    KL_HELDOUT = "kl_heldout", "Held-out KL", "nats per token", Lower, 4,
        "KL(reference ‖ model) on held-out neutral text (METHOD §10)";
    CONTINUATION_PERPLEXITY = "continuation_perplexity", "Continuation perplexity", "", Near, 2,
        "perplexity of the continuations under the reference (METHOD §9)";
    DISTINCT_1 = "distinct_1", "distinct-1", "", Near, 3, "different tokens over all tokens generated (METHOD §9)";
    DISTINCT_2 = "distinct_2", "distinct-2", "", Near, 3, "different token pairs over all pairs (METHOD §9)";
    DISTINCT_3 = "distinct_3", "distinct-3", "", Near, 3, "different token triples over all triples (METHOD §9)";
    MEAN_LENGTH = "mean_length", "Length", "tokens", Near, 1, "mean length of a continuation (METHOD §9)";
    REPETITION_4 = "repetition_4", "4-gram repetition", "", Near, 3,
        "share of token 4-grams that repeat an earlier one of their continuation (METHOD §9)";
    EMPTY_SHARE = "empty_share", "Empty", "", Near, 3, "share of continuations that are blank or end at once (METHOD §9)";
    COPIED_SHARE = "copied_share", "Copied", "", Near, 3,
        "share of continuations most of whose 4-grams stand in their prompt (METHOD §22)";
    DECODING_COST = "decoding_cost", "Decoding cost", "", Lower, 1,
        "tokens generated for each token of a continuation that is kept (METHOD §26)";
    TRAJECTORY_TOX = "trajectory_tox", "Toxicity at the end", "%", Lower, 2,
        "toxicity at the last point of the trajectory; its definition and n are those of all points (METHOD §16)";
    TRAJECTORY_PERPLEXITY = "trajectory_perplexity", "Perplexity at the end", "", Lower, 2,
        "perplexity at the last point of the trajectory; its definition and n are those of all points (METHOD §16)";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_spelled_once_and_means_something() {
        let all: Vec<&Definition> = MetricId::all().map(MetricId::definition).collect();
        let spellings: Vec<&str> = all.iter().flat_map(|d| [Some(d.key), d.old_key]).flatten().collect();
        assert_eq!(spellings.iter().collect::<BTreeSet<_>>().len(), spellings.len());
        for d in &all {
            assert!(d.key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{}", d.key);
            assert!(!d.name.is_empty() && d.meaning.len() > 10 && !d.meaning.ends_with('.'), "{}", d.key);
        }
        assert_eq!(MetricId::all().next(), Some(TOX));
    }

    #[test]
    fn a_heading_has_unit_and_direction() {
        assert_eq!(TOX.heading(), "Toxicity % ↓");
        assert_eq!(LAST_WORD_ACCURACY.heading(), "Last word % ↑");
        assert_eq!((MEAN_LENGTH.heading(), KL_HELDOUT.heading()), ("Length".to_owned(), "Held-out KL ↓".to_owned()));
    }
}
