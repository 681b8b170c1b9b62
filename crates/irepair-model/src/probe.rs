//! A look inside a forward pass: a [`Probe`] sees every layer's input and output (a hook, in other libraries).

use irepair_core::BlockId;
use tch::Tensor;

/// A layer whose parameters belong to a block.
#[derive(Clone, Copy, Debug)]
pub enum Site<'a> {
    /// `y = x W + c`, whatever way `W` is stored. `has_bias` says whether there is a `c`.
    Linear {
        /// The block.
        block: BlockId,
        /// True when the layer has a bias.
        has_bias: bool,
    },
    /// `y = normalise(x) * w + c`; `normalised` is `normalise(x)`. `has_bias` says whether there is a `c`.
    Norm {
        /// The block.
        block: BlockId,
        /// The normalised input, before weight and bias.
        normalised: &'a Tensor,
        /// True when the norm has a bias.
        has_bias: bool,
    },
}

/// Sees layers as the forward pass goes by; each method may replace the value that flows on.
pub trait Probe {
    /// Called with a layer's input and output, each `[batch, seq, width]`; returns the output to go on with.
    fn layer(&mut self, _site: Site<'_>, _input: &Tensor, output: Tensor) -> Tensor {
        output
    }

    /// Called with the residual stream after the embedding, `[batch, seq, width]`.
    fn embedded(&mut self, hidden: Tensor) -> Tensor {
        hidden
    }

    /// Called with the residual stream after each block, `[batch, seq, width]`.
    fn block(&mut self, _block: BlockId, hidden: Tensor) -> Tensor {
        hidden
    }

    /// True when `layer` wants norms too (their normalised input costs a second pass over it).
    fn wants_norms(&self) -> bool {
        false
    }
}

/// Sees nothing, costs nothing.
pub(crate) struct NoProbe;

impl Probe for NoProbe {}
