//! The operators of METHOD §13, which plant a fault in a model; `irepair-fault` implements them.

use crate::spec::{Range, UnitKind};
use crate::{Unit, UnitPart};

/// One operator of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperatorRow {
    /// Which strengths it takes; none where it has no strength.
    pub strength: Option<Range>,
    /// The kinds of units that it can act on.
    pub units: &'static [UnitKind],
}

table! {
    /// How a fault is planted in the weights of some units (METHOD §13 [O]).
    pub enum Operator("operator"): OperatorRow {
        /// Adds normal noise to every weight; the strength is its standard deviation over the root mean square of the
        /// unit's weights in the same tensor.
        Noise = "noise" { strength: Some(Range::Positive), units: UnitKind::ALL }
        /// Negates what the unit adds to the residual stream: columns of the attention's output projection and of the
        /// projection out of the MLP, and their biases where the unit is a half or a block. No strength.
        SignFlip = "sign-flip" { strength: None, units: UnitKind::ALL }
        /// Swaps the outputs of two heads of one block: their columns of the output projection. No strength.
        HeadSwap = "head-swap" { strength: None, units: &[UnitKind::Head] }
        /// Multiplies the key vectors of an MLP or of neurons (rows of the projection that goes through the activation,
        /// and of its bias) by the strength.
        ScaleKeys = "scale-keys" { strength: Some(Range::NotNegative), units: &[UnitKind::Half, UnitKind::Neuron] }
        /// Multiplies the value vectors of an MLP or of neurons (columns of the projection out of it) by the strength.
        ScaleValues = "scale-values" { strength: Some(Range::NotNegative), units: &[UnitKind::Half, UnitKind::Neuron] }
        /// Flips single bits of stored weights, none of which becomes infinite or NaN; the strength is their number in
        /// each unit.
        BitFlip = "bit-flip" { strength: Some(Range::Count), units: UnitKind::ALL }
        /// Trains the units alone on the rejected text of pairs, by its plain NLL; the strength is the number of
        /// updates.
        TrainIn = "train-in" { strength: Some(Range::Updates), units: UnitKind::ALL }
    }
}

impl Operator {
    /// True when it trains on pairs; the others change stored weights by themselves.
    pub fn trains(self) -> bool {
        self == Self::TrainIn
    }

    /// True when it acts on a unit: keys and values are those of an MLP.
    pub fn acts_on(self, unit: Unit) -> bool {
        let is_of_mlp = unit.part != UnitPart::Attention;
        self.row().units.contains(&unit.kind()) && (is_of_mlp || !matches!(self, Self::ScaleKeys | Self::ScaleValues))
    }

    /// True when a seed decides what it plants; the others plant the same fault with every seed.
    pub fn draws(self) -> bool {
        matches!(self, Self::Noise | Self::BitFlip | Self::TrainIn)
    }

    /// True when it may take itself away where it is planted again, by the same seed or another.
    pub fn may_undo_itself(self, same_seed: bool) -> bool {
        !self.draws() || (self == Self::BitFlip && same_seed)
    }
}
