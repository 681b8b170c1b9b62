//! Words that stand for a choice, spelled the same on the command line and in files.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Defines an enum whose `Display`, command-line and file spellings are one: the variant in kebab-case.
macro_rules! names {
    ($($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.to_possible_value() {
                    Some(value) => f.pad(value.get_name()),
                    None => Ok(()),
                }
            }
        }
    )*};
}

names! {
    /// A training method (METHOD §6, §7).
    Method {
        /// Sliced NLL on chosen text plus KL on utility text: the paper's method [D].
        Irepair,
        /// IRepair without its KL term and without a reference [D].
        IrepairNoKl,
        /// NLL on chosen text, every parameter [D].
        Dapt,
        /// IRepair's objective on every parameter [D].
        DaptKl,
        /// Direct preference optimisation [D].
        Dpo,
        /// Negative preference optimisation: unlearns the rejected text [O].
        Npo,
        /// Ascends the NLL of the rejected text: a control [O].
        GradientAscent,
        /// Gradient ascent on rejected text plus NLL on chosen text: a control [O].
        GradientDifference,
        /// No training: the model as it is.
        Vanilla,
    }

    /// A toxicity scorer that can be trained here (METHOD §9).
    ScorerKind {
        /// Logistic regression on n-grams of words and characters [O].
        Linear,
        /// A small DistilBERT trained from nothing [O].
        Transformer,
        /// A word list: words that hardly any text but a toxic one holds [O].
        Words,
    }

    /// Which blocks a step may change (METHOD §5).
    Policy {
        /// The most sensitive blocks, measured at every step [D].
        Dynamic,
        /// The least sensitive blocks, measured at every step [D].
        Reverse,
        /// The most sensitive blocks of one estimate made before the first step [D].
        Fixed,
        /// Blocks drawn uniformly, kept for some steps [O].
        Random,
        /// Blocks in order, each kept for some steps [O].
        Cyclic,
        /// `dynamic`, measured only every so many steps [O].
        EveryN,
        /// The most sensitive blocks of a running mean [O].
        Ema,
        /// `dynamic`, but sometimes drawn uniformly, less and less often [O].
        Explore,
        /// As many of the most sensitive blocks as hold a share of the squared sensitivity [O].
        Coverage,
        /// Every parameter, embeddings included [D].
        All,
    }

    /// How the sensitivity of a block is measured (METHOD §3).
    Metric {
        /// L2 norm of the block's gradient on rejected text: the paper's [D].
        GradL2,
        /// `grad-l2` over the square root of the block's number of parameters [O].
        Density,
        /// `grad-l2` over the L2 norm of the block's weights.
        Relative,
        /// Sum of |weight times gradient|.
        Snip,
        /// Sum of squared per-example gradients: diagonal empirical Fisher [S].
        Fisher,
        /// `grad-l2` on rejected text over `grad-l2` on neutral text [O].
        Contrast,
        /// Distance of the block's outputs on rejected and chosen text; no backward pass.
        ActDist,
        /// Attribution patching from rejected to chosen text.
        Atp,
        /// Uniform numbers: a control.
        Random,
    }

    /// How gradients of several batches become one sensitivity (METHOD §3).
    Reduction {
        /// Norm of the mean gradient [D].
        NormOfMean,
        /// Mean of the batches' norms [O].
        MeanOfNorm,
    }

    /// The update rule (METHOD §8).
    Optimizer {
        /// RMSprop, alpha 0.99, eps 1e-8 [D,L].
        Rmsprop,
        /// AdamW [O].
        Adamw,
    }

    /// What becomes of the optimizer state of a block outside the slice (METHOD §8).
    OptimizerState {
        /// Kept as it is [D].
        Keep,
        /// Cleared when the block comes back [O].
        Reset,
        /// Kept, and corrected for its start at 0 by the block's own count of updates [O].
        Debias,
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

impl Metric {
    /// True when the metric has a value at the mean gradient of many batches (METHOD §3).
    pub fn has_mean_gradient(self) -> bool {
        !matches!(self, Self::Fisher | Self::ActDist | Self::Atp | Self::Random)
    }
}

impl Method {
    /// True for the methods of METHOD §6, whose default policy is `dynamic`.
    pub fn is_sliced(self) -> bool {
        matches!(self, Self::Irepair | Self::IrepairNoKl)
    }

    /// True when the objective has a KL term on utility text (METHOD §6, §7).
    pub fn has_kl(self) -> bool {
        matches!(self, Self::Irepair | Self::DaptKl | Self::Npo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spellings<T: ValueEnum + fmt::Display + Serialize>() -> Vec<String> {
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
        assert_eq!(
            spellings::<Method>().join(" "),
            "irepair irepair-no-kl dapt dapt-kl dpo npo gradient-ascent gradient-difference vanilla"
        );
        assert_eq!(
            spellings::<Policy>().join(" "),
            "dynamic reverse fixed random cyclic every-n ema explore coverage all"
        );
        assert_eq!(
            spellings::<Metric>().join(" "),
            "grad-l2 density relative snip fisher contrast act-dist atp random"
        );
        assert_eq!(spellings::<Optimizer>(), ["rmsprop", "adamw"]);
        assert_eq!(spellings::<OptimizerState>(), ["keep", "reset", "debias"]);
        assert_eq!(spellings::<Dtype>(), ["f32", "bf16"]);
        assert_eq!(spellings::<Reduction>(), ["norm-of-mean", "mean-of-norm"]);
    }
}
