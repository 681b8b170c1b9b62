//! Tags of a template, parsed as Jinja parses them, and written again with expressions as `expression.rs` writes them.

use super::expression::{ENDS, Made, Parser, is_name, whole};
use super::operators::EACH;

/// The inside of `{{ }}`.
///
/// # Errors
/// What is no expression of Jinja.
pub(super) fn printed(inner: &str) -> Result<String, String> {
    whole(inner, |parser| parser.tuple(true))
}

/// The inside of `{% %}`.
///
/// # Errors
/// What is no statement of Jinja.
pub(super) fn statement(inner: &str) -> Result<String, String> {
    match inner.split(|c: char| !is_name(c)).next().unwrap_or_default() {
        word @ ("if" | "elif") => {
            whole(&inner[word.len()..], |parser| parser.tuple(false)).map(|made| format!("{word} {made}"))
        }
        "for" => whole(&inner[3..], |parser| parser.loops()).map(|made| format!("for {made}")),
        "set" => whole(&inner[3..], |parser| parser.assigned()).map(|made| format!("set {made}")),
        "with" => whole(&inner[4..], |parser| parser.named()).map(|made| format!("with {made}")),
        "macro" => whole(&inner[5..], |parser| parser.called()).map(|made| format!("macro {made}")),
        "call" => whole(&inner[4..], |parser| {
            let names = if parser.next_is("(") { parser.arguments()? } else { String::new() };
            Ok(format!("{names} {}", parser.condition()?))
        })
        .map(|made| format!("call{made}")),
        _ => Ok(inner.to_owned()),
    }
}

impl Parser<'_> {
    /// Names that are set, before the sign or word that ends them: `a, (b, c)`, `ns.a`.
    fn targets(&mut self) -> Made {
        let mut made = String::new();
        loop {
            let sign = ["(", ")", ",", "."].into_iter().find(|sign| self.takes(sign));
            let word = self.word();
            match sign {
                Some(sign) => made += sign,
                None if word.is_empty() || word == "in" => return Ok(made),
                None => made += self.name()?,
            }
        }
    }

    /// `x in list if condition recursive`.
    fn loops(&mut self) -> Made {
        let targets = self.targets()?;
        if !self.takes_word("in") {
            return Err(self.unexpected());
        }
        let mut made = format!("{targets} in {EACH}(({}))", self.tuple_of_loop()?);
        if self.takes_word("if") {
            made = format!("{made} if {}", self.condition()?);
        }
        if self.takes_word("recursive") {
            made += " recursive";
        }
        Ok(made)
    }

    fn tuple_of_loop(&mut self) -> Made {
        let mut made = self.or()?;
        while self.takes(",") {
            made += ", ";
            if self.rest().is_empty() || ENDS.contains(&self.word()) {
                break;
            }
            made += &self.or()?;
        }
        Ok(made)
    }

    /// `a, b = values`, or the name of a block with filters.
    fn assigned(&mut self) -> Made {
        let targets = self.targets()?;
        if self.takes("=") {
            return Ok(format!("{targets} = {}", self.tuple(true)?));
        }
        self.filtered(targets)
    }

    /// `a = x, b = y`.
    fn named(&mut self) -> Made {
        let mut made = Vec::new();
        while !self.rest().is_empty() {
            let name = self.targets()?;
            self.wants("=")?;
            made.push(format!("{name} = {}", self.condition()?));
            if !self.takes(",") {
                break;
            }
        }
        Ok(made.join(", "))
    }

    /// `name(a, b=x)`.
    fn called(&mut self) -> Made {
        Ok(self.name()?.to_owned() + &self.arguments()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_become_functions_with_the_precedence_of_jinja() {
        for (given, want) in [
            ("a ~ b", "_concat_(a, b)"),
            ("1 + a ~ -b * 2 ~ c|upper == d", "_compare_(1 + _concat_(a, _times_(-b, 2), c|upper), '==', d)"),
            ("not a ~ 'x~y' in b or c", "not _compare_(_concat_(a, 'x~y'), 'in', b) or c"),
            ("a not in b", "_compare_(a, 'not in', b)"),
            ("1 < x <= 3", "_compare_(1, '<', x, '<=', 3)"),
            ("a[-1]['b'][c]['items']", "_entry_(_entry_(_entry_(a, -1)['b'], c), 'items')"),
            ("x is in [1] and y is not none", "x is in([1]) and y is not none"),
            (
                "f(a ~ b, k=c ~ 1)[0 ~ 1:2].upper",
                "_attribute_(_sliced_(f(_concat_(a, b), k=_concat_(c, 1)))[_concat_(0, 1):2], 'upper')",
            ),
            ("loop.index ~ x.upper()", "_concat_(_attribute_(loop, 'index'), x.upper())"),
            ("loop(x)", "loop(_each_(x))"),
            ("{'a' ~ b: [1 ~ 2,], }", "{_concat_('a', b): [_concat_(1, 2)]}"),
            ("a if b ~ c else d ~ e, f", "a if _concat_(b, c) else _concat_(d, e), f"),
            ("1.5e-3 ~ 2.real", "_concat_(1.5e-3, _attribute_(2, 'real'))"),
            ("2 ** -1 // 3", "2 ** -1 // 3"),
            ("a\n~ b", "_concat_(a, b)\n"),
        ] {
            assert_eq!(printed(given).as_deref(), Ok(want), "{given}");
        }
        for (given, want) in [
            ("for a, b in c.items() if a ~ b recursive", "for a,b in _each_((c.items())) if _concat_(a, b) recursive"),
            ("for x in 1, 2", "for x in _each_((1, 2))"),
            ("set ns.a = b ~ c", "set ns.a = _concat_(b, c)"),
            ("set a | upper", "set a|upper"),
            ("if a in b", "if _compare_(a, 'in', b)"),
            ("macro m(a, b='x' ~ 1)", "macro m(a, b=_concat_('x', 1))"),
            ("with a = b ~ c, d = 1", "with a = _concat_(b, c), d = 1"),
            ("call(x) m(a ~ b)", "call(x) m(_concat_(a, b))"),
            ("endfor", "endfor"),
            ("break", "break"),
        ] {
            assert_eq!(statement(given).as_deref(), Ok(want), "{given}");
        }
    }

    #[test]
    fn what_is_no_jinja_is_refused() {
        for given in ["", "a b", "a ~", "~ a", "(a", "[a", "{a}", "'a", "a not b", "a[", "a.", "f(a", "a[1, 2]"] {
            assert!(printed(given).is_err(), "{given}");
        }
        assert!(printed(&"(".repeat(1000)).is_err());
        assert!(printed(&"-".repeat(100_000)).is_err());
        assert!(statement("for x of y").is_err());
    }
}
