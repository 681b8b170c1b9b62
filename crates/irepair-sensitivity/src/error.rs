//! The crate's error type.

use irepair_core::Unit;
use irepair_core::spec::UnitKind;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can go wrong while measuring a sensitivity.
    pub enum Error {
        /// The metric needs `what`, a text that was not given.
        Missing { metric: &'static str, what: &'static str } = "metric `{metric}` needs {what}" =>
            Usage.help("use grad-l2, the paper's metric, or give that text");
        /// The metric has no value at a mean gradient.
        NoMeanGradient { metric: &'static str } = "metric `{metric}` has no norm of the mean gradient" =>
            Usage.help("it is made from single texts, activations or noise: use --reduction mean-of-norm");
        /// The metric compares the outputs of blocks, and the model does not show all of them.
        NoBlockOutputs { metric: &'static str, want: usize, got: usize } =
            "metric `{metric}` needs the output of every block, and the model shows its probe {got} of {want}" =>
            Usage.help(
                "call `Probe::block` after each block in `hidden_states_probed`, or use grad-l2, which needs no probe"
            );
        /// The metric reads the inputs of linear layers, and the model does not show all of them with their places.
        NoLayerInputs { metric: &'static str, want: usize, got: usize } =
            "metric `{metric}` needs the input of every linear layer, and the model shows its probe {got} of {want}" =>
            Usage.help(
                "call `Probe::layer` with the layer's slot in `hidden_states_probed` and implement `BlockModel::unit_map`, \
                 or use snip-diff, which needs neither"
            );
        /// The metric puts gates into the model, and the model does not let all of them in.
        NoGates { metric: &'static str, want: usize, got: usize } =
            "metric `{metric}` puts gates at {want} places of the model, and the model lets its probe reach {got}" =>
            Usage.help(
                "call `Probe::input` with the layer's slot before the last projection of attention and MLP in \
                 `hidden_states_probed`, or use grad-l2, which needs no probe"
            );
        /// A parameter, or a layer shown to the probe, is said to be of a block that the model does not have.
        NoSuchBlock { block: usize, n_blocks: usize } = "model names a block that it does not have" =>
            Usage.want_got(format!("a block below {n_blocks}"), format!("block {block}"))
                .help("`Parameter::block`, and the block that `Probe::layer` is given, count from 0");
        /// A model that does not say which weights are of which unit.
        NoUnits { kind: UnitKind } = "model knows no units of kind {kind}" =>
            Usage.help("implement `BlockModel::unit_map`, or measure blocks");
        /// A metric of the outputs of whole blocks.
        BlocksAlone { metric: &'static str } = "metric `{metric}` is of whole blocks alone" =>
            Usage.help("it compares the outputs of blocks: use a metric of gradients, such as grad-l2 or density");
        /// A sensitivity that is NaN, infinite or negative.
        BadUnit { unit: Unit, value: f64 } = "sensitivity of unit {unit} is {value}" =>
            Outcome.help(
                "the model or its gradients diverged, or, by `relative`, all weights of the unit are 0 and its gradient is not: \
                 check the weights, or take another metric"
            );
        /// From the objective crate.
        Objective(error: irepair_objective::Error);
        /// From the model crate.
        Model(error: irepair_model::Error);
        /// From the core crate: a value that is not finite.
        Core(error: irepair_core::Error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Missing: [Error::Missing { metric: "contrast", what: "chosen text" }],
            NoMeanGradient: [Error::NoMeanGradient { metric: "fisher" }],
            NoBlockOutputs: [Error::NoBlockOutputs { metric: "act-dist", want: 12, got: 0 }],
            NoLayerInputs: [Error::NoLayerInputs { metric: "wanda-diff", want: 48, got: 0 }],
            NoGates: [Error::NoGates { metric: "mask", want: 24, got: 0 }],
            NoSuchBlock: [Error::NoSuchBlock { block: 12, n_blocks: 12 }],
            NoUnits: [Error::NoUnits { kind: UnitKind::Head }],
            BlocksAlone: [Error::BlocksAlone { metric: "act-dist" }],
            BadUnit: [Error::BadUnit { unit: "3.head.5".parse().unwrap(), value: f64::NAN }],
            Objective: [irepair_objective::Error::NothingCounted { what: "rejected text" }.into()],
            Model: [irepair_model::Error::ContextOverflow { n_positions: 1024, got: 1025 }.into()],
            Core: [irepair_core::Error::NoBlocks.into()],
        }));
    }
}
