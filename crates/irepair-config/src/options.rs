//! One definition per setting: a field's name, type, doc comment and default make its flag, its key and its accessor.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Problem, Result};

/// Settings that can be checked.
pub trait Validate {
    /// Every value out of range and every clash; not what is merely absent.
    fn problems(&self) -> Vec<Problem>;
}

/// A set of settings that is a group of flags and a TOML table at once. Every field is optional: `None` = not given.
pub trait Options: clap::Args + Serialize + DeserializeOwned + Clone + Default + Validate {
    /// Keys without which the command cannot run.
    const REQUIRED: &'static [&'static str];

    /// These settings laid over `base`: what is given here wins.
    #[must_use]
    fn over(self, base: Self) -> Self;

    /// These settings with every default spelled out. Keys without a default stay absent.
    #[must_use]
    fn with_defaults(&self) -> Self;
}

/// Checks settings that are about to be used: ranges, clashes, and that everything required is there.
///
/// # Errors
/// [`Error::Problems`] listing all of them.
pub fn validate<T: Options>(options: &T, place: &str) -> Result<()> {
    let Ok(given) = toml::Table::try_from(options) else {
        let what = "a path is not UTF-8, which settings cannot hold";
        let problems = vec![Problem::new("", what).help("give it another name, or a link of another name")];
        return Err(Error::Problems { place: place.to_owned(), problems });
    };
    let missing = T::REQUIRED.iter().filter(|key| !given.contains_key(**key));
    let mut problems: Vec<Problem> = missing
        .map(|key| Problem::new(*key, "is missing").help(format!("give --{} or the key", key.replace('_', "-"))))
        .collect();
    problems.extend(options.problems());
    if problems.is_empty() { Ok(()) } else { Err(Error::Problems { place: place.to_owned(), problems }) }
}

/// The settings as a TOML file, what is absent left out.
pub fn to_toml<T: Options>(options: &T) -> String {
    as_table(options).to_string()
}

fn as_table<T: Options>(options: &T) -> toml::Table {
    // Options are flat structs of numbers, words and paths; a path that is not UTF-8 is the only thing TOML cannot hold.
    toml::Table::try_from(options).unwrap_or_default()
}

/// The value given, or its default.
pub(crate) fn given_or<T: Clone>(value: &Option<T>, default: impl FnOnce() -> T) -> T {
    value.clone().unwrap_or_else(default)
}

/// Defines a struct of settings.
///
/// `key: Type,` has no default; `key: Type = value,` has one, which may read other settings through the name in
/// parentheses after the struct's. Every field becomes `pub key: Option<Type>`, flag `--key` and TOML key `key`; with a
/// default also an accessor `key()`. The words after `common:` add settings that several commands share.
macro_rules! options {
    (
        $(#[$meta:meta])* pub struct $name:ident($this:ident) { $($fields:tt)* }
        common: $($common:ident)*; required: $($required:ident)*;
    ) => {
        options!(@add [$(#[$meta])*] $name $this [$($required)*] { $($fields)* } $($common)*);
    };
    (@add $head:tt $name:ident $this:ident $required:tt { $($fields:tt)* } seed $($rest:ident)*) => {
        options!(@add $head $name $this $required { $($fields)*
            /// Seed of every random draw. Default 0.
            #[arg(value_name = "N")]
            seed: u64 = 0,
        } $($rest)*);
    };
    (@add $head:tt $name:ident $this:ident $required:tt { $($fields:tt)* } device $($rest:ident)*) => {
        options!(@add $head $name $this $required { $($fields)*
            /// Where to compute: `cpu`, `cuda` or `cuda:N`; a device that is not there is an error. Default cpu.
            #[arg(value_name = "DEVICE")]
            device: String = "cpu".to_owned(),
        } $($rest)*);
    };
    (@add $head:tt $name:ident $this:ident $required:tt { $($fields:tt)* } dtype $($rest:ident)*) => {
        options!(@add $head $name $this $required { $($fields)*
            /// Number type of the weights while computing; losses and norms are always summed in f32. Default f32.
            dtype: Dtype = Dtype::F32,
        } $($rest)*);
    };
    (@add $head:tt $name:ident $this:ident $required:tt { $($fields:tt)* } threads $($rest:ident)*) => {
        options!(@add $head $name $this $required { $($fields)*
            /// CPU threads. Without it, one per core.
            #[arg(value_name = "N")]
            threads: u32,
        } $($rest)*);
    };
    (@add $head:tt $name:ident $this:ident $required:tt { $($fields:tt)* } json $($rest:ident)*) => {
        options!(@add $head $name $this $required { $($fields)*
            /// Print results as JSON instead of a table. Default false.
            #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
            json: bool = false,
        } $($rest)*);
    };
    (@first ($first:expr) ($second:expr)) => { $first };
    (
        @add [$($meta:tt)*] $name:ident $this:ident [$($required:ident)*]
        { $($(#[$field_meta:meta])* $field:ident: $type:ty $(= $default:expr)?,)* }
    ) => {
        $($meta)*
        #[derive(Clone, Debug, Default, PartialEq, clap::Args, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[arg(long)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl $crate::options::Options for $name {
            const REQUIRED: &'static [&'static str] = &[$(stringify!($required)),*];

            fn over(self, base: Self) -> Self {
                Self { $($field: self.$field.or(base.$field),)* }
            }

            fn with_defaults(&self) -> Self {
                let mut filled = self.clone();
                $($(filled.$field = Some(options!(@first (self.$field()) ($default)));)?)*
                filled
            }
        }

        impl $name {
            $($(
                #[doc = concat!("`", stringify!($field), "`, or its default.")]
                pub fn $field(&self) -> $type {
                    let $this = self;
                    $crate::options::given_or(&$this.$field, || $default)
                }
            )?)*
        }
    };
}
