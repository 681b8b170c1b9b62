//! The crate's error type.

use irepair_core::{Diagnostic, Scope};

use crate::SampledIndices;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can go wrong while training.
    pub enum Error {
        /// A loss, sensitivity, gradient or weight stopped being a number. `what` names it; `step`, counted from 0, is
        /// the one whose forward pass or update it was; `scope` what the step was to update, or the block of a weight,
        /// none before that is known; `sampled` the texts of the step.
        NotFinite { what: String, step: u64, scope: Option<Scope>, sampled: SampledIndices } = "{what} at step {step}" =>
            Outcome.at(format!("{}training pairs {} (counted from 0)", updated(scope), listed(&sampled.pairs)))
                .help("lower the learning rate, and look at these texts; earlier checkpoints are untouched");
        /// A setting that cannot work.
        BadSetting { key: &'static str, want: &'static str, got: String } = "setting `{key}` is out of range" =>
            Usage.want_got(want, got);
        /// There is too little data for what was asked.
        TooLittle { what: &'static str, want: usize, got: usize } = "not enough {what}" =>
            Data.want_got(format!("at least {want}"), got);
        /// A checkpoint that does not belong to this run.
        BadCheckpoint { path: std::path::PathBuf, reason: String } = "checkpoint does not fit this run: {reason}" =>
            Usage.at(path.display())
                .help("undo the change to resume, or start a new run: give another --out, or delete that file");
        /// The ablation of a direction needs `what` of a model, which does not show it.
        NoResidualStream { what: String } = "this model does not show {what}" =>
            Usage.help("to ablate a direction takes `BlockModel::residual_writers`, and `Probe::block` after each block");
        /// Rejected and chosen texts have the same mean in every block.
        NoDirection = "rejected and chosen texts do not differ in any block" =>
            Data.help("the direction that is to be ablated is their difference: look at the pairs");
        /// A localiser chose blocks, where a direction is ablated.
        SlicedAblation = "the ablation of a direction changes all that writes to the residual stream, and no slice" =>
            Usage.help("use a localiser that allows every parameter");
        /// A localiser chose units below the block, and the model says not which rows are whose.
        NoUnits = "this model knows no units below its blocks" =>
            Usage.help("choose blocks, or implement `BlockModel::unit_map`");
        /// A localiser chose units of several kinds, or none.
        MixedUnits { got: String } = "a slice is not of units of one kind" =>
            Usage.want_got("units of one kind, such as `3.head.0-4`", got);
        /// A localiser chose units below the block, where adapters are trained.
        SlicedAdapters = "adapters change whole projections, and no units below the block" =>
            Usage.help("choose blocks, or train the weights themselves: setting `lora_rank` 0");
        /// Choosing the blocks failed, as `found` says.
        Localise { found: Box<Diagnostic> } = "choosing the slice failed: {}", found.what => ((**found).clone());
        /// A rank would train another run than rank 0, or has drifted away from it.
        OtherRank { rank: usize, changes: String } = "rank {rank} differs from rank 0: {changes}" =>
            Usage.help("all ranks must be started with the same program, model, files and settings");
        /// Another rank is gone, or failed.
        Ranks(error: irepair_ranks::Error);
        /// From the model crate.
        Model(error: irepair_model::Error);
        /// From the objective crate.
        Objective(error: irepair_objective::Error);
        /// From the data crate.
        Data(error: irepair_data::Error);
        /// From the core crate.
        Core(error: irepair_core::Error);
    }
}

impl Error {
    /// The error of the ranks, where it is one.
    pub fn of_ranks(&self) -> Option<&irepair_ranks::Error> {
        match self {
            Self::Ranks(error) | Self::Model(irepair_model::Error::Ranks(error)) => Some(error),
            _ => None,
        }
    }

    /// An error of choosing the blocks.
    pub fn localise(error: &impl irepair_core::Diagnose) -> Self {
        Self::Localise { found: Box::new(error.diagnostic()) }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Model(error.into())
    }
}

fn updated(scope: &Option<Scope>) -> String {
    match scope {
        Some(Scope::Everything) => "every parameter; ".to_owned(),
        Some(Scope::Blocks(slice)) => format!("blocks {slice}; "),
        Some(Scope::Units(units)) => format!("units {}; ", shortened(&units.to_string())),
        None => String::new(),
    }
}

/// The start of a long text.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Pairs a message lists before it counts the rest.
const N_LISTED: usize = 16;

fn listed(indices: &[usize]) -> String {
    let shown: Vec<String> = indices.iter().take(N_LISTED).map(usize::to_string).collect();
    let rest = indices.len() - shown.len();
    shown.join(", ") + &if rest > 0 { format!(" and {rest} more") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        let sampled = |n| SampledIndices { pairs: (0..n).collect(), utility: vec![] };
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            NotFinite: [
                Error::NotFinite {
                    what: "the loss is not finite".into(),
                    step: 7,
                    scope: Some(Scope::Everything),
                    sampled: sampled(2)
                },
                Error::NotFinite {
                    what: "weight `h.2.ln_1.weight` is not finite".into(),
                    step: 7,
                    scope: None,
                    sampled: sampled(40)
                },
                Error::NotFinite {
                    what: "the loss is not finite".into(),
                    step: 7,
                    scope: Some(Scope::Units("3.head.0-2,4.head.1".parse().unwrap())),
                    sampled: sampled(2)
                },
            ],
            BadSetting: [Error::BadSetting { key: "lr", want: "a finite number over 0", got: "NaN".into() }],
            TooLittle: [Error::TooLittle { what: "training pairs", want: 1, got: 0 }],
            BadCheckpoint: [Error::BadCheckpoint {
                path: "run.safetensors".into(),
                reason: "a tensor is missing".into()
            }],
            NoResidualStream: [Error::NoResidualStream {
                what: "which parameters write to its residual stream".into()
            }],
            NoDirection: [Error::NoDirection],
            SlicedAblation: [Error::SlicedAblation],
            NoUnits: [Error::NoUnits],
            MixedUnits: [Error::MixedUnits { got: "3,4.head.1".into() }],
            SlicedAdapters: [Error::SlicedAdapters],
            Localise: [Error::localise(&irepair_core::Error::NoBlocks)],
            OtherRank: [Error::OtherRank { rank: 2, changes: "the training pairs, setting `lr` (0.1 → 0.2)".into() }],
            Ranks: [irepair_ranks::Error::Lost { rank: 1, why: "its connection was closed".into() }.into()],
            Model: [irepair_model::Error::ContextOverflow { n_positions: 1024, got: 1025 }.into()],
            Objective: [irepair_objective::Error::NothingCounted { what: "chosen text" }.into()],
            Data: [irepair_data::Error::TooFew { wanted: 2, n: 1 }.into()],
            Core: [irepair_core::Error::NoTokens.into()],
        }));
    }
}
