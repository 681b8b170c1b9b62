//! Types that files and flags hold as their text: what `Display` writes, `FromStr` reads.

/// Gives each type the conversions that serde's `try_from = "String", into = "String"` asks for.
macro_rules! text_form {
    ($($name:ty),* $(,)?) => {$(
        impl TryFrom<String> for $name {
            type Error = $crate::Error;

            fn try_from(text: String) -> $crate::Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}

text_form!(crate::Columns, crate::SliceSize, crate::Unit, crate::UnitList);
