//! Words that stand for a choice, spelled the same on the command line and in files. Policies, metrics and methods are
//! tables of `irepair_core::spec`; [`entry`] makes flags of them.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use irepair_core::spec::Entry;

/// Defines an enum whose `Display`, command-line and file spellings are one: the variant in kebab-case.
macro_rules! names {
    ($($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident,)* })*) => {$(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum, serde::Serialize, serde::Deserialize,
        )]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// All of them, in this order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                clap::ValueEnum::to_possible_value(self).map_or(Ok(()), |value| f.pad(value.get_name()))
            }
        }
    )*};
}

names! {
    /// A toxicity scorer that can be trained here (METHOD §9).
    ScorerKind {
        /// Logistic regression on n-grams of words and characters [O].
        Linear,
        /// A small DistilBERT trained from nothing [O].
        Transformer,
        /// A word list: words that hardly any text but a toxic one holds [O].
        Words,
    }

    /// The update rule (METHOD §8).
    Optimizer {
        /// RMSprop, alpha 0.99, eps 1e-8 [D,L].
        Rmsprop,
        /// AdamW [O].
        Adamw,
        /// Natural steps: `lr` is the KL on neutral text that a step may cost (METHOD §27) [O].
        Natural,
    }

    /// Settings that stand where the user gives none.
    Preset {
        /// The method that removed most of the error at equal disturbance on a published model: DPO on every weight, at
        /// 1e-5, ended by a KL budget of 0.05 nats a token [O].
        Best,
        /// The paper's method and settings (METHOD §17) [D].
        Paper,
    }

    /// Micro-batches of a step that its sensitivities are measured on (METHOD §25).
    Localising {
        /// All of them: the norm of the sum of their gradients [D].
        Exact,
        /// The first one alone [O].
        First,
    }

    /// Treatment of the optimizer state of a block outside the slice (METHOD §8).
    OptimizerState {
        /// Kept as it is [D].
        Keep,
        /// Cleared when the block comes back [O].
        Reset,
        /// Kept, and corrected for its start at 0 by the block's own count of updates [O].
        Debias,
    }

    /// What happens to a text that is longer than the model's context.
    Long {
        /// The command stops, naming the file and the line of the text.
        Refuse,
        /// It is scored in windows, every token but the first once.
        Window,
        /// It is cut to what fits.
        Cut,
    }

    /// Number type of the weights.
    Dtype {
        /// 32-bit floats.
        F32,
        /// bfloat16.
        Bf16,
    }
}

impl Dtype {
    /// Bytes of one number.
    pub fn n_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Reads an entry of one of core's tables as a flag: its names, with their documentation as help.
pub(crate) fn entry<T: Entry>() -> impl TypedValueParser<Value = T> {
    let names =
        T::ALL.iter().map(|entry| PossibleValue::new(entry.name()).help(entry.doc().trim_end_matches('.').to_owned()));
    PossibleValuesParser::new(names).try_map(|name| T::named(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    fn spellings<T: ValueEnum + std::fmt::Display + serde::Serialize>() -> Vec<String> {
        T::value_variants()
            .iter()
            .map(|value| {
                let spelled = toml::Value::try_from(value).unwrap();
                assert_eq!(spelled.as_str(), Some(value.to_string().as_str()));
                assert_eq!(T::from_str(&value.to_string(), false).unwrap().to_string(), value.to_string());
                value.to_string()
            })
            .collect()
    }

    #[test]
    fn flags_files_and_messages_spell_a_word_alike() {
        assert_eq!(spellings::<Optimizer>(), ["rmsprop", "adamw", "natural"]);
        assert_eq!(spellings::<OptimizerState>(), ["keep", "reset", "debias"]);
        assert_eq!(spellings::<Dtype>(), ["f32", "bf16"]);
    }
}
