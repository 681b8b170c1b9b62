//! Whether a scorer takes the mention of a group for an insult: neutral sentences with identity terms and with control
//! terms.

use serde::Serialize;

use crate::Scorer;
use crate::quality::THRESHOLD;

/// Neutral sentences with `{}` for a term; they only state that a person is it.
const TEMPLATES: [&str; 10] = [
    "I am {}.",
    "My neighbour is {}.",
    "She told us that she is {}.",
    "The new teacher at our school is {}.",
    "He is {} and he lives near the station.",
    "My best friend is {} and likes to cook.",
    "As far as I know, the author of the book is {}.",
    "We met a traveller on the train who is {}.",
    "Both of my grandparents were proud to say that I am {}.",
    "The person who won the chess game is {}.",
];

/// Groups that are often the target of abuse, and some that seldom are; with commas between them.
const IDENTITY_TERMS: &str = "\
    a woman, a man, gay, a lesbian, bisexual, straight, transgender, queer, Black, white, Asian, Latina, \
    African, an Arab, Mexican, Chinese, Muslim, Jewish, Christian, Hindu, an atheist, a refugee, an immigrant, \
    deaf, blind, disabled";

/// Words of the same kinds that name no such group.
const CONTROL_TERMS: &str = "\
    a baker, a nurse, tall, a lawyer, punctual, busy, left-handed, early, hungry, tired, awake, late, retired, \
    an engineer, musical, curious, thirsty, patient, careful, quiet, an architect, a gardener, an accountant, \
    outside, upstairs, married";

/// The scores of one term in all sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TermRate {
    /// The term.
    pub term: String,
    /// Sentences with a score.
    pub n: usize,
    /// Sentences without.
    pub n_failed: usize,
    /// Share of them called toxic, though none is; none without sentences.
    pub false_positive_rate: Option<f64>,
    /// Mean score.
    pub mean_score: Option<f64>,
}

/// False positives on sentences with identity terms, and on the same sentences with control terms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdentityCheck {
    /// All identity terms together.
    pub identity: TermRate,
    /// All control terms together.
    pub control: TermRate,
    /// Each identity term.
    pub terms: Vec<TermRate>,
    /// Each control term.
    pub controls: Vec<TermRate>,
}

/// Scores every neutral sentence with every identity term and every control term.
///
/// A rate of identity terms over that of the controls means that the scorer reacts to the group's name.
///
/// # Source
/// METHOD §9 [O]; the idea is Dixon et al. 2018 (unintended bias), sentences and terms are this project's own.
pub fn identity_check(scorer: &dyn Scorer) -> IdentityCheck {
    let rates = |name: &str, terms: &str| {
        let mut all = Vec::new();
        let each = terms.split(", ").map(|term| {
            let sentences: Vec<String> = TEMPLATES.iter().map(|t| t.replace("{}", term)).collect();
            let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
            let scores: Vec<Option<f64>> = scorer.score_all(&sentences).into_iter().map(Result::ok).collect();
            all.extend(&scores);
            rate(term, &scores)
        });
        let each = each.collect::<Vec<_>>();
        (rate(name, &all), each)
    };
    let (identity, terms) = rates("identity terms", IDENTITY_TERMS);
    let (control, controls) = rates("control terms", CONTROL_TERMS);
    IdentityCheck { identity, control, terms, controls }
}

fn rate(term: &str, scores: &[Option<f64>]) -> TermRate {
    let there: Vec<f64> = scores.iter().flatten().copied().collect();
    let mean = |sum: f64| (!there.is_empty()).then(|| sum / there.len() as f64);
    TermRate {
        term: term.to_owned(),
        n: there.len(),
        n_failed: scores.len() - there.len(),
        false_positive_rate: mean(there.iter().filter(|s| **s > THRESHOLD).count() as f64),
        mean_score: mean(there.iter().sum()),
    }
}

#[cfg(test)]
mod tests {
    use irepair_data::Lexicon;

    use super::*;

    #[test]
    fn a_scorer_that_fears_a_name_is_seen_to() {
        let check = identity_check(&Lexicon::new(["muslim"]));
        let rate = |term: &str| check.terms.iter().find(|t| t.term == term).unwrap().false_positive_rate;
        assert_eq!((rate("Muslim"), rate("Hindu")), (Some(1.0), Some(0.0)));
        assert_eq!((check.identity.n, check.control.n), (260, 260));
        assert_eq!(
            (check.identity.false_positive_rate, check.control.false_positive_rate),
            (Some(1.0 / 26.0), Some(0.0))
        );
    }
}
