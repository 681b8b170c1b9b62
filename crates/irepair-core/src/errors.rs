//! An error enum and its wording in one table.

/// Defines an error enum: a row holds a variant with its documentation and fields, its message, its exit code, and the
/// place, values and help printed with it. The crate depends on `thiserror`.
///
/// `Variant(error: TYPE);` wraps another crate's error and prints it unchanged. The arguments of the message, of `at`,
/// `want_got` and `help` are expressions over the fields; so is `=> (DIAGNOSTIC)`, of a row that carries one. Fields
/// have names with one meaning: `path` is the file or directory, `want` what is supported or expected, `got` what was
/// found, `reason` and `why` the cause in a few words.
///
/// ```
/// use irepair_core::{Diagnose, ExitKind};
///
/// irepair_core::errors! {
///     /// What can be wrong with a fruit.
///     pub enum Error {
///         /// A file cannot be read.
///         File(error: irepair_core::Error);
///         /// It is spoiled.
///         Rotten { path: std::path::PathBuf, days: u32 } = "fruit is {days} days old" =>
///             Data.at(path.display()).help("buy another one");
///         /// There is none.
///         NoFruit = "no fruit" => Usage;
///     }
/// }
/// let said = Error::Rotten { path: "bowl".into(), days: 9 }.diagnostic();
/// assert_eq!((said.exit, said.to_string().as_str()), (
///     ExitKind::Data, "error: fruit is 9 days old\n   at: bowl\n help: buy another one"
/// ));
/// ```
#[macro_export]
macro_rules! errors {
    ($(#[$meta:meta])* $visible:vis enum $error:ident { $(
        $(#[doc = $doc:literal])+
        $variant:ident $(($inner:ident: $wrapped:ty))? $({ $($field:ident: $type:ty),* $(,)? })?
            $(= $what:literal $(, $argument:expr)* =>
                $(($diagnostic:expr))? $($exit:ident $(.$word:ident($($value:expr),* $(,)?))*)?)?;
    )* }) => {
        $(#[$meta])*
        #[allow(missing_docs, reason = "the documentation of `errors!` explains the fields")]
        #[derive(Debug, thiserror::Error)]
        $visible enum $error { $(
            $(#[doc = $doc])+
            $(#[error($what $(, $argument)*)])?
            $(#[error(transparent)] #[doc = concat!("\n\nPrints the `", stringify!($wrapped), "` unchanged.")])?
            $variant $((#[from] $wrapped))? $({ $($field: $type),* })?,
        )* }

        impl $crate::Diagnose for $error {
            #[allow(unused_variables, reason = "not every field is in the words")]
            fn diagnostic(&self) -> $crate::Diagnostic {
                match self { $(
                    Self::$variant { $(0: $inner,)? $($($field),*)? } => {
                        $($crate::Diagnose::diagnostic($inner))?
                        $($($diagnostic)? $($crate::Diagnostic::new($crate::ExitKind::$exit, self)$(.$word($($value),*))*)?)?
                    }
                )* }
            }
        }
    };
}
