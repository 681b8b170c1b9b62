//! The parameter list of a model: for each tensor its place in the forward pass, stored name, shape, layout and block.

use irepair_core::BlockId;

use crate::{Architecture, NormKind, NormWeight, Positions, QueryKeyNorm};

/// The place of a tensor in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Token embedding.
    TokenEmbedding,
    /// Learned position embedding.
    PositionEmbedding,
    /// The norm whose output attention reads.
    AttentionNorm,
    /// Query, key and value in one projection, side by side.
    Qkv,
    /// Query projection.
    Query,
    /// Key projection.
    Key,
    /// Value projection.
    Value,
    /// The norm of queries.
    QueryNorm,
    /// The norm of keys.
    KeyNorm,
    /// The attention's output projection.
    AttentionOut,
    /// The norm of the attention's output, before it is added to the residual stream.
    AttentionOutNorm,
    /// The norm whose output the MLP reads.
    MlpNorm,
    /// The projection of a gated MLP that goes through the activation.
    Gate,
    /// The projection into the MLP; in a plain MLP it goes through the activation.
    Up,
    /// Gate and projection into a gated MLP in one, side by side.
    GateUp,
    /// The projection out of the MLP.
    Down,
    /// The norm of the MLP's output, before it is added to the residual stream.
    MlpOutNorm,
    /// The norm before the head.
    FinalNorm,
    /// The output projection, where it is not the token embedding.
    Head,
}

impl Slot {
    /// True when its output is added to the residual stream, or starts it.
    pub fn writes_residual(self) -> bool {
        matches!(self, Self::TokenEmbedding | Self::PositionEmbedding | Self::AttentionOut | Self::Down)
    }
}

/// Weight or bias of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The matrix of a projection or table, the factor of a norm.
    Weight,
    /// The summand.
    Bias,
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[out, in]`, as `torch.nn.Linear` stores it; tables, norms and biases too.
    OutIn,
    /// `[in, out]`, as GPT-2's `Conv1D` stores it.
    InOut,
}

/// How a parameter starts in a model trained from nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// 0.
    Zeros,
    /// 1.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its place in the forward pass.
    pub slot: Slot,
    /// Weight or bias of that place.
    pub part: Part,
    /// Its stored name without the prefix of whole models: `h.3.mlp.c_fc.weight`.
    pub name: String,
    /// Its shape as stored.
    pub shape: Vec<usize>,
    /// The block it belongs to; none for embeddings, the final norm and the head.
    pub block: Option<BlockId>,
    /// Its first value.
    pub init: Init,
}

impl Parameter {
    /// Number of weights.
    pub fn n_weights(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }

    /// The dimension of its stored tensor that runs along the residual stream it writes to; none where it writes to
    /// something else. `layout` is that of the model's projections.
    pub fn residual_dim(&self, layout: Layout) -> Option<usize> {
        let table = matches!(self.slot, Slot::TokenEmbedding | Slot::PositionEmbedding);
        let last = self.part == Part::Weight && (table || layout == Layout::InOut);
        self.slot.writes_residual().then_some(usize::from(last))
    }
}

/// The parameters of a decoder in the order of the forward pass: token table, position table where positions are
/// learned, blocks, final norm, and the head where it is not the token table. `names` are those of the two tables and
/// the norm; `block` lists the parameters of one block, so that a family file reads as a table of names.
pub(crate) fn decoder(
    architecture: &Architecture,
    names: [&str; 3],
    block: impl Fn(&mut ParameterList<'_>),
) -> Vec<Parameter> {
    let mut list = ParameterList { architecture, block: None, prefix: String::new(), list: Vec::new() };
    let (n_vocab, sd, [tokens, positions, norm]) = (architecture.n_vocab, list.sd(), names);
    // Tokens start further apart than positions: a small model finds what to copy sooner.
    list.table(Slot::TokenEmbedding, tokens, n_vocab, 4.0 * sd);
    if architecture.positions == Positions::Learned {
        list.table(Slot::PositionEmbedding, positions, architecture.n_positions, sd);
    }
    for b in 0..architecture.n_block {
        (list.block, list.prefix) = (Some(b), format!("{}.{b}.", architecture.family.block_prefix));
        block(&mut list);
    }
    (list.block, list.prefix) = (None, String::new());
    list.norm(Slot::FinalNorm, norm);
    if !architecture.tied_head {
        list.table(Slot::Head, architecture.family.head, n_vocab, sd);
    }
    list.list
}

/// The parameters listed so far.
pub(crate) struct ParameterList<'a> {
    architecture: &'a Architecture,
    block: Option<usize>,
    prefix: String,
    list: Vec<Parameter>,
}

impl ParameterList<'_> {
    /// A table of `n_rows` vectors of the model's width: an embedding, or the head.
    fn table(&mut self, slot: Slot, name: &str, n_rows: usize, sd: f64) {
        let shape = vec![n_rows, self.architecture.n_embd];
        self.push(slot, Part::Weight, format!("{name}.weight"), shape, Init::Normal(sd));
    }

    /// A norm: a weight, and a bias where the model's norms have one. Those of queries and keys are as wide as what
    /// they normalise, all others as wide as the model.
    pub(crate) fn norm(&mut self, slot: Slot, name: &str) {
        let a = self.architecture;
        let n_heads = |n| if a.query_key_norm == Some(QueryKeyNorm::Projection) { n } else { 1 };
        let shape = vec![match slot {
            Slot::QueryNorm => n_heads(a.n_head) * a.head_dim,
            Slot::KeyNorm => n_heads(a.n_kv_head) * a.head_dim,
            _ => a.n_embd,
        }];
        let one = if a.norm.weight == NormWeight::OnePlus { Init::Zeros } else { Init::Ones };
        self.push(slot, Part::Weight, format!("{name}.weight"), shape.clone(), one);
        if a.norm.kind == NormKind::LayerNorm {
            self.push(slot, Part::Bias, format!("{name}.bias"), shape, Init::Zeros);
        }
    }

    /// The norms of queries and keys, where the model has them.
    pub(crate) fn query_key_norms(&mut self, [query, key]: [&str; 2]) {
        if self.architecture.query_key_norm.is_some() {
            self.norm(Slot::QueryNorm, query);
            self.norm(Slot::KeyNorm, key);
        }
    }

    /// A projection from the width that its slot reads to the one that it writes.
    pub(crate) fn linear(&mut self, slot: Slot, name: &str) {
        let (a, d) = (self.architecture, self.architecture.n_embd);
        let (queries, keys) = (a.n_head * a.head_dim, a.n_kv_head * a.head_dim);
        let (n_in, n_out, bias) = match slot {
            Slot::Qkv => (d, queries + 2 * keys, a.biases.qkv),
            Slot::Query => (d, queries, a.biases.qkv),
            Slot::Key | Slot::Value => (d, keys, a.biases.qkv),
            Slot::AttentionOut => (queries, d, a.biases.attention_out),
            Slot::Gate | Slot::Up => (d, a.n_inner, a.biases.mlp),
            Slot::GateUp => (d, 2 * a.n_inner, a.biases.mlp),
            Slot::Down => (a.n_inner, d, a.biases.mlp),
            _ => unreachable!("not a projection inside a block"),
        };
        let shape = match a.family.layout {
            Layout::OutIn => vec![n_out, n_in],
            Layout::InOut => vec![n_in, n_out],
        };
        // GPT-2's scaling of the projections that write into the residual stream.
        let sd = if slot.writes_residual() { self.sd() / (2.0 * a.n_block as f64).sqrt() } else { self.sd() };
        self.push(slot, Part::Weight, format!("{name}.weight"), shape, Init::Normal(sd));
        if bias {
            self.push(slot, Part::Bias, format!("{name}.bias"), vec![n_out], Init::Zeros);
        }
    }

    /// GPT-2's 0.02 at its width of 768, scaled with the inverse root of the width, so that narrow models learn too.
    fn sd(&self) -> f64 {
        0.02 * (768.0 / self.architecture.n_embd as f64).sqrt()
    }

    fn push(&mut self, slot: Slot, part: Part, name: String, shape: Vec<usize>, init: Init) {
        let (name, block) = (format!("{}{name}", self.prefix), self.block.map(BlockId));
        self.list.push(Parameter { slot, part, name, shape, block, init });
    }
}
