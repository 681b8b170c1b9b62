//! Attention: projections, rotation, key-value cache, and which tokens see which.

use std::collections::BTreeMap;

use irepair_arch::{Architecture, AttentionSpan, QueryKeyNorm, Slot};
use irepair_core::BlockId;
use tch::{Kind, Tensor};

use crate::layers::{Linear, Norm, wide};
use crate::params::Params;
use crate::probe::Probe;
use crate::rotation::Rotation;

/// What all blocks of one pass share: which tokens see which, and how far positions turn queries and keys.
#[derive(Debug)]
pub(crate) struct AttentionContext {
    mask: AttentionMask,
    rotation: Option<Rotation>,
}

impl AttentionContext {
    /// Of the last `n_new` columns of `attention_mask` (`[batch, cols]` bool), which stand at `positions` (`[batch,
    /// n_new]`). `full` promises that nothing is padded.
    pub(crate) fn new(of: &Architecture, attention_mask: &Tensor, positions: &Tensor, full: bool, kind: Kind) -> Self {
        Self {
            mask: AttentionMask::new(of, attention_mask, positions.size()[1], full, kind),
            rotation: Rotation::new(of, attention_mask, positions, kind),
        }
    }
}

/// Query, key and value from one projection or from three.
#[derive(Debug)]
enum Qkv {
    /// All queries, all keys, all values.
    Joint(Linear),
    /// Query, key and value of the first head, of the second, and so on.
    Interleaved(Linear),
    Separate([Linear; 3]),
}

/// The attention of one block.
#[derive(Debug)]
pub(crate) struct Attention {
    qkv: Qkv,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    norms: Option<QueryKeyNorm>,
    out: Linear,
    n_head: i64,
    n_kv_head: i64,
    head_dim: i64,
    span: AttentionSpan,
    scale: f64,
    softcap: Option<f64>,
}

impl Attention {
    pub(crate) fn new(params: &Params, block: BlockId, of: &Architecture) -> Option<Self> {
        let linear = |slot| Linear::new(params, block, slot, of);
        let qkv = match linear(Slot::Qkv) {
            Some(joint) if of.interleaved_qkv => Qkv::Interleaved(joint),
            Some(joint) => Qkv::Joint(joint),
            None => Qkv::Separate([linear(Slot::Query)?, linear(Slot::Key)?, linear(Slot::Value)?]),
        };
        let norm = |slot| Norm::new(params, Some(block), slot, of);
        Some(Self {
            qkv,
            query_norm: norm(Slot::QueryNorm),
            key_norm: norm(Slot::KeyNorm),
            norms: of.query_key_norm,
            out: linear(Slot::AttentionOut)?,
            n_head: of.n_head as i64,
            n_kv_head: of.n_kv_head as i64,
            head_dim: of.head_dim as i64,
            span: of.spans[block.0],
            scale: of.attention_scales[block.0],
            softcap: of.attention_softcap,
        })
    }

    /// `[batch, seq, width] -> [batch, seq, width]`.
    pub(crate) fn apply(
        &self,
        x: &Tensor,
        block: BlockId,
        context: &AttentionContext,
        cache: Option<&mut KeyValues>,
        probe: &mut dyn Probe,
    ) -> Tensor {
        let (n_rows, n_new) = (x.size()[0], x.size()[1]);
        let [q, k, v] = self.projected(x, block, probe).map(|t| t.transpose(1, 2));
        let (q, k) = match context.rotation.as_ref().and_then(|rotation| rotation.of(block)) {
            Some(angles) => (angles.apply(&q), angles.apply(&k)),
            None => (q, k),
        };
        let (k, v) = match cache {
            Some(cache) => cache.extend(&k, &v),
            None => (k, v),
        };
        let mask = context.mask.of(self.span);
        let y = match self.softcap {
            Some(cap) => self.capped(&q, &k, &v, mask, cap),
            None => {
                let is_causal = mask.is_none() && n_new > 1;
                let grouped = self.n_kv_head != self.n_head;
                Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, is_causal, self.scale, grouped)
            }
        };
        self.out.apply(&y.transpose(1, 2).reshape([n_rows, n_new, self.n_head * self.head_dim]), block, probe)
    }

    /// Queries, keys and values before they are rotated, `[batch, seq, heads, head_dim]` each.
    fn projected(&self, x: &Tensor, block: BlockId, probe: &mut dyn Probe) -> [Tensor; 3] {
        let (n_rows, n_new) = (x.size()[0], x.size()[1]);
        let heads = |t: &Tensor, n: i64| t.view([n_rows, n_new, n, self.head_dim]);
        let widths = [self.n_head, self.n_kv_head, self.n_kv_head];
        let projections = match &self.qkv {
            Qkv::Joint(linear) => {
                let joint = linear.apply(x, block, probe);
                // One split: its gradient is written side by side once, where three narrowings would each fill a tensor
                // of zeros.
                let parts = joint.split_with_sizes(widths.map(|n| n * self.head_dim), -1);
                return [0, 1, 2].map(|i| heads(&parts[i], widths[i]));
            }
            Qkv::Interleaved(linear) => {
                let by_head = linear.apply(x, block, probe).view([n_rows, n_new, self.n_head, 3 * self.head_dim]);
                let parts = by_head.chunk(3, -1);
                return [0, 1, 2].map(|i| parts[i].shallow_clone());
            }
            Qkv::Separate(parts) => [0, 1, 2].map(|i| parts[i].apply(x, block, probe)),
        };
        let norms = [&self.query_norm, &self.key_norm, &None];
        [0, 1, 2].map(|i| match (norms[i], self.norms) {
            (Some(norm), Some(QueryKeyNorm::Projection)) => {
                heads(&norm.probed(&projections[i], block, probe), widths[i])
            }
            (Some(norm), _) => norm.probed(&heads(&projections[i], widths[i]), block, probe),
            (None, _) => heads(&projections[i], widths[i]),
        })
    }

    /// Attention whose scores are capped, which the fused kernels do not know: as transformers' eager route computes
    /// it.
    fn capped(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, cap: f64) -> Tensor {
        let n_each = self.n_head / self.n_kv_head;
        let each = |t: &Tensor| {
            if n_each == 1 { t.shallow_clone() } else { t.repeat_interleave_self_int(n_each, 1, None::<i64>) }
        };
        let scores = (q.matmul(&each(k).transpose(2, 3)) * self.scale / cap).tanh() * cap;
        let scores = match mask {
            Some(mask) => scores + mask,
            None => scores,
        };
        scores.softmax(-1, wide(q.kind())).to_kind(q.kind()).matmul(&each(v))
    }
}

/// Keys and values of the tokens seen so far, `[batch, kv head, capacity, head_dim]` each.
#[derive(Debug)]
pub(crate) struct KeyValues {
    keys: Tensor,
    values: Tensor,
    n_cols: i64,
}

impl KeyValues {
    pub(crate) fn new(of: &Architecture, n_rows: i64, capacity: i64, like: &Tensor) -> Self {
        let shape = [n_rows, of.n_kv_head as i64, capacity, of.head_dim as i64];
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

/// Which tokens see which: one additive mask per attention span, shared by all blocks of that span.
#[derive(Debug)]
struct AttentionMask {
    global: Option<Tensor>,
    local: BTreeMap<usize, Tensor>,
}

impl AttentionMask {
    /// A token sees real tokens at or before it, and always itself, so that a padded row has a finite (and unused)
    /// output. Without padding plain causal attention needs no mask.
    fn new(of: &Architecture, attention_mask: &Tensor, n_new: i64, full: bool, kind: Kind) -> Self {
        let (n_cols, device) = (attention_mask.size()[1], attention_mask.device());
        let columns = Tensor::arange(n_cols, (Kind::Int64, device));
        let queries = columns.narrow(0, n_cols - n_new, n_new).unsqueeze(1);
        let distance = queries - columns.unsqueeze(0);
        let itself = distance.eq(0);
        let additive = |visible: Tensor| {
            let mask = Tensor::zeros(visible.size(), (kind, device));
            mask.masked_fill(&visible.logical_not(), f64::NEG_INFINITY)
        };
        let causal = if full {
            distance.ge(0).unsqueeze(0).unsqueeze(0)
        } else {
            let seen = distance.ge(0).logical_and(&attention_mask.unsqueeze(1));
            seen.logical_or(&itself).unsqueeze(1)
        };
        // A window counts real tokens: padding between a soft prefix and its text takes none of it.
        let n_tokens_between = || match full {
            true => distance.shallow_clone(),
            false => {
                let count = attention_mask.cumsum(-1, Kind::Int64);
                (count.narrow(1, n_cols - n_new, n_new).unsqueeze(2) - count.unsqueeze(1)).unsqueeze(1)
            }
        };
        let mut local = BTreeMap::new();
        for span in &of.spans {
            if let AttentionSpan::Local(window) = *span {
                let masked = || additive(causal.logical_and(&n_tokens_between().lt(window as i64)));
                local.entry(window).or_insert_with(masked);
            }
        }
        // With one new column and no padding everything is visible; with all columns new, `is_causal` is enough, but
        // for attention that is written out.
        let written_out = of.attention_softcap.is_some() || n_new != n_cols;
        let global = (!full || (written_out && n_new != 1)).then(|| additive(causal));
        Self { global, local }
    }

    fn of(&self, span: AttentionSpan) -> Option<&Tensor> {
        match span {
            AttentionSpan::Global => self.global.as_ref(),
            AttentionSpan::Local(window) => self.local.get(&window),
        }
    }
}
