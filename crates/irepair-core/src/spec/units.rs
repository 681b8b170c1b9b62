//! The kinds of units of METHOD §23: what is ranked, planted with a fault, or changed alone.

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitKindRow {
    /// Whether units of this kind together are whole blocks. Heads and neurons leave out norms and output biases, which
    /// act on all of them.
    pub covers_blocks: bool,
}

table! {
    /// How finely a model is cut into units (METHOD §23 [O]).
    pub enum UnitKind("kind of unit"): UnitKindRow {
        /// Whole transformer blocks.
        Block = "block" { covers_blocks: true }
        /// The attention of a block, and its MLP, each with the norm that feeds it and that of its output.
        Half = "half" { covers_blocks: true }
        /// Attention heads: rows of queries, columns of the output; keys and values where no other head shares them.
        Head = "head" { covers_blocks: false }
        /// Neurons of MLPs: rows of the projections in, columns of the one out.
        Neuron = "neuron" { covers_blocks: false }
    }
}
