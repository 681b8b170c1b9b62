//! The methods of METHOD §6 and §7: a weighted sum of loss terms, a policy and a learning rate each.

use std::fmt;

use super::{Number, Numbers, Policy, Side, Term, Weighted, formula};

/// One method of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MethodRow {
    /// Factor on the whole sum.
    pub scale: Weight,
    /// The terms of the loss; none where nothing is trained.
    pub terms: &'static [(Weight, Term<Number>)],
    /// The policy by default.
    pub policy: Policy,
    /// The learning rate by default (METHOD §17).
    pub lr: f64,
}

/// A weight of a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weight {
    /// Always this.
    Fixed(f64),
    /// The value of that number.
    Read(Number),
}

const ONE: Weight = Weight::Fixed(1.0);
const MINUS_ONE: Weight = Weight::Fixed(-1.0);
const SCALE: Weight = Weight::Read(Number::Scale);
const NLL: (Weight, Term<Number>) = (Weight::Read(Number::Beta), Term::Nll(Side::Chosen));
const KL: (Weight, Term<Number>) = (Weight::Read(Number::Gamma), Term::Kl);
const DPO: (Weight, Term<Number>) = (ONE, Term::Dpo { beta: Number::DpoBeta });
const NPO: (Weight, Term<Number>) = (ONE, Term::Npo { beta: Number::NpoBeta });
const PLAIN_NLL: (Weight, Term<Number>) = (ONE, Term::Nll(Side::Chosen));
const ASCENT: (Weight, Term<Number>) = (MINUS_ONE, Term::Nll(Side::Rejected));
/// Learning rate of NLL losses [F] and of preference losses ([L]; under a slice or with a KL term [O]) (METHOD §17).
const NLL_RATE: f64 = 5e-5;
const PREFERENCE_RATE: f64 = 1e-6;

table! {
    /// A training method (METHOD §6, §7).
    pub enum Method("method"): MethodRow {
        /// Sliced NLL on chosen text plus KL on utility text: the paper's method [D].
        Irepair = "irepair" { scale: SCALE, terms: &[NLL, KL], policy: Policy::Dynamic, lr: NLL_RATE }
        /// IRepair without its KL term and without a reference [D].
        IrepairNoKl = "irepair-no-kl" { scale: SCALE, terms: &[NLL], policy: Policy::Dynamic, lr: NLL_RATE }
        /// NLL on chosen text, every parameter [D].
        Dapt = "dapt" { scale: ONE, terms: &[(ONE, Term::SequenceNll(Side::Chosen))], policy: Policy::All, lr: NLL_RATE }
        /// IRepair's objective on every parameter [D].
        DaptKl = "dapt-kl" { scale: SCALE, terms: &[NLL, KL], policy: Policy::All, lr: NLL_RATE }
        /// Direct preference optimisation [D].
        Dpo = "dpo" { scale: ONE, terms: &[DPO], policy: Policy::All, lr: PREFERENCE_RATE }
        /// Direct preference optimisation plus KL on utility text [O].
        DpoKl = "dpo-kl" { scale: ONE, terms: &[DPO, KL], policy: Policy::All, lr: PREFERENCE_RATE }
        /// Direct preference optimisation of the most sensitive blocks [O].
        SlicedDpo = "sliced-dpo" { scale: ONE, terms: &[DPO], policy: Policy::Dynamic, lr: PREFERENCE_RATE }
        /// Direct preference optimisation of the most sensitive blocks plus KL on utility text [O].
        SlicedDpoKl = "sliced-dpo-kl" { scale: ONE, terms: &[DPO, KL], policy: Policy::Dynamic, lr: PREFERENCE_RATE }
        /// Negative preference optimisation plus KL on utility text: unlearns the rejected text [O].
        Npo = "npo" { scale: ONE, terms: &[NPO, KL], policy: Policy::All, lr: PREFERENCE_RATE }
        /// Negative preference optimisation without its KL term [O].
        NpoNoKl = "npo-no-kl" { scale: ONE, terms: &[NPO], policy: Policy::All, lr: PREFERENCE_RATE }
        /// Ascends the NLL of the rejected text: a control [O].
        GradientAscent = "gradient-ascent" { scale: ONE, terms: &[ASCENT], policy: Policy::All, lr: NLL_RATE }
        /// Gradient ascent on rejected text plus NLL on chosen text: a control [O].
        GradientDifference = "gradient-difference" {
            scale: ONE, terms: &[PLAIN_NLL, ASCENT], policy: Policy::All, lr: NLL_RATE
        }
        /// Removes the direction in which rejected and chosen text differ most from what writes to the residual stream,
        /// step by step to its full strength, without gradients or rate (METHOD §26); its loss is watched alone [O].
        DifferenceOfMeans = "difference-of-means" {
            scale: ONE, terms: &[DPO], policy: Policy::All, lr: PREFERENCE_RATE
        }
        /// No training: the model as it is [D].
        Vanilla = "vanilla" { scale: ONE, terms: &[], policy: Policy::All, lr: NLL_RATE }
    }
}

impl Weight {
    /// The value under these numbers.
    pub fn value(self, numbers: &Numbers) -> f64 {
        match self {
            Self::Fixed(value) => value,
            Self::Read(number) => numbers.get(number),
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(value) => value.fmt(f),
            Self::Read(number) => number.fmt(f),
        }
    }
}

impl Method {
    /// The terms of the loss under these numbers; those of weight 0 are left out, and nothing is run for them.
    pub fn terms(self, numbers: &Numbers) -> Vec<Weighted> {
        let terms = self.row().terms.iter();
        let terms = terms.map(|(weight, term)| (weight.value(numbers), term.with(|number| numbers.get(number))));
        terms.filter(|(weight, _)| *weight != 0.0).collect()
    }

    /// The factor on the whole sum under these numbers.
    pub fn scale(self, numbers: &Numbers) -> f64 {
        self.row().scale.value(numbers)
    }

    /// True when there is a loss.
    pub fn trains(self) -> bool {
        !self.row().terms.is_empty()
    }

    /// True when weights change by the ablation of a direction, and not along gradients of the loss.
    pub fn ablates(self) -> bool {
        self == Self::DifferenceOfMeans
    }

    /// True when weights change by gradients, at a learning rate.
    pub fn has_rate(self) -> bool {
        self.trains() && !self.ablates()
    }

    /// True when the loss has a KL term on utility text.
    pub fn has_kl(self) -> bool {
        self.row().terms.contains(&KL)
    }

    /// The method that is this one without its KL term.
    pub fn without_kl(self) -> Option<Self> {
        let row = self.row();
        let rest: Vec<_> = row.terms.iter().filter(|term| **term != KL).copied().collect();
        let plain = MethodRow { terms: &[], ..row };
        let is_rest = |other: &MethodRow| MethodRow { terms: &[], ..*other } == plain && other.terms == rest;
        Self::ALL.iter().copied().find(|other| self.has_kl() && is_rest(&other.row()))
    }

    /// The loss as a formula of the numbers' keys, such as `scale (beta nll(chosen) + gamma kl)`.
    pub fn formula(self) -> String {
        let row = self.row();
        formula(&row.scale.to_string(), row.terms.iter().map(|(weight, term)| (weight.to_string(), term.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Needs;

    /// METHOD §6 and §7, row by row.
    #[test]
    fn the_losses_are_those_of_the_specification() {
        let formulas: Vec<String> =
            Method::ALL.iter().map(|method| format!("{method}: {}", method.formula())).collect();
        assert_eq!(
            formulas.join("\n"),
            "irepair: scale (beta nll(chosen) + gamma kl)\n\
             irepair-no-kl: scale (beta nll(chosen))\n\
             dapt: sequence-nll(chosen)\n\
             dapt-kl: scale (beta nll(chosen) + gamma kl)\n\
             dpo: dpo\n\
             dpo-kl: dpo + gamma kl\n\
             sliced-dpo: dpo\n\
             sliced-dpo-kl: dpo + gamma kl\n\
             npo: npo + gamma kl\n\
             npo-no-kl: npo\n\
             gradient-ascent: -nll(rejected)\n\
             gradient-difference: nll(chosen) - nll(rejected)\n\
             difference-of-means: dpo\n\
             vanilla: "
        );
    }

    #[test]
    fn a_weight_of_0_runs_nothing() {
        let without = Numbers::default().with(Number::Gamma, 0.0);
        assert_eq!(Method::Irepair.terms(&without), Method::IrepairNoKl.terms(&Numbers::default()));
        assert!(!Needs::of(&Method::DaptKl.terms(&without)).reference());
        assert!(Method::Vanilla.terms(&without).is_empty() && !Method::Vanilla.trains());
    }

    #[test]
    fn a_method_knows_its_name_without_kl() {
        assert_eq!(Method::Irepair.without_kl(), Some(Method::IrepairNoKl));
        assert_eq!(Method::SlicedDpoKl.without_kl(), Some(Method::SlicedDpo));
        assert_eq!(Method::DpoKl.without_kl(), Some(Method::Dpo));
        assert_eq!(Method::Npo.without_kl(), Some(Method::NpoNoKl));
        assert_eq!(Method::DaptKl.without_kl(), None, "DAPT sums over tokens, DAPT+KL takes their mean");
        assert_eq!(Method::Dpo.without_kl(), None);
    }

    #[test]
    fn what_has_a_rate_follows_gradients() {
        let without: Vec<Method> = Method::ALL.iter().copied().filter(|method| !method.has_rate()).collect();
        assert_eq!(without, [Method::DifferenceOfMeans, Method::Vanilla]);
        assert!(Method::DifferenceOfMeans.trains() && !Method::Vanilla.ablates());
    }
}
