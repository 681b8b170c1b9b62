//! Problems of settings, and the checks that find them.

use std::fmt;

use irepair_core::MAX_BLOCKS;
use irepair_core::spec::{Entry, Number, Range};
use serde::Serialize;
use toml::{Table, Value};

use crate::Validate;
use crate::load::hint;
use crate::options::as_table;

/// One problem of the settings, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `models[0].pretrain.n_layer`; empty for the whole file.
    pub key: String,
    /// Line of the key in its file, from 1.
    pub line: Option<usize>,
    /// The problem, as a lower-case fragment.
    pub what: String,
    /// How to fix it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem without line and help.
    pub fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key: key.into(), line: None, what: what.into(), help: None }
    }

    /// Says how to fix it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same problem, of a key inside table `outer`.
    #[must_use]
    pub fn inside(mut self, outer: &str) -> Self {
        self.key = format!("{outer}.{}", self.key);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.what)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// The least and the most of a count; the most, because memory may be allocated for it before other checks.
/// None for numbers that count nothing, or may be 0.
fn bounds(key: &str) -> Option<(u64, u64)> {
    Some(match key.rsplit('.').next().unwrap_or_default() {
        "seed" | "warmup_steps" | "n_validation" | "order" | "n_records" | "n_tokens" => return None,
        "threads" => (1, 1 << 10),
        "samples" | "best_of" => (1, 1000),
        "more_samples" => (0, 1000),
        "n_layer" => (1, MAX_BLOCKS as u64),
        "n_embd" | "n_head" | "lora_rank" | "rank" | "soft_prefix" | "batch_size" | "accumulation" => (1, 1 << 16),
        "window_size" => (1, 1 << 17),
        "n_positions" | "window" => (2, 1 << 17),
        "n" | "fixed_batches" | "fisher_texts" => (1, 1_000_000),
        "max_new_tokens" | "prompt_tokens" => (1, 1 << 24),
        "vocab_size" => (2, 1 << 24),
        "n_texts" | "train_docs" | "pairs" | "error_test" | "error_valid" | "clean_test" | "general_test"
        | "general_valid" | "last_word_test" | "last_word_valid" => (1, 10_000_000),
        "max_tokens" | "max_utility" => (2, 1 << 32),
        // Few enough that no product of two overflows.
        _ => (1, 1 << 32),
    })
}

/// The problem of a number that a key cannot hold, such as a negative count; none when `text` is no number.
pub fn number_out_of_range(key: &str, text: &str) -> Option<Problem> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
    let (least, most) = bounds(key).unwrap_or((0, i64::MAX as u64));
    let range = if text.starts_with('-') || text.contains(['.', 'e', 'E']) {
        format!("a whole number of at least {least}")
    } else if number < least as f64 {
        format!("at least {least}")
    } else {
        format!("at most {most}")
    };
    Some(Problem::new(key, format!("must be {range}, is {text}")))
}

/// The range of a number that is not a count; none where it may be any.
fn range(key: &str) -> Option<Range> {
    Some(match key {
        // The operator's row says which strengths it takes.
        "min" | "max" | "pooled_density_percent" | "strength" => return None,
        "weight_decay" | "valid_share" | "test_share" => Range::NotNegative,
        "top_p" | "min_gap" | "target" => Range::ShareOverZero,
        "temperature" => Range::Temperature,
        key => Number::named(key).map_or(Range::Positive, |number| number.row().range),
    })
}

/// Collects problems while a set of options is checked.
#[derive(Debug, Default)]
pub struct Checks(pub(crate) Vec<Problem>, Table);

impl Checks {
    /// Refuses every number, and the device, that was given and is outside the range of its key.
    pub(crate) fn of<T: Serialize>(options: &T) -> Self {
        let mut checks = Self(Vec::new(), as_table(options));
        for (key, value) in checks.1.clone() {
            match value {
                Value::Integer(n) => checks.count(&key, u64::try_from(n).ok()),
                Value::Float(x) => checks.number(&key, x),
                Value::String(name) if key == "device" => checks.device(Some(&name)),
                _ => {}
            }
        }
        checks
    }

    /// Refuses `key` without `other`; `why` says what for.
    pub(crate) fn needs(&mut self, key: &str, other: &str, why: &str) {
        let alone = self.1.contains_key(key) && !self.1.contains_key(other);
        self.clash(alone, key, &format!("needs `{other}`: {why}"));
    }

    /// Refuses each of `keys` that was given.
    pub(crate) fn refuse(&mut self, keys: &[&str], why: &str) {
        for key in keys {
            self.clash(self.1.contains_key(*key), key, why);
        }
    }

    /// Adds the problems of the table `outer`.
    pub(crate) fn inside(&mut self, outer: &str, problems: Vec<Problem>) {
        self.0.extend(problems.into_iter().map(|problem| problem.inside(outer)));
    }

    /// Adds the problems of a list of tables, and of names that two of them have.
    pub(crate) fn list<T: Validate>(&mut self, outer: &str, items: &[T], name: impl Fn(&T) -> &str) {
        for (i, item) in items.iter().enumerate() {
            self.inside(&format!("{outer}[{i}]"), item.problems());
            let twice = !name(item).is_empty() && items[..i].iter().any(|other| name(other) == name(item));
            self.clash(twice, &format!("{outer}[{i}].name"), "is the name of two of them");
        }
    }

    /// Refuses a name that cannot stand in paths.
    pub(crate) fn path_name(&mut self, name: &str) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        self.clash(name.is_empty() || !name.chars().all(plain), "name", "must be lower-case letters, digits and `-`");
    }

    /// Refuses a width that the heads cannot share.
    pub(crate) fn heads(&mut self, n_embd: usize, n_head: usize) {
        let shared = n_head == 0 || n_embd.is_multiple_of(n_head);
        self.clash(!shared, "n_head", &format!("clashes with `n_embd`: {n_embd} is not a multiple of {n_head}"));
    }

    /// Refuses a value that was given and is not `fine`.
    pub(crate) fn value<T: fmt::Display>(
        &mut self,
        key: &str,
        value: Option<&T>,
        want: &str,
        fine: impl FnOnce(&T) -> bool,
    ) {
        if let Some(value) = value.filter(|value| !fine(value)) {
            self.0.push(Problem::new(key, format!("must be {want}, is {value}")));
        }
    }

    /// Refuses a count outside the bounds of its key.
    pub(crate) fn count(&mut self, key: &str, value: Option<u64>) {
        let Some((least, most)) = bounds(key) else { return };
        self.value(key, value.as_ref(), &format!("at least {least}"), |&n| n >= least);
        self.value(key, value.as_ref(), &format!("at most {most}"), |&n| n <= most);
    }

    /// Refuses a number outside the range of its key, which is that of its last part.
    pub(crate) fn number(&mut self, key: &str, value: f64) {
        let Some(range) = range(key.rsplit('.').next().unwrap_or_default()) else { return };
        self.value(key, Some(&value), &range.to_string(), |&x| range.contains(x));
    }

    /// Refuses a string that is not a device name; whether the device exists is checked when it is used.
    pub(crate) fn device(&mut self, value: Option<&String>) {
        self.value("device", value, "`cpu`, `cuda` or `cuda:N`", |name| {
            let number = name.strip_prefix("cuda:").is_some_and(|n| n.parse::<u16>().is_ok());
            name.as_str() == "cpu" || name.as_str() == "cuda" || number
        });
    }

    /// Refuses a name that was given and is not among the known ones.
    pub(crate) fn named(&mut self, key: &str, name: Option<&String>, known: &[&str]) {
        if let Some(name) = name.filter(|name| !known.contains(&name.as_str())) {
            self.0.push(Problem::new(key, format!("unknown name `{name}`")).help(hint(name, known)));
        }
    }

    /// Records a clash, naming both keys.
    pub(crate) fn clash(&mut self, when: bool, key: &str, what: &str) {
        if when {
            self.0.push(Problem::new(key, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_does_not_fit_is_called_with_its_range() {
        let of = |key, text| number_out_of_range(key, text).map(|problem| problem.to_string());
        assert_eq!(of("steps", "-1").unwrap(), "`steps`: must be a whole number of at least 1, is -1");
        assert_eq!(of("seed", "-1").unwrap(), "`seed`: must be a whole number of at least 0, is -1");
        assert_eq!(of("steps", "1.5").unwrap(), "`steps`: must be a whole number of at least 1, is 1.5");
        let most = "`seed`: must be at most 9223372036854775807, is 9223372036854775808";
        assert_eq!(of("seed", "9223372036854775808").unwrap(), most);
        assert_eq!(of("rank", "0").unwrap(), "`rank`: must be at least 1, is 0");
        assert_eq!(of("rank", "70000").unwrap(), "`rank`: must be at most 65536, is 70000");
        assert_eq!(of("steps", "many"), None);
    }
}
