//! Which weights belong to which unit (METHOD §23): a unit is a set of rows or columns of stored tensors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use irepair_core::spec::UnitKind;
use irepair_core::{BlockId, Error, Unit, UnitList, UnitPart};

use crate::{Architecture, Layout, Parameter, Part, QueryKeyNorm, Slot};

/// A part of one stored tensor: `range` along dimension `dim`, everything along the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rows {
    /// Index in [`Architecture::parameters`].
    pub parameter: usize,
    /// 0 for rows of the stored tensor, 1 for columns.
    pub dim: usize,
    /// The rows or columns.
    pub range: Range<usize>,
}

impl Rows {
    /// Number of weights, in a tensor of this shape.
    pub fn n_weights(&self, shape: &[usize]) -> usize {
        let others = shape.iter().enumerate().filter(|(dim, _)| *dim != self.dim).map(|(_, n)| n);
        self.range.len() * others.product::<usize>()
    }

    /// The weights as runs that lie one after the other in a tensor of this shape, in order.
    pub fn runs(&self, shape: &[usize]) -> impl Iterator<Item = Range<usize>> + use<> {
        let n_outer: usize = shape[..self.dim].iter().product();
        let n_inner: usize = shape[self.dim + 1..].iter().product();
        let (n, range) = (shape[self.dim] * n_inner, self.range.start * n_inner..self.range.end * n_inner);
        (0..n_outer).map(move |i| i * n + range.start..i * n + range.end)
    }
}

/// The units of a model.
///
/// Blocks and halves are whole tensors. A head owns its rows of the query projection and its columns of the output
/// projection; rows of keys and values that several heads share (grouped queries) are in a slice when all of those
/// heads are. A neuron owns its rows of the projections into the MLP and its column of the one out. Biases go with
/// their rows; output biases and norms act on all heads or neurons, so that they are of no head and no neuron, but for
/// norms of a whole query or key projection, which have a weight for each row. Embeddings, the final norm and the
/// output head are of no unit.
#[derive(Clone, Debug)]
pub struct UnitMap {
    parameters: Vec<Parameter>,
    by_slot: HashMap<(BlockId, Slot, Part), usize>,
    layout: Layout,
    n_block: usize,
    n_head: usize,
    n_kv_head: usize,
    head_dim: usize,
    n_inner: usize,
    interleaved_qkv: bool,
    norms_by_row: bool,
}

impl UnitMap {
    /// The units of an architecture.
    pub fn new(of: &Architecture) -> Self {
        let parameters = of.parameters();
        let placed = |(i, p): (usize, &Parameter)| Some(((p.block?, p.slot, p.part), i));
        Self {
            by_slot: parameters.iter().enumerate().filter_map(placed).collect(),
            parameters,
            layout: of.family.layout,
            n_block: of.n_block,
            n_head: of.n_head,
            n_kv_head: of.n_kv_head,
            head_dim: of.head_dim,
            n_inner: of.n_inner,
            interleaved_qkv: of.interleaved_qkv,
            norms_by_row: of.query_key_norm == Some(QueryKeyNorm::Projection),
        }
    }

    /// The model's parameters, which [`Rows::parameter`] counts.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Index of the parameter in that place of a block; none where the model has none.
    pub fn parameter(&self, block: BlockId, slot: Slot, part: Part) -> Option<usize> {
        self.by_slot.get(&(block, slot, part)).copied()
    }

    /// True when `dim` of a stored matrix runs along the outputs of its projection.
    pub fn is_output(&self, dim: usize) -> bool {
        (dim == 0) == (self.layout == Layout::OutIn)
    }

    /// All units of a kind, block by block.
    pub fn units(&self, kind: UnitKind) -> impl Iterator<Item = Unit> + '_ {
        (0..self.n_block).flat_map(move |block| {
            (0..self.n_per_block(kind)).map(move |i| Unit { block: BlockId(block), part: part(kind, i) })
        })
    }

    /// Number of units of a kind in a block.
    pub fn n_per_block(&self, kind: UnitKind) -> usize {
        match kind {
            UnitKind::Block => 1,
            UnitKind::Half => 2,
            UnitKind::Head => self.n_head,
            UnitKind::Neuron => self.n_inner,
        }
    }

    /// The place of a unit among [`UnitMap::units`] of its kind.
    pub fn index(&self, unit: Unit) -> usize {
        let within = match unit.part {
            UnitPart::Whole | UnitPart::Attention => 0,
            UnitPart::Mlp => 1,
            UnitPart::Head(i) | UnitPart::Neuron(i) => i,
        };
        unit.block.0 * self.n_per_block(unit.kind()) + within
    }

    /// Refuses a unit that the model does not have.
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`].
    pub fn check(&self, unit: Unit) -> Result<(), Error> {
        let refuse = |what: &str, n: usize| {
            let want = format!("{what} 0 to {}", n.saturating_sub(1));
            Err(Error::NoSuchUnit { unit: unit.to_string(), want })
        };
        match unit.part {
            _ if unit.block.0 >= self.n_block => refuse("blocks", self.n_block),
            UnitPart::Head(i) if i >= self.n_head => refuse("heads", self.n_head),
            UnitPart::Neuron(i) if i >= self.n_inner => refuse("neurons", self.n_inner),
            _ => Ok(()),
        }
    }

    /// The units of a kind that are in `only` and not in `exclude`; all of them where neither is given. A unit that a
    /// list names stands for the smaller ones in it.
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`] when a list names a unit that the model lacks; [`Error::FinerUnit`] when it names a part
    /// of a unit of the kind; [`Error::NoUnitLeft`].
    ///
    /// # Source
    /// METHOD §5 [O].
    pub fn eligible(
        &self,
        kind: UnitKind,
        only: Option<&UnitList>,
        exclude: Option<&UnitList>,
    ) -> Result<Vec<Unit>, Error> {
        for (key, list) in [("only", only), ("exclude", exclude)] {
            for unit in list.into_iter().flat_map(UnitList::iter) {
                self.check(unit)?;
                if unit.kind() != kind && unit.kind().row().fineness >= kind.row().fineness {
                    return Err(Error::FinerUnit { key, unit: unit.to_string(), kind });
                }
            }
        }
        let kept =
            |unit: &Unit| only.is_none_or(|list| list.covers(*unit)) && !exclude.is_some_and(|list| list.covers(*unit));
        let left: Vec<Unit> = self.units(kind).filter(kept).collect();
        if left.is_empty() { Err(Error::NoUnitLeft { kind }) } else { Ok(left) }
    }

    /// The weights of some units together: sorted, none twice, adjacent rows as one. Rows of keys and values that heads
    /// share are among them when all of those heads are. Units of one kind cut a parameter along one dimension, however
    /// many of them there are.
    ///
    /// # Errors
    /// [`Error::NoSuchUnit`].
    pub fn slice(&self, units: impl IntoIterator<Item = Unit>) -> Result<Vec<Rows>, Error> {
        let units: BTreeSet<Unit> = units.into_iter().collect();
        let mut rows = Vec::new();
        for unit in &units {
            self.check(*unit)?;
            match unit.part {
                UnitPart::Whole => self.whole(unit.block, |_| true, &mut rows),
                UnitPart::Attention => self.whole(unit.block, |slot| !is_mlp(slot), &mut rows),
                UnitPart::Mlp => self.whole(unit.block, is_mlp, &mut rows),
                UnitPart::Head(head) => {
                    self.head(unit.block, head, &mut rows);
                    let group = self.group(head);
                    let heads = group.clone().map(|head| Unit { part: UnitPart::Head(head), ..*unit });
                    if head == group.start && heads.into_iter().all(|head| units.contains(&head)) {
                        self.keys_and_values(unit.block, head * self.n_kv_head / self.n_head, &mut rows);
                    }
                }
                UnitPart::Neuron(neuron) => self.neuron(unit.block, neuron, &mut rows),
            }
        }
        Ok(self.merged(rows))
    }

    /// Number of weights.
    pub fn n_weights(&self, rows: &[Rows]) -> u64 {
        rows.iter().map(|rows| rows.n_weights(&self.parameters[rows.parameter].shape) as u64).sum()
    }

    /// The heads that share keys and values with `head`, itself included.
    pub fn group(&self, head: usize) -> Range<usize> {
        let n_each = self.n_head / self.n_kv_head;
        let first = head / n_each * n_each;
        first..first + n_each
    }

    /// Rows of the query projection of a head, as the projection that holds it counts its outputs.
    pub fn query_outputs(&self, head: usize) -> (Slot, Range<usize>) {
        let joint = self.has_joint_qkv();
        let first = if joint && self.interleaved_qkv { 3 * head } else { head };
        (if joint { Slot::Qkv } else { Slot::Query }, self.head_range(first))
    }

    /// The same of the keys and the values that a group of heads shares; `kv` counts the groups.
    pub fn key_value_outputs(&self, kv: usize) -> [(Slot, Range<usize>); 2] {
        if !self.has_joint_qkv() {
            return [Slot::Key, Slot::Value].map(|slot| (slot, self.head_range(kv)));
        }
        let firsts = match self.interleaved_qkv {
            true => [3 * kv + 1, 3 * kv + 2],
            false => [self.n_head + kv, self.n_head + self.n_kv_head + kv],
        };
        firsts.map(|first| (Slot::Qkv, self.head_range(first)))
    }

    fn has_joint_qkv(&self) -> bool {
        self.by_slot.contains_key(&(BlockId(0), Slot::Qkv, Part::Weight))
    }

    fn head_range(&self, i: usize) -> Range<usize> {
        i * self.head_dim..(i + 1) * self.head_dim
    }

    /// Every tensor of a block in the slots asked for.
    fn whole(&self, block: BlockId, wanted: impl Fn(Slot) -> bool, rows: &mut Vec<Rows>) {
        let parameters = self.parameters.iter().enumerate();
        let mine = parameters.filter(|(_, p)| p.block == Some(block) && wanted(p.slot));
        rows.extend(mine.map(|(parameter, p)| Rows { parameter, dim: 0, range: 0..p.shape[0] }));
    }

    fn head(&self, block: BlockId, head: usize, rows: &mut Vec<Rows>) {
        let (slot, range) = self.query_outputs(head);
        self.outputs(block, slot, range, rows);
        self.inputs(block, Slot::AttentionOut, self.head_range(head), rows);
        if self.norms_by_row {
            self.outputs(block, Slot::QueryNorm, self.head_range(head), rows);
        }
    }

    fn keys_and_values(&self, block: BlockId, kv: usize, rows: &mut Vec<Rows>) {
        for (slot, range) in self.key_value_outputs(kv) {
            self.outputs(block, slot, range, rows);
        }
        if self.norms_by_row {
            self.outputs(block, Slot::KeyNorm, self.head_range(kv), rows);
        }
    }

    fn neuron(&self, block: BlockId, neuron: usize, rows: &mut Vec<Rows>) {
        for slot in [Slot::Gate, Slot::Up] {
            self.outputs(block, slot, neuron..neuron + 1, rows);
        }
        for first in [neuron, self.n_inner + neuron] {
            self.outputs(block, Slot::GateUp, first..first + 1, rows);
        }
        self.inputs(block, Slot::Down, neuron..neuron + 1, rows);
    }

    /// Outputs of a layer: those rows of its matrix, however it is stored, and of its bias; nothing where the model has
    /// no such layer.
    fn outputs(&self, block: BlockId, slot: Slot, range: Range<usize>, rows: &mut Vec<Rows>) {
        for part in [Part::Weight, Part::Bias] {
            let Some(&parameter) = self.by_slot.get(&(block, slot, part)) else { continue };
            let is_matrix = self.parameters[parameter].shape.len() == 2;
            let dim = usize::from(is_matrix && self.layout == Layout::InOut);
            rows.push(Rows { parameter, dim, range: range.clone() });
        }
    }

    /// Inputs of a projection: those columns of its matrix, however it is stored.
    fn inputs(&self, block: BlockId, slot: Slot, range: Range<usize>, rows: &mut Vec<Rows>) {
        if let Some(&parameter) = self.by_slot.get(&(block, slot, Part::Weight)) {
            rows.push(Rows { parameter, dim: usize::from(self.layout == Layout::OutIn), range });
        }
    }

    /// Sorted, adjacent and overlapping ranges as one, and of a whole tensor nothing else.
    fn merged(&self, mut rows: Vec<Rows>) -> Vec<Rows> {
        rows.sort_by_key(|rows| (rows.parameter, rows.dim, rows.range.start));
        let mut merged: Vec<Rows> = Vec::new();
        for next in rows {
            match merged.last_mut() {
                Some(last)
                    if (last.parameter, last.dim) == (next.parameter, next.dim)
                        && next.range.start <= last.range.end =>
                {
                    last.range.end = last.range.end.max(next.range.end);
                }
                _ => merged.push(next),
            }
        }
        let is_whole = |rows: &Rows| rows.range == (0..self.parameters[rows.parameter].shape[rows.dim]);
        let whole = merged.iter().rev().filter(|rows| is_whole(rows)).map(|rows| (rows.parameter, rows.dim));
        let whole: BTreeMap<usize, usize> = whole.collect();
        merged.retain(|rows| whole.get(&rows.parameter).is_none_or(|dim| *dim == rows.dim));
        merged
    }
}

/// The `i`-th part of its kind in a block.
fn part(kind: UnitKind, i: usize) -> UnitPart {
    match kind {
        UnitKind::Block => UnitPart::Whole,
        UnitKind::Half if i == 0 => UnitPart::Attention,
        UnitKind::Half => UnitPart::Mlp,
        UnitKind::Head => UnitPart::Head(i),
        UnitKind::Neuron => UnitPart::Neuron(i),
    }
}

/// Whether a slot of a block is in its MLP half; the others are in its attention half.
fn is_mlp(slot: Slot) -> bool {
    match slot {
        Slot::MlpNorm | Slot::Gate | Slot::Up | Slot::GateUp | Slot::Down | Slot::MlpOutNorm => true,
        Slot::AttentionNorm
        | Slot::Qkv
        | Slot::Query
        | Slot::Key
        | Slot::Value
        | Slot::QueryNorm
        | Slot::KeyNorm
        | Slot::AttentionOut
        | Slot::AttentionOutNorm
        | Slot::TokenEmbedding
        | Slot::PositionEmbedding
        | Slot::FinalNorm
        | Slot::Head => false,
    }
}
