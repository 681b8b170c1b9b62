//! One vocabulary: slicing policies, sensitivity metrics, loss terms, methods, kinds of units and operators that plant
//! faults, each in one table.
//!
//! A row holds a name, one line of documentation and what the entry needs. Flags, file keys, docs/CONFIG.md, memory and
//! work estimates read the rows; the crates that implement the entries match on them without a wildcard.
//!
//! ```
//! use irepair_core::spec::{Measures, Method, Metric, Numbers, Policy, Side, Term};
//!
//! assert_eq!("every-n".parse::<Policy>()?.row().measures, Measures::EveryNSteps);
//! assert!(Metric::Contrast.reads_chosen());
//! let terms = Method::Irepair.terms(&Numbers::default());
//! assert_eq!(terms, [(0.5, Term::Nll(Side::Chosen)), (1.0, Term::Kl)]);
//! # Ok::<(), irepair_core::Error>(())
//! ```
//!
//! A row without an implementation does not compile. This is what every implementation looks like, with one policy
//! missing:
//!
//! ```compile_fail,E0004
//! use irepair_core::spec::Policy;
//!
//! fn choose(policy: Policy) -> &'static str {
//!     match policy {
//!         Policy::Dynamic | Policy::Reverse | Policy::Fixed | Policy::Random | Policy::Cyclic => "blocks",
//!         Policy::EveryN | Policy::Ema | Policy::Explore | Policy::Coverage | Policy::Blocks => "blocks",
//!         // Policy::All is not covered.
//!     }
//! }
//! ```
//!
//! With all of them it compiles:
//!
//! ```
//! use irepair_core::spec::Policy;
//!
//! fn choose(policy: Policy) -> &'static str {
//!     match policy {
//!         Policy::Dynamic | Policy::Reverse | Policy::Fixed | Policy::Random | Policy::Cyclic => "blocks",
//!         Policy::EveryN | Policy::Ema | Policy::Explore | Policy::Coverage | Policy::Blocks => "blocks",
//!         Policy::All => "every parameter",
//!     }
//! }
//! ```

/// Defines an enum from its table: for every variant its documentation, its name and its row.
macro_rules! table {
    (
        $(#[$meta:meta])* pub enum $table:ident($what:literal): $row:ident {
            $($(#[doc = $doc:literal])+ $variant:ident = $name:literal { $($field:ident: $value:expr),* $(,)? })*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
        )]
        pub enum $table {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)*
        }

        impl $table {
            /// Every entry, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the command line and in files.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What the entry is and does.
            pub const fn row(self) -> $row {
                match self { $(Self::$variant => $row { $($field: $value),* }),* }
            }
        }

        impl $crate::spec::Entry for $table {
            const WHAT: &'static str = $what;
            const ALL: &'static [Self] = Self::ALL;

            fn name(self) -> &'static str {
                self.name()
            }

            fn doc(self) -> String {
                let lines: &[&str] = match self { $(Self::$variant => &[$($doc),+]),* };
                lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
            }
        }

        impl std::fmt::Display for $table {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $table {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                $crate::spec::Entry::named(name)
            }
        }
    };
}

mod methods;
mod metrics;
mod numbers;
mod operators;
mod policies;
mod prompt_side;
mod terms;
mod units;

pub use methods::{Method, MethodRow, Weight};
pub use metrics::{Against, Evidence, Metric, MetricRow, Reduction, ReductionRow};
pub use numbers::{Number, NumberRow, Numbers, Range};
pub use operators::{Operator, OperatorRow};
pub use policies::{Measures, Policy, PolicyRow, Reach};
pub use prompt_side::{PromptSide, PromptSideRow};
pub use terms::{Needs, Side, Term, Weighted, formula, separable};
pub use units::{UnitKind, UnitKindRow};

use crate::{Error, Result};

/// An entry of one of the tables.
pub trait Entry: Copy + Send + Sync + 'static {
    /// What the table lists, such as `policy`.
    const WHAT: &'static str;
    /// Every entry, in the order of the table.
    const ALL: &'static [Self];

    /// The name on the command line and in files.
    fn name(self) -> &'static str;

    /// The documentation, on one line.
    fn doc(self) -> String;

    /// The entry of that name.
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the names there are.
    fn named(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|entry| entry.name() == name).ok_or_else(|| Error::UnknownName {
            what: Self::WHAT,
            got: name.to_owned(),
            want: Self::ALL.iter().map(|entry| entry.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spellings<T: Entry + std::fmt::Display + serde::Serialize>() -> String {
        let spelled = |entry: &T| {
            assert_eq!(serde_json::to_string(entry).unwrap(), format!("\"{entry}\""));
            assert_eq!(T::named(entry.name()).unwrap().name(), entry.to_string());
            let doc = entry.doc();
            assert!(doc.ends_with('.') && doc.contains('['), "{entry}: a sentence with METHOD's tag, not `{doc}`");
            entry.name()
        };
        T::ALL.iter().map(spelled).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn files_messages_and_flags_spell_a_name_alike() {
        assert_eq!(
            spellings::<Policy>(),
            "dynamic reverse fixed random cyclic every-n ema explore coverage blocks all"
        );
        assert_eq!(
            spellings::<Metric>(),
            "grad-l2 density relative snip fisher contrast efficiency act-dist atp eap-ig patching snip-diff wanda-diff \
             mask random"
        );
        assert_eq!(spellings::<Reduction>(), "norm-of-mean mean-of-norm");
        assert_eq!(spellings::<PromptSide>(), "start end");
        assert_eq!(
            spellings::<Method>(),
            "irepair irepair-no-kl dapt dapt-kl dpo dpo-kl sliced-dpo sliced-dpo-kl npo npo-no-kl gradient-ascent \
             gradient-difference difference-of-means vanilla"
        );
        assert_eq!(
            spellings::<Number>(),
            "policy_every policy_rho policy_epsilon policy_quota beta gamma scale dpo_beta npo_beta"
        );
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        use crate::Diagnose;
        assert_eq!(
            "dynamite".parse::<Policy>().unwrap_err().diagnostic().to_string(),
            "error: no policy is called `dynamite`\n want: dynamic, reverse, fixed, random, cyclic, every-n, ema, explore, \
             coverage, blocks, all    got: dynamite"
        );
    }
}
