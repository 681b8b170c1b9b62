//! The model of this library's families: embedding, blocks, head.

use std::ops::Range;

use irepair_arch::{Architecture, Layout, Parameter as Spec, Part, Slot, UnitMap};
use irepair_core::{BlockId, Scope};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

use crate::attention::{AttentionContext, KeyValues};
use crate::block::Block;
use crate::checkpoint::InFiles;
use crate::checkpoint::Source;
use crate::generate::{Chooser, sample_one_by_one, without_cache};
use crate::kernels::settle_kernels;
use crate::layers::Norm;
use crate::params::{Params, normal, start};
use crate::probe::NoProbe;
use crate::{BlockModel, Decoding, Error, Nucleus, Parameter, Probe, Result, Rounded, TextBatch};

/// A causal language model of a family that `irepair-arch` knows.
#[derive(Debug)]
pub struct CausalLm {
    architecture: Architecture,
    pub(crate) params: Params,
    pub(crate) token_embedding: Tensor,
    position_embedding: Option<Tensor>,
    blocks: Vec<Block>,
    final_norm: Norm,
    head: Tensor,
    pub(crate) soft_prefix: Option<Tensor>,
    /// `[vocab]`: minus infinity for ids that are never written, 0 for others.
    unwritten: Option<Tensor>,
    pub(crate) source: Source,
    /// Where weights stay in their files.
    pub(crate) in_files: Option<InFiles>,
}

/// Hidden states of a batch before some block, for every [`CausalLm`] that shares the blocks before it.
#[derive(Debug)]
pub struct PrefixStates {
    pub(crate) hidden: Tensor,
    context: AttentionContext,
    block: BlockId,
}

impl CausalLm {
    /// A model with random weights: the same bits for the same seed.
    ///
    /// # Errors
    /// Only if a parameter list and the layers disagree, which the tests of every family rule out.
    pub fn random(architecture: Architecture, seed: u64, device: Device, kind: Kind) -> Result<Self> {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let draw = |shape: &[i64], sd| normal(&mut generator, shape, sd).to_device(device).to_kind(kind);
        Self::drawn(architecture, device, kind, draw)
    }

    /// [`CausalLm::random`] with libtorch's own generator, on the device: fast for large models, but other bits on
    /// every device.
    ///
    /// # Errors
    /// As [`CausalLm::random`].
    pub fn random_on_device(architecture: Architecture, seed: i64, device: Device, kind: Kind) -> Result<Self> {
        tch::manual_seed(seed);
        let draw = |shape: &[i64], sd| no_grad(|| Tensor::empty(shape, (kind, device)).normal_(0.0, sd));
        Self::drawn(architecture, device, kind, draw)
    }

    fn drawn(
        of: Architecture,
        device: Device,
        kind: Kind,
        mut draw: impl FnMut(&[i64], f64) -> Tensor,
    ) -> Result<Self> {
        let params =
            Params::collect(&of.parameters(), |spec| Ok(start(spec, device, kind, &mut draw)))?.on_its_device();
        Self::assemble(of, params, Source::None)
    }

    pub(crate) fn assemble(of: Architecture, params: Params, source: Source) -> Result<Self> {
        settle_kernels();
        let table = |slot| params.share(None, slot, Part::Weight);
        let build = || {
            let blocks = (0..of.n_block).map(|b| Block::new(&params, BlockId(b), &of)).collect::<Option<Vec<_>>>()?;
            let head = table(if of.tied_head { Slot::TokenEmbedding } else { Slot::Head })?;
            Some((table(Slot::TokenEmbedding)?, blocks, Norm::new(&params, None, Slot::FinalNorm, &of)?, head))
        };
        let (token_embedding, blocks, final_norm, head) =
            build().ok_or_else(|| Error::Torch { said: "parameter list and layers disagree".into() })?;
        let position_embedding = table(Slot::PositionEmbedding);
        let architecture = of;
        let soft_prefix = None;
        Ok(Self {
            architecture,
            params,
            token_embedding,
            position_embedding,
            blocks,
            final_norm,
            head,
            soft_prefix,
            unwritten: None,
            source,
            in_files: None,
        })
    }

    /// A copy with weights of its own: a point to come back to.
    ///
    /// # Errors
    /// As [`CausalLm::random`].
    pub fn duplicate(&self) -> Result<Self> {
        no_grad(|| self.over(self.parameters().iter().map(|parameter| parameter.tensor.detach().copy())))
    }

    /// The same architecture over other tensors; one more than it has parameters is a soft prefix.
    pub(crate) fn over(&self, tensors: impl IntoIterator<Item = Tensor>) -> Result<Self> {
        let mut tensors = tensors.into_iter();
        let missing = |spec: &Spec| Error::Torch { said: format!("there is no tensor for `{}`", spec.name) };
        let next = |spec: &Spec| tensors.next().ok_or_else(|| missing(spec));
        let params = Params::collect(&self.architecture.parameters(), next)?;
        let mut model = Self::assemble(self.architecture.clone(), params, self.source.clone())?;
        model.unwritten = self.unwritten.as_ref().map(Tensor::shallow_clone);
        if let Some(prefix) = tensors.next() {
            model.put_soft_prefix(prefix);
        }
        Ok(model)
    }

    /// The model, whose texts never hold these ids: rows of the embedding without a token.
    #[must_use]
    pub fn never_writing(mut self, ids: &[u32]) -> Self {
        let rows: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        self.unwritten = (!rows.is_empty()).then(|| {
            let mask = Tensor::zeros([self.architecture.n_vocab as i64], (Kind::Float, self.device()));
            mask.index_fill(0, &Tensor::from_slice(&rows).to_device(self.device()), f64::NEG_INFINITY)
        });
        self
    }

    /// The model's settings.
    pub fn config(&self) -> &Architecture {
        &self.architecture
    }

    /// The type the model computes in.
    pub fn kind(&self) -> Kind {
        self.token_embedding.kind()
    }

    /// Number of weights of one block (METHOD §1: `n_b`).
    pub fn n_block_weights(&self, block: BlockId) -> usize {
        self.parameters().iter().filter(|p| p.block == Some(block)).map(|p| p.tensor.numel()).sum()
    }

    fn context(&self, columns: &(Tensor, Tensor), full: bool) -> AttentionContext {
        AttentionContext::new(&self.architecture, &columns.0, &columns.1, full, self.kind())
    }

    /// Runs embedding, blocks and final norm, `[batch, seq] -> [batch, seq, width]`. The first pass over a text has
    /// `positions` of the soft prefix too, before those of `ids`.
    pub(crate) fn hidden(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        context: &AttentionContext,
        caches: Option<&mut [KeyValues]>,
        probe: &mut dyn Probe,
    ) -> Tensor {
        let hidden = self.embed(ids, positions);
        self.last_norm(&self.through(0..self.blocks.len(), hidden, context, caches, probe), ids)
    }

    /// The final norm of the columns of `ids`, which are the last ones.
    fn last_norm(&self, hidden: &Tensor, ids: &Tensor) -> Tensor {
        let (n_cols, n) = (hidden.size()[1], ids.size()[1]);
        if n_cols == n {
            self.final_norm.apply(hidden)
        } else {
            self.final_norm.apply(&hidden.narrow(1, n_cols - n, n))
        }
    }

    fn embed(&self, ids: &Tensor, positions: &Tensor) -> Tensor {
        let embed = |table: &Tensor, ids: &Tensor| Tensor::embedding(table, ids, -1, false, false);
        let mut tokens = self.scaled(embed(&self.token_embedding, ids));
        if positions.size()[1] > ids.size()[1] {
            tokens = self.behind_soft_prefix(tokens);
        }
        match &self.position_embedding {
            Some(table) => tokens + embed(table, positions),
            None => tokens,
        }
    }

    /// Token embeddings times the family's factor, rounded to the model's type as the published models are run.
    pub(crate) fn scaled(&self, tokens: Tensor) -> Tensor {
        match self.architecture.embedding_scale {
            Some(scale) => tokens * Tensor::full([1], scale, (self.kind(), self.device())),
            None => tokens,
        }
    }

    fn through(
        &self,
        blocks: Range<usize>,
        mut hidden: Tensor,
        context: &AttentionContext,
        mut caches: Option<&mut [KeyValues]>,
        probe: &mut dyn Probe,
    ) -> Tensor {
        for b in blocks {
            self.in_files.iter().for_each(|files| files.before(BlockId(b)));
            let cache = caches.as_mut().map(|c| &mut c[b]);
            hidden = match probe.known(BlockId(b)) {
                Some(known) => known,
                None => self.blocks[b].apply(&hidden, context, cache, probe),
            };
        }
        hidden
    }
}

impl BlockModel for CausalLm {
    fn n_blocks(&self) -> usize {
        self.architecture.n_block
    }

    fn n_positions(&self) -> usize {
        self.architecture.n_positions.saturating_sub(self.n_soft_prefix())
    }

    fn n_soft_prefix(&self) -> usize {
        self.soft_prefix.as_ref().map_or(0, |prefix| prefix.size()[0] as usize)
    }

    fn parameters(&self) -> &[Parameter] {
        self.params.list()
    }

    fn hidden_states_probed(&self, batch: &TextBatch, probe: &mut dyn Probe) -> Tensor {
        let columns = self.columns(batch);
        self.hidden(&batch.ids, &columns.1, &self.context(&columns, batch.is_full()), None, probe)
    }

    fn head(&self) -> Tensor {
        self.head.shallow_clone()
    }

    fn logit_softcap(&self) -> Option<f64> {
        self.architecture.logit_softcap
    }

    fn unit_map(&self) -> Option<UnitMap> {
        Some(UnitMap::new(&self.architecture))
    }

    fn logits_to_write(&self, logits: Tensor) -> Tensor {
        match &self.unwritten {
            Some(mask) => logits + mask.to_kind(self.kind()),
            None => logits,
        }
    }

    fn with_tensors(&self, tensors: Vec<Tensor>) -> Result<Box<dyn BlockModel + Send>> {
        Ok(Box::new(self.over(tensors)?))
    }

    fn n_stored_bytes(&self, parameter: usize) -> usize {
        let in_memory = || self.parameters()[parameter].tensor.kind();
        self.source.kind_of(parameter).unwrap_or_else(in_memory).elt_size_in_bytes()
    }

    /// The model as it was: without its soft prefix.
    fn reference(&self) -> Result<Box<dyn BlockModel + Send>> {
        Ok(Box::new(self.without_soft_prefix()?))
    }

    /// A soft prefix learns alone, and where parameters outside the blocks may.
    fn train_only(&self, scope: &Scope) {
        let n_frozen = if self.soft_prefix.is_some() { self.parameters().len() - 1 } else { 0 };
        for (index, parameter) in self.parameters().iter().enumerate() {
            let _ = parameter.tensor.set_requires_grad(index >= n_frozen && scope.allows(parameter.block));
        }
    }

    fn stores_inputs_first(&self) -> bool {
        self.architecture.family.layout == Layout::InOut
    }

    fn residual_writers(&self) -> Vec<(usize, usize)> {
        self.architecture.residual_writers()
    }

    fn settings(&self) -> String {
        self.architecture.to_json()
    }

    fn prefix_states(&self, batch: &TextBatch, block: BlockId) -> Option<PrefixStates> {
        let columns = self.columns(batch);
        let context = self.context(&columns, batch.is_full());
        let hidden = no_grad(|| {
            let hidden = self.embed(&batch.ids, &columns.1);
            self.through(0..block.0, hidden, &context, None, &mut NoProbe)
        });
        Some(PrefixStates { hidden, context, block })
    }

    fn hidden_states_from(&self, batch: &TextBatch, prefix: &PrefixStates) -> Tensor {
        let hidden = prefix.hidden.shallow_clone();
        let blocks = prefix.block.0..self.blocks.len();
        self.last_norm(&self.through(blocks, hidden, &prefix.context, None, &mut NoProbe), &batch.ids)
    }

    fn generate(&self, prompts: &[Vec<u32>], n_new: usize, decoding: Decoding, ends: &[u32]) -> Result<Vec<Vec<u32>>> {
        if self.changes_on_the_way(prompts.iter(), n_new) {
            return without_cache(self, prompts, n_new, decoding, ends);
        }
        no_grad(|| self.continue_prompts(prompts, 1, n_new, Chooser::new(decoding), ends))
    }

    /// A prompt is read once for all its samples.
    fn sample(
        &self,
        prompts: &[(Vec<u32>, u64)],
        n_samples: usize,
        n_new: usize,
        nucleus: Nucleus,
        ends: &[u32],
    ) -> Result<Vec<Vec<u32>>> {
        if self.changes_on_the_way(prompts.iter().map(|(prompt, _)| prompt), n_new) {
            return sample_one_by_one(self, prompts, n_samples, n_new, nucleus, ends);
        }
        let (prompts, seeds): (Vec<_>, Vec<_>) = prompts.iter().cloned().unzip();
        no_grad(|| self.continue_prompts(&prompts, n_samples, n_new, Chooser::nucleus(nucleus, &seeds), ends))
    }

    fn is_in_file(&self, index: usize) -> bool {
        self.in_files.as_ref().is_some_and(|files| files.hold(&self.parameters()[index].tensor))
    }

    fn round_to_stored(&self, seed: u64) -> Result<Rounded> {
        self.round_shards(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_drawn_on_the_device_have_the_same_spread() {
        let of = Architecture::gpt2(2, 64, 2, 128, 500);
        let there = CausalLm::random_on_device(of.clone(), 1, Device::Cpu, Kind::Float).unwrap();
        let here = CausalLm::random(of, 1, Device::Cpu, Kind::Float).unwrap();
        for (there, Parameter { name, tensor: here, .. }) in there.parameters().iter().zip(here.parameters()) {
            let moments = |t: &Tensor| (t.mean(Kind::Float).double_value(&[]), t.std(true).double_value(&[]));
            let ((mean, sd), (want_mean, want_sd)) = (moments(&there.tensor), moments(here));
            assert_eq!(there.tensor.size(), here.size());
            assert!((mean - want_mean).abs() <= 0.1 * want_sd && (sd - want_sd).abs() <= 0.05 * want_sd, "{name}");
        }
    }
}
