//! Every message of an error type in one text, for a snapshot that people read.

use crate::Diagnostic;

/// What is printed for each value given, under its variant's name and exit code.
///
/// A variant that is left out does not compile: what it expands to matches on all of them, without a wildcard.
///
/// ```
/// use irepair_core::spec::UnitKind;
/// use irepair_core::{BlockId, Error, every_diagnostic};
///
/// let text = every_diagnostic!(Error {
///     BadSensitivity: [Error::BadSensitivity { block: BlockId(3), value: f64::NAN }],
///     NoBlocks: [Error::NoBlocks],
///     BadSliceSize: [Error::BadSliceSize { got: "0b".into() }, Error::BadSliceSize { got: "all".into() }],
///     BadUnitList: ["x".parse::<irepair_core::UnitList>().unwrap_err()],
///     BadUnit: ["0-1".parse::<irepair_core::Unit>().unwrap_err()],
///     TooManyUnits: ["0-9999.neuron.0-9999".parse::<irepair_core::UnitList>().unwrap_err()],
///     NoSuchUnit: [Error::NoSuchUnit { unit: "12".into(), want: "blocks 0 to 11".into() }],
///     BadColumns: ["a".parse::<irepair_core::Columns>().unwrap_err()],
///     FinerUnit: [Error::FinerUnit { key: "only", unit: "3.mlp".into(), kind: UnitKind::Block }],
///     NoUnitLeft: [Error::NoUnitLeft { kind: UnitKind::Block }],
///     UnknownName: ["dynamik".parse::<irepair_core::spec::Policy>().unwrap_err()],
///     NoTokens: [Error::NoTokens],
///     Busy: [Error::Busy { path: "runs/a".into() }],
///     Removed: [Error::Removed { path: "a".into() }],
///     OutExists: [Error::OutExists { path: "a".into() }],
///     BegunByAnother: [Error::BegunByAnother { path: "a".into(), other: "irepair repair".into() }],
///     MissingFile: [Error::MissingFile { path: "a".into() }],
///     MissingShards: [
///         Error::MissingShards { path: "a".into(), n_shards: 2, missing: vec!["b".into()], is_stale: false }
///     ],
///     TwoCheckpoints: [Error::TwoCheckpoints { path: "a".into(), shard: "b".into() }],
///     Pickle: [Error::Pickle { path: "a".into() }],
///     NotInHub: [Error::NotInHub { name: "gpt2".into(), kind: "model", cache: "hub".into() }],
///     WhichRevision: [
///         Error::WhichRevision { name: "a/b".into(), dir: "hub".into(), revision: None, known: vec!["main".into()] }
///     ],
///     WhichFile: [Error::WhichFile { name: "a/b".into(), dir: "hub".into(), path: None, files: vec![] }],
///     Unreadable: [Error::unreadable("a".as_ref(), "the file is empty")],
///     Io: [Error::Io { action: "write", path: "a".into(), source: std::io::Error::other("disk full") }],
/// });
/// assert!(text.contains("NoTokens, exit 4\nerror: batch holds no tokens\n"));
/// ```
///
/// # Panics
/// When a value is of another variant than it is listed under, or a message is not a lower-case fragment.
#[macro_export]
macro_rules! every_diagnostic {
    ($error:ident { $($variant:ident: [$($value:expr),+ $(,)?]),+ $(,)? }) => {{
        fn name(error: &$error) -> &'static str {
            match error { $($error::$variant { .. } => stringify!($variant)),+ }
        }
        let mut text = String::new();
        $($(
            let error: $error = $value;
            assert_eq!(name(&error), stringify!($variant));
            text += &$crate::entry(name(&error), &$crate::Diagnose::diagnostic(&error));
        )+)+
        text
    }};
}

/// One entry of [`every_diagnostic!`].
///
/// # Panics
/// When the message is not a lower-case fragment.
#[doc(hidden)]
pub fn entry(name: &str, diagnostic: &Diagnostic) -> String {
    let what = &diagnostic.what;
    assert!(!what.starts_with(char::is_uppercase) && !what.ends_with('.'), "{name}: not a fragment: {what}");
    format!("{name}, exit {}\n{diagnostic}\n\n", diagnostic.exit as u8)
}
