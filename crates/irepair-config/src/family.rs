//! Model families as a flag and a key: the names that `irepair-arch` knows.

use std::fmt;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use irepair_arch::FAMILIES;
use serde::{Deserialize, Serialize};

/// A model family by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Family(pub &'static irepair_arch::Family);

impl Family {
    /// GPT-2, the default where a model is trained from nothing.
    pub const GPT2: Self = Self(&irepair_arch::GPT2);

    /// Reads the name as a flag.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        PossibleValuesParser::new(FAMILIES.iter().map(|family| family.name)).try_map(Self::try_from)
    }
}

impl TryFrom<String> for Family {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        FAMILIES.iter().find(|family| family.name == name).copied().map(Self).ok_or_else(|| {
            let known: Vec<String> = FAMILIES.iter().map(|family| format!("`{}`", family.name)).collect();
            format!("unknown variant `{name}`, expected one of {}", known.join(", "))
        })
    }
}

impl From<Family> for String {
    fn from(family: Family) -> Self {
        family.0.name.to_owned()
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name)
    }
}
