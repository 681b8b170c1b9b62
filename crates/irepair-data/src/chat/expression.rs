//! Expressions of Jinja, parsed as Jinja parses them, and written again with functions (`operators.rs`) in place of
//! what the engine computes in another way: `~`, `in`, iteration, attributes that are methods, slices.

use super::operators::{ATTRIBUTE, COMPARE, CONCAT, EACH, ENTRY, SLICED, TIMES, is_method};

/// Words that end an operand.
pub(super) const ENDS: [&str; 8] = ["and", "else", "if", "in", "is", "not", "or", "recursive"];
/// Expressions in one another.
const MOST_DEPTH: usize = 100;
/// Operators, commas and brackets of one expression.
const MOST_SIGNS: usize = 2000;

pub(super) type Made = Result<String, String>;

/// Parses the whole text; line ends that are left out follow, so that the engine counts lines as an editor does.
pub(super) fn whole(text: &str, parse: impl FnOnce(&mut Parser<'_>) -> Made) -> Made {
    let mut parser = Parser { rest: text, depth: 0, n_signs: 0 };
    let mut made = parse(&mut parser)?;
    if !parser.rest().is_empty() {
        return Err(parser.unexpected());
    }
    let n = text.matches('\n').count().saturating_sub(made.matches('\n').count());
    made += &"\n".repeat(n);
    Ok(made)
}

pub(super) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// True for a text that names no method.
fn is_plain_index(index: &str) -> bool {
    let text = index.get(1..index.len() - 1).filter(|_| index.starts_with(['\'', '"']));
    text.is_some_and(|text| text.chars().all(is_name) && !is_method(text))
}

/// What is left of a text, and of the expression that is parsed now how deep it is nested and how long it is so far.
pub(super) struct Parser<'a> {
    rest: &'a str,
    depth: usize,
    n_signs: usize,
}

impl<'a> Parser<'a> {
    /// What is left, without white space before it.
    pub(super) fn rest(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    pub(super) fn unexpected(&mut self) -> String {
        match self.rest().chars().take(20).collect::<String>() {
            left if left.is_empty() => "an expression has no end".to_owned(),
            left => format!("an expression of it is no Jinja from {left:?} on"),
        }
    }

    pub(super) fn next_is(&mut self, sign: &str) -> bool {
        self.rest().starts_with(sign)
    }

    pub(super) fn takes(&mut self, sign: &str) -> bool {
        let found = self.next_is(sign);
        if found {
            self.rest = &self.rest[sign.len()..];
            self.n_signs += 1;
        }
        found
    }

    pub(super) fn wants(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The next name or word; empty where none is next.
    pub(super) fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if rest.starts_with(|c: char| c.is_numeric()) { "" } else { &rest[..end] }
    }

    pub(super) fn takes_word(&mut self, word: &str) -> bool {
        self.word() == word && self.takes(word)
    }

    pub(super) fn name(&mut self) -> Result<&'a str, String> {
        self.refuse_long()?;
        let name = self.word();
        if name.is_empty() {
            return Err(self.unexpected());
        }
        self.rest = &self.rest[name.len()..];
        Ok(name)
    }

    /// Expressions with commas between them, or one.
    pub(super) fn tuple(&mut self, with_condition: bool) -> Made {
        let mut made = String::new();
        loop {
            let rest = self.rest();
            if !made.is_empty() && (rest.is_empty() || rest.starts_with([')', '='])) {
                return Ok(made);
            }
            made += &if with_condition { self.condition()? } else { self.or()? };
            if !self.takes(",") {
                return Ok(made);
            }
            made += ", ";
        }
    }

    /// `a if b else c`.
    pub(super) fn condition(&mut self) -> Made {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(format!("an expression of it is nested over {MOST_DEPTH} deep"));
        }
        let mut made = self.or()?;
        while self.takes_word("if") {
            made = format!("{made} if {}", self.or()?);
            if self.takes_word("else") {
                made = format!("{made} else {}", self.condition()?);
            }
        }
        self.depth -= 1;
        Ok(made)
    }

    pub(super) fn or(&mut self) -> Made {
        let mut made = self.and()?;
        while self.takes_word("or") {
            made = format!("{made} or {}", self.and()?);
        }
        Ok(made)
    }

    fn and(&mut self) -> Made {
        let mut made = self.not()?;
        while self.takes_word("and") {
            made = format!("{made} and {}", self.not()?);
        }
        Ok(made)
    }

    fn not(&mut self) -> Made {
        let mut n = 0;
        while self.takes_word("not") {
            n += 1;
        }
        Ok("not ".repeat(n) + &self.comparison()?)
    }

    fn comparison(&mut self) -> Made {
        let mut parts = vec![self.sum()?];
        loop {
            let sign = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|sign| self.takes(sign));
            let is_not = sign.is_none() && self.takes_word("not");
            let sign = match sign {
                Some(sign) => sign,
                None if self.takes_word("in") => {
                    if is_not {
                        "not in"
                    } else {
                        "in"
                    }
                }
                None if is_not => return Err(self.unexpected()),
                None if parts.len() == 1 => return Ok(parts.concat()),
                None => return Ok(format!("{COMPARE}({})", parts.join(", "))),
            };
            parts.push(format!("'{sign}'"));
            parts.push(self.sum()?);
        }
    }

    fn sum(&mut self) -> Made {
        self.joined(&["+", "-"], Self::concatenation)
    }

    fn concatenation(&mut self) -> Made {
        let mut parts = vec![self.product()?];
        while self.takes("~") {
            parts.push(self.product()?);
        }
        Ok(if parts.len() == 1 { parts.concat() } else { format!("{CONCAT}({})", parts.join(", ")) })
    }

    fn product(&mut self) -> Made {
        let mut made = self.power()?;
        loop {
            // The sign of a power is no product.
            made = match ["//", "*", "/", "%"].into_iter().find(|sign| self.takes(sign)) {
                Some("*") => format!("{TIMES}({made}, {})", self.power()?),
                Some(sign) => format!("{made} {sign} {}", self.power()?),
                None => return Ok(made),
            };
        }
    }

    fn power(&mut self) -> Made {
        self.joined(&["**"], |parser| parser.unary(true))
    }

    fn joined(&mut self, signs: &[&str], part: impl Fn(&mut Self) -> Made) -> Made {
        let mut made = part(self)?;
        while let Some(sign) = signs.iter().find(|sign| self.takes(sign)) {
            made = format!("{made} {sign} {}", part(self)?);
        }
        Ok(made)
    }

    fn unary(&mut self, with_filters: bool) -> Made {
        self.refuse_long()?;
        let sign = ["-", "+"].into_iter().find(|sign| self.takes(sign));
        let made = match sign {
            Some(sign) => sign.to_owned() + &self.nested(|parser| parser.unary(false))?,
            None => {
                let primary = self.primary()?;
                self.postfix(primary)?
            }
        };
        if with_filters { self.filtered(made) } else { Ok(made) }
    }

    /// The engine works through a chain, such as filters after filters, by recursion.
    fn refuse_long(&self) -> Result<(), String> {
        if self.n_signs > MOST_SIGNS {
            return Err(format!("an expression of it has over {MOST_SIGNS} operators, commas and brackets"));
        }
        Ok(())
    }

    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Made) -> Made {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(format!("an expression of it is nested over {MOST_DEPTH} deep"));
        }
        let made = parse(self)?;
        self.depth -= 1;
        Ok(made)
    }

    fn primary(&mut self) -> Made {
        let rest = self.rest();
        match rest.chars().next() {
            Some('\'' | '"') => {
                let mut made = self.string()?.to_owned();
                while self.next_is("'") || self.next_is("\"") {
                    made = made + " " + self.string()?;
                }
                Ok(made)
            }
            Some(c) if c.is_ascii_digit() => Ok(self.number().to_owned()),
            Some('(') => {
                self.wants("(")?;
                let made = if self.next_is(")") { String::new() } else { self.nested(|parser| parser.tuple(true))? };
                self.wants(")")?;
                Ok(format!("({})", made.trim_end()))
            }
            Some('[') => {
                self.wants("[")?;
                Ok(format!("[{}]", self.listed("]", |parser| parser.condition())?))
            }
            Some('{') => {
                self.wants("{")?;
                let entry = |parser: &mut Self| {
                    let key = parser.condition()?;
                    parser.wants(":")?;
                    Ok(format!("{key}: {}", parser.condition()?))
                };
                Ok(format!("{{{}}}", self.listed("}", entry)?))
            }
            _ if ENDS.contains(&self.word()) => Err(self.unexpected()),
            _ => self.name().map(str::to_owned),
        }
    }

    /// Entries up to the closing bracket, which is taken; a comma may follow the last.
    fn listed(&mut self, end: &str, entry: impl Fn(&mut Self) -> Made) -> Made {
        let mut made = Vec::new();
        while !self.takes(end) {
            made.push(entry(self)?);
            if !self.takes(",") && !self.next_is(end) {
                return Err(self.unexpected());
            }
        }
        Ok(made.join(", "))
    }

    /// A text with its quotes, unchanged.
    fn string(&mut self) -> Result<&'a str, String> {
        let rest = self.rest();
        let (mut chars, quote) = (rest.char_indices(), rest.chars().next());
        chars.next();
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                chars.next();
            } else if Some(c) == quote {
                self.rest = &rest[at + 1..];
                return Ok(&rest[..=at]);
            }
        }
        Err("a text has no end".to_owned())
    }

    fn number(&mut self) -> &'a str {
        let rest = self.rest();
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let mut end = match rest.as_bytes().get(..2) {
            Some(b"0x" | b"0X" | b"0b" | b"0B" | b"0o" | b"0O") => {
                2 + rest[2..].find(|c: char| !c.is_ascii_hexdigit() && c != '_').unwrap_or(rest.len() - 2)
            }
            _ => digits(rest),
        };
        let fraction = rest[end..].strip_prefix('.').map_or(0, digits);
        if fraction > 0 {
            end += 1 + fraction;
        }
        if let Some(power) = rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(power.starts_with(['+', '-']));
            let n = digits(&power[sign..]);
            end += if n > 0 { 1 + sign + n } else { 0 };
        }
        self.rest = &rest[end..];
        &rest[..end]
    }

    /// Attributes, entries and calls of what is `made`.
    fn postfix(&mut self, mut made: String) -> Made {
        loop {
            if self.takes(".") {
                let rest = self.rest();
                if rest.starts_with(|c: char| c.is_ascii_digit()) {
                    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                    self.rest = &rest[end..];
                    made = format!("{ENTRY}({made}, {})", &rest[..end]);
                    continue;
                }
                let name = self.name()?;
                let is_called = self.next_is("(");
                made = match is_method(name) && !is_called {
                    true => format!("{ATTRIBUTE}({made}, '{name}')"),
                    false => format!("{made}.{name}"),
                };
            } else if self.takes("[") {
                let (index, is_slice) = self.nested_index()?;
                made = match is_plain_index(&index) {
                    _ if is_slice => format!("{SLICED}({made})[{index}]"),
                    true => format!("{made}[{index}]"),
                    false => format!("{ENTRY}({made}, {index})"),
                };
            } else if self.next_is("(") {
                let arguments = self.arguments()?;
                made = match made == "loop" {
                    true => format!("loop({EACH}{arguments})"),
                    false => made + &arguments,
                };
            } else {
                return Ok(made);
            }
        }
    }

    /// What is in square brackets, and whether that is a slice.
    fn nested_index(&mut self) -> Result<(String, bool), String> {
        let (mut made, mut n_colons) = (String::new(), 0);
        while !self.takes("]") {
            if self.takes(":") {
                n_colons += 1;
                made += ":";
                continue;
            }
            if self.next_is(",") {
                return Err("it has a comma in the index of a value".to_owned());
            }
            made += &self.condition()?;
        }
        if made.is_empty() || n_colons > 2 { Err(self.unexpected()) } else { Ok((made, n_colons > 0)) }
    }

    /// Arguments of a call or of a macro, with their brackets.
    pub(super) fn arguments(&mut self) -> Made {
        self.wants("(")?;
        let argument = |parser: &mut Self| {
            let star = ["**", "*"].into_iter().find(|star| parser.takes(star)).unwrap_or_default();
            let before = parser.rest();
            let name = parser.word();
            if star.is_empty() && !name.is_empty() {
                parser.rest = &parser.rest[name.len()..];
                if !parser.next_is("==") && parser.takes("=") {
                    return Ok(format!("{name}={}", parser.condition()?));
                }
                parser.rest = before;
            }
            Ok(format!("{star}{}", parser.condition()?))
        };
        Ok(format!("({})", self.listed(")", argument)?))
    }

    /// Filters and tests of what is `made`.
    pub(super) fn filtered(&mut self, mut made: String) -> Made {
        loop {
            if self.takes("|") {
                made = format!("{made}|{}", self.dotted()?);
                if self.next_is("(") {
                    made += &self.arguments()?;
                }
            } else if self.takes_word("is") {
                let not = if self.takes_word("not") { "not " } else { "" };
                // `in` is a test too, and no operator here.
                made = format!("{made} is {not}{}", self.dotted()?);
                let rest = self.rest();
                if rest.starts_with('(') {
                    made += &self.arguments()?;
                } else if rest.starts_with(['\'', '"', '[', '{'])
                    || rest.starts_with(|c: char| c.is_ascii_digit())
                    || !(self.word().is_empty() || ENDS.contains(&self.word()))
                {
                    let argument = self.primary()?;
                    made = format!("{made}({})", self.postfix(argument)?);
                }
            } else if self.next_is("(") {
                made += &self.arguments()?;
            } else {
                return Ok(made);
            }
        }
    }

    fn dotted(&mut self) -> Made {
        let mut made = self.name()?.to_owned();
        while self.takes(".") {
            made = made + "." + self.name()?;
        }
        Ok(made)
    }
}
