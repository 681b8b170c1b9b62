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
    attention_norm: Option<Norm>,
    attention: Attention,
    attention_out_norm: Option<Norm>,
    mlp_norm: Option<Norm>,
    mlp: Mlp,
    mlp_out_norm: Option<Norm>,
    parallel: bool,
}

impl Block {
    /// None when the parameter list lacks a layer that a block must have.
    pub(crate) fn new(params: &Params, id: BlockId, of: &Architecture) -> Option<Self> {
        let norm = |slot| Norm::new(params, Some(id), slot, of);
        Some(Self {
            id,
            attention_norm: norm(Slot::AttentionNorm),
            attention: Attention::new(params, id, of)?,
            attention_out_norm: norm(Slot::AttentionOutNorm),
            mlp_norm: norm(Slot::MlpNorm),
            mlp: Mlp::new(params, id, of)?,
            mlp_out_norm: norm(Slot::MlpOutNorm),
            parallel: of.parallel,
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
        let normed = self.normed(&self.attention_norm, x, probe);
        let attended = self.attention.apply(&normed, self.id, context, cache, probe);
        let attended = self.normed(&self.attention_out_norm, &attended, probe);
        let output = if self.parallel {
            let normed = self.normed(&self.mlp_norm, x, probe);
            let inner = self.mlp.apply(&normed, self.id, probe);
            self.normed(&self.mlp_out_norm, &inner, probe) + attended + x
        } else {
            let attended = x + attended;
            let normed = self.normed(&self.mlp_norm, &attended, probe);
            let inner = self.mlp.apply(&normed, self.id, probe);
            attended + self.normed(&self.mlp_out_norm, &inner, probe)
        };
        probe.block(self.id, x, output)
    }

    /// `x` through a norm that not every family has.
    fn normed(&self, norm: &Option<Norm>, x: &Tensor, probe: &mut dyn Probe) -> Tensor {
        norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.probed(x, self.id, probe))
    }
}

/// `down(act(up(x)))`, or gated: `down(act(gate(x)) * up(x))`.
#[derive(Debug)]
struct Mlp {
    into: Into,
    down: Linear,
    activation: Activation,
}

/// The projections into an MLP.
#[derive(Debug)]
enum Into {
    Plain(Linear),
    Gated {
        gate: Linear,
        up: Linear,
    },
    /// Gate and projection side by side.
    Joint(Linear),
}

impl Mlp {
    fn new(params: &Params, block: BlockId, of: &Architecture) -> Option<Self> {
        let linear = |slot| Linear::new(params, block, slot, of);
        let into = match (linear(Slot::GateUp), linear(Slot::Gate)) {
            (Some(joint), _) => Into::Joint(joint),
            (None, Some(gate)) => Into::Gated { gate, up: linear(Slot::Up)? },
            (None, None) => Into::Plain(linear(Slot::Up)?),
        };
        Some(Self { into, down: linear(Slot::Down)?, activation: of.activation })
    }

    fn apply(&self, x: &Tensor, block: BlockId, probe: &mut dyn Probe) -> Tensor {
        let inner = match &self.into {
            Into::Plain(up) => activate(self.activation, &up.apply(x, block, probe)),
            Into::Gated { gate, up } => {
                activate(self.activation, &gate.apply(x, block, probe)) * up.apply(x, block, probe)
            }
            Into::Joint(joint) => {
                let halves = joint.apply(x, block, probe).chunk(2, -1);
                activate(self.activation, &halves[0]) * &halves[1]
            }
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
