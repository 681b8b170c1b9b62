//! The terms that losses are sums of (METHOD §2, §6, §7); `irepair-objective` computes them.

use std::fmt;

/// A term of a loss. `N` is its number: a value, or in the table of methods the name of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Term<N = f64> {
    /// `NLL_tok`: negative log-likelihood, mean over counted tokens (METHOD §2 [D]).
    Nll(Side),
    /// `-mean_b logp_seq`: negative log-likelihood, sum over tokens, mean over texts (METHOD §7 [D]).
    SequenceNll(Side),
    /// `KL(reference ‖ model)` on utility text, mean over real tokens (METHOD §2 [D]).
    Kl,
    /// Direct preference optimisation: `-mean log sigmoid(beta r)` (METHOD §7 [D,L]).
    Dpo {
        /// `beta_d`.
        beta: N,
    },
    /// Negative preference optimisation of the rejected text (METHOD §7, arXiv 2404.05868).
    Npo {
        /// `beta_n`.
        beta: N,
    },
}

/// A term and its weight in a sum.
pub type Weighted = (f64, Term);

/// One side of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The text the model should prefer.
    Chosen,
    /// The text that shows the error.
    Rejected,
}

/// Which texts a loss reads, and under which models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The chosen texts under the model.
    pub chosen: bool,
    /// The rejected texts under the model.
    pub rejected: bool,
    /// The chosen texts under the reference.
    pub ref_chosen: bool,
    /// The rejected texts under the reference.
    pub ref_rejected: bool,
    /// Utility texts under the model and the reference.
    pub utility: bool,
}

impl<N> Term<N> {
    /// The name in messages, and what the term reads: the table of terms.
    fn row(&self) -> (&'static str, Needs) {
        let none = Needs::default();
        let both = Needs { chosen: true, rejected: true, ref_chosen: true, ref_rejected: true, ..none };
        match self {
            Self::Nll(Side::Chosen) => ("nll(chosen)", Needs { chosen: true, ..none }),
            Self::Nll(Side::Rejected) => ("nll(rejected)", Needs { rejected: true, ..none }),
            Self::SequenceNll(Side::Chosen) => ("sequence-nll(chosen)", Needs { chosen: true, ..none }),
            Self::SequenceNll(Side::Rejected) => ("sequence-nll(rejected)", Needs { rejected: true, ..none }),
            Self::Kl => ("kl", Needs { utility: true, ..none }),
            Self::Dpo { .. } => ("dpo", both),
            Self::Npo { .. } => ("npo", Needs { rejected: true, ref_rejected: true, ..none }),
        }
    }

    /// The name in messages and tables.
    pub fn name(&self) -> &'static str {
        self.row().0
    }

    /// What must be run before the term can be computed.
    pub fn needs(&self) -> Needs {
        self.row().1
    }

    /// The same term with its number put through `value`.
    pub fn with<M>(self, value: impl Fn(N) -> M) -> Term<M> {
        match self {
            Self::Nll(side) => Term::Nll(side),
            Self::SequenceNll(side) => Term::SequenceNll(side),
            Self::Kl => Term::Kl,
            Self::Dpo { beta } => Term::Dpo { beta: value(beta) },
            Self::Npo { beta } => Term::Npo { beta: value(beta) },
        }
    }
}

impl<N> fmt::Display for Term<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Needs {
    /// Everything that some term of a sum reads.
    pub fn of(terms: &[Weighted]) -> Self {
        terms.iter().map(|(_, term)| term.needs()).fold(Self::default(), |a, b| Self {
            chosen: a.chosen || b.chosen,
            rejected: a.rejected || b.rejected,
            ref_chosen: a.ref_chosen || b.ref_chosen,
            ref_rejected: a.ref_rejected || b.ref_rejected,
            utility: a.utility || b.utility,
        })
    }

    /// True when a frozen copy of the starting model must be kept.
    pub fn reference(self) -> bool {
        self.ref_chosen || self.ref_rejected || self.utility
    }

    /// True when some text is read by both.
    fn shares_text(self, other: Self) -> bool {
        (self.chosen && other.chosen) || (self.rejected && other.rejected) || (self.utility && other.utility)
    }
}

/// A sum taken apart into sums that share no text: going backward through one after the other keeps the activations of
/// one group of texts at a time and runs no text twice.
pub fn separable(terms: &[Weighted]) -> Vec<Vec<Weighted>> {
    let mut groups: Vec<Vec<Weighted>> = Vec::new();
    for term in terms {
        let shares = |group: &Vec<Weighted>| Needs::of(group).shares_text(term.1.needs());
        let (shared, mut apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(shares);
        apart.push(shared.into_iter().flatten().chain([*term]).collect());
        groups = apart;
    }
    groups
}

/// A weighted sum as text, such as `scale (beta nll(chosen) + gamma kl)`; weights of 1 and -1 are left out.
pub fn formula<'a>(scale: &str, terms: impl Iterator<Item = (String, &'a str)>) -> String {
    let times = |weight: &str| match weight {
        "1" => String::new(),
        "-1" => "-".to_owned(),
        other => format!("{other} "),
    };
    let terms: Vec<String> = terms.map(|(weight, term)| times(&weight) + term).collect();
    let sum = terms.join(" + ").replace("+ -", "- ");
    if scale == "1" { sum } else { format!("{scale} ({sum})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NLL: Weighted = (0.5, Term::Nll(Side::Chosen));
    const KL: Weighted = (1.0, Term::Kl);
    const DPO: Weighted = (1.0, Term::Dpo { beta: 0.1 });
    const ASCENT: Weighted = (-1.0, Term::Nll(Side::Rejected));

    #[test]
    fn terms_on_different_texts_come_apart_and_others_stay_together() {
        assert_eq!(separable(&[NLL, KL]), [[NLL], [KL]]);
        assert_eq!(separable(&[NLL, ASCENT]), [[NLL], [ASCENT]]);
        assert_eq!(separable(&[DPO, KL]), [[DPO], [KL]]);
        assert_eq!(separable(&[NLL, KL, DPO]), [vec![KL], vec![NLL, DPO]], "both read the chosen text");
        assert_eq!(separable(&[NLL, ASCENT, DPO]), [[NLL, ASCENT, DPO]], "DPO reads both sides");
        assert!(separable(&[]).is_empty());
    }

    #[test]
    fn a_sum_needs_what_its_terms_need() {
        assert_eq!(Needs::of(&[]), Needs::default());
        assert_eq!(Needs::of(&[NLL, KL]), Needs { chosen: true, utility: true, ..Needs::default() });
        assert!(Needs::of(&[DPO]).reference() && !Needs::of(&[NLL, ASCENT]).reference());
    }
}
