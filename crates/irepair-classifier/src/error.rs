//! The crate's error type.

use std::path::PathBuf;

use irepair_core::{Diagnose, Diagnostic, ExitKind};

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be wrong with a classifier, its files or its training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the directory that cannot be used.
    #[error("classifier file is unreadable: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, in a few words.
        reason: String,
    },
    /// A `config.json` key has a value that is not computed here.
    #[error("unsupported classifier setting")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Values we support.
        want: String,
        /// The value found.
        got: String,
    },
    /// It does not follow from their names which labels mean toxic.
    #[error("it is not clear which labels of the classifier mean toxic: {why}")]
    UnclearLabels {
        /// `config.json`.
        path: PathBuf,
        /// What is unclear.
        why: String,
        /// Every label.
        labels: Vec<String>,
    },
    /// Tensors that are missing, all of them.
    #[error("classifier lacks tensors")]
    MissingTensors {
        /// The directory.
        path: PathBuf,
        /// Their names.
        tensors: Vec<String>,
    },
    /// A tensor of another shape than `config.json` implies.
    #[error("classifier tensor has the wrong shape")]
    WrongShape {
        /// The directory.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape implied.
        want: Vec<i64>,
        /// The shape stored.
        got: Vec<i64>,
    },
    /// A tokenizer that gives ids the classifier has no embedding for.
    #[error("tokenizer and classifier do not fit together")]
    Vocabulary {
        /// The directory.
        path: PathBuf,
        /// Embeddings.
        n_vocab: usize,
        /// Tokens.
        n_tokens: usize,
    },
    /// The tokenizers library refused.
    #[error("tokenizer failed to {action}: {why}")]
    Tokenize {
        /// What it was to do.
        action: &'static str,
        /// Why, from the library.
        why: String,
    },
    /// Labels of one kind only.
    #[error("training texts have one label only")]
    OneClass {
        /// How many texts there are.
        n: usize,
    },
    /// The loss left the numbers.
    #[error("training diverged at step {step}")]
    Diverged {
        /// Step, from 0.
        step: u64,
    },
    /// From the model crate.
    #[error(transparent)]
    Model(#[from] irepair_model::Error),
    /// From the data crate.
    #[error(transparent)]
    Data(#[from] irepair_data::Error),
    /// From the core crate.
    #[error(transparent)]
    Core(#[from] irepair_core::Error),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}

impl Diagnose for Error {
    fn diagnostic(&self) -> Diagnostic {
        let data = || Diagnostic::new(ExitKind::Data, self);
        match self {
            Self::Unreadable { path, .. } => data().at(path.display()).help(
                "a classifier directory holds config.json, model.safetensors (or shards with their index) and tokenizer.json",
            ),
            Self::Unsupported { path, key, want, got } => Diagnostic::new(ExitKind::Usage, self)
                .at(format!("{}, key `{key}`", path.display()))
                .want_got(want, got)
                .help("BERT, RoBERTa and DistilBERT for sequence classification are supported"),
            Self::UnclearLabels { path, labels, .. } => Diagnostic::new(ExitKind::Usage, self)
                .at(format!("{}, key `id2label`", path.display()))
                .help(format!("choose with --toxic-labels among: {}", labels.join(", "))),
            Self::MissingTensors { path, tensors } => {
                let more = if tensors.len() > 20 { ", ..." } else { "" };
                data()
                    .at(format!("{}: {}{more}", path.display(), tensors[..tensors.len().min(20)].join(", ")))
                    .help("the files do not hold the classifier that config.json describes")
            }
            Self::WrongShape { path, tensor, want, got } => data()
                .at(format!("{}, tensor `{tensor}`", path.display()))
                .want_got(format!("{want:?}"), format!("{got:?}"))
                .help("config.json and the weights belong to different models"),
            Self::Vocabulary { path, n_vocab, n_tokens } => data()
                .at(path.display())
                .want_got(format!("token ids below {n_vocab}"), format!("a tokenizer with {n_tokens} tokens"))
                .help("put the tokenizer.json that belongs to these weights into the directory"),
            Self::Tokenize { .. } => data(),
            Self::OneClass { n } => data()
                .want_got("toxic and other texts", format!("{n} texts of one label"))
                .help("give more labelled texts, of both kinds"),
            Self::Diverged { .. } => Diagnostic::new(ExitKind::Outcome, self).help("lower --lr"),
            Self::Model(error) => error.diagnostic(),
            Self::Data(error) => error.diagnostic(),
            Self::Core(error) => error.diagnostic(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let config = || PathBuf::from("scorer/config.json");
        let labels = || vec!["A".to_owned(), "B".to_owned()];
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Unreadable: [Error::Unreadable { path: "scorer/config.json".into(), reason: "not JSON".into() }],
            Unsupported: [Error::Unsupported {
                path: config(),
                key: "model_type".into(),
                want: "bert".into(),
                got: "t5".into()
            }],
            UnclearLabels: [Error::UnclearLabels {
                path: config(),
                why: "no label is called toxic".into(),
                labels: labels()
            }],
            MissingTensors: [Error::MissingTensors { path: "scorer".into(), tensors: vec!["classifier.bias".into()] }],
            WrongShape: [Error::WrongShape {
                path: "scorer".into(),
                tensor: "classifier.bias".into(),
                want: vec![2],
                got: vec![3]
            }],
            Vocabulary: [Error::Vocabulary { path: "scorer".into(), n_vocab: 300, n_tokens: 301 }],
            Tokenize: [Error::Tokenize { action: "encode", why: "no unknown token".into() }],
            OneClass: [Error::OneClass { n: 40 }],
            Diverged: [Error::Diverged { step: 7 }],
            Model: [irepair_model::Error::ContextOverflow { n_positions: 512, got: 513 }.into()],
            Data: [irepair_data::Error::TooFew { wanted: 2, n: 1 }.into()],
            Core: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
