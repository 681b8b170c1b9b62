//! One transformer block, for every family: attention and MLP on the residual stream.

use irepair_arch::{Activation, Architecture, Slot};
use irepair_core::BlockId;
use tch::Tensor;

use crate::attention::{Attention, AttentionContext, KeyValues};
use crate::layers::{Linear, Norm};
use crate::params::Params;
use crate::probe::Probe;

/// A block. Which layers it has follows from the slots of the architecture's parameter list.
#[derive(Debug)]
pub(crate) struct Block {
    id: BlockId,
    attention_norm: Norm,
    attention: Attention,
    mlp_norm: Norm,
    mlp: Mlp,
}

impl Block {
    /// None when the parameter list lacks a layer that a block must have.
    pub(crate) fn new(params: &Params, id: BlockId, of: &Architecture) -> Option<Self> {
        Some(Self {
            id,
            attention_norm: Norm::new(params, Some(id), Slot::AttentionNorm, of)?,
            attention: Attention::new(params, id, of)?,
            mlp_norm: Norm::new(params, Some(id), Slot::MlpNorm, of)?,
            mlp: Mlp::new(params, id, of)?,
        })
    }

    /// `[batch, seq, width] -> [batch, seq, width]`.
    pub(crate) fn apply(
        &self,
        x: &Tensor,
        context: &AttentionContext,
        cache: Option<&mut KeyValues>,
        probe: &mut dyn Probe,
    ) -> Tensor {
        let normed = self.attention_norm.probed(x, self.id, probe);
        let x = x + self.attention.apply(&normed, self.id, context, cache, probe);
        let normed = self.mlp_norm.probed(&x, self.id, probe);
        let x = x + self.mlp.apply(&normed, self.id, probe);
        probe.block(self.id, x)
    }
}

/// `down(act(up(x)))`, or gated: `down(act(gate(x)) * up(x))`.
#[derive(Debug)]
struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    fn new(params: &Params, block: BlockId, of: &Architecture) -> Option<Self> {
        let linear = |slot| Linear::new(params, block, slot, of);
        let gate = linear(Slot::Gate);
        Some(Self { gate, up: linear(Slot::Up)?, down: linear(Slot::Down)?, activation: of.activation })
    }

    fn apply(&self, x: &Tensor, block: BlockId, probe: &mut dyn Probe) -> Tensor {
        let inner = match &self.gate {
            Some(gate) => activate(self.activation, &gate.apply(x, block, probe)) * self.up.apply(x, block, probe),
            None => activate(self.activation, &self.up.apply(x, block, probe)),
        };
        self.down.apply(&inner, block, probe)
    }
}

/// The non-linearity of an MLP, element by element.
pub fn activate(activation: Activation, x: &Tensor) -> Tensor {
    match activation {
        Activation::GeluTanh => x.gelu("tanh"),
        Activation::Gelu => x.gelu("none"),
        Activation::Relu => x.relu(),
        Activation::Silu => x.silu(),
        Activation::Tanh => x.tanh(),
    }
}
