//! Hard-Concrete gates (Louizos et al. 2018, arXiv 1712.01312) and where they stand in a pass: numbers between 0 and 1,
//! both of which they reach, that multiply what a unit writes to the residual stream.

use std::collections::BTreeSet;

use irepair_core::BlockId;
use irepair_core::spec::UnitKind;
use irepair_model::{Layer, Part, Probe, Slot, UnitMap};
use tch::Tensor;

/// Temperature of the noise, and the interval that is stretched over `[0, 1]` (Louizos et al.).
const BETA: f64 = 2.0 / 3.0;
const GAMMA: f64 = -0.1;
const ZETA: f64 = 1.1;

/// The largest slope that [`sampled`] has anywhere.
pub(crate) const STEEPEST: f64 = (ZETA - GAMMA) / 4.0 / BETA;

/// A function of `log_alpha`, and its slope there.
#[derive(Clone, Copy)]
pub(crate) struct Point {
    pub(crate) value: f64,
    pub(crate) slope: f64,
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `sigmoid(scale x + shift)` stretched and cut to `[0, 1]`; where it is cut, it has no slope.
fn gate(log_alpha: f64, scale: f64, shift: f64) -> Point {
    let s = sigmoid(log_alpha * scale + shift);
    let stretched = s * (ZETA - GAMMA) + GAMMA;
    let is_cut = stretched <= 0.0 || stretched >= 1.0;
    let slope = if is_cut { 0.0 } else { (ZETA - GAMMA) * s * (1.0 - s) * scale };
    Point { value: stretched.clamp(0.0, 1.0), slope }
}

/// A gate with noise `u`, between 0 and 1.
pub(crate) fn sampled(log_alpha: f64, u: f64) -> Point {
    gate(log_alpha, 1.0 / BETA, (u.ln() - (1.0 - u).ln()) / BETA)
}

/// A gate without noise.
pub(crate) fn expected(log_alpha: f64) -> Point {
    gate(log_alpha, 1.0, 0.0)
}

/// The probability that a gate is not fully open.
pub(crate) fn not_open(log_alpha: f64) -> Point {
    let value = sigmoid(BETA * ((1.0 - GAMMA) / (ZETA - 1.0)).ln() - log_alpha);
    Point { value, slope: -value * (1.0 - value) }
}

/// Noise without a generator: steps and units each turn by an irrational part of a circle. One such part for both would
/// leave a unit's noise nearly the same at all steps where the number of units is one of Fibonacci's.
pub(crate) fn noise(step: u64, unit: usize) -> f64 {
    let (golden, silver) = ((5f64.sqrt() - 1.0) / 2.0, 2f64.sqrt() - 1.0);
    ((unit + 1) as f64 * golden + (step + 1) as f64 * silver).fract().clamp(1e-6, 1.0 - 1e-6)
}

/// Gates in a pass.
pub(crate) struct Gates<'a> {
    kind: UnitKind,
    n_each: usize,
    map: Option<&'a UnitMap>,
    /// One by unit, `[n_units]` float32.
    values: &'a Tensor,
    /// Halves of blocks that have been gated: block, and whether it is the MLP.
    placed: BTreeSet<(BlockId, bool)>,
}

impl<'a> Gates<'a> {
    /// Gates of a kind, of which a block has `n_each`; without a map, no half's output is normalised.
    pub(crate) fn new(kind: UnitKind, n_each: usize, map: Option<&'a UnitMap>, values: &'a Tensor) -> Self {
        Self { kind, n_each, map, values, placed: BTreeSet::new() }
    }

    /// Halves of a block that gates of the kind stand in.
    pub(crate) fn n_places(&self) -> usize {
        usize::from(self.stands_in(false)) + usize::from(self.stands_in(true))
    }

    /// Halves of all blocks that the pass has put gates in.
    pub(crate) fn n_placed(&self) -> usize {
        self.placed.len()
    }

    /// Whether the half is one that gates of the kind stand in.
    fn stands_in(&self, is_mlp: bool) -> bool {
        match self.kind {
            UnitKind::Block | UnitKind::Half => true,
            UnitKind::Head => !is_mlp,
            UnitKind::Neuron => is_mlp,
        }
    }

    /// Whether the half's output is normalised before it is written. A gate of all of it stands behind that norm, which
    /// would undo it.
    fn stands_behind_norm(&self, block: BlockId, is_mlp: bool) -> bool {
        let slot = if is_mlp { Slot::MlpOutNorm } else { Slot::AttentionOutNorm };
        let is_whole = matches!(self.kind, UnitKind::Block | UnitKind::Half);
        is_whole && self.map.is_some_and(|map| map.parameter(block, slot, Part::Weight).is_some())
    }

    /// `tensor`, `[batch, seq, width]`, times the gates of its half, each of which has an equal part of the width.
    fn gated(&mut self, block: BlockId, is_mlp: bool, tensor: &Tensor) -> Option<Tensor> {
        let (n, at) = match self.kind {
            UnitKind::Block => (1, block.0),
            UnitKind::Half => (1, 2 * block.0 + usize::from(is_mlp)),
            UnitKind::Head | UnitKind::Neuron => (self.n_each, block.0 * self.n_each),
        };
        let (n, width) = (n as i64, *tensor.size().last()?);
        if !self.stands_in(is_mlp) || width % n != 0 || at as i64 + n > self.values.size()[0] {
            return None;
        }
        self.placed.insert((block, is_mlp));
        let gates = self.values.narrow(0, at as i64, n).to_kind(tensor.kind());
        let gates = if n == 1 { gates } else { gates.repeat_interleave_self_int(width / n, 0, None::<i64>) };
        Some(tensor * gates)
    }
}

impl Probe for Gates<'_> {
    fn input(&mut self, layer: Layer<'_>, input: &Tensor) -> Option<Tensor> {
        let is_mlp = match layer.slot? {
            Slot::AttentionOut => false,
            Slot::Down => true,
            _ => return None,
        };
        if self.stands_behind_norm(layer.block, is_mlp) { None } else { self.gated(layer.block, is_mlp, input) }
    }

    fn layer(&mut self, layer: Layer<'_>, _input: &Tensor, output: Tensor) -> Tensor {
        let gated = match layer.slot {
            Some(Slot::AttentionOutNorm) => self.stands_behind_norm(layer.block, false).then_some(false),
            Some(Slot::MlpOutNorm) => self.stands_behind_norm(layer.block, true).then_some(true),
            _ => None,
        };
        gated.and_then(|is_mlp| self.gated(layer.block, is_mlp, &output)).unwrap_or(output)
    }

    fn wants_norms(&self) -> bool {
        self.stands_behind_norm(BlockId(0), false) || self.stands_behind_norm(BlockId(0), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_is_the_share_of_noise_that_leaves_a_gate_below_one() {
        let n = 100_000;
        for log_alpha in [-3.0, -0.5, 0.0, 1.0, 2.0, 4.0] {
            let below = (0..n).filter(|i| sampled(log_alpha, (f64::from(*i) + 0.5) / f64::from(n)).value < 1.0).count();
            let found = not_open(log_alpha).value;
            assert!((found - below as f64 / f64::from(n)).abs() < 2e-5, "{log_alpha}: {found}, {below}");
        }
    }

    #[test]
    fn slopes_are_differences() {
        let functions: [(&str, &dyn Fn(f64) -> Point); 4] =
            [("0.2", &|x| sampled(x, 0.2)), ("0.6", &|x| sampled(x, 0.6)), ("mean", &expected), ("price", &not_open)];
        for (what, of) in functions {
            for x in [-6.0, -1.5, -0.3, 0.4, 1.9, 6.0] {
                let (found, want) = (of(x).slope, (of(x + 1e-5).value - of(x - 1e-5).value) / 2e-5);
                assert!((found - want).abs() < 1e-9, "{what} at {x}: {found}, {want}");
            }
        }
        assert_eq!((expected(-6.0).value, expected(-6.0).slope), (0.0, 0.0), "closed");
        assert_eq!((expected(6.0).value, expected(6.0).slope), (1.0, 0.0), "open");
    }

    /// 3, 8 and 144 units are where one irrational part for both would repeat itself.
    #[test]
    fn every_unit_sees_all_of_the_noise_at_any_number_of_units() {
        for unit in [0, 1, 2, 7, 143, 36_863] {
            let mut by_fifth = [0; 5];
            (0..20).for_each(|step| by_fifth[(noise(step, unit) * 5.0) as usize] += 1);
            assert!(by_fifth.iter().all(|n| (3..=5).contains(n)), "{unit}: {by_fifth:?}");
        }
        for step in [0, 7, 19] {
            let mut by_tenth = [0; 10];
            (0..144).for_each(|unit| by_tenth[(noise(step, unit) * 10.0) as usize] += 1);
            assert!(by_tenth.iter().all(|n| (13..=16).contains(n)), "{step}: {by_tenth:?}");
        }
    }
}
