//! Model families as a flag and a key: the names that `irepair-arch` knows.

use std::fmt;
use std::sync::LazyLock;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use irepair_arch::FAMILIES;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A model family by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family(pub &'static irepair_arch::Family);

impl Family {
    /// GPT-2, the default where a model is trained from nothing.
    pub const GPT2: Self = Self(&irepair_arch::GPT2);
}

impl Default for Family {
    fn default() -> Self {
        Self::GPT2
    }
}

impl ValueEnum for Family {
    fn value_variants<'a>() -> &'a [Self] {
        static ALL: LazyLock<Vec<Family>> = LazyLock::new(|| FAMILIES.iter().copied().map(Family).collect());
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name)
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Family {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = FAMILIES.iter().find(|family| family.name == name);
        found.copied().map(Self).ok_or_else(|| {
            let known: Vec<String> = FAMILIES.iter().map(|family| format!("`{}`", family.name)).collect();
            D::Error::custom(format!("unknown variant `{name}`, expected one of {}", known.join(", ")))
        })
    }
}
