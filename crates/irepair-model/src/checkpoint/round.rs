//! A model as its files will hold it: weights rounded to the types they are stored in.

use std::path::Path;

use tch::{Device, Kind, no_grad};

use super::file::{Parsed, map};
use super::{Shard, Source};
use crate::checkpoint::kind_of;
use crate::stochastic::{round_stochastically, seed_of};
use crate::{BlockModel, CausalLm, Result};

/// What rounding to the stored types did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounded {
    /// Weights that differ from those of the file the model was loaded from, in parameters whose stored type is
    /// narrower.
    pub n_changed: u64,
    /// Of these, weights that are the file's again after rounding.
    pub n_lost: u64,
}

/// Weights rounded at a time.
const N_CHUNK: i64 = 1 << 20;

impl CausalLm {
    /// Rounds the float32 weights whose file stores a narrower type, so that this model is the one that
    /// [`CausalLm::save`] writes, and what is measured on it is true of the file. Rounding is stochastic
    /// ([`round_stochastically`]), a function of `seed`: most changes of a repair are smaller than the steps of
    /// bfloat16, and rounding each to its nearest neighbour would undo the repair.
    ///
    /// # Errors
    /// [`irepair_core::Error::MissingFile`] when the file that the model was loaded from is gone or another one by now.
    pub(crate) fn round_shards(&self, seed: u64) -> Result<Rounded> {
        let mut rounded = Rounded::default();
        let Source::Directory { dir, shards, .. } = &self.source else { return Ok(rounded) };
        let mut seen = vec![false; self.parameters().len()];
        for shard in shards {
            self.round_shard(dir, shard, seed, &mut seen, &mut rounded)?;
        }
        Ok(rounded)
    }

    fn round_shard(&self, dir: &Path, shard: &Shard, seed: u64, seen: &mut [bool], all: &mut Rounded) -> Result<()> {
        let narrow = shard.tensors.iter().filter_map(|stored| {
            let (index, kind) = (stored.parameter?, kind_of(stored.dtype)?);
            let is_narrower = kind != Kind::Float && self.parameters()[index].tensor.kind() == Kind::Float;
            (is_narrower && !std::mem::replace(&mut seen[index], true)).then_some((index, kind, stored))
        });
        let narrow: Vec<_> = narrow.collect();
        if narrow.is_empty() {
            return Ok(());
        }
        let path = dir.join(&shard.file);
        let map = map(&path)?;
        if !map.starts_with(&shard.header) {
            return Err(irepair_core::Error::MissingFile { path }.into());
        }
        let file = Parsed::new(&path, &map)?;
        for (index, kind, stored) in narrow {
            let weights = self.parameters()[index].tensor.detach();
            let start = file.tensor(&stored.name, Device::Cpu, None)?.view(-1);
            let chunks = weights.view(-1).split(N_CHUNK, 0).into_iter().zip(start.split(N_CHUNK, 0));
            for (part, (mut weights, start)) in chunks.enumerate() {
                let start = start.to_device(weights.device()).to_kind(Kind::Float);
                let count = |differs: tch::Tensor| differs.sum(Kind::Int64).int64_value(&[]) as u64;
                let n_changed = count(weights.not_equal_tensor(&start));
                if n_changed > 0 {
                    let seed = seed_of(&[seed, index as u64, part as u64]);
                    no_grad(|| weights.copy_(&round_stochastically(&weights, kind, seed)));
                    all.n_changed += n_changed;
                    all.n_lost += n_changed - count(weights.not_equal_tensor(&start));
                }
            }
        }
        Ok(())
    }
}
