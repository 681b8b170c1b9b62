//! Weights that stay in their files: read when they are used, dropped when memory is short. A model larger than memory
//! is computed block by block so, with the bits of one that was loaded.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use irepair_core::{BlockId, Resident};
use tch::Tensor;

use super::file::Mapped;
use crate::Parameter;

/// How often memory is looked at while a block is not entered, as in a backward pass.
const EVERY: Duration = Duration::from_millis(10);

/// The files of a model, and which parts of them are whose.
#[derive(Debug)]
pub(crate) struct InFiles {
    maps: Vec<&'static Mapped>,
    /// The parts of each block, with the number of their file.
    blocks: BTreeMap<BlockId, Vec<(usize, &'static [u8])>>,
    most_resident: u64,
    /// Ends the thread that looks at memory when the model is gone.
    _alive: Arc<()>,
}

impl InFiles {
    pub(super) fn new(maps: Vec<&'static Mapped>, parameters: &[Parameter], most_resident: u64) -> Self {
        let mut blocks: BTreeMap<BlockId, Vec<_>> = BTreeMap::new();
        for Parameter { block, tensor, .. } in parameters {
            let place = maps.iter().enumerate().find_map(|(file, map)| Some((file, part(map, tensor)?)));
            if let (Some(block), Some(place)) = (block, place) {
                blocks.entry(*block).or_default().push(place);
            }
        }
        let alive = Arc::new(());
        let (watched, still) = (maps.clone(), Arc::downgrade(&alive));
        std::thread::spawn(move || watch(&watched, most_resident, &still));
        Self { maps, blocks, most_resident, _alive: alive }
    }

    /// True when a tensor's values lie in one of the files.
    pub(crate) fn hold(&self, tensor: &Tensor) -> bool {
        self.maps.iter().any(|map| part(map, tensor).is_some())
    }

    /// Called before a block computes: the next one is read meanwhile.
    pub(crate) fn before(&self, block: BlockId) {
        drop_over(&self.maps, self.most_resident);
        for (file, part) in self.blocks.get(&BlockId(block.0 + 1)).into_iter().flatten() {
            self.maps[*file].prefetch(part);
        }
    }
}

/// The bytes of a tensor within a file; none where they lie elsewhere.
fn part(map: &'static Mapped, tensor: &Tensor) -> Option<&'static [u8]> {
    let offset = (tensor.data_ptr() as usize).checked_sub(map.as_ptr() as usize)?;
    map.get(offset..offset + tensor.numel() * tensor.kind().elt_size_in_bytes()).filter(|part| !part.is_empty())
}

/// Drops what was read of all files where the process has more in memory than it may. The system still has it while
/// memory is free elsewhere.
fn drop_over(maps: &[&'static Mapped], most_resident: u64) {
    if Resident::own().is_some_and(|resident| resident.now > most_resident) {
        maps.iter().for_each(|map| map.release());
    }
}

fn watch(maps: &[&'static Mapped], most_resident: u64, alive: &Weak<()>) {
    while alive.upgrade().is_some() {
        drop_over(maps, most_resident);
        std::thread::sleep(EVERY);
    }
}
