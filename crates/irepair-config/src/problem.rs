//! One thing wrong with one key.

use std::fmt;

use crate::load::hint;

/// One thing wrong with the settings, with the key it is wrong at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `models[0].pretrain.n_layer`; empty when the whole file is meant.
    pub key: String,
    /// Line of the key in its file, from 1.
    pub line: Option<usize>,
    /// What is wrong: a lower-case fragment.
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

/// The most of something that anybody means: what is counted may be allocated before anything else is found wrong.
fn most(key: &str) -> u64 {
    match key.rsplit('.').next().unwrap_or_default() {
        "threads" => 1 << 10,
        "n_layer" => 10_000,
        "n_embd" | "n_head" | "batch_size" | "accumulation" => 1 << 16,
        "n_positions" | "window" | "window_size" => 1 << 17,
        "n" | "fixed_batches" => 1_000_000,
        "vocab_size" | "max_new_tokens" | "prompt_tokens" => 1 << 24,
        "n_texts" | "train_docs" | "pairs" | "error_test" | "error_valid" | "clean_test" | "general_test"
        | "general_valid" | "last_word_test" | "last_word_valid" => 10_000_000,
        // Few enough that no product of two overflows.
        _ => 1 << 32,
    }
}

/// Collects problems while a set of options is checked.
#[derive(Debug, Default)]
pub(crate) struct Checks(pub(crate) Vec<Problem>);

impl Checks {
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

    /// Refuses 0, and more than could be a number of such things.
    pub(crate) fn count(&mut self, key: &str, value: Option<u64>) {
        let most = most(key);
        self.value(key, value.as_ref(), "at least 1", |&n| n >= 1);
        self.value(key, value.as_ref(), &format!("at most {most}"), |&n| n <= most);
    }

    /// Refuses what is not a finite number over 0.
    pub(crate) fn positive(&mut self, key: &str, value: Option<f64>) {
        self.value(key, value.as_ref(), "a number over 0", |x| x.is_finite() && *x > 0.0);
    }

    /// Refuses what is not a finite number of at least 0.
    pub(crate) fn not_negative(&mut self, key: &str, value: Option<f64>) {
        self.value(key, value.as_ref(), "0 or more", |x| x.is_finite() && *x >= 0.0);
    }

    /// Refuses what is no device name; whether the device is there is found out when it is used.
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
