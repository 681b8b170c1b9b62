//! What a unit is, by what the model computes (METHOD §23): two heads, or two neurons, that change places change
//! nothing, and a head or neuron without its output adds nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use common::{FAMILIES, config, model};
use irepair_arch::{Rows, UnitMap};
use irepair_core::{PaddedTokens, Unit};
use irepair_model::{BlockModel, CausalLm, TextBatch};
use tch::{Device, no_grad};

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

fn logits(model: &CausalLm) -> Vec<f32> {
    let rows = [vec![1, 7, 3, 3, 11, 2], vec![5, 18, 4]];
    let batch = TextBatch::new(PaddedTokens::right_padded(&rows, 0).unwrap(), Device::Cpu);
    Vec::try_from(no_grad(|| model.logits(&batch)).view(-1)).unwrap()
}

fn apart(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Rows of a unit by parameter and dimension, in order. Keys and values that the heads of a group share are not among
/// those of one head, unless they are its own.
fn ranges(map: &UnitMap, unit: &str) -> BTreeMap<(usize, usize), Vec<Range<usize>>> {
    let mut ranges: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for Rows { parameter, dim, range } in map.slice([unit.parse::<Unit>().unwrap()]).unwrap() {
        ranges.entry((parameter, dim)).or_default().push(range);
    }
    ranges
}

/// Exchanges the weights of two units.
fn exchange(model: &CausalLm, map: &UnitMap, one: &str, other: &str) {
    let (ones, others) = (ranges(map, one), ranges(map, other));
    assert_eq!(ones.keys().collect::<Vec<_>>(), others.keys().collect::<Vec<_>>());
    for ((parameter, dim), ones) in ones {
        for (one, other) in ones.iter().zip(&others[&(parameter, dim)]) {
            let at = |range: &Range<usize>| {
                model.parameters()[parameter].tensor.narrow(dim as i64, range.start as i64, range.len() as i64)
            };
            let (mut one, mut other) = (at(one), at(other));
            let kept = one.copy();
            no_grad(|| {
                one.copy_(&other);
                other.copy_(&kept);
            });
        }
    }
}

#[test]
fn heads_with_one_group_and_neurons_may_change_places() {
    for family in FAMILIES {
        let (model, map) = (model(family), UnitMap::new(&config(family)));
        let before = logits(&model);
        // Heads 0 and 1 share keys and values, or have their own.
        for (one, other) in [("1.head.0", "1.head.1"), ("0.neuron.3", "0.neuron.17")] {
            exchange(&model, &map, one, other);
            let moved = apart(&before, &logits(&model));
            assert!(moved < 2e-5, "{family}, {one} and {other}: {moved:e}");
        }
        // The same exchange of the weights that write alone is a fault.
        let out = map.slice(["1.head.0".parse().unwrap()]).unwrap();
        let out = out.iter().find(|rows| map.parameters()[rows.parameter].slot.writes_residual()).unwrap();
        let write = |first: usize| {
            let n = out.range.len();
            model.parameters()[out.parameter].tensor.narrow(out.dim as i64, (first * n) as i64, n as i64)
        };
        let (kept, last) = (write(0).copy(), config(family).n_head - 1);
        no_grad(|| {
            write(0).copy_(&write(last));
            write(last).copy_(&kept);
        });
        let moved = apart(&before, &logits(&model));
        assert!(moved > 1e-3, "{family}: {moved:e}");
    }
}

#[test]
fn a_unit_whose_output_is_nothing_needs_no_other_weight() {
    for family in FAMILIES {
        let (model, map) = (model(family), UnitMap::new(&config(family)));
        for unit in ["0.head.1", "1.neuron.5"] {
            let (writes, reads): (Vec<Rows>, Vec<Rows>) = map
                .slice([unit.parse().unwrap()])
                .unwrap()
                .into_iter()
                .partition(|rows| map.parameters()[rows.parameter].slot.writes_residual());
            let at = |rows: &Rows| {
                let tensor = &model.parameters()[rows.parameter].tensor;
                tensor.narrow(rows.dim as i64, rows.range.start as i64, rows.range.len() as i64)
            };
            no_grad(|| writes.iter().for_each(|rows| drop(at(rows).zero_())));
            let silent = logits(&model);
            // Weights of a norm of the whole projection act on other heads through its scale: left alone here.
            let is_matrix = |rows: &&Rows| map.parameters()[rows.parameter].shape.len() == 2;
            let through_norm = family == "olmo2" && unit.contains("head");
            no_grad(|| reads.iter().filter(is_matrix).for_each(|rows| drop(at(rows).fill_(0.7))));
            let moved = apart(&silent, &logits(&model));
            assert_eq!(moved < 1e-5, !through_norm, "{family}, {unit}: {moved:e}");
        }
    }
}
