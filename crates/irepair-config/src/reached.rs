//! Blocks and weights that the steps of a run can come to.

use std::collections::BTreeSet;

use irepair_arch::{Architecture, Rows, UnitMap};
use irepair_core::BlockId;

use crate::RepairOptions;

/// What the steps of a run reach, at most.
pub(crate) struct Reached {
    /// Blocks with units that may be chosen.
    pub(crate) n_eligible_blocks: usize,
    /// Blocks of which a step may change something.
    pub(crate) n_blocks: usize,
    /// Weights of the tensors of one block that hold units of the kind that is chosen.
    pub(crate) n_weights: u64,
    /// The same of its matrices, as a share of all.
    pub(crate) share: f64,
}

impl Reached {
    pub(crate) fn of(model: &Architecture, options: &RepairOptions) -> Self {
        let (map, eligible) = (UnitMap::new(model), options.eligible(model));
        let blocks: BTreeSet<BlockId> = eligible.iter().map(|unit| unit.block).collect();
        let of_first = map.units(options.kind()).filter(|unit| unit.block == BlockId(0));
        let Ok(of_first) = map.slice(of_first) else { unreachable!("units of the map itself") };
        let is_matrix = |rows: &&Rows| map.parameters()[rows.parameter].shape.len() == 2;
        let matrices: Vec<Rows> = of_first.iter().filter(is_matrix).cloned().collect();
        let n_blocks = if options.policy().is_sliced() {
            options.n_chosen(eligible.len()).min(blocks.len())
        } else {
            model.n_block
        };
        Self {
            n_eligible_blocks: blocks.len(),
            n_blocks,
            n_weights: map.n_weights(&of_first),
            share: map.n_weights(&matrices) as f64 / model.block_matrix_weights() as f64,
        }
    }
}
