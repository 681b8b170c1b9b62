//! Laws of units, for every family: they never overlap, together they are what METHOD §23 says, and sizes add up.

use std::collections::BTreeMap;

use irepair_arch::{Architecture, FAMILIES, Part, QueryKeyNorm, Rows, Shape, Slot, UnitMap};
use irepair_core::spec::UnitKind;
use irepair_core::{BlockId, Error, Unit, UnitPart};
use proptest::prelude::*;

/// A small model of a family; `each` heads share keys and values where the family can do that.
fn architecture(family: usize, n_block: usize, n_kv: usize, each: usize, half: usize, n_inner: usize) -> Architecture {
    let name = FAMILIES[family].name;
    let (n_head, grouped) = match name {
        "gpt2" | "gpt-neo" | "gpt-neox" => (n_kv, None),
        _ => (n_kv * each, Some(n_kv)),
    };
    let shape = Shape::new(name, [n_block, 4 * half * n_head, n_head], 16, 11);
    let shape = Shape { n_kv_head: grouped, n_inner: Some(n_inner), ..shape };
    shape.architecture().unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn any() -> impl Strategy<Value = Architecture> {
    let sizes = (0..FAMILIES.len(), 1..3usize, 1..4usize, 1..4usize, 1..3usize, 1..7usize);
    sizes.prop_map(|(family, n_block, n_kv, each, half, inner)| architecture(family, n_block, n_kv, each, half, inner))
}

/// How often each weight of the model is among `rows`, by parameter.
fn counts(map: &UnitMap, rows: &[Rows]) -> Vec<Vec<usize>> {
    let mut counts: Vec<Vec<usize>> = map.parameters().iter().map(|p| vec![0; p.n_weights() as usize]).collect();
    for rows in rows {
        for run in rows.runs(&map.parameters()[rows.parameter].shape) {
            counts[rows.parameter][run].iter_mut().for_each(|n| *n += 1);
        }
    }
    counts
}

fn slice(map: &UnitMap, units: impl IntoIterator<Item = Unit>) -> Vec<Rows> {
    map.slice(units).unwrap()
}

/// Whether all heads together hold a parameter of a block.
fn of_heads(a: &Architecture, slot: Slot, part: Part) -> bool {
    match slot {
        Slot::Qkv | Slot::Query | Slot::Key | Slot::Value => true,
        Slot::AttentionOut => part == Part::Weight,
        Slot::QueryNorm | Slot::KeyNorm => a.query_key_norm == Some(QueryKeyNorm::Projection),
        _ => false,
    }
}

/// The same of neurons.
fn of_neurons(slot: Slot, part: Part) -> bool {
    matches!(slot, Slot::Gate | Slot::Up | Slot::GateUp) || slot == Slot::Down && part == Part::Weight
}

proptest! {
    #[test]
    fn units_of_a_kind_never_overlap_and_together_are_what_they_should(a in any()) {
        let map = UnitMap::new(&a);
        for &kind in UnitKind::ALL {
            let each: Vec<Rows> = map.units(kind).flat_map(|unit| slice(&map, [unit])).collect();
            let alone = counts(&map, &each);
            prop_assert!(alone.iter().flatten().all(|&n| n <= 1), "{kind}: a weight is in two units");
            let together = slice(&map, map.units(kind));
            let all = counts(&map, &together);
            for ((p, all), alone) in map.parameters().iter().zip(&all).zip(&alone) {
                let covered = p.block.is_some() && match kind {
                    UnitKind::Block | UnitKind::Half => true,
                    UnitKind::Head => of_heads(&a, p.slot, p.part),
                    UnitKind::Neuron => of_neurons(p.slot, p.part),
                };
                prop_assert!(all.iter().all(|&n| n == usize::from(covered)), "{kind}: {}", p.name);
                // Alone, heads lack what their group shares, and nothing else is lacking.
                let is_shared = kind == UnitKind::Head && a.n_head != a.n_kv_head;
                prop_assert!(is_shared || all == alone, "{kind}: {}", p.name);
            }
            let n_alone: usize = alone.iter().flatten().sum();
            let shared = 2 * a.n_kv_head * a.head_dim * (a.n_embd + usize::from(a.biases.qkv));
            let shared = shared + if a.query_key_norm == Some(QueryKeyNorm::Projection) { a.n_kv_head * a.head_dim } else { 0 };
            let shared = if kind == UnitKind::Head && a.n_head != a.n_kv_head { a.n_block * shared } else { 0 };
            prop_assert_eq!(map.n_weights(&together) as usize, n_alone + shared);
            if kind.row().covers_blocks {
                prop_assert_eq!(map.n_weights(&together), a.n_block as u64 * a.block_weights());
            }
        }
    }

    #[test]
    fn keys_and_values_come_with_their_whole_group_alone(a in any(), head in 0..100usize, left_out in 0..100usize) {
        let map = UnitMap::new(&a);
        let group = map.group(head % a.n_head);
        prop_assert_eq!(group.len(), a.n_head / a.n_kv_head);
        let unit = |head| Unit { block: BlockId(a.n_block - 1), part: UnitPart::Head(head) };
        let whole = map.n_weights(&slice(&map, group.clone().map(unit)));
        let apart: u64 = group.clone().map(|head| map.n_weights(&slice(&map, [unit(head)]))).sum();
        let by_row = u64::from(a.query_key_norm == Some(QueryKeyNorm::Projection));
        let shared = a.head_dim as u64 * (2 * (a.n_embd as u64 + u64::from(a.biases.qkv)) + by_row);
        prop_assert_eq!(whole, if group.len() == 1 { apart } else { apart + shared });
        if group.len() > 1 {
            let left_out = group.start + left_out % group.len();
            let rest = map.n_weights(&slice(&map, group.filter(|head| *head != left_out).map(unit)));
            prop_assert_eq!(rest, apart - map.n_weights(&slice(&map, [unit(left_out)])));
        }
    }

    #[test]
    fn a_slice_does_not_depend_on_order_or_repeats(a in any(), picks in proptest::collection::vec(0..10_000usize, 1..6)) {
        let map = UnitMap::new(&a);
        let all: Vec<Unit> = UnitKind::ALL.iter().flat_map(|&kind| map.units(kind)).collect();
        let units: Vec<Unit> = picks.iter().map(|i| all[i % all.len()]).collect();
        let rows = slice(&map, units.clone());
        prop_assert_eq!(&rows, &slice(&map, units.iter().rev().chain(&units).copied()));
        prop_assert!(counts(&map, &rows).iter().flatten().all(|&n| n <= 1));
        for unit in units {
            prop_assert!(map.units(unit.kind()).nth(map.index(unit)) == Some(unit));
            let (of_unit, of_all) = (counts(&map, &slice(&map, [unit])), counts(&map, &rows));
            prop_assert!(of_unit.iter().flatten().zip(of_all.iter().flatten()).all(|(unit, all)| unit <= all));
        }
    }
}

/// Names and ranges of a unit, for the hand-made cases below: `name[dim] first..end`.
fn shown(a: &Architecture, unit: &str) -> Vec<String> {
    let map = UnitMap::new(a);
    let shown = |r: &Rows| format!("{}[{}] {:?}", map.parameters()[r.parameter].name, r.dim, r.range);
    slice(&map, [unit.parse().unwrap()]).iter().map(shown).collect()
}

#[test]
fn stored_layouts_are_those_of_the_families() {
    let sizes = |family, kv| {
        let shape = Shape::new(family, [2, 16, 4], 8, 7);
        Shape { n_kv_head: kv, n_inner: Some(6), ..shape }.architecture().unwrap()
    };
    assert_eq!(
        shown(&sizes("gpt2", None), "1.head.2"),
        [
            "h.1.attn.c_attn.weight[1] 8..12",
            "h.1.attn.c_attn.weight[1] 24..28",
            "h.1.attn.c_attn.weight[1] 40..44",
            "h.1.attn.c_attn.bias[0] 8..12",
            "h.1.attn.c_attn.bias[0] 24..28",
            "h.1.attn.c_attn.bias[0] 40..44",
            "h.1.attn.c_proj.weight[0] 8..12",
        ]
    );
    assert_eq!(
        shown(&sizes("gpt-neox", None), "0.head.1"),
        [
            "layers.0.attention.query_key_value.weight[0] 12..24",
            "layers.0.attention.query_key_value.bias[0] 12..24",
            "layers.0.attention.dense.weight[1] 4..8",
        ]
    );
    let phi3 = sizes("phi3", Some(2));
    assert_eq!(
        shown(&phi3, "0.head.3"),
        ["layers.0.self_attn.qkv_proj.weight[0] 12..16", "layers.0.self_attn.o_proj.weight[1] 12..16"]
    );
    let map = UnitMap::new(&phi3);
    let both = slice(&map, ["0.head.2".parse().unwrap(), "0.head.3".parse().unwrap()]);
    let qkv: Vec<_> = both.iter().filter(|r| map.parameters()[r.parameter].slot == Slot::Qkv).collect();
    assert_eq!(qkv.iter().map(|r| r.range.clone()).collect::<Vec<_>>(), [8..16, 20..24, 28..32]);
    assert_eq!(
        shown(&phi3, "1.neuron.5"),
        [
            "layers.1.mlp.gate_up_proj.weight[0] 5..6",
            "layers.1.mlp.gate_up_proj.weight[0] 11..12",
            "layers.1.mlp.down_proj.weight[1] 5..6",
        ]
    );
    assert_eq!(
        shown(&sizes("gpt2", None), "0.neuron.5"),
        ["h.0.mlp.c_fc.weight[1] 5..6", "h.0.mlp.c_fc.bias[0] 5..6", "h.0.mlp.c_proj.weight[0] 5..6"]
    );
    assert_eq!(
        shown(&sizes("qwen2", Some(2)), "0.head.0"),
        [
            "layers.0.self_attn.q_proj.weight[0] 0..4",
            "layers.0.self_attn.q_proj.bias[0] 0..4",
            "layers.0.self_attn.o_proj.weight[1] 0..4",
        ]
    );
    assert_eq!(
        shown(&sizes("olmo2", Some(2)), "0.mlp"),
        [
            "layers.0.mlp.gate_proj.weight[0] 0..6",
            "layers.0.mlp.up_proj.weight[0] 0..6",
            "layers.0.mlp.down_proj.weight[0] 0..16",
            "layers.0.post_feedforward_layernorm.weight[0] 0..16",
        ]
    );
}

#[test]
fn runs_are_the_weights_one_after_the_other() {
    let shape = [3, 4];
    let runs = |dim, range| Rows { parameter: 0, dim, range }.runs(&shape).collect::<Vec<_>>();
    assert_eq!(runs(0, 1..3), Vec::from_iter(std::iter::once(4..12)));
    assert_eq!(runs(1, 1..3), [1..3, 5..7, 9..11]);
    assert_eq!(Rows { parameter: 0, dim: 1, range: 1..3 }.n_weights(&shape), 6);
}

#[test]
fn units_that_a_model_lacks_are_refused_by_name() {
    let map = UnitMap::new(&Architecture::gpt2(2, 16, 4, 8, 7));
    for (unit, wanted) in [
        ("2", "blocks 0 to 1"),
        ("2.mlp", "blocks 0 to 1"),
        ("0.head.4", "heads 0 to 3"),
        ("1.neuron.64", "neurons 0 to 63"),
    ] {
        let Err(Error::NoSuchUnit { unit: named, want }) = map.slice([unit.parse().unwrap()]) else { panic!("{unit}") };
        assert_eq!((named.as_str(), want.as_str()), (unit, wanted));
    }
}

#[test]
fn outputs_of_joint_gates_are_rows() {
    // `irepair-fault` takes the first half of the rows for the gates.
    for family in 0..FAMILIES.len() {
        let a = architecture(family, 1, 2, 1, 1, 3);
        let joint = a.parameters().iter().any(|p| p.slot == Slot::GateUp);
        assert!(!joint || a.family.layout == irepair_arch::Layout::OutIn, "{:?}", a.family);
    }
}

#[test]
fn every_family_is_among_those_tested() {
    let shapes: BTreeMap<&str, bool> = (0..FAMILIES.len())
        .map(|family| (FAMILIES[family].name, UnitMap::new(&architecture(family, 1, 2, 2, 1, 3)).group(0).len() == 2))
        .collect();
    assert_eq!(shapes.values().filter(|grouped| !**grouped).count(), 3, "{shapes:?}");
}
