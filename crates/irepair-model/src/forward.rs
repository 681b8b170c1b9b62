//! The model: embedding, blocks, head; and which of its parameters may change.

use std::ops::Range;

use irepair_arch::{Architecture, Part, Slot};
use irepair_core::{BlockId, Scope};
use tch::{Device, Kind, Tensor, no_grad};

use crate::attention::{KeyValues, Sight};
use crate::batch::TextBatch;
use crate::block::Block;
use crate::checkpoint::Source;
use crate::kernels::settle_kernels;
use crate::layers::Norm;
use crate::params::{Params, Starter, drawn_there};
use crate::probe::NoProbe;
use crate::{Error, Gradients, Parameter, Probe, Result};

/// A causal language model whose every parameter is addressable by block.
#[derive(Debug)]
pub struct CausalLm {
    architecture: Architecture,
    params: Params,
    token_embedding: Tensor,
    position_embedding: Option<Tensor>,
    blocks: Vec<Block>,
    final_norm: Norm,
    head: Tensor,
    pub(crate) source: Source,
}

/// Hidden states of a batch before some block, for every model that shares the blocks before it.
#[derive(Debug)]
pub struct PrefixStates {
    hidden: Tensor,
    sight: Sight,
    block: BlockId,
}

impl CausalLm {
    /// A model with random weights: the same bits for the same seed.
    ///
    /// # Errors
    /// Only if a parameter list and the layers disagree, which the tests of every family rule out.
    pub fn random(architecture: Architecture, seed: u64, device: Device, kind: Kind) -> Result<Self> {
        let mut starter = Starter::new(seed);
        let draw = |spec: &irepair_arch::Parameter| Ok::<_, Error>(starter.draw(spec, device, kind));
        let params = Params::collect(&architecture.parameters(), draw)?;
        Self::assemble(architecture, params, Source::None)
    }

    /// [`CausalLm::random`] with libtorch's draws on the device itself: fast for large models, and other bits on every device.
    ///
    /// # Errors
    /// As [`CausalLm::random`].
    pub fn random_drawn_there(architecture: Architecture, seed: i64, device: Device, kind: Kind) -> Result<Self> {
        tch::manual_seed(seed);
        let draw = |spec: &irepair_arch::Parameter| Ok::<_, Error>(drawn_there(spec, device, kind));
        let params = Params::collect(&architecture.parameters(), draw)?;
        Self::assemble(architecture, params, Source::None)
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
            build().ok_or_else(|| Error::Torch("parameter list and layers disagree".into()))?;
        let position_embedding = table(Slot::PositionEmbedding);
        let architecture = of;
        Ok(Self { architecture, params, token_embedding, position_embedding, blocks, final_norm, head, source })
    }

    /// A copy with weights of its own: a point to come back to.
    ///
    /// # Errors
    /// As [`CausalLm::random`].
    pub fn duplicate(&self) -> Result<Self> {
        self.like(|t| t.detach().copy())
    }

    /// The model as it is now, frozen, without a copy: every weight is shared until [`CausalLm::unshare`] is called for it.
    ///
    /// Who changes this model's weights must unshare them in the reference first, or the reference changes with them.
    ///
    /// # Errors
    /// As [`CausalLm::random`].
    pub fn reference(&self) -> Result<Self> {
        self.like(Tensor::detach)
    }

    fn like(&self, value: impl Fn(&Tensor) -> Tensor) -> Result<Self> {
        let params = Params::collect(&self.architecture.parameters(), |spec| {
            let gone = || Error::Torch(format!("parameter `{}` is gone", spec.name));
            self.params.share(spec.block, spec.slot, spec.part).map(|t| no_grad(|| value(&t))).ok_or_else(gone)
        })?;
        Self::assemble(self.architecture.clone(), params, self.source.clone())
    }

    /// Gives one parameter memory of its own, with the value it has now.
    pub fn unshare(&self, index: usize) {
        let mut parameter = self.parameters()[index].tensor.shallow_clone();
        // Every handle to this parameter, those of the layers included, sees the new memory.
        no_grad(|| parameter.set_data(&parameter.detach().copy()));
    }

    /// The model's settings.
    pub fn config(&self) -> &Architecture {
        &self.architecture
    }

    /// Number of blocks (METHOD §1: `L`).
    pub fn n_blocks(&self) -> usize {
        self.architecture.n_block
    }

    /// Where the weights live.
    pub fn device(&self) -> Device {
        self.token_embedding.device()
    }

    /// The type the model computes in.
    pub fn kind(&self) -> Kind {
        self.token_embedding.kind()
    }

    /// Every parameter, in the order of the forward pass.
    pub fn parameters(&self) -> &[Parameter] {
        self.params.list()
    }

    /// Number of weights of one block (METHOD §1: `n_b`).
    pub fn n_block_weights(&self, block: BlockId) -> usize {
        self.parameters().iter().filter(|p| p.block == Some(block)).map(|p| p.tensor.numel()).sum()
    }

    /// Marks the parameters in `scope` as wanting gradients and all others as constants.
    ///
    /// With that libtorch records nothing below the lowest block of the scope and computes no weight gradient outside it.
    pub fn train_only(&self, scope: &Scope) {
        for parameter in self.parameters() {
            let _ = parameter.tensor.set_requires_grad(scope.allows(parameter.block));
        }
    }

    /// Marks every parameter as a constant.
    pub fn freeze(&self) {
        self.train_only(&Scope::Blocks(irepair_core::BlockSlice::default()));
    }

    /// Gradients of `loss` (a scalar) for the parameters that want them, in the parameters' order.
    ///
    /// Parameters that the loss does not reach are left out. Nothing is stored in the parameters.
    ///
    /// # Errors
    /// [`Error::Torch`] when no parameter wants a gradient, or `loss` depends on none.
    pub fn gradients(&self, loss: &Tensor) -> Result<Gradients> {
        let wanted: Vec<usize> =
            (0..self.parameters().len()).filter(|&i| self.parameters()[i].tensor.requires_grad()).collect();
        let tensors: Vec<&Tensor> = wanted.iter().map(|&i| &self.parameters()[i].tensor).collect();
        let gradients = Tensor::f_run_backward(&[loss], &tensors, false, false)?;
        Ok(wanted.into_iter().zip(gradients).filter(|(_, g)| g.defined()).collect())
    }

    /// Refuses a batch that is longer than the position table.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`].
    pub fn check_length(&self, n_positions: usize) -> Result<()> {
        if n_positions <= self.architecture.n_positions {
            return Ok(());
        }
        Err(Error::ContextOverflow { n_positions: self.architecture.n_positions, got: n_positions })
    }

    /// Next-token logits.
    ///
    /// # Shapes
    /// - `batch`: `[batch, seq]`, at most [`Architecture::n_positions`] real tokens a row (see [`CausalLm::check_length`])
    /// - returns `[batch, seq, vocab]` in the model's type; values at padded positions mean nothing
    pub fn logits(&self, batch: &TextBatch) -> Tensor {
        self.logits_probed(batch, &mut NoProbe)
    }

    /// [`CausalLm::logits`] with a look inside.
    pub fn logits_probed(&self, batch: &TextBatch, probe: &mut impl Probe) -> Tensor {
        self.project(&self.hidden_states_probed(batch, probe))
    }

    /// What the head turns into [`CausalLm::logits`]: the last hidden states, after the final norm.
    ///
    /// # Shapes
    /// As [`CausalLm::logits`], but `[batch, seq, width]`.
    pub fn hidden_states(&self, batch: &TextBatch) -> Tensor {
        self.hidden_states_probed(batch, &mut NoProbe)
    }

    /// [`CausalLm::hidden_states`] with a look inside.
    pub fn hidden_states_probed(&self, batch: &TextBatch, probe: &mut impl Probe) -> Tensor {
        let positions = batch.positions();
        self.hidden(&batch.ids, &positions, &self.sight(batch, &positions), None, probe)
    }

    /// Runs the embedding and the blocks before `block`, without gradient; [`CausalLm::hidden_states_from`] runs the rest.
    pub fn prefix_states(&self, batch: &TextBatch, block: BlockId) -> PrefixStates {
        let positions = batch.positions();
        let sight = self.sight(batch, &positions);
        let hidden = no_grad(|| {
            let hidden = self.embed(&batch.ids, &positions);
            self.through(0..block.0, hidden, &sight, None, &mut NoProbe)
        });
        PrefixStates { hidden, sight, block }
    }

    /// [`CausalLm::hidden_states`] from the block that `prefix` ends before.
    pub fn hidden_states_from(&self, prefix: &PrefixStates) -> Tensor {
        let blocks = prefix.block.0..self.n_blocks();
        let hidden = prefix.hidden.shallow_clone();
        self.final_norm.apply(&self.through(blocks, hidden, &prefix.sight, None, &mut NoProbe))
    }

    /// The first block from which on this model and `other` may differ, or learn: what comes before it lies in memory they
    /// share. None when not even the embedding is shared, or it learns.
    pub fn first_block_apart(&self, other: &Self) -> Option<BlockId> {
        let apart = |a: &Parameter, b: &Parameter| {
            let learns = a.tensor.requires_grad() || b.tensor.requires_grad();
            learns || a.tensor.data_ptr() != b.tensor.data_ptr()
        };
        let pairs = self.parameters().iter().zip(other.parameters());
        let apart: Vec<&Parameter> = pairs.filter(|(a, b)| apart(a, b)).map(|(a, _)| a).collect();
        if apart.iter().any(|parameter| self.is_embedding(parameter)) {
            return None;
        }
        Some(apart.iter().filter_map(|parameter| parameter.block).min().unwrap_or(BlockId(self.n_blocks())))
    }

    fn is_embedding(&self, parameter: &Parameter) -> bool {
        let of = |table: &Tensor| table.data_ptr() == parameter.tensor.data_ptr();
        of(&self.token_embedding) || self.position_embedding.as_ref().is_some_and(of)
    }

    fn sight(&self, batch: &TextBatch, positions: &Tensor) -> Sight {
        Sight::new(&self.architecture, &batch.attention_mask, positions, batch.is_full(), self.kind())
    }

    /// Hidden states `[batch, seq, width]` at positions `at` of `[batch * seq]` laid flat: `[n, width]`, ready for the head.
    pub fn states_at(hidden: &Tensor, at: &Tensor) -> Tensor {
        hidden.flatten(0, 1).index_select(0, at)
    }

    /// The head's weight, `[vocab, width]`: `logits = hidden states * weight^T`.
    pub fn head(&self) -> &Tensor {
        &self.head
    }

    /// Runs embedding, blocks and final norm, `[batch, seq] -> [batch, seq, width]`.
    pub(crate) fn hidden(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        sight: &Sight,
        caches: Option<&mut [KeyValues]>,
        probe: &mut impl Probe,
    ) -> Tensor {
        let hidden = probe.embedded(self.embed(ids, positions));
        self.final_norm.apply(&self.through(0..self.n_blocks(), hidden, sight, caches, probe))
    }

    fn embed(&self, ids: &Tensor, positions: &Tensor) -> Tensor {
        let embed = |table: &Tensor, ids: &Tensor| Tensor::embedding(table, ids, -1, false, false);
        let tokens = embed(&self.token_embedding, ids);
        match &self.position_embedding {
            Some(table) => tokens + embed(table, positions),
            None => tokens,
        }
    }

    fn through(
        &self,
        blocks: Range<usize>,
        mut hidden: Tensor,
        sight: &Sight,
        mut caches: Option<&mut [KeyValues]>,
        probe: &mut impl Probe,
    ) -> Tensor {
        for b in blocks {
            let cache = caches.as_mut().map(|c| &mut c[b]);
            hidden = self.blocks[b].apply(&hidden, sight, cache, probe);
        }
        hidden
    }

    /// The head, `[.., width] -> [.., vocab]`.
    pub(crate) fn project(&self, hidden: &Tensor) -> Tensor {
        hidden.linear(&self.head, None::<&Tensor>)
    }
}
