//! The degeneration guard: has the text collapsed?

use std::collections::HashSet;

use crate::{Metric, Metrics, key};

/// Distinct-1/2/3, mean length, share of blank continuations, share of repeated 4-grams.
///
/// - `tokens`: continuations without prompt and end token; `texts`: the same decoded
/// - distinct-n: different n-grams of all continuations together / their number
/// - 4-gram repetition: 4-grams that occurred before in the same continuation / all 4-grams
///
/// A share over no n-grams at all is missing.
///
/// # Source
/// METHOD §9 [O].
pub fn degeneration(tokens: &[Vec<u32>], texts: &[String]) -> Metrics {
    let mut metrics = Metrics::default();
    for (n, key) in [(1, key::DISTINCT_1), (2, key::DISTINCT_2), (3, key::DISTINCT_3)] {
        let distinct: HashSet<&[u32]> = tokens.iter().flat_map(|t| t.windows(n)).collect();
        let definition = format!("different {n}-grams of tokens in all continuations / their number");
        metrics.insert(key, Metric::share(key, distinct.len(), n_grams(tokens, n), definition));
    }
    let n_tokens: usize = tokens.iter().map(Vec::len).sum();
    let length = n_tokens as f64 / tokens.len() as f64;
    let definition = "mean length of a continuation, without the end-of-text token";
    metrics.insert(key::MEAN_LENGTH, Metric::new(key::MEAN_LENGTH, length, tokens.len(), 0, definition));
    let n_blank = texts.iter().filter(|t| t.trim().is_empty()).count();
    let definition = "continuations that end at once or hold only white space / all";
    metrics.insert(key::EMPTY_SHARE, Metric::share(key::EMPTY_SHARE, n_blank, texts.len(), definition));
    let (n_4_grams, n_repeated) = repeated_4_grams(tokens);
    let definition = "4-grams of tokens seen before in the same continuation / all 4-grams";
    metrics.insert(key::REPETITION_4, Metric::share(key::REPETITION_4, n_repeated, n_4_grams, definition));
    metrics
}

/// True when more than half of a continuation's 4-grams of tokens stand in its prompt; one without 4-grams is no copy.
///
/// # Source
/// METHOD §22 [O].
pub fn copies(prompt: &[u32], continuation: &[u32]) -> bool {
    let known: HashSet<&[u32]> = prompt.windows(4).collect();
    let n_copied = continuation.windows(4).filter(|four| known.contains(four)).count();
    2 * n_copied > continuation.windows(4).count()
}

/// Share of continuations that are [`copies`] of their prompts.
pub fn copied_share(prompts: &[Vec<u32>], tokens: &[Vec<u32>]) -> Metric {
    let n_copied = prompts.iter().zip(tokens).filter(|(prompt, tokens)| copies(prompt, tokens)).count();
    let definition = "continuations with more than half of their 4-grams of tokens in their prompt / all";
    Metric::share(key::COPIED_SHARE, n_copied, tokens.len(), definition)
}

/// 4-grams of texts, and those among them that occurred before in the same text.
pub(crate) fn repeated_4_grams(tokens: &[impl AsRef<[u32]>]) -> (usize, usize) {
    let n_distinct: usize = tokens.iter().map(|t| t.as_ref().windows(4).collect::<HashSet<_>>().len()).sum();
    let n = n_grams(tokens, 4);
    (n, n - n_distinct)
}

fn n_grams(tokens: &[impl AsRef<[u32]>], n: usize) -> usize {
    tokens.iter().map(|t| (t.as_ref().len() + 1).saturating_sub(n)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let tokens = [vec![1, 2, 1, 2, 1, 2, 1], vec![1, 2, 3], vec![]];
        let texts = ["a b a b a b a", "a b c", ""].map(String::from);
        let metrics = degeneration(&tokens, &texts);
        let pairs = |key| (metrics.value(key).unwrap(), metrics.get(key).unwrap().n);
        assert_eq!(pairs(key::DISTINCT_1), (3.0 / 10.0, 10));
        assert_eq!(pairs(key::DISTINCT_2), (3.0 / 8.0, 8)); // 12, 21, 23
        assert_eq!(pairs(key::DISTINCT_3), (3.0 / 6.0, 6)); // 121, 212, 123
        assert_eq!(pairs(key::REPETITION_4), (2.0 / 4.0, 4)); // 1212, 2121, then both again
        assert_eq!(pairs(key::MEAN_LENGTH), (10.0 / 3.0, 3));
        assert_eq!(pairs(key::EMPTY_SHARE), (1.0 / 3.0, 3));
    }

    #[test]
    fn a_copy_has_most_of_its_4_grams_from_the_prompt() {
        let prompt: Vec<u32> = (1..9).collect();
        assert!(copies(&prompt, &prompt) && copies(&prompt, &[2, 3, 4, 5]));
        // 1234, 2345 of four; then of three.
        assert!(!copies(&prompt, &[1, 2, 3, 4, 5, 0, 0]) && copies(&prompt, &[1, 2, 3, 4, 5, 0]));
        assert!(!copies(&prompt, &[1, 2, 3]) && !copies(&prompt, &[]), "no 4-gram");
        assert!(!copies(&[1, 2, 3], &[1, 2, 3, 1, 2, 3]), "a prompt without one");
        let share = copied_share(&[prompt.clone(), prompt.clone()], &[prompt, vec![]]);
        assert_eq!((share.value, share.n), (Some(0.5), 2));
        assert_eq!(copied_share(&[], &[]).value, None);
    }

    #[test]
    fn nothing_written_is_missing_not_zero() {
        let metrics = degeneration(&[vec![], vec![7]], &[String::new(), "\n".into()]);
        assert_eq!(metrics.value(key::DISTINCT_2), None);
        assert_eq!(metrics.value(key::REPETITION_4), None);
        assert_eq!(metrics.value(key::EMPTY_SHARE), Some(1.0));
    }
}
