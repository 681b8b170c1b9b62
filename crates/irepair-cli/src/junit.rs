//! Clauses as JUnit XML, the form of test results that CI systems read.

use std::fmt::Write as _;

/// One test.
pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    pub(crate) seconds: f64,
    /// What was found, in words.
    pub(crate) said: &'a str,
    pub(crate) failed: bool,
}

/// How every document begins.
pub(crate) const START: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"irepair check\"";

/// The document.
pub(crate) fn document(suite: &str, cases: &[Case<'_>]) -> String {
    let (n, n_failed) = (cases.len(), cases.iter().filter(|case| case.failed).count());
    let seconds: f64 = cases.iter().map(|case| case.seconds).sum();
    let suite = escaped(suite);
    let counts = format!("tests=\"{n}\" failures=\"{n_failed}\" errors=\"0\" time=\"{seconds:.3}\"");
    let mut text = format!("{START} {counts}>\n");
    let _infallible = writeln!(text, "  <testsuite name=\"{suite}\" {counts}>");
    for Case { name, seconds, said, failed } in cases {
        let (name, said) = (escaped(name), escaped(said));
        let _infallible = writeln!(text, "    <testcase classname=\"{suite}\" name=\"{name}\" time=\"{seconds:.3}\">");
        let _infallible = if *failed {
            writeln!(text, "      <failure message=\"{said}\">{said}</failure>")
        } else {
            writeln!(text, "      <system-out>{said}</system-out>")
        };
        text.push_str("    </testcase>\n");
    }
    text + "  </testsuite>\n</testsuites>\n"
}

/// Text escaped for places between tags and in attributes; characters that XML does not have become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => {
                let _infallible = write!(escaped, "&#{};", c as u32);
            }
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_words_are_escaped() {
        let case = |name, failed| Case { name, seconds: 0.25, said: "3 < 4 & \"5\"\u{0}\n", failed };
        insta::assert_snapshot!(document("a/<suite>", &[case("it's <fine>", false), case("bad]]>", true)]));
    }
}
