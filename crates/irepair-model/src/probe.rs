//! Probes of a forward pass: a [`Probe`] is shown every layer's input and output (a hook, in other libraries).

use irepair_arch::Slot;
use irepair_core::BlockId;
use tch::Tensor;

/// A layer whose parameters belong to a block: a projection `y = x W + c`, whichever way `W` is stored, or a norm
/// `y = normalise(x) * w + c`.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// The block.
    pub block: BlockId,
    /// Its place in the block, from which units below the block are found; none in a model without such places.
    pub slot: Option<Slot>,
    /// True when the layer has a bias, `c`.
    pub has_bias: bool,
    /// Of a norm: its normalised input, before weight and bias.
    pub normalised: Option<&'a Tensor>,
}

/// Is shown the values of a forward pass; each method may replace the value that flows on.
pub trait Probe {
    /// Called with a projection's input, `[batch, seq, width]`, before it is used; returns what takes its place, or
    /// none to leave it as it is.
    fn input(&mut self, _layer: Layer<'_>, _input: &Tensor) -> Option<Tensor> {
        None
    }

    /// Called with a layer's input and output, each `[batch, seq, width]`; returns the output that the pass continues
    /// with.
    fn layer(&mut self, _layer: Layer<'_>, _input: &Tensor, output: Tensor) -> Tensor {
        output
    }

    /// Called before each block. The residual stream after it, where the probe has it already: the block is then not
    /// computed, and [`Probe::block`] not called for it. A model may compute every block all the same.
    fn known(&mut self, _block: BlockId) -> Option<Tensor> {
        None
    }

    /// Called with the residual stream before and after each block, `[batch, seq, width]`; returns the stream that the
    /// pass continues with.
    fn block(&mut self, _block: BlockId, _input: &Tensor, output: Tensor) -> Tensor {
        output
    }

    /// True when `layer` is to be called for norms too (their normalised input costs a second pass over it).
    fn wants_norms(&self) -> bool {
        false
    }
}

/// Looks at nothing, costs nothing.
pub(crate) struct NoProbe;

impl Probe for NoProbe {}
