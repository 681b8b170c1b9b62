//! The crate's error type.

use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can be wrong with a classifier, its files or its training.
    pub enum Error {
        /// A `config.json` key has a value that is not supported.
        Unsupported { path: PathBuf, key: String, want: String, got: String } = "unsupported classifier setting" =>
            Usage.at_part(path, "key", key).want_got(want, got)
                .help("BERT, RoBERTa and DistilBERT for sequence classification are supported");
        /// The names of the labels do not say which of them mean toxic.
        UnclearLabels { path: PathBuf, why: String, labels: Vec<String> } =
            "it is not clear which labels of the classifier mean toxic: {why}" =>
            Usage.at_part(path, "key", "id2label")
                .help(format!("choose with --toxic-labels among: {}", labels.join(", ")));
        /// Tensors that are missing, all of them.
        MissingTensors { path: PathBuf, tensors: Vec<String> } = "classifier lacks tensors" =>
            Data.at(format!(
                "{}: {}{}", path.display(), tensors[..tensors.len().min(20)].join(", "),
                if tensors.len() > 20 { ", ..." } else { "" }
            )).help("the files do not hold the classifier that config.json describes");
        /// A tensor of another shape than `config.json` implies.
        WrongShape { path: PathBuf, tensor: String, want: Vec<i64>, got: Vec<i64> } =
            "classifier tensor has the wrong shape" =>
            Data.at_part(path, "tensor", tensor).want_got(format!("{want:?}"), format!("{got:?}"))
                .help("config.json and the weights belong to different models");
        /// A tokenizer that gives ids the classifier has no embedding for.
        Vocabulary { path: PathBuf, n_vocab: usize, n_tokens: usize } =
            "tokenizer and classifier do not fit together" =>
            Data.at(path.display())
                .want_got(format!("token ids below {n_vocab}"), format!("a tokenizer with {n_tokens} tokens"))
                .help("put the tokenizer.json that belongs to these weights into the directory");
        /// Labels of one kind only.
        OneClass { n: usize } = "training texts have one label only" =>
            Data.want_got("toxic and other texts", format!("{n} texts of one label"))
                .help("give more labelled texts, of both kinds");
        /// The loss is no finite number any more at that step, counted from 0.
        Diverged { step: u64 } = "training diverged at step {step}" => Outcome.help("lower --lr");
        /// From the model crate.
        Model(error: irepair_model::Error);
        /// From the data crate.
        Data(error: irepair_data::Error);
        /// From the core crate.
        Core(error: irepair_core::Error);
    }
}

impl From<irepair_arch::Error> for Error {
    fn from(error: irepair_arch::Error) -> Self {
        match error {
            irepair_arch::Error::Unsupported { path, key, want, got } => Self::Unsupported { path, key, want, got },
            irepair_arch::Error::Core(error) => error.into(),
        }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
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
            OneClass: [Error::OneClass { n: 40 }],
            Diverged: [Error::Diverged { step: 7 }],
            Model: [irepair_model::Error::ContextOverflow { n_positions: 512, got: 513 }.into()],
            Data: [irepair_data::Error::TooFew { wanted: 2, n: 1 }.into()],
            Core: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
