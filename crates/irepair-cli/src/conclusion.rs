//! What sensitivities on several texts say together: is the ranking of the blocks the error's, or the model's?

use irepair_stats::spearman;

/// Rank correlation from which two rankings are called the same, and under which they are called different [O].
const ALIKE: f64 = 0.8;
const APART: f64 = 0.5;

/// The sensitivities of every block on one kind of text.
pub(crate) type OnText<'a> = (&'a str, &'a [f64]);

/// A few sentences on `error` and the other texts; none without other texts, or with one block.
pub(crate) fn conclusion(error: &[f64], others: &[OnText<'_>]) -> Option<String> {
    let first = leader(error).filter(|_| !others.is_empty())?;
    let correlations: Option<Vec<(&str, f64)>> =
        others.iter().map(|(text, values)| Some((*text, spearman(error, values).ok()?))).collect();
    let correlations = correlations?;
    let names = |texts: &[&str]| match texts {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    };
    let leads: Vec<&str> =
        others.iter().filter(|(_, values)| leader(values) == Some(first)).map(|(text, _)| *text).collect();
    let mut text = if leads.len() == others.len() {
        format!("block {first} leads on error, {} text alike", names(&leads))
    } else {
        let led = |(text, values): &OnText<'_>| Some(format!("block {} on {text} text", leader(values)?));
        let elsewhere: Vec<String> = others.iter().filter_map(led).collect();
        format!("block {first} leads on error text, {}", elsewhere.join(", "))
    };
    let shown: Vec<String> = correlations.iter().map(|(text, rho)| format!("{rho:.2} with {text}")).collect();
    text += &format!("; rank correlation of the blocks on error text: {}\n", shown.join(", "));
    let highest = correlations.iter().map(|(_, rho)| *rho).fold(f64::NEG_INFINITY, f64::max);
    text += if highest >= ALIKE {
        "the ranking is that of text without the error too: it says which blocks this model is sensitive in, not where the \
         error is\n"
    } else if highest < APART {
        "text without the error ranks the blocks otherwise: this ranking is the error's own\n"
    } else {
        "the ranking is partly that of text without the error\n"
    };
    Some(text)
}

/// The block of the largest value, the lower one on a tie; none where all are 0.
fn leader(values: &[f64]) -> Option<usize> {
    let largest = values.iter().copied().fold(0.0, f64::max);
    values.iter().position(|&value| value == largest && largest > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_that_every_text_shares_is_not_the_errors() {
        let error = [9.0, 2.0, 3.0, 1.0, 4.0];
        let said =
            conclusion(&error, &[("chosen", &[8.0, 2.0, 3.0, 1.0, 4.0]), ("neutral", &[7.0, 3.0, 2.0, 1.0, 4.0])]);
        let said = said.unwrap();
        assert!(said.starts_with(
            "block 0 leads on error, chosen and neutral text alike; rank correlation of the blocks on error text: 1.00 with \
             chosen, 0.90 with neutral\n"
        ), "{said}");
        assert!(said.ends_with("not where the error is\n"), "{said}");
    }

    #[test]
    fn a_ranking_of_its_own_is_the_errors() {
        let said = conclusion(&[1.0, 2.0, 3.0, 9.0], &[("neutral", &[9.0, 3.0, 2.0, 1.0])]).unwrap();
        assert!(said.starts_with("block 3 leads on error text, block 0 on neutral text; "), "{said}");
        assert!(said.contains("-1.00 with neutral") && said.ends_with("this ranking is the error's own\n"), "{said}");
        let partly = conclusion(&[1.0, 2.0, 3.0, 4.0, 5.0], &[("chosen", &[2.0, 1.0, 5.0, 3.0, 4.0])]).unwrap();
        assert!(partly.contains("0.60 with chosen") && partly.ends_with("is partly that of text without the error\n"));
    }

    #[test]
    fn nothing_is_concluded_from_one_text_or_from_a_constant() {
        assert_eq!(conclusion(&[1.0, 2.0], &[]), None);
        assert_eq!(conclusion(&[1.0], &[("chosen", &[1.0])]), None);
        assert_eq!(conclusion(&[0.0, 0.0], &[("chosen", &[1.0, 2.0])]), None);
        assert_eq!(conclusion(&[1.0, 2.0], &[("chosen", &[2.0, 2.0])]), None);
    }
}
