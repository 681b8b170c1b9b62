//! Where each family rounds when it computes in bfloat16: as transformers does, wherever no matrix product enters.
//!
//! These operations go element by element, or sum in float32, so that the same casts give the same bits on every
//! processor, but for a float32 result that lies on the border of two values. A cast in another place changes a fifth
//! of the values.

use std::collections::HashMap;

use irepair_arch::Slot;
use irepair_core::{BlockId, PaddedTokens};
use tch::{Device, Kind, Tensor};

use super::support;
use crate::layers::Norm;
use crate::rotation::Rotation;
use crate::{BlockModel, CausalLm, TextBatch};

/// Values that may be the neighbour of what transformers has, of a hundred.
const PERCENT_ON_A_BORDER: usize = 1;

fn assert_bits(what: &str, got: &Tensor, want: &Tensor) {
    assert_eq!((got.kind(), got.size()), (Kind::BFloat16, want.size()), "{what}");
    let (got, want) = (support::values(got), support::values(want));
    let off: Vec<_> = got.iter().zip(&want).filter(|(a, b)| a != b).collect();
    let neighbours = off.iter().all(|(a, b)| (*a - *b).abs() <= a.abs().max(b.abs()) / 128.0);
    let few = off.len() * 100 <= got.len() * PERCENT_ON_A_BORDER;
    assert!(few && neighbours, "{what}: {} of {} differ, first {:?}", off.len(), got.len(), off.first());
}

fn each(check: impl Fn(&str, CausalLm, HashMap<String, Tensor>)) {
    for case in support::BF16 {
        let dir = support::parity(&format!("models/{case}/model"));
        let model = CausalLm::load(&dir, Device::Cpu, Kind::BFloat16).unwrap().0;
        check(case, model, support::tensors(&format!("models/{case}/bf16.safetensors")));
    }
}

#[test]
fn embeddings_are_rounded_where_transformers_rounds_them() {
    each(|case, model, want| {
        let golden = &support::json(&format!("models/{case}/golden.json"))["batches"]["chosen"];
        let (ids, real) = support::batch(golden);
        // Every text by itself, without its padding.
        let text = |row: i64| ids.get(row).masked_select(&real.get(row));
        let texts: Vec<Vec<u32>> = (0..ids.size()[0])
            .map(|row| support::values(&text(row)).into_iter().map(|id| id as u32).collect())
            .collect();
        let padded = PaddedTokens::prompted(&vec![Vec::new(); texts.len()], &texts, 100).unwrap();
        let batch = TextBatch::new(padded, Device::Cpu);
        let got = model.prefix_states(&batch, BlockId(0)).unwrap().hidden.index(&[Some(&batch.attention_mask)]);
        assert_bits(case, &got, &want["embedding"].index(&[Some(&real)]));
    });
}

#[test]
fn norms_are_rounded_where_transformers_rounds_them() {
    each(|case, model, want| {
        let norm = Norm::new(&model.params, None, Slot::FinalNorm, model.config()).unwrap();
        assert_bits(case, &norm.apply(&want["norm.x"]), &want["norm.y"]);
    });
}

#[test]
fn rotations_are_rounded_where_transformers_rounds_them() {
    each(|case, model, want| {
        for (name, want_y) in &want {
            // Families with learned positions have none.
            let Some(block) = name.strip_prefix("rotary.").and_then(|rest| rest.strip_suffix(".y")) else { continue };
            let positions = Tensor::arange(12, (Kind::Int64, Device::Cpu)).unsqueeze(0);
            let mask = positions.ge(0);
            let rotation = Rotation::new(model.config(), &mask, &positions, Kind::BFloat16).unwrap();
            let angles = rotation.of(BlockId(block.parse().unwrap())).unwrap();
            assert_bits(&format!("{case}, block {block}"), &angles.apply(&want["rotary.x"]), want_y);
        }
    });
}
