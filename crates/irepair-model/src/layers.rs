//! The layers a block is made of: norms and projections.

use irepair_arch::{Architecture, Layout, Norm as NormSpec, NormKind, NormWeight, Part, Slot};
use irepair_core::BlockId;
use tch::{Device, Kind, Tensor};

use crate::params::Params;
use crate::probe::{Layer, Probe};

/// Layer normalisation or root-mean-square normalisation over the last axis.
#[derive(Debug)]
pub(crate) struct Norm {
    slot: Slot,
    weight: Tensor,
    bias: Option<Tensor>,
    spec: NormSpec,
}

impl Norm {
    pub(crate) fn new(params: &Params, block: Option<BlockId>, slot: Slot, of: &Architecture) -> Option<Self> {
        Some(Self {
            slot,
            weight: params.share(block, slot, Part::Weight)?,
            bias: params.share(block, slot, Part::Bias),
            spec: of.norm,
        })
    }

    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        match self.spec.kind {
            NormKind::LayerNorm => self.layer_norm(x, Some(&self.weight), self.bias.as_ref()),
            NormKind::RmsNorm => match self.spec.weight {
                NormWeight::AfterRounding => self.normalise(x) * &self.weight,
                NormWeight::BeforeRounding => (self.in_float(x) * &self.weight).to_kind(x.kind()),
                NormWeight::OnePlus => {
                    (self.in_float(x) * (self.weight.to_kind(wide(x.kind())) + 1.0)).to_kind(x.kind())
                }
            },
        }
    }

    /// The input normalised, before weight and bias. RMS norms square in float32 and round before the weight, as the
    /// published models do.
    fn normalise(&self, x: &Tensor) -> Tensor {
        match self.spec.kind {
            NormKind::LayerNorm => self.layer_norm(x, None, None),
            NormKind::RmsNorm => self.in_float(x).to_kind(x.kind()),
        }
    }

    /// The input over its root mean square, in float32 at least.
    fn in_float(&self, x: &Tensor) -> Tensor {
        let wide = x.to_kind(wide(x.kind()));
        if x.device() == Device::Cpu { over_rms(&wide, self.spec.eps) } else { over_rms_at_once(&wide, self.spec.eps) }
    }

    fn layer_norm(&self, x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Tensor {
        x.layer_norm(self.weight.size(), weight, bias, self.spec.eps, true)
    }

    pub(crate) fn probed(&self, x: &Tensor, block: BlockId, probe: &mut dyn Probe) -> Tensor {
        let y = self.apply(x);
        if !probe.wants_norms() {
            return y;
        }
        let normalised = self.normalise(&x.detach());
        let slot = Some(self.slot);
        probe.layer(Layer { block, slot, has_bias: self.bias.is_some(), normalised: Some(&normalised) }, x, y)
    }
}

/// `x` over its root mean square along the last axis, by the operations of the published models.
fn over_rms(x: &Tensor, eps: f64) -> Tensor {
    let mean_square = x.square().mean_dim([-1i64].as_slice(), true, x.kind());
    x * (mean_square + eps).rsqrt()
}

/// [`over_rms`] by libtorch's own function, which is one kernel on a GPU, and one backward.
fn over_rms_at_once(x: &Tensor, eps: f64) -> Tensor {
    x.rms_norm(x.size().last().copied().unwrap_or(1), None::<&Tensor>, eps)
}

/// The type of what is computed more precisely than a model's own: float32, and float64 where the model is.
pub(crate) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { kind } else { Kind::Float }
}

/// A projection; `weight` is used as `[out, in]` whatever the file's layout (a view, not a copy).
#[derive(Debug)]
pub(crate) struct Linear {
    slot: Slot,
    weight: Tensor,
    bias: Option<Tensor>,
    layout: Layout,
}

impl Linear {
    /// The projection of a slot; none where the model has no such slot.
    pub(crate) fn new(params: &Params, block: BlockId, slot: Slot, of: &Architecture) -> Option<Self> {
        Some(Self {
            slot,
            weight: params.share(Some(block), slot, Part::Weight)?,
            bias: params.share(Some(block), slot, Part::Bias),
            layout: of.family.layout,
        })
    }

    /// `[.., in] -> [.., out]`.
    pub(crate) fn apply(&self, x: &Tensor, block: BlockId, probe: &mut dyn Probe) -> Tensor {
        let layer = Layer { block, slot: Some(self.slot), has_bias: self.bias.is_some(), normalised: None };
        let replaced = probe.input(layer, x);
        let x = replaced.as_ref().unwrap_or(x);
        let y = match self.layout {
            Layout::InOut => irepair_torch::linear(x, &self.weight.tr(), self.bias.as_ref()),
            Layout::OutIn => irepair_torch::linear(x, &self.weight, self.bias.as_ref()),
        };
        probe.layer(layer, x, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorchs_norm_is_that_of_the_published_models_on_a_cpu() {
        let x = ((Tensor::arange(3 * 5 * 16, (Kind::Float, Device::Cpu)) * 12.9898).sin() * 3.0).view([3, 5, 16]);
        let slope = (&x * 1.7).cos();
        let of = |norm: fn(&Tensor, f64) -> Tensor| {
            let x = x.copy().set_requires_grad(true);
            let y = norm(&x, 1e-5);
            let gradient = Tensor::f_run_backward(&[&(&y * &slope).sum(Kind::Float)], &[&x], false, false).unwrap();
            (y.detach(), gradient[0].shallow_clone())
        };
        let ((plain, plain_gradient), (fused, fused_gradient)) = (of(over_rms), of(over_rms_at_once));
        assert!(fused.allclose(&plain, 1e-6, 1e-7, false));
        assert!(fused_gradient.allclose(&plain_gradient, 1e-5, 1e-6, false));
    }
}
