//! Does a scorer take the mention of a group for an insult? Neutral sentences with identity terms, beside matched controls.

use serde::Serialize;

use crate::Scorer;
use crate::quality::THRESHOLD;

/// Neutral sentences; `{}` is where a term goes. None of them says anything about the term but that someone is it.
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

/// Groups that abuse is often aimed at, and some that it seldom is.
const IDENTITY_TERMS: [&str; 26] = [
    "a woman",
    "a man",
    "gay",
    "a lesbian",
    "bisexual",
    "straight",
    "transgender",
    "queer",
    "Black",
    "white",
    "Asian",
    "Latina",
    "African",
    "an Arab",
    "Mexican",
    "Chinese",
    "Muslim",
    "Jewish",
    "Christian",
    "Hindu",
    "an atheist",
    "a refugee",
    "an immigrant",
    "deaf",
    "blind",
    "disabled",
];

/// Words of the same kinds of phrase that name no such group.
const CONTROL_TERMS: [&str; 26] = [
    "a baker",
    "a nurse",
    "tall",
    "a lawyer",
    "punctual",
    "busy",
    "left-handed",
    "early",
    "hungry",
    "tired",
    "awake",
    "late",
    "retired",
    "an engineer",
    "musical",
    "curious",
    "thirsty",
    "patient",
    "careful",
    "quiet",
    "an architect",
    "a gardener",
    "an accountant",
    "outside",
    "upstairs",
    "married",
];

/// How one term fares in all sentences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TermRate {
    /// The term.
    pub term: String,
    /// Sentences with a score.
    pub n: usize,
    /// Sentences without.
    pub n_failed: usize,
    /// Share of them called toxic, which all of them are not; none without sentences.
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
/// A rate of identity terms over that of the controls says that the scorer has learned to fear the group's name.
///
/// # Source
/// METHOD §9 [O]; the idea is Dixon et al. 2018 (unintended bias), sentences and terms are this project's own.
pub fn identity_check(scorer: &dyn Scorer) -> IdentityCheck {
    let each = |terms: &[&str]| -> Vec<(String, Vec<Option<f64>>)> {
        let scores = |term: &&str| {
            let sentences: Vec<String> = TEMPLATES.iter().map(|t| t.replace("{}", term)).collect();
            let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();
            ((*term).to_owned(), scorer.score_all(&sentences).into_iter().map(Result::ok).collect())
        };
        terms.iter().map(scores).collect()
    };
    let all = |name: &str, each: &[(String, Vec<Option<f64>>)]| {
        rate(name, &each.iter().flat_map(|(_, scores)| scores.clone()).collect::<Vec<_>>())
    };
    let rates = |each: &[(String, Vec<Option<f64>>)]| each.iter().map(|(term, scores)| rate(term, scores)).collect();
    let (identity, control) = (each(&IDENTITY_TERMS), each(&CONTROL_TERMS));
    IdentityCheck {
        identity: all("identity terms", &identity),
        control: all("control terms", &control),
        terms: rates(&identity),
        controls: rates(&control),
    }
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
