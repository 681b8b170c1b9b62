//! The kinds of units of METHOD §23: what is ranked, planted with a fault, or changed alone.

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitKindRow {
    /// Whether units of this kind together are whole blocks. Heads and neurons leave out norms and output biases, which
    /// act on all of them.
    pub covers_blocks: bool,
    /// How often a block is cut: a unit of a finer kind is never whole units of a coarser one.
    pub fineness: u8,
}

table! {
    /// How finely a model is cut into units (METHOD §23 [O]).
    pub enum UnitKind("kind of unit"): UnitKindRow {
        /// Whole transformer blocks.
        Block = "block" { covers_blocks: true, fineness: 0 }
        /// The attention of a block, and its MLP, each with the norm that feeds it and that of its output.
        Half = "half" { covers_blocks: true, fineness: 1 }
        /// Attention heads: rows of queries, columns of the output; keys and values where no other head shares them.
        Head = "head" { covers_blocks: false, fineness: 2 }
        /// Neurons of MLPs: rows of the projections in, columns of the one out.
        Neuron = "neuron" { covers_blocks: false, fineness: 2 }
    }
}
