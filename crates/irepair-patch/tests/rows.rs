//! Laws of patches that hold rows or columns alone: applied and reverted they give the same bytes as whole tensors do,
//! composed they are the direct patch, and they are as small as what changed.

mod workshop;

use std::path::Path;

use irepair_core::fs::sha256_hex;
use irepair_patch::{Kind, Patch, Side, compose};
use proptest::prelude::*;
use workshop::{Tensor, apply, create, f32s, files, revert, write_model};

/// A matrix and a vector, in a type with values of 4 or 2 bytes.
fn model(rows: usize, columns: usize, narrow: bool) -> Vec<Tensor> {
    let (dtype, size) = if narrow { ("BF16", 2) } else { ("F32", 4) };
    let tensor = |name: &str, shape: Vec<usize>| {
        let n_bytes = shape.iter().product::<usize>() * size;
        Tensor { name: name.to_owned(), dtype, shape, bytes: (0..n_bytes).map(|i| (i * 37 % 251) as u8).collect() }
    };
    vec![tensor("h.0.w", vec![rows, columns]), tensor("h.0.b", vec![columns]), f32s("wte", &[1.0, 2.0])]
}

/// The model with rows or columns of its first two tensors changed: those whose number modulo `n` is `which`.
fn changed(model: &[Tensor], columns: bool, n: usize, which: usize, mask: u8) -> Vec<Tensor> {
    let mut model = model.to_vec();
    for tensor in &mut model[..2] {
        let (width, size) = (*tensor.shape.last().unwrap(), if tensor.dtype == "F32" { 4 } else { 2 });
        let (is_vector, n_values) = (tensor.shape.len() == 1, tensor.bytes.len() / size);
        for value in 0..n_values {
            let line = if columns || is_vector { value % width } else { value / width };
            if line % n == which {
                tensor.bytes[value * size + value % size] ^= mask;
            }
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_and_columns_are_applied_and_reverted_to_the_byte(
        rows in 1usize..20, columns in 1usize..20, narrow: bool, by_column: bool, n in 1usize..9, which in 0usize..9,
        mask in 1u8.., n_shards in 1usize..3,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let base = model(rows, columns, narrow);
        let repaired = changed(&base, by_column, n, which, mask);
        write_model(&at("base"), &base, n_shards);
        write_model(&at("repaired"), &repaired, n_shards);
        let patch = create(&at("base"), &at("repaired"), Kind::Xor, &at("fix")).unwrap();
        apply(&at("base"), &patch, &at("patched")).unwrap();
        prop_assert_eq!(files(&at("patched")), files(&at("repaired")));
        revert(&at("patched"), &patch, None, &at("restored")).unwrap();
        prop_assert_eq!(files(&at("restored")), files(&at("base")));
        // What is held changes in every row of it, and is never more than the tensors.
        let whole: u64 = patch.manifest().changed().map(|(name, _)| {
            base.iter().find(|t| t.name == *name).unwrap().bytes.len() as u64
        }).sum();
        prop_assert!(patch.n_bytes() <= whole);
        for (name, record) in patch.manifest().changed() {
            let Some(held) = &record.rows else { continue };
            let tensor = |model: &[Tensor]| model.iter().find(|t| t.name == *name).unwrap().clone();
            let (before, after) = (tensor(&base), tensor(&repaired));
            let (width, size) = (record.shape.iter().skip(1).product::<usize>(), before.bytes.len() / record.shape.iter().product::<usize>());
            let differs = |line: usize| before.bytes.iter().zip(&after.bytes).enumerate().any(|(i, (a, b))| {
                let value = i / size;
                a != b && line == if held.dim == 0 { value / width } else { value % width }
            });
            let is_held = |line: usize| held.ranges.iter().any(|[first, end]| (*first..*end).contains(&line));
            prop_assert!((0..record.shape[held.dim]).all(|line| differs(line) == is_held(line)), "{} {:?}", name, held);
        }
    }

    #[test]
    fn rows_of_two_patches_compose_to_the_direct_patch(
        by_column in [any::<bool>(), any::<bool>()], n in 2usize..9, which in [0usize..4, 0usize..4],
        masks in [1u8.., 1u8..], whole in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let base = model(17, 13, false);
        let middle = changed(&base, by_column[0], if whole { 1 } else { n }, if whole { 0 } else { which[0] }, masks[0]);
        let end = changed(&middle, by_column[1], n, which[1], masks[1]);
        for (name, model) in [("base", &base), ("middle", &middle), ("end", &end)] {
            write_model(&at(name), model, 1);
        }
        let one = create(&at("base"), &at("middle"), Kind::Xor, &at("one")).unwrap();
        let two = create(&at("middle"), &at("end"), Kind::Xor, &at("two")).unwrap();
        let both = compose(&one, &two, None, &at("both")).unwrap();
        let direct = create(&at("base"), &at("end"), Kind::Xor, &at("direct")).unwrap();
        prop_assert_eq!(&both.manifest().tensors, &direct.manifest().tensors);
        apply(&at("base"), &both, &at("patched")).unwrap();
        prop_assert_eq!(files(&at("patched")), files(&at("end")));
        // Through another kind the patch is made from the base.
        let replaced = create(&at("middle"), &at("end"), Kind::Replace, &at("replace")).unwrap();
        let mixed = compose(&one, &replaced, Some(&at("base")), &at("mixed")).unwrap();
        prop_assert_eq!(&mixed.manifest().tensors, &direct.manifest().tensors);
    }
}

/// 16 rows of 16 numbers, of which column 3 changes: the models of `version-1.safetensors`.
fn column_3(repaired: bool) -> [Tensor; 2] {
    let value = |i: usize| if repaired && i % 16 == 3 { -1.0 - (i / 16) as f32 } else { i as f32 * 0.5 };
    let mut matrix = f32s("h.0.w", &(0..256).map(value).collect::<Vec<_>>());
    matrix.shape = vec![16, 16];
    [matrix, f32s("wte", &[1.0, 2.0, 3.0, 4.0])]
}

/// `version-1.safetensors` was made by `irepair patch create` before patches could hold rows.
#[test]
fn a_patch_of_whole_tensors_from_before_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_model(&at("base"), &column_3(false), 1);
    write_model(&at("repaired"), &column_3(true), 1);
    let old = Patch::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/version-1.safetensors")).unwrap();
    assert_eq!((old.n_bytes(), old.manifest().n_weights()), (1024, 256));
    apply(&at("base"), &old, &at("patched")).unwrap();
    assert_eq!(files(&at("patched")), files(&at("repaired")));
    revert(&at("patched"), &old, None, &at("restored")).unwrap();
    assert_eq!(files(&at("restored")), files(&at("base")));
    // The patch of today is of the same models, and holds the column alone.
    let new = create(&at("base"), &at("repaired"), Kind::Xor, &at("fix")).unwrap();
    for side in [Side::Base, Side::Result] {
        assert_eq!(new.manifest().model_id(side), old.manifest().model_id(side));
    }
    assert_eq!((new.n_bytes(), new.manifest().n_weights()), (64, 16));
    // The other way round, old and new leave nothing.
    let back = create(&at("repaired"), &at("base"), Kind::Xor, &at("back")).unwrap();
    let nothing = compose(&old, &back, None, &at("nothing")).unwrap();
    assert_eq!(nothing.manifest().changed().count(), 0);
}

#[test]
fn a_patch_of_whole_tensors_is_byte_for_byte_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_model(&at("base"), &[f32s("w", &[1.0, 2.0])], 1);
    write_model(&at("repaired"), &[f32s("w", &[1.5, 2.5])], 1);
    create(&at("base"), &at("repaired"), Kind::Xor, &at("fix")).unwrap();
    let hash = sha256_hex(&std::fs::read(at("fix")).unwrap());
    assert_eq!(hash, "20dc10cc6eb5be5df372aa3e541860d117c97aeaf26694d68e51c8b568d102fa");
}

#[test]
fn a_patch_whose_rows_do_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_model(&at("base"), &column_3(false), 1);
    write_model(&at("repaired"), &column_3(true), 1);
    create(&at("base"), &at("repaired"), Kind::Xor, &at("fix")).unwrap();
    let text = std::fs::read(at("fix")).unwrap();
    let said = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let position = text.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        let mut broken = text.clone();
        broken[position..position + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(at("broken"), broken).unwrap();
        workshop::message(Patch::open(&at("broken")), dir.path())
    };
    let ranges = r#"\"ranges\":[[3,4]]"#;
    assert!(said(ranges, r#"\"ranges\":[[4,3]]"#).contains("lists rows that are no ranges in order below 16"));
    assert!(said(ranges, r#"\"ranges\":[[3,9]]"#).contains("is stored as F32 [16, 1], wanted F32 [16, 6]"));
    assert!(said(r#"\"dim\":1"#, r#"\"dim\":2"#).contains("has no dimension 2 that rows could be of"));
    assert!(said(r#"\"dim\":1"#, r#"\"dim\":0"#).contains("is stored as F32 [16, 1], wanted F32 [1, 16]"));
    // Another column than the one that was held: the outcome is not the promised one, and nothing is written.
    let position = text.windows(ranges.len()).position(|part| part == ranges.as_bytes()).unwrap();
    let other = [&text[..position], br#"\"ranges\":[[2,3]]"#, &text[position + ranges.len()..]].concat();
    std::fs::write(at("broken"), other).unwrap();
    let error = workshop::message(apply(&at("base"), &Patch::open(&at("broken")).unwrap(), &at("out")), dir.path());
    assert!(error.contains("tensor `h.0.w`\n want: sha256 ") && !at("out").exists(), "{error}");
}

#[test]
fn patches_that_undo_one_another_but_promise_a_change_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_model(&at("base"), &column_3(false), 1);
    write_model(&at("repaired"), &column_3(true), 1);
    let mut third = column_3(true);
    third[0].bytes.iter_mut().skip(12).step_by(64).for_each(|byte| *byte ^= 1);
    write_model(&at("third"), &third, 1);
    let first = create(&at("base"), &at("repaired"), Kind::Xor, &at("first")).unwrap();
    let second = create(&at("repaired"), &at("third"), Kind::Xor, &at("second")).unwrap();
    assert!(compose(&first, &second, None, &at("both")).is_ok());
    // The second patch holds what the first one holds.
    let (held, mut text) = (std::fs::read(at("first")).unwrap(), std::fs::read(at("second")).unwrap());
    let (n, n_held) = (text.len(), 16 * 4);
    text[n - n_held..].copy_from_slice(&held[held.len() - n_held..]);
    std::fs::write(at("second"), text).unwrap();
    let second = Patch::open(&at("second")).unwrap();
    let error = workshop::message(compose(&first, &second, None, &at("nothing")), dir.path());
    assert!(error.contains("patch is corrupt") && error.contains("h.0.w"), "{error}");
    assert!(!at("nothing").exists());
}
