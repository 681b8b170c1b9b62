//! What a model must offer to be measured, repaired and evaluated: [`BlockModel`].

use irepair_arch::UnitMap;
use irepair_core::{BlockId, BlockSlice, Scope};
use tch::{Device, Tensor, no_grad};

use crate::generate::{Decoding, Nucleus, sample_one_by_one, without_cache};
use crate::probe::NoProbe;
use crate::{Error, Gradients, Parameter, PrefixStates, Probe, Result, Rounded, TextBatch};

/// A causal language model made of blocks. [`crate::CausalLm`] is one; any other model in tch can be.
///
/// Six methods say what the model is. The others follow from these; a model with a faster way to the same values may
/// override them.
pub trait BlockModel {
    /// Number of blocks (METHOD §1: `L`).
    fn n_blocks(&self) -> usize;

    /// Most tokens of a text.
    fn n_positions(&self) -> usize;

    /// Every parameter, always in the same order.
    ///
    /// Their tensors must be leaves that share storage and gradient flag with those of the forward pass
    /// ([`Tensor::shallow_clone`]): training writes to them, and freezing sets their flags.
    fn parameters(&self) -> &[Parameter];

    /// Runs embedding, blocks and what follows them up to the head, `[batch, seq] -> [batch, seq, width]`.
    ///
    /// Hidden states at real tokens must not depend on later tokens or on padding. `probe` is to be shown the layers of
    /// every block ([`Probe::layer`]) and its output ([`Probe::block`]). A model may leave those calls out: what reads
    /// them is then computed in another way, or refused.
    fn hidden_states_probed(&self, batch: &TextBatch, probe: &mut dyn Probe) -> Tensor;

    /// The head, `[vocab, width]`: `logits = hidden states * head^T`. A parameter, or computed from parameters.
    fn head(&self) -> Tensor;

    /// The `c` of logits that the model caps, `c tanh(logits / c)`; none where it does not.
    fn logit_softcap(&self) -> Option<f64> {
        None
    }

    /// The same model over other tensors, one for each of [`BlockModel::parameters`] in their order and shapes.
    ///
    /// # Errors
    /// As making the model.
    fn with_tensors(&self, tensors: Vec<Tensor>) -> Result<Box<dyn BlockModel + Send>>;

    /// What decides the mathematics besides the weights, as text. A stopped run is resumed only where it is the same.
    fn settings(&self) -> String {
        String::new()
    }

    /// Where the weights live.
    fn device(&self) -> Device {
        self.parameters().first().map_or(Device::Cpu, |parameter| parameter.tensor.device())
    }

    /// Learned vectors in front of every text, which take positions of the context
    /// ([`crate::CausalLm::with_soft_prefix`]); where there are any, nothing else of the model changes.
    fn n_soft_prefix(&self) -> usize {
        0
    }

    /// True when matrices of blocks are stored `[in, out]`, as GPT-2's `Conv1D` does; `[out, in]` otherwise.
    fn stores_inputs_first(&self) -> bool {
        false
    }

    /// The parameters that write to the residual stream, and to nothing else: index, and the dimension of the tensor
    /// that runs along the stream. None for a model that does not say.
    fn residual_writers(&self) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// Bytes of a weight of that parameter in the files that the model is from, which may hold a narrower type; in
    /// memory, where there are none.
    fn n_stored_bytes(&self, parameter: usize) -> usize {
        self.parameters()[parameter].tensor.kind().elt_size_in_bytes()
    }

    /// Number of tokens that the model knows.
    fn n_vocab(&self) -> usize {
        self.head().size()[0] as usize
    }

    /// The block of every parameter.
    fn block_map(&self) -> BlockMap {
        BlockMap::new(self.n_blocks(), self.parameters().iter().map(|parameter| parameter.block))
    }

    /// Which weights are of which unit; its parameters are those of [`BlockModel::parameters`], of which more may
    /// follow. None for a model that knows no units below its blocks.
    fn unit_map(&self) -> Option<UnitMap> {
        None
    }

    /// Marks the parameters in `scope` as requiring gradients and all others as constants.
    ///
    /// With that libtorch records nothing below the lowest block of the scope and computes no weight gradient outside
    /// it.
    fn train_only(&self, scope: &Scope) {
        for parameter in self.parameters() {
            let _ = parameter.tensor.set_requires_grad(scope.allows(parameter.block));
        }
    }

    /// Marks every parameter as a constant.
    fn freeze(&self) {
        self.train_only(&Scope::Blocks(BlockSlice::default()));
    }

    /// Gradients of `loss` (a scalar) for the parameters that require them, in the parameters' order.
    ///
    /// Parameters that the loss does not reach are left out. Nothing is stored in the parameters.
    ///
    /// # Errors
    /// [`Error::Torch`] when no parameter requires a gradient, or `loss` depends on none.
    fn gradients(&self, loss: &Tensor) -> Result<Gradients> {
        let requiring = self.parameters().iter().map(|p| &p.tensor).enumerate().filter(|(_, t)| t.requires_grad());
        let (indices, tensors): (Vec<usize>, Vec<&Tensor>) = requiring.unzip();
        let gradients = Tensor::f_run_backward(&[loss], &tensors, false, false)?;
        Ok(indices.into_iter().zip(gradients).filter(|(_, gradient)| gradient.defined()).collect())
    }

    /// Refuses a text longer than the context.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`].
    fn check_length(&self, n_tokens: usize) -> Result<()> {
        let n_positions = self.n_positions();
        if n_tokens <= n_positions { Ok(()) } else { Err(Error::ContextOverflow { n_positions, got: n_tokens }) }
    }

    /// [`BlockModel::hidden_states_probed`] without a probe.
    fn hidden_states(&self, batch: &TextBatch) -> Tensor {
        self.hidden_states_probed(batch, &mut NoProbe)
    }

    /// Next-token logits.
    ///
    /// # Shapes
    /// - `batch`: `[batch, seq]`, at most [`BlockModel::n_positions`] real tokens a row
    /// - returns `[batch, seq, vocab]` in the model's type; values at padded positions mean nothing
    fn logits(&self, batch: &TextBatch) -> Tensor {
        self.project(&self.hidden_states(batch))
    }

    /// Applies the head to hidden states, `[.., width] -> [.., vocab]`.
    fn project(&self, hidden: &Tensor) -> Tensor {
        self.cap(irepair_torch::linear(hidden, &self.head(), None))
    }

    /// Logits of the next token where a text is written, with minus infinity for what the model never writes.
    fn logits_to_write(&self, logits: Tensor) -> Tensor {
        logits
    }

    /// Logits as the model caps them ([`BlockModel::logit_softcap`]).
    fn cap(&self, logits: Tensor) -> Tensor {
        self.logit_softcap().map_or(logits.shallow_clone(), |cap| (logits / cap).tanh() * cap)
    }

    /// The model as it is now, frozen, without a copy: every weight is shared until [`BlockModel::copy_on_write`] is
    /// called for it on the reference, which must happen before that weight changes.
    ///
    /// # Errors
    /// As [`BlockModel::with_tensors`].
    fn reference(&self) -> Result<Box<dyn BlockModel + Send>> {
        self.with_tensors(self.parameters().iter().map(|parameter| parameter.tensor.detach()).collect())
    }

    /// Gives one parameter, by index, memory of its own with the value that it has now. A reference lacks the soft
    /// prefix that its model has: then there is nothing to do.
    fn copy_on_write(&self, index: usize) {
        let Some(parameter) = self.parameters().get(index) else { return };
        let mut parameter = parameter.tensor.shallow_clone();
        // Every handle to this parameter, those of the layers included, sees the new memory.
        no_grad(|| parameter.set_data(&parameter.detach().copy()));
    }

    /// True for a parameter, by index, whose values are those of a file and cannot be written over:
    /// [`BlockModel::copy_on_write`] comes first.
    fn is_in_file(&self, _index: usize) -> bool {
        false
    }

    /// Runs what comes before `block`, without gradient, for [`BlockModel::hidden_states_from`] of every model that
    /// shares it. None: this model runs every pass from its start.
    fn prefix_states(&self, _batch: &TextBatch, _block: BlockId) -> Option<PrefixStates> {
        None
    }

    /// [`BlockModel::hidden_states`] of `batch`, whose states before a block are `prefix`.
    fn hidden_states_from(&self, batch: &TextBatch, _prefix: &PrefixStates) -> Tensor {
        self.hidden_states(batch)
    }

    /// Continues every prompt by at most `n_new` tokens, stopping a row at the first of `ends`.
    ///
    /// Prompts are padded on the left. The returned continuations hold neither prompt nor end token. No gradient.
    /// Unless the model has a faster way, the whole text is run again for every token.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`] when the longest prompt and `n_new` exceed the context;
    /// [`irepair_core::Error::NoTokens`] when there is no prompt, or one without a token to continue from;
    /// [`Error::NotFinite`] when the model overflows.
    fn generate(&self, prompts: &[Vec<u32>], n_new: usize, decoding: Decoding, ends: &[u32]) -> Result<Vec<Vec<u32>>> {
        without_cache(self, prompts, n_new, decoding, ends)
    }

    /// Several nucleus samples of every prompt: all of the first prompt, then all of the second, and so on.
    ///
    /// Each prompt comes with the seed of its draws: but for rounding, what follows it depends on that seed alone, not
    /// on the other prompts. Else as [`BlockModel::generate`].
    ///
    /// # Errors
    /// As [`BlockModel::generate`].
    fn sample(
        &self,
        prompts: &[(Vec<u32>, u64)],
        n_samples: usize,
        n_new: usize,
        nucleus: Nucleus,
        ends: &[u32],
    ) -> Result<Vec<Vec<u32>>> {
        sample_one_by_one(self, prompts, n_samples, n_new, nucleus, ends)
    }

    /// Rounds weights whose file stores a narrower type than they are trained in, so that what is measured on this
    /// model is true of the file. Does nothing for a model without such files.
    ///
    /// # Errors
    /// When the file that the model was loaded from cannot be read.
    fn round_to_stored(&self, _seed: u64) -> Result<Rounded> {
        Ok(Rounded::default())
    }
}

/// The block of every parameter, by the parameter's index; none for parameters outside the blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMap {
    n_blocks: usize,
    blocks: Vec<Option<BlockId>>,
}

impl BlockMap {
    /// The map of a model of `n_blocks` blocks.
    pub fn new(n_blocks: usize, blocks: impl IntoIterator<Item = Option<BlockId>>) -> Self {
        Self { n_blocks, blocks: blocks.into_iter().collect() }
    }

    /// Number of blocks.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// The block of a parameter; none for one outside the blocks.
    pub fn block(&self, parameter: usize) -> Option<BlockId> {
        self.blocks.get(parameter).copied().flatten()
    }
}

/// Hidden states `[batch, seq, width]` at positions `at` of `[batch * seq]` laid flat: `[n, width]`, ready for the
/// head.
pub fn states_at(hidden: &Tensor, at: &Tensor) -> Tensor {
    hidden.flatten(0, 1).index_select(0, at)
}

/// The first block from which on two models may differ, or learn: what comes before it lies in memory that they share.
/// None when a parameter outside the blocks is not shared, learns, or is of one of them alone.
pub fn first_block_apart(model: &dyn BlockModel, other: &dyn BlockModel) -> Option<BlockId> {
    if model.parameters().len() != other.parameters().len() {
        return None;
    }
    let learns = |a: &Tensor, b: &Tensor| a.requires_grad() || b.requires_grad();
    let pairs = model.parameters().iter().zip(other.parameters());
    let apart = pairs.filter(|(Parameter { tensor: a, .. }, Parameter { tensor: b, .. })| {
        learns(a, b) || a.data_ptr() != b.data_ptr()
    });
    apart
        .map(|(parameter, _)| parameter.block)
        .try_fold(BlockId(model.n_blocks()), |first, block| Some(first.min(block?)))
}

/// Which parameters of a model require gradients; dropping it restores those flags.
#[must_use = "dropping it restores the flags"]
pub struct GradFlags(Vec<(Tensor, bool)>);

impl GradFlags {
    /// The flags as they are now.
    pub fn of(model: &dyn BlockModel) -> Self {
        let flag = |parameter: &Parameter| (parameter.tensor.shallow_clone(), parameter.tensor.requires_grad());
        Self(model.parameters().iter().map(flag).collect())
    }
}

impl Drop for GradFlags {
    fn drop(&mut self) {
        for (tensor, flag) in &self.0 {
            let _ = tensor.set_requires_grad(*flag);
        }
    }
}
