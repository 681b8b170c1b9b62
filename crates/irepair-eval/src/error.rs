//! The crate's error type.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can keep a metric from being measured at all. A single text that fails is no error: it is missing and
    /// counted.
    pub enum Error {
        /// There is nothing to measure on; `what` is lacking: `prompts`, `texts`.
        Nothing { what: &'static str } = "no {what} to measure on" => Data.help("give a file that holds some");
        /// A setting that cannot work.
        BadSetting { key: &'static str, want: String, got: usize } = "setting `{key}` is out of range" =>
            Usage.want_got(want, got);
        /// A token that the model has no embedding for.
        UnknownToken { token: u32, n_vocab: usize } = "token {token} is not in the model's vocabulary" =>
            Data.want_got(format!("tokens below {n_vocab}"), token)
                .help("the tokenizer belongs to another model: use the tokenizer.json in the directory of the weights");
        /// A model and its reference that cannot be compared: what they differ in, and what each of them has.
        ModelsDiffer { what: String, reference: String, model: String } = "model and reference differ in {what}" =>
            Usage.want_got(reference, model)
                .help("the reference is the same model before repair, in the same type and on the same device");
        /// The right answer of question `index`, from 0, is not among its endings.
        BadQuestion { index: usize, n_endings: usize, answer: usize } =
            "answer of question {index} is not among its endings" =>
            Data.want_got(format!("an index below {n_endings}"), answer)
                .help("questions and endings are counted from 0");
        /// From the model crate.
        Model(error: irepair_model::Error);
        /// From the objective crate.
        Objective(error: irepair_objective::Error);
        /// From the data crate: the tokenizer refused.
        Data(error: irepair_data::Error);
        /// From the core crate.
        Core(error: irepair_core::Error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Nothing: [Error::Nothing { what: "prompts" }],
            BadSetting: [Error::BadSetting { key: "window", want: "2 to 64 tokens".into(), got: 65 }],
            UnknownToken: [Error::UnknownToken { token: 900, n_vocab: 300 }],
            ModelsDiffer: [Error::ModelsDiffer {
                what: "device".into(),
                reference: "Cpu".into(),
                model: "Cuda(0)".into()
            }],
            BadQuestion: [Error::BadQuestion { index: 3, n_endings: 4, answer: 4 }],
            Model: [irepair_model::Error::ContextOverflow { n_positions: 1024, got: 1025 }.into()],
            Objective: [irepair_objective::Error::NothingCounted { what: "text" }.into()],
            Data: [irepair_data::Error::TooFew { wanted: 2, n: 1 }.into()],
            Core: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
