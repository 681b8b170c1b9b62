//! The arithmetic of one block: norms, projections, attention, MLP.

use irepair_core::BlockId;
use tch::{Kind, Tensor};

use crate::config::{Activation, AttentionSpan, Family, ModelConfig};
use crate::params::Params;
use crate::probe::{Probe, Site};

/// Layer normalisation over the last axis.
#[derive(Debug)]
pub(crate) struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Norm {
    pub(crate) fn new(params: &Params, name: &str, config: &ModelConfig) -> Option<Self> {
        Some(Self {
            weight: params.share(&format!("{name}.weight"))?,
            bias: params.share(&format!("{name}.bias"))?,
            eps: config.norm_eps,
        })
    }

    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    fn probed(&self, x: &Tensor, block: BlockId, probe: &mut impl Probe) -> Tensor {
        let y = self.apply(x);
        if !probe.wants_norms() {
            return y;
        }
        let normalised = x.detach().layer_norm(self.weight.size(), None::<&Tensor>, None::<&Tensor>, self.eps, true);
        probe.layer(Site::Norm { block, normalised: &normalised }, x, y)
    }
}

/// A projection; `weight` is held as `[out, in]` whatever the file's layout (a view, not a copy).
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    transposed: bool,
}

impl Linear {
    fn new(params: &Params, name: &str, family: Family) -> Option<Self> {
        Some(Self {
            weight: params.share(&format!("{name}.weight"))?,
            bias: params.share(&format!("{name}.bias")),
            transposed: family == Family::Gpt2,
        })
    }

    /// `[.., in] -> [.., out]`.
    fn apply(&self, x: &Tensor, block: BlockId, probe: &mut impl Probe) -> Tensor {
        let y = if self.transposed {
            x.linear(&self.weight.tr(), self.bias.as_ref())
        } else {
            x.linear(&self.weight, self.bias.as_ref())
        };
        probe.layer(Site::Linear { block, has_bias: self.bias.is_some() }, x, y)
    }
}

/// GPT-2 projects query, key and value at once; GPT-Neo has three projections without bias.
#[derive(Debug)]
enum Qkv {
    Joint(Linear),
    Separate([Linear; 3]),
}

/// Keys and values of the tokens seen so far, `[batch, head, capacity, head_width]` each.
#[derive(Debug)]
pub(crate) struct KeyValues {
    keys: Tensor,
    values: Tensor,
    n_cols: i64,
}

impl KeyValues {
    pub(crate) fn new(config: &ModelConfig, n_rows: i64, capacity: i64, like: &Tensor) -> Self {
        let shape = [n_rows, config.n_head as i64, capacity, config.head_width() as i64];
        let options = (like.kind(), like.device());
        Self { keys: Tensor::zeros(shape, options), values: Tensor::zeros(shape, options), n_cols: 0 }
    }

    /// Gives every row `n` copies, side by side.
    pub(crate) fn repeat_rows(&mut self, n: i64) {
        self.keys = self.keys.repeat_interleave_self_int(n, 0, None::<i64>);
        self.values = self.values.repeat_interleave_self_int(n, 0, None::<i64>);
    }

    /// Appends new columns and returns everything so far.
    fn extend(&mut self, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
        let n_new = k.size()[2];
        self.keys.narrow(2, self.n_cols, n_new).copy_(k);
        self.values.narrow(2, self.n_cols, n_new).copy_(v);
        self.n_cols += n_new;
        (self.keys.narrow(2, 0, self.n_cols), self.values.narrow(2, 0, self.n_cols))
    }
}

/// Which tokens may look at which: one additive mask per attention span, shared by all blocks of that span.
#[derive(Debug)]
pub(crate) struct Visibility {
    global: Option<Tensor>,
    local: Vec<(usize, Tensor)>,
}

impl Visibility {
    /// Masks for the last `n_new` of the columns of `real` (`[batch, cols]` bool), which may hold padding.
    ///
    /// A token sees real tokens at or before it, and always itself, so that a padded row has a finite (and unused)
    /// output. `full` promises that nothing is padded; then plain causal attention needs no mask.
    pub(crate) fn new(config: &ModelConfig, real: &Tensor, n_new: i64, full: bool, kind: Kind) -> Self {
        let n_cols = real.size()[1];
        let columns = Tensor::arange(n_cols, (Kind::Int64, real.device()));
        let queries = columns.narrow(0, n_cols - n_new, n_new).unsqueeze(1);
        let distance = queries - columns.unsqueeze(0);
        let itself = distance.eq(0);
        let additive = |visible: Tensor| {
            let mask = Tensor::zeros(visible.size(), (kind, real.device()));
            mask.masked_fill(&visible.logical_not(), f64::NEG_INFINITY)
        };
        let causal = if full {
            distance.ge(0).unsqueeze(0).unsqueeze(0)
        } else {
            let seen = distance.ge(0).logical_and(&real.unsqueeze(1));
            seen.logical_or(&itself).unsqueeze(1)
        };
        let mut windows: Vec<usize> = config
            .spans
            .iter()
            .filter_map(|span| match span {
                AttentionSpan::Local(window) => Some(*window),
                AttentionSpan::Global => None,
            })
            .collect();
        windows.sort_unstable();
        windows.dedup();
        let local = windows
            .into_iter()
            .map(|window| (window, additive(causal.logical_and(&distance.lt(window as i64)))))
            .collect();
        // With one new column and no padding everything is visible; with all columns new, `is_causal` says it all.
        let global = (!full || (n_new != n_cols && n_new != 1)).then(|| additive(causal));
        Self { global, local }
    }

    fn of(&self, span: AttentionSpan) -> Option<&Tensor> {
        match span {
            AttentionSpan::Global => self.global.as_ref(),
            AttentionSpan::Local(window) => self.local.iter().find(|(w, _)| *w == window).map(|(_, mask)| mask),
        }
    }
}

/// One transformer block.
#[derive(Debug)]
pub(crate) struct Block {
    id: BlockId,
    ln_1: Norm,
    qkv: Qkv,
    attention_out: Linear,
    ln_2: Norm,
    fc: Linear,
    mlp_out: Linear,
    n_head: i64,
    span: AttentionSpan,
    scale: f64,
    activation: Activation,
}

impl Block {
    pub(crate) fn new(params: &Params, id: BlockId, config: &ModelConfig) -> Option<Self> {
        let h = format!("h.{id}");
        let linear = |name: &str| Linear::new(params, &format!("{h}.{name}"), config.family);
        let (qkv, out) = match config.family {
            Family::Gpt2 => (Qkv::Joint(linear("attn.c_attn")?), "attn.c_proj"),
            Family::GptNeo => {
                let part = |name| linear(&format!("attn.attention.{name}"));
                (Qkv::Separate([part("q_proj")?, part("k_proj")?, part("v_proj")?]), "attn.attention.out_proj")
            }
        };
        Some(Self {
            id,
            ln_1: Norm::new(params, &format!("{h}.ln_1"), config)?,
            qkv,
            attention_out: linear(out)?,
            ln_2: Norm::new(params, &format!("{h}.ln_2"), config)?,
            fc: linear("mlp.c_fc")?,
            mlp_out: linear("mlp.c_proj")?,
            n_head: config.n_head as i64,
            span: config.spans[id.0],
            scale: config.attention_scales[id.0],
            activation: config.activation,
        })
    }

    /// `[batch, seq, width] -> [batch, seq, width]`.
    pub(crate) fn apply(
        &self,
        x: &Tensor,
        visibility: &Visibility,
        cache: Option<&mut KeyValues>,
        probe: &mut impl Probe,
    ) -> Tensor {
        let x = x + self.attend(&self.ln_1.probed(x, self.id, probe), visibility, cache, probe);
        let inner = self.fc.apply(&self.ln_2.probed(&x, self.id, probe), self.id, probe);
        let inner = match self.activation {
            Activation::GeluTanh => inner.gelu("tanh"),
            Activation::Gelu => inner.gelu("none"),
            Activation::Relu => inner.relu(),
            Activation::Silu => inner.silu(),
            Activation::Tanh => inner.tanh(),
        };
        let x = x + self.mlp_out.apply(&inner, self.id, probe);
        probe.block(self.id, x)
    }

    fn attend(
        &self,
        x: &Tensor,
        visibility: &Visibility,
        cache: Option<&mut KeyValues>,
        probe: &mut impl Probe,
    ) -> Tensor {
        let size = x.size();
        let (n_rows, n_new, width) = (size[0], size[1], size[2]);
        let heads = |t: &Tensor| t.view([n_rows, n_new, self.n_head, width / self.n_head]).transpose(1, 2);
        let [q, k, v] = match &self.qkv {
            Qkv::Joint(linear) => {
                let joint = linear.apply(x, self.id, probe);
                // One split: its gradient is laid side by side once, where three narrowings would each fill a tensor of zeros.
                let parts = joint.split(width, -1);
                [0, 1, 2].map(|i| heads(&parts[i]))
            }
            Qkv::Separate(parts) => parts.each_ref().map(|linear| heads(&linear.apply(x, self.id, probe))),
        };
        let (k, v) = match cache {
            Some(cache) => cache.extend(&k, &v),
            None => (k, v),
        };
        let mask = visibility.of(self.span);
        let is_causal = mask.is_none() && n_new > 1;
        let y = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, is_causal, self.scale, false);
        self.attention_out.apply(&y.transpose(1, 2).reshape([n_rows, n_new, width]), self.id, probe)
    }
}
