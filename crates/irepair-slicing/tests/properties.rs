//! Laws every policy obeys (METHOD §5, §19).

use irepair_core::spec::Number;
use irepair_core::{BlockId, BlockSlice, Scope, Sensitivities, SliceSize};
use irepair_slicing::{Memory, Policy, PolicySpec, SlicePolicy};
use proptest::prelude::*;

fn policy(kind: Policy, k: usize) -> SlicePolicy {
    let spec = PolicySpec { slice_k: SliceSize::Blocks(k), ..PolicySpec::new(kind) };
    SlicePolicy::new(&spec.with(Number::PolicyEvery, 3.0)).unwrap()
}

fn slice(policy: SlicePolicy, memory: &mut Memory, step: u64, values: &[f64], seed: u64) -> BlockSlice {
    let s = Sensitivities::new(values.to_vec()).unwrap();
    match policy.choose(memory, step, Some(&s), values.len(), seed).unwrap() {
        Scope::Blocks(slice) => slice,
        other => panic!("only `all` is unsliced, and units are named elsewhere: {other}"),
    }
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(0.0..1e6f64, 1..40)
}

/// Distinct values and one order of their indices.
fn shuffled() -> impl Strategy<Value = (Vec<f64>, Vec<usize>)> {
    proptest::collection::btree_set(0u32..1_000_000, 1..40).prop_flat_map(|set| {
        let values: Vec<f64> = set.into_iter().map(f64::from).collect();
        let order: Vec<usize> = (0..values.len()).collect();
        (Just(values).prop_shuffle(), Just(order).prop_shuffle())
    })
}

const EXACT: [Policy; 8] = [
    Policy::Dynamic,
    Policy::Reverse,
    Policy::Fixed,
    Policy::Random,
    Policy::Cyclic,
    Policy::EveryN,
    Policy::Ema,
    Policy::Explore,
];

proptest! {
    #[test]
    fn a_slice_has_k_blocks_of_the_model(values in values(), k in 1usize..50, step in 0u64..1000, seed: u64) {
        for kind in EXACT {
            let slice = slice(policy(kind, k), &mut Memory::default(), step, &values, seed);
            prop_assert_eq!(slice.len(), k.min(values.len()), "{}", kind);
            prop_assert!(slice.iter().all(|b| b.0 < values.len()));
        }
    }

    #[test]
    fn a_choice_among_every_block_is_the_plain_one_and_among_some_never_leaves_them(
        steps in proptest::collection::vec(proptest::collection::vec(0.0..10.0f64, 6), 1..8),
        eligible in proptest::collection::btree_set(0usize..6, 1..7), k in 1usize..7, seed: u64,
    ) {
        let some = BlockSlice::from_indices(eligible);
        let every = BlockSlice::from_indices(0..6);
        for kind in Policy::ALL {
            let policy = policy(*kind, k);
            let (mut plain, mut among, mut within) = (Memory::default(), Memory::default(), Memory::default());
            for (step, values) in steps.iter().enumerate() {
                let (step, s) = (step as u64, Sensitivities::new(values.clone()).unwrap());
                let want = policy.choose(&mut plain, step, Some(&s), 6, seed).unwrap().blocks(6);
                let got = policy.choose_among(&every, &mut among, step, Some(&s), seed).unwrap();
                prop_assert_eq!(got, Scope::Blocks(want), "{}", kind);
                let Scope::Blocks(slice) = policy.choose_among(&some, &mut within, step, Some(&s), seed).unwrap() else {
                    panic!("embeddings are in no list")
                };
                prop_assert!(!slice.is_empty() && slice.iter().all(|block| some.contains(block)), "{}", kind);
                if EXACT.contains(kind) {
                    prop_assert_eq!(slice.len(), k.min(some.len()), "{}", kind);
                }
            }
            prop_assert_eq!(plain, among, "{}", kind);
        }
    }

    #[test]
    fn the_most_sensitive_of_some_blocks_is_not_that_of_the_others((values, _) in shuffled(), first in 1usize..40) {
        prop_assume!(first < values.len());
        let (n, s) = (values.len(), Sensitivities::new(values.clone()).unwrap());
        let upper = BlockSlice::from_indices(first..n);
        let chosen = policy(Policy::Dynamic, 1).choose_among(&upper, &mut Memory::default(), 0, Some(&s), 0).unwrap();
        let best = (first..n).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
        prop_assert_eq!(chosen.to_string(), best.to_string());
    }

    #[test]
    fn renaming_the_blocks_renames_the_slice((values, order) in shuffled(), k in 1usize..10) {
        let renamed: Vec<f64> = order.iter().map(|&i| values[i]).collect();
        for kind in [Policy::Dynamic, Policy::Reverse, Policy::Fixed, Policy::Coverage] {
            let before = slice(policy(kind, k), &mut Memory::default(), 0, &values, 0);
            let after = slice(policy(kind, k), &mut Memory::default(), 0, &renamed, 0);
            let back: BlockSlice = after.iter().map(|b| BlockId(order[b.0])).collect();
            prop_assert_eq!(back, before, "{}", kind);
        }
    }

    #[test]
    fn the_k_largest_and_the_others_make_up_the_model((values, _) in shuffled(), k in 1usize..10) {
        let n = values.len();
        prop_assume!(k < n);
        let top = slice(policy(Policy::Dynamic, k), &mut Memory::default(), 0, &values, 0);
        let rest = slice(policy(Policy::Reverse, n - k), &mut Memory::default(), 0, &values, 0);
        prop_assert!(top.iter().all(|b| !rest.contains(b)));
        let least = top.iter().map(|b| values[b.0]).fold(f64::INFINITY, f64::min);
        prop_assert!(rest.iter().all(|b| values[b.0] < least));
    }

    #[test]
    fn coverage_holds_its_quota_with_as_few_blocks_as_can_be(values in values(), quota in 0.01..1.0f64) {
        let spec = PolicySpec { slice_k: SliceSize::Percent(100.0), ..PolicySpec::new(Policy::Coverage) };
        let spec = spec.with(Number::PolicyQuota, quota);
        let chosen = slice(SlicePolicy::new(&spec).unwrap(), &mut Memory::default(), 0, &values, 0);
        let square = |b: BlockId| values[b.0].powi(2);
        let total: f64 = values.iter().map(|v| v * v).sum();
        let held: f64 = chosen.iter().map(square).sum();
        let smallest = chosen.iter().map(square).fold(f64::INFINITY, f64::min);
        prop_assert!(held >= quota * total * (1.0 - 1e-12));
        prop_assert!(chosen.len() == 1 || held - smallest < quota * total * (1.0 + 1e-12));
    }

    #[test]
    fn a_random_choice_is_kept_for_its_steps(seed: u64, turn in 0u64..1000, n_blocks in 1usize..40) {
        let values = vec![1.0; n_blocks];
        let memory = &mut Memory::default();
        let draws: Vec<_> =
            (0..3).map(|i| slice(policy(Policy::Random, 2), memory, turn * 3 + i, &values, seed)).collect();
        prop_assert!(draws[0] == draws[1] && draws[1] == draws[2]);
    }

    #[test]
    fn a_resumed_run_chooses_what_the_uninterrupted_run_chose(
        steps in proptest::collection::vec(proptest::collection::vec(0.0..10.0f64, 6), 2..12), cut in 1usize..11, seed: u64,
    ) {
        for kind in EXACT {
            let policy = policy(kind, 2);
            let mut memory = Memory::default();
            let mut resumed = Memory::default();
            for (step, values) in steps.iter().enumerate() {
                if step == cut {
                    resumed = serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap();
                }
                let whole = slice(policy, &mut memory, step as u64, values, seed);
                if step >= cut {
                    prop_assert_eq!(slice(policy, &mut resumed, step as u64, values, seed), whole, "{}", kind);
                }
            }
        }
    }
}

#[test]
fn random_draws_are_uniform() {
    let (n_blocks, n_draws) = (12, 12_000u64);
    let values = vec![1.0; n_blocks];
    let mut counts = vec![0u32; n_blocks];
    for turn in 0..n_draws {
        for block in slice(policy(Policy::Random, 2), &mut Memory::default(), 3 * turn, &values, 5).iter() {
            counts[block.0] += 1;
        }
    }
    // Expected 2000 each, standard deviation 41: five of them on either side.
    assert!(counts.iter().all(|c| (1795..=2205).contains(c)), "{counts:?}");
}
