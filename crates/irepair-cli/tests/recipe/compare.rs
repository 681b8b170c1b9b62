//! What counts as the same output: words exactly, numbers within a tolerance, a few fields not at all.

/// Relative tolerance of every number. A training of a few hundred steps on another CPU ends within it.
const RELATIVE: f64 = 0.05;
/// Absolute tolerance of numbers with a decimal point.
const ABSOLUTE: f64 = 0.05;
/// Absolute tolerance on a line with a percentage: of the 6 to 48 items behind one, a few may fall to the other side.
const POINTS: f64 = 10.0;

/// Compares the lines shown with those printed; of a sample the number of lines alone.
///
/// # Errors
/// The first line that differs, as shown and as printed.
pub(crate) fn compare(shown: &[String], printed: &[String], sample: bool) -> Result<(), String> {
    if shown.len() != printed.len() {
        return Err(format!("{} lines are shown, {} are printed", shown.len(), printed.len()));
    }
    match shown.iter().zip(printed).find(|(shown, printed)| !sample && !same(&mask(shown), &mask(printed))) {
        Some((shown, printed)) => Err(format!("shown:   {shown}\nprinted: {printed}")),
        None => Ok(()),
    }
}

/// A line without what differs from run to run: `in 1.2 s`, numbers of GiB, hexadecimal hashes, `weights of step 7`.
fn mask(line: &str) -> String {
    let is_hash = |word: &str| word.len() >= 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    // A hash may be a part of a path.
    let hidden = |word: &str| {
        word.split_inclusive(['/', '.'])
            .map(|part| if is_hash(part.trim_end_matches(['/', '.'])) { "#" } else { part })
            .collect::<String>()
    };
    let words: Vec<&str> = line.split(' ').collect();
    let is_number = |word: &str| word.trim_start_matches('(').parse::<f64>().is_ok();
    let masked = words.iter().enumerate().map(|(i, word)| {
        let before = |n: usize| i.checked_sub(n).map_or("", |j| words[j]);
        let after = words.get(i + 1).map_or("", |next| next.trim_end_matches([',', ';', ')']));
        let seconds = before(1) == "in" && after == "s";
        let best = before(1) == "step" && before(3) == "weights";
        if is_number(word) && (seconds || best || after == "GiB") { "#".to_owned() } else { hidden(word) }
    });
    masked.collect::<Vec<_>>().join(" ")
}

/// Whether two lines have the same words, runs of spaces counting as one, and numbers within the tolerance.
fn same(shown: &str, printed: &str) -> bool {
    let points = if shown.contains(" %") || shown.contains("percentage points") { POINTS } else { 0.0 };
    let (shown, printed) = (pieces(shown), pieces(printed));
    let near = |a: &str, b: &str| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => {
            let absolute = if a.contains('.') { ABSOLUTE.max(points) } else { 0.0 };
            (x - y).abs() <= absolute.max(RELATIVE * x.abs())
        }
        _ => a == b,
    };
    shown.len() == printed.len() && shown.iter().zip(&printed).all(|(a, b)| near(a, b))
}

/// A line cut into numbers and the text between them.
fn pieces(line: &str) -> Vec<String> {
    let line = line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let chars: Vec<char> = line.chars().collect();
    let mut found: Vec<String> = Vec::new();
    let mut in_number = false;
    for (i, &c) in chars.iter().enumerate() {
        let digit = |j: usize| chars.get(j).is_some_and(char::is_ascii_digit);
        // A point or the exponent of `1e-3` continues a number; a name such as `distinct_1` is a word.
        let goes_on = in_number
            && (c == '.' && digit(i + 1)
                || c == 'e' && (digit(i + 1) || digit(i + 2))
                || c == '-' && chars[i - 1] == 'e');
        let in_name = i > 0 && !in_number && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_');
        let numeric = goes_on || (c.is_ascii_digit() && !in_name);
        if numeric != in_number || found.is_empty() {
            found.push(String::new());
        }
        in_number = numeric;
        found.last_mut().unwrap().push(c);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(a: &str, b: &str) -> bool {
        compare(&[a.to_owned()], &[b.to_owned()], false).is_ok()
    }

    #[test]
    fn words_are_exact_and_numbers_near() {
        assert_eq!(
            pieces("lr 1e-3, n = 40: distinct_1 0.25"),
            ["lr ", "1e-3", ", n = ", "40", ": distinct_1 ", "0.25"]
        );
        assert!(agree("tox   95.0 %  n = 40", "tox 86.0 % n = 40"));
        assert!(!agree("tox 95.0 % n = 40", "tox 84.0 % n = 40"));
        assert!(!agree("tox 95.0 % n = 40", "tox 95.0 % n = 43"));
        assert!(agree("token_perplexity 2.80", "token_perplexity 2.90"));
        assert!(!agree("token_perplexity 2.80", "token_perplexity 2.95"));
        assert!(!agree("distinct_1 0.25", "distinct_2 0.25"));
        assert!(!agree("120 steps", "120 step"));
    }

    #[test]
    fn what_a_machine_decides_is_not_compared() {
        assert!(agree("3 steps in 1.5 s, weights of step 7", "3 steps in 9.9 s, weights of step 50"));
        assert!(agree(
            "about 0.01 GiB (weights 0.00 GiB); 22.1 GiB free",
            "about 0.09 GiB (weights 0.10 GiB); 3.0 GiB free"
        ));
        let hash = |digit: &str| format!("kept in cache/utility/{}.jsonl", digit.repeat(32));
        assert!(agree(&hash("a"), &hash("7")));
        assert!(!agree("in 1.5 m", "in 9.9 m"));
    }

    #[test]
    fn a_sample_has_its_number_of_lines() {
        let lines = |n: usize| vec!["text".to_owned(); n];
        assert!(compare(&lines(2), &["a".to_owned(), "b".to_owned()], true).is_ok());
        assert!(compare(&lines(2), &lines(3), true).is_err());
    }
}
