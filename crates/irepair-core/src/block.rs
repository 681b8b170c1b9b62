//! Blocks and sets of blocks: what a sliced method may change.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::UnitList;

/// Most blocks of a model that is read: a bound that keeps hostile numbers from becoming allocations.
pub const MAX_BLOCKS: usize = 10_000;

/// One transformer block, counted from 0 at the embedding.
///
/// A *layer* is an operation inside a block (`ln_1`, `attn`, `mlp`); the paper calls our blocks layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockId(pub usize);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The set of blocks updated at one step (METHOD §5: the active set `A`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockSlice(BTreeSet<BlockId>);

impl BlockSlice {
    /// Builds a slice from block indices; order and repeats do not matter.
    pub fn from_indices(indices: impl IntoIterator<Item = usize>) -> Self {
        Self(indices.into_iter().map(BlockId).collect())
    }

    /// Blocks in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = BlockId> + '_ {
        self.0.iter().copied()
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when no block is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `block` is selected.
    pub fn contains(&self, block: BlockId) -> bool {
        self.0.contains(&block)
    }

    /// The block nearest the embedding: nothing below it needs a gradient.
    pub fn lowest(&self) -> Option<BlockId> {
        self.0.first().copied()
    }
}

impl FromIterator<BlockId> for BlockSlice {
    fn from_iter<I: IntoIterator<Item = BlockId>>(blocks: I) -> Self {
        Self(blocks.into_iter().collect())
    }
}

impl fmt::Display for BlockSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, block) in self.iter().enumerate() {
            write!(f, "{}{block}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// What a step may change: every parameter, or only those of some blocks, or of parts of blocks.
///
/// The two differ even when the slice names every block: embeddings, the final norm and the output head belong to no
/// block, so only `Everything` changes them (METHOD §1 [D]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every parameter, embeddings included (policy `all`).
    Everything,
    /// Only parameters whose name carries one of these block indices.
    Blocks(BlockSlice),
    /// Only the rows and columns of these units, which are of one kind (METHOD §23).
    Units(UnitList),
}

impl Scope {
    /// True when a parameter of `block` (`None`: of no block) may change, or a part of it.
    pub fn allows(&self, block: Option<BlockId>) -> bool {
        match (self, block) {
            (Self::Everything, _) => true,
            (Self::Blocks(slice), Some(block)) => slice.contains(block),
            (Self::Units(units), Some(block)) => units.iter().any(|unit| unit.block == block),
            (Self::Blocks(_) | Self::Units(_), None) => false,
        }
    }

    /// The selected blocks of a model with `n_blocks` blocks; all of them for `Everything`, those with a unit for
    /// `Units`.
    pub fn blocks(&self, n_blocks: usize) -> BlockSlice {
        match self {
            Self::Everything => BlockSlice::from_indices(0..n_blocks),
            Self::Blocks(slice) => slice.clone(),
            Self::Units(units) => units.iter().map(|unit| unit.block).collect(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("all"),
            Self::Blocks(slice) => slice.fmt(f),
            Self::Units(units) => units.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_sorted_and_unique() {
        let slice = BlockSlice::from_indices([3, 1, 3]);
        assert_eq!(slice.to_string(), "1,3");
        assert_eq!(slice.lowest(), Some(BlockId(1)));
        assert_eq!(serde_json::to_string(&slice).unwrap(), "[1,3]");
    }

    #[test]
    fn only_everything_reaches_the_embeddings() {
        let all_blocks = Scope::Blocks(BlockSlice::from_indices(0..4));
        assert!(!all_blocks.allows(None));
        assert!(Scope::Everything.allows(None));
        assert_eq!(Scope::Everything.blocks(4), all_blocks.blocks(4));
        let heads = Scope::Units("1.head.0-2,3.head.1".parse().unwrap());
        assert!(heads.allows(Some(BlockId(3))) && !heads.allows(Some(BlockId(2))) && !heads.allows(None));
        assert_eq!((heads.blocks(4).to_string(), heads.to_string()), ("1,3".into(), "1.head.0-2,3.head.1".into()));
    }
}
