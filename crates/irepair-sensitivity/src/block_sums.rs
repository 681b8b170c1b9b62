//! Sums per block, kept on the device until all of them are read together.

use irepair_core::BlockId;
use irepair_model::{BlockMap, host};
use tch::Tensor;

use crate::Result;

/// Scalars on the device (each `[]`), and the block that each adds to.
#[derive(Debug, Default)]
pub(crate) struct BlockSums {
    blocks: Vec<BlockId>,
    scalars: Vec<Tensor>,
}

impl BlockSums {
    /// Adds a scalar to the sum of `block`.
    pub(crate) fn push(&mut self, block: BlockId, scalar: Tensor) {
        self.blocks.push(block);
        self.scalars.push(scalar);
    }

    /// `of` every block parameter among those given by index; other parameters belong to no sum.
    pub(crate) fn over<'a>(
        map: &BlockMap,
        indexed: impl IntoIterator<Item = (usize, &'a Tensor)>,
        of: impl Fn(usize, &Tensor) -> Tensor,
    ) -> Self {
        let mut sums = Self::default();
        for (index, tensor) in indexed {
            if let Some(block) = map.block(index) {
                sums.push(block, of(index, tensor));
            }
        }
        sums
    }

    /// The sums per block, in double precision, for each element of `all`. The host waits for the device once.
    ///
    /// # Errors
    /// When the copy to the host fails.
    pub(crate) fn read(all: &[Self], n_blocks: usize) -> Result<Vec<Vec<f64>>> {
        let scalars: Vec<Tensor> = all.iter().flat_map(|sums| sums.scalars.iter().map(Tensor::shallow_clone)).collect();
        let mut values = host::numbers(&scalars)?.into_iter();
        let read = |sums: &Self| {
            let mut by_block = vec![0.0; n_blocks];
            for (block, value) in sums.blocks.iter().zip(&mut values) {
                by_block[block.0] += value;
            }
            by_block
        };
        Ok(all.iter().map(read).collect())
    }

    /// [`BlockSums::read`] of these sums alone.
    ///
    /// # Errors
    /// When the copy to the host fails.
    pub(crate) fn read_alone(self, n_blocks: usize) -> Result<Vec<f64>> {
        Ok(Self::read(&[self], n_blocks)?.remove(0))
    }
}
