//! Laws of the forward pass and of who may change (METHOD §1, §2), on random models of two blocks.

use common::{FAMILIES, N_VOCAB, bits, config, model};
use irepair_core::{BlockId, BlockSlice, Diagnose, PaddedTokens, Scope};
use irepair_model::{BlockModel, CausalLm, Decoding, Error, TextBatch};
use proptest::prelude::*;
use tch::{Device, Kind, no_grad};

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

/// Logits at the real tokens of one row.
fn logits_of(model: &CausalLm, padded: &PaddedTokens, row: i64) -> Vec<f32> {
    let batch = TextBatch::new(padded.clone(), Device::Cpu);
    let logits = no_grad(|| model.logits(&batch));
    assert!(logits.isfinite().all().int64_value(&[]) == 1, "pads are finite too");
    let real = batch.attention_mask.select(0, row);
    Vec::try_from(logits.select(0, row).index(&[Some(&real)]).view(-1)).unwrap()
}

fn assert_near(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    let far = got.iter().zip(want).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0f32, f32::max);
    assert!(far <= 1e-5, "off by {far:e}");
}

fn texts() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..N_VOCAB, 1..12), 1..5)
}

// ---- the forward pass ---------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn logits_do_not_depend_on_padding_or_neighbours(rows in texts(), cut in 0usize..12, neo: bool) {
        let model = model(FAMILIES[usize::from(neo)]);
        let (right, left) = (PaddedTokens::right_padded(&rows, 0).unwrap(), PaddedTokens::left_padded(&rows, 7).unwrap());
        // Prompts to the left, continuations to the right: pads on both sides.
        let split = |row: &Vec<u32>| cut.min(row.len());
        let prompts: Vec<Vec<u32>> = rows.iter().map(|r| r[..split(r)].to_vec()).collect();
        let continuations: Vec<Vec<u32>> = rows.iter().map(|r| r[split(r)..].to_vec()).collect();
        let both = PaddedTokens::prompted(&prompts, &continuations, 3).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let alone = PaddedTokens::right_padded(std::slice::from_ref(row), 0).unwrap();
            let want = logits_of(&model, &alone, 0);
            for padded in [&right, &left, &both] {
                assert_near(&logits_of(&model, padded, i as i64), &want);
            }
        }
    }

    #[test]
    fn a_token_sees_only_what_came_before(row in prop::collection::vec(0..N_VOCAB, 2..12), last in 0..N_VOCAB, neo: bool) {
        let model = model(FAMILIES[usize::from(neo)]);
        let mut other = row.clone();
        *other.last_mut().unwrap() = last;
        let of = |row: Vec<u32>| logits_of(&model, &PaddedTokens::right_padded(&[row], 0).unwrap(), 0);
        let n = (row.len() - 1) * N_VOCAB as usize;
        assert_near(&of(row)[..n], &of(other)[..n]);
    }

    #[test]
    fn generation_is_unaffected_by_left_padding(rows in texts(), neo: bool) {
        let model = model(FAMILIES[usize::from(neo)]);
        let together = model.generate(&rows, 5, Decoding::Greedy, &[2]).unwrap();
        for (row, want) in rows.iter().zip(together) {
            prop_assert_eq!(&model.generate(std::slice::from_ref(row), 5, Decoding::Greedy, &[2]).unwrap()[0], &want);
        }
    }
}

#[test]
fn generating_changes_no_weight() {
    for family in FAMILIES {
        let model = model(family);
        let before = bits(&model);
        model.generate(&[vec![1, 2], vec![3]], 6, Decoding::Greedy, &[]).unwrap();
        model.generate(&[vec![1]], 6, Decoding::Nucleus { top_p: 0.9, temperature: 1.0, seed: 1 }, &[]).unwrap();
        assert!(bits(&model) == before);
    }
}

#[test]
fn the_same_seed_makes_the_same_model() {
    for family in FAMILIES {
        let make = |seed| bits(&CausalLm::random(config(family), seed, Device::Cpu, Kind::Float).unwrap());
        assert!(make(1) == make(1));
        assert!(make(1) != make(2));
    }
}

#[test]
fn a_duplicate_has_weights_of_its_own() {
    for family in FAMILIES {
        let model = model(family);
        let copy = model.duplicate().unwrap();
        assert!(bits(&model) == bits(&copy));
        let before = bits(&copy);
        no_grad(|| model.parameters().iter().for_each(|p| drop(p.tensor.shallow_clone().g_add_scalar_(1.0))));
        assert!(bits(&copy) == before);
        // The head of the copy is the copy's embedding.
        let batch = PaddedTokens::right_padded(&[vec![1, 2, 3]], 0).unwrap();
        no_grad(|| drop(copy.parameters()[0].tensor.shallow_clone().g_mul_scalar_(0.0)));
        assert!(logits_of(&copy, &batch, 0).iter().all(|&z| z == 0.0));
    }
}

// ---- who may change -----------------------------------------------------------------------------------------------

#[test]
fn gradients_reach_the_scope_and_nothing_else() {
    let batch = TextBatch::new(PaddedTokens::right_padded(&[vec![3, 1, 4, 1, 5]], 0).unwrap(), Device::Cpu);
    for family in FAMILIES {
        let model = model(family);
        let loss = |scope: &Scope| {
            model.train_only(scope);
            model.gradients(&model.logits(&batch).square().mean(Kind::Float))
        };
        let all = loss(&Scope::Everything).unwrap();
        assert_eq!(all.len(), model.parameters().len());
        for slice in [vec![0], vec![1], vec![0, 1]] {
            let slice = BlockSlice::from_indices(slice);
            let gradients = loss(&Scope::Blocks(slice.clone())).unwrap();
            for (index, gradient) in &gradients {
                assert!(model.parameters()[*index].block.is_some_and(|b| slice.contains(b)));
                // The slice changes which gradients are computed, not what they are.
                let full = &all.iter().find(|(i, _)| i == index).unwrap().1;
                let far = (gradient - full).abs().max().double_value(&[]);
                assert!(far <= 1e-6 * full.abs().max().double_value(&[]).max(1.0), "{far:e}");
            }
            let n_of = |b: BlockId| model.parameters().iter().filter(|p| p.block == Some(b)).count();
            assert_eq!(gradients.len(), slice.iter().map(n_of).sum::<usize>());
            assert!(model.parameters().iter().all(|p| !p.tensor.grad().defined()), "nothing is stored");
        }
        model.freeze();
        assert!(model.gradients(&model.logits(&batch).sum(Kind::Float)).is_err(), "no parameter wants a gradient");
    }
}

#[test]
fn too_many_positions_are_refused_with_both_numbers() {
    let model = model("gpt2");
    assert!(model.check_length(32).is_ok());
    let error = model.generate(&[vec![1; 30]], 3, Decoding::Greedy, &[]).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { n_positions: 32, got: 33 }));
    assert_eq!(
        error.diagnostic().to_string(),
        "error: text is longer than the model's context\n want: at most 32 positions    got: 33\n help: shorten the text, \
         or ask for fewer tokens of the prompt or the continuation"
    );
}
