//! One definition per setting: a field's name, type, doc comment and default make its flag, its key and its accessor.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Checks, Error, Problem, Result, number_out_of_range};

/// Settings that can be checked.
pub trait Validate: Serialize + Sized {
    /// Adds what is wrong beyond a number outside the range of its key, which is looked for anyway.
    fn clashes(&self, _checks: &mut Checks) {}

    /// Every value out of range and every clash; not a key that is absent.
    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::of(self);
        self.clashes(&mut checks);
        checks.0
    }
}

/// A set of settings that is a group of flags and a TOML table at once. Every field is optional: `None` = not given.
pub trait Options: clap::Args + DeserializeOwned + Clone + Default + Validate {
    /// The same settings with plain fields: required ones are present, defaults are filled in.
    type Plan;

    /// These settings over those of `base`: a value given here wins.
    #[must_use]
    fn over(self, base: Self) -> Self;

    /// These settings with every default spelled out. Keys without a default stay absent.
    #[must_use]
    fn with_defaults(&self) -> Self;

    /// Required keys that are not given.
    fn missing(&self) -> Vec<&'static str>;

    /// Keys with a path that is not UTF-8, which no settings file can hold.
    fn not_utf8(&self) -> Vec<&'static str>;

    /// The plan, unchecked; none while a required key is missing.
    fn plan(&self) -> Option<Self::Plan>;
}

/// Checks settings that are about to be used (ranges, clashes, required keys) and makes their plan.
///
/// # Errors
/// [`Error::Problems`] listing all of them.
pub fn resolve<T: Options>(options: &T, place: &str) -> Result<T::Plan> {
    let mut problems = Vec::new();
    match toml::Table::try_from(options) {
        Ok(_) => {}
        Err(error) if error.to_string().contains("UTF-8") => {
            let problem = |key: &str| {
                let what = "is a path that is not UTF-8, which settings cannot hold";
                Problem::new(key, what).help("rename the file, or make a link with another name")
            };
            let keys = options.not_utf8();
            // A path inside a value of another kind is none of the keys' own.
            problems.extend(if keys.is_empty() { vec![""] } else { keys }.into_iter().map(problem));
        }
        Err(_) => problems.push(too_large(options)),
    }
    let missing =
        |key: &str| Problem::new(key, "is missing").help(format!("give --{} or the key", key.replace('_', "-")));
    problems.extend(options.missing().into_iter().map(missing));
    problems.extend(options.problems());
    match options.plan() {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(Error::Problems { place: place.to_owned(), problems }),
    }
}

/// The number that TOML cannot hold, by its key.
fn too_large<T: Serialize>(options: &T) -> Problem {
    let values = serde_json::to_value(options).unwrap_or_default();
    let mut values = values.as_object().into_iter().flatten();
    let found = values.find_map(|(key, value)| Some((key, value.as_u64().filter(|n| i64::try_from(*n).is_err())?)));
    match found {
        Some((key, n)) => number_out_of_range(key, &n.to_string()),
        None => None,
    }
    .unwrap_or_else(|| Problem::new("", format!("a number is larger than {}", i64::MAX)))
}

/// The settings as a TOML file, without absent keys.
pub fn to_toml<T: Options>(options: &T) -> String {
    as_table(options).to_string()
}

/// The keys that are given, with their values; empty when TOML cannot hold one, which [`resolve`] refuses.
pub(crate) fn as_table<T: Serialize>(options: &T) -> toml::Table {
    toml::Table::try_from(options).unwrap_or_default()
}

/// The value given, or its default.
pub(crate) fn given_or<T: Clone>(value: &Option<T>, default: impl FnOnce() -> T) -> T {
    value.clone().unwrap_or_else(default)
}

/// Defines a struct of settings and its plan.
///
/// `key: Type,` has no default; `key: Type [required],` must be given; `key: Type = value,` has a default, which may
/// read other settings through the name in parentheses; `as "FILE"` after the type names the flag's value in help. In
/// the struct every field is `pub key: Option<Type>`, flag `--key` and TOML key `key`, with an accessor `key()` where
/// it has a default; in the plan it is `Option<Type>` or plain `Type`. The words after `common:` add settings that
/// several commands share.
macro_rules! options {
    (
        $(#[$meta:meta])* pub struct $name:ident => $plan:ident($this:ident) { $($fields:tt)* }
        common: $($common:ident)*;
    ) => {
        options!(@add [$(#[$meta])*] $name $plan $this { $($fields)* } $($common)*);
    };
    (@add $head:tt $name:ident $plan:ident $this:ident { $($fields:tt)* } seed $($rest:ident)*) => {
        options!(@add $head $name $plan $this { $($fields)*
            /// Seed of every random draw. Default 0.
            seed: u64 as "N" = 0,
        } $($rest)*);
    };
    (@add $head:tt $name:ident $plan:ident $this:ident { $($fields:tt)* } device $($rest:ident)*) => {
        options!(@add $head $name $plan $this { $($fields)*
            /// Where to compute: `cpu`, `cuda` or `cuda:N`; a device that is not there is an error. Default cpu.
            device: String as "DEVICE" = "cpu".to_owned(),
        } $($rest)*);
    };
    (@add $head:tt $name:ident $plan:ident $this:ident { $($fields:tt)* } dtype $($rest:ident)*) => {
        options!(@add $head $name $plan $this { $($fields)*
            /// Number type of the weights while computing; losses and norms are always summed in f32. Default f32.
            dtype: Dtype = Dtype::F32,
        } $($rest)*);
    };
    (@add $head:tt $name:ident $plan:ident $this:ident { $($fields:tt)* } threads $($rest:ident)*) => {
        options!(@add $head $name $plan $this { $($fields)*
            /// CPU threads. Without it, one per core, and one alone for a model so small that threads wait more than
            /// they compute.
            threads: u32 as "N",
        } $($rest)*);
    };
    (@add $head:tt $name:ident $plan:ident $this:ident { $($fields:tt)* } json $($rest:ident)*) => {
        options!(@add $head $name $plan $this { $($fields)*
            /// Print results as JSON instead of a table. Default false.
            #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
            json: bool = false,
        } $($rest)*);
    };
    (@first ($first:expr) ($second:expr)) => { $first };
    (@type $type:ty [required] []) => { $type };
    (@type $type:ty [] [$default:expr]) => { $type };
    (@type $type:ty [] []) => { Option<$type> };
    (@take $given:ident $field:ident [required] []) => { $given.$field.clone()? };
    (@take $given:ident $field:ident [] [$default:expr]) => { $given.$field() };
    (@take $given:ident $field:ident [] []) => { $given.$field.clone() };
    (
        @add [$($meta:tt)*] $name:ident $plan:ident $this:ident {$(
            $(#[doc = $doc:literal])* $(#[arg($($arg:tt)*)])? $(#[serde($($serde:tt)*)])?
            $field:ident: $type:ty $(as $value:literal)? $([$required:ident])? $(= $default:expr)?,
        )*}
    ) => {
        $($meta)*
        #[derive(Clone, Debug, Default, PartialEq, clap::Args, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                #[arg(long, allow_negative_numbers = true, $(value_name = $value,)? $($($arg)*)?)]
                $(#[serde($($serde)*)])?
                pub $field: Option<$type>,
            )*
        }

        #[doc = concat!("[`", stringify!($name), "`] with defaults filled in.")]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $plan {
            $(
                $(#[doc = $doc])*
                pub $field: options!(@type $type [$($required)?] [$($default)?]),
            )*
        }

        impl From<$plan> for $name {
            fn from(plan: $plan) -> Self {
                Self { $($field: plan.$field.into(),)* }
            }
        }

        impl $crate::options::Options for $name {
            type Plan = $plan;

            fn over(self, base: Self) -> Self {
                Self { $($field: self.$field.or(base.$field),)* }
            }

            fn with_defaults(&self) -> Self {
                let mut filled = self.clone();
                $($(filled.$field = Some(options!(@first (self.$field()) ($default)));)?)*
                filled
            }

            fn missing(&self) -> Vec<&'static str> {
                let required = [$($((stringify!($field), options!(@first (self.$field.is_none()) ($required))),)?)*];
                required.into_iter().filter(|(_, missing)| *missing).map(|(key, _)| key).collect()
            }

            fn not_utf8(&self) -> Vec<&'static str> {
                let mut keys = Vec::new();
                // Of all values, JSON refuses such a path alone.
                $(if serde_json::to_value(&self.$field).is_err() {
                    keys.push(stringify!($field));
                })*
                keys
            }

            fn plan(&self) -> Option<$plan> {
                let given = self;
                Some($plan { $($field: options!(@take given $field [$($required)?] [$($default)?]),)* })
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
