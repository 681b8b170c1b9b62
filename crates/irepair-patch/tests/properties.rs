//! Laws of patches: what is applied is the repaired model, what is reverted is the base, to the byte, for every type,
//! in one file and in shards; composing is applying in a row.

mod workshop;

use std::path::Path;

use irepair_core::Checkpoint;
use irepair_patch::{Error, Kind, Lossy, Side, Verdict, compose, model_id, verify, write_changed};
use proptest::prelude::*;
use workshop::{Tensor, apply, create, f32s, files, revert, write_model};

/// One to five tensors of all types a model may have, with any bytes: NaN and infinity among them.
fn model() -> impl Strategy<Value = Vec<Tensor>> {
    let shape = prop_oneof![Just(vec![]), Just(vec![3]), Just(vec![2, 4]), Just(vec![0, 7]), Just(vec![5, 1, 2])];
    let dtype = prop_oneof![Just(("F32", 4)), Just(("F16", 2)), Just(("BF16", 2)), Just(("U8", 1)), Just(("I64", 8))];
    let tensor = (shape, dtype).prop_flat_map(|(shape, (dtype, size))| {
        let n_bytes = shape.iter().product::<usize>() * size;
        (Just(shape), Just(dtype), proptest::collection::vec(any::<u8>(), n_bytes))
    });
    proptest::collection::vec(tensor, 1..6).prop_map(|tensors| {
        // Names run against the order in the file.
        let named =
            |(i, (shape, dtype, bytes)): (usize, _)| Tensor { name: format!("h.{}.w", 9 - i), dtype, shape, bytes };
        tensors.into_iter().enumerate().map(named).collect()
    })
}

/// The model with the bytes of some tensors changed; bit `i` of `which` selects tensor `i`.
fn changed(model: &[Tensor], which: u8, mask: u8) -> Vec<Tensor> {
    let mut model = model.to_vec();
    for (i, tensor) in model.iter_mut().enumerate().filter(|(i, _)| which >> i & 1 == 1) {
        tensor.bytes.iter_mut().enumerate().for_each(|(j, b)| *b ^= mask.rotate_left((i + j) as u32));
    }
    model
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn apply_gives_the_repaired_files_and_revert_the_base_files(
        base in model(), which: u8, mask: u8, n_shards in 1usize..4, replace: bool,
    ) {
        let dir = temporary();
        let at = |name: &str| dir.path().join(name);
        write_model(&at("base"), &base, n_shards);
        write_model(&at("repaired"), &changed(&base, which, mask), n_shards);
        let kind = if replace { Kind::Replace } else { Kind::Xor };
        let patch = create(&at("base"), &at("repaired"), kind, &at("fix")).unwrap();
        create(&at("base"), &at("repaired"), kind, &at("again")).unwrap();
        prop_assert_eq!(std::fs::read(at("fix")).unwrap(), std::fs::read(at("again")).unwrap());

        let report = apply(&at("base"), &patch, &at("patched")).unwrap();
        prop_assert_eq!(files(&at("patched")), files(&at("repaired")));
        prop_assert!(report.inexact.is_empty() && report.left_out.is_empty());
        let same = model_id(&at("base")).unwrap() == model_id(&at("patched")).unwrap();
        prop_assert_eq!(patch.manifest().changed().count() == 0, same);
        prop_assert_eq!(verify(&at("base"), &patch).unwrap(), Verdict::Base);
        prop_assert_eq!(verify(&at("patched"), &patch).unwrap(), if same { Verdict::Base } else { Verdict::Result });

        let origin = at("base");
        revert(&at("patched"), &patch, replace.then_some(origin.as_path()), &at("restored")).unwrap();
        prop_assert_eq!(files(&at("restored")), files(&at("base")));
    }

    #[test]
    fn a_copy_with_other_tensors_has_those_bytes_and_all_else_as_it_was(
        base in model(), which: u8, mask: u8, n_shards in 1usize..4,
    ) {
        let dir = temporary();
        let at = |name: &str| dir.path().join(name);
        let other = changed(&base, which, mask);
        write_model(&at("base"), &base, n_shards);
        write_model(&at("wanted"), &other, n_shards);
        std::fs::write(at("wanted").join("note.toml"), "a = 1").unwrap();
        std::fs::write(at("base").join("note.toml"), "a = 0").unwrap();
        let bytes = other.into_iter().map(|t| (t.name, t.bytes)).collect();
        let model = Checkpoint::open(&at("base")).unwrap();
        let write = |out: &str| write_changed(&model, &bytes, &[("note.toml", "a = 1")], &at(out), &mut |_| {});
        prop_assert!(write("copy").unwrap().is_empty());
        prop_assert_eq!(files(&at("copy")), files(&at("wanted")));
        prop_assert!(write("copy").is_err(), "what is there is not written over");
    }

    #[test]
    fn composing_a_chain_is_applying_in_a_row(
        base in model(), first: u8, second: u8, masks: [u8; 2], kinds in [0usize..2, 0usize..2],
    ) {
        let dir = temporary();
        let at = |name: &str| dir.path().join(name);
        let middle = changed(&base, first, masks[0]);
        write_model(&at("base"), &base, 1);
        write_model(&at("middle"), &middle, 2);
        write_model(&at("end"), &changed(&middle, second, masks[1]), 1);
        let one = create(&at("base"), &at("middle"), Kind::ALL[kinds[0]], &at("one")).unwrap();
        let two = create(&at("middle"), &at("end"), Kind::ALL[kinds[1]], &at("two")).unwrap();
        let both = compose(&one, &two, Some(&at("base")), &at("both")).unwrap();
        apply(&at("base"), &both, &at("patched")).unwrap();
        prop_assert_eq!(files(&at("patched")), files(&at("end")));
        // The direct patch differs in its provenance alone.
        let direct = create(&at("base"), &at("end"), both.manifest().kind, &at("direct")).unwrap();
        prop_assert_eq!(&direct.manifest().tensors, &both.manifest().tensors);
        prop_assert_eq!(direct.n_bytes(), both.n_bytes());
        if kinds[0] == kinds[1] {
            // Two patches of one kind need no base.
            compose(&one, &two, None, &at("blind")).unwrap();
            prop_assert_eq!(std::fs::read(at("blind")).unwrap(), std::fs::read(at("both")).unwrap());
        }
    }

    #[test]
    fn patches_side_by_side_compose_in_either_order_or_conflict(base in model(), left: u8, right: u8) {
        let dir = temporary();
        let at = |name: &str| dir.path().join(name);
        write_model(&at("base"), &base, 1);
        write_model(&at("left"), &changed(&base, left, 1), 1);
        write_model(&at("right"), &changed(&base, right, 2), 1);
        let left = create(&at("base"), &at("left"), Kind::Xor, &at("l")).unwrap();
        let right = create(&at("base"), &at("right"), Kind::Xor, &at("r")).unwrap();
        let names = |patch: &irepair_patch::Patch| patch.manifest().changed().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        let shared: Vec<String> = names(&left).into_iter().filter(|n| names(&right).contains(n)).collect();
        if shared.is_empty() {
            let one = compose(&left, &right, None, &at("lr")).unwrap();
            let two = compose(&right, &left, None, &at("rl")).unwrap();
            prop_assert_eq!(one.manifest().model_id(Side::Result), two.manifest().model_id(Side::Result));
            apply(&at("base"), &one, &at("x")).unwrap();
            apply(&at("base"), &two, &at("y")).unwrap();
            prop_assert_eq!(files(&at("x")), files(&at("y")));
        } else {
            match compose(&left, &right, None, &at("lr")) {
                Err(Error::Conflict { tensors, .. }) => prop_assert_eq!(tensors, shared),
                other => prop_assert!(false, "{:?}", other.map(drop)),
            }
        }
    }

    #[test]
    fn small_differences_are_exact_both_ways(
        values in proptest::collection::vec(0.5f32..0.9, 1..20), share in 0.99f32..1.01,
    ) {
        // A difference of two floats within a factor of two of each other is a float (Sterbenz), so nothing rounds.
        let dir = temporary();
        let at = |name: &str| dir.path().join(name);
        let after: Vec<f32> = values.iter().map(|v| v * share).collect();
        write_model(&at("base"), &[f32s("w", &values)], 1);
        write_model(&at("repaired"), &[f32s("w", &after)], 1);
        let patch = create(&at("base"), &at("repaired"), Kind::Delta, &at("fix")).unwrap();
        apply(&at("base"), &patch, &at("patched")).unwrap();
        prop_assert_eq!(files(&at("patched")), files(&at("repaired")));
        revert(&at("patched"), &patch, None, &at("restored")).unwrap();
        prop_assert_eq!(files(&at("restored")), files(&at("base")));
    }
}

#[test]
fn a_patch_does_not_care_how_tensors_are_spread_over_files() {
    let dir = temporary();
    let at = |name: &str| dir.path().join(name);
    let base = [f32s("a", &[1.0, 2.0]), f32s("b", &[3.0]), f32s("c", &[4.0])];
    let repaired = [f32s("a", &[1.0, 2.5]), f32s("b", &[3.0]), f32s("c", &[4.5])];
    write_model(&at("base"), &base, 1);
    write_model(&at("repaired"), &repaired, 2);
    write_model(&at("shards"), &base, 3);
    let patch = create(&at("base"), &at("repaired"), Kind::Xor, &at("fix")).unwrap();
    apply(&at("shards"), &patch, &at("patched")).unwrap();
    write_model(&at("want"), &repaired, 3);
    assert_eq!(files(&at("patched")), files(&at("want")));
}

#[test]
fn a_block_whose_number_begins_anothers_is_another_block() {
    let dir = temporary();
    let at = |name: &str| dir.path().join(name);
    let model = |one: f32, ten: f32| [f32s("h.1.mlp", &[one]), f32s("h.10.mlp", &[ten]), f32s("h.100.mlp", &[7.0])];
    let write = |name: &str, one, ten| write_model(&at(name), &model(one, ten), 1);
    let [base, first, tenth, both] =
        [write("base", 1.0, 2.0), write("first", 1.5, 2.0), write("tenth", 1.0, 2.5), write("both", 1.5, 2.5)];
    let of_first = create(&base, &first, Kind::Xor, &at("1.patch")).unwrap();
    let of_tenth = create(&base, &tenth, Kind::Xor, &at("10.patch")).unwrap();
    let changed =
        |patch: &irepair_patch::Patch| patch.manifest().changed().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!((changed(&of_first), changed(&of_tenth)), (vec!["h.1.mlp".to_owned()], vec!["h.10.mlp".to_owned()]));
    let composed = irepair_patch::compose(&of_first, &of_tenth, None, &at("both.patch")).unwrap();
    apply(&base, &composed, &at("patched")).unwrap();
    assert_eq!(files(&at("patched")), files(&both));
    // The one is taken back and the other stays.
    let rest = irepair_patch::create(&first, &both, Kind::Xor, Default::default(), &at("rest.patch")).unwrap();
    revert(&both, &rest, None, &at("reverted")).unwrap();
    assert_eq!(files(&at("reverted")), files(&first));
}

#[test]
fn tensors_longer_than_a_piece_come_through() {
    let dir = temporary();
    let at = |name: &str| dir.path().join(name);
    let halves = |add: f32| -> Tensor {
        let n = 700_001;
        let bytes = (0..n).flat_map(|i| half(1.0 + (i % 64) as f32 / 1024.0 + add).to_le_bytes()).collect();
        Tensor { name: "w".into(), dtype: "BF16", shape: vec![n], bytes }
    };
    fn half(value: f32) -> u16 {
        (value.to_bits() >> 16) as u16
    }
    write_model(&at("base"), &[halves(0.0)], 1);
    write_model(&at("repaired"), &[halves(0.25)], 1);
    for kind in Kind::ALL {
        let patch = create(&at("base"), &at("repaired"), kind, &at(&format!("{kind}.patch"))).unwrap();
        apply(&at("base"), &patch, &at(&format!("{kind}.patched"))).unwrap();
        assert_eq!(files(&at(&format!("{kind}.patched"))), files(&at("repaired")));
    }
}

#[test]
fn a_lossy_difference_is_refused_unless_allowed_and_then_named() {
    let dir = temporary();
    let at = |name: &str| dir.path().join(name);
    write_model(&at("base"), &[f32s("v", &[1.0]), f32s("w", &[1e-10])], 1);
    write_model(&at("repaired"), &[f32s("v", &[1.5]), f32s("w", &[1.0])], 1);
    let patch = create(&at("base"), &at("repaired"), Kind::Delta, &at("fix")).unwrap();
    apply(&at("base"), &patch, &at("patched")).unwrap();
    let error = workshop::message(revert(&at("patched"), &patch, None, &at("restored")), dir.path());
    assert!(error.starts_with(
        "error: result differs by rounding in 1 of the changed tensors\n   at: fix, tensor `w`\n want: sha256 "
    ));
    assert!(error.contains("--allow-lossy"), "{error}");
    assert!(!at("restored").exists(), "a refused revert writes nothing");

    let report = irepair_patch::revert(&at("patched"), &patch, None, &at("near"), Lossy::Allow, &mut |_| {}).unwrap();
    assert_eq!(report.inexact, ["w"]);
    assert!(
        matches!(verify(&at("near"), &patch).unwrap(), Verdict::Neither { from_base, .. } if from_base.tensor == "w")
    );
    revert(&at("patched"), &patch, Some(Path::new(&at("base"))), &at("exact")).unwrap();
    assert_eq!(files(&at("exact")), files(&at("base")), "with the base the way back is exact");
}
