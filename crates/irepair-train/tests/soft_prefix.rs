//! A run of a model with a soft prefix: the prefix moves, and nothing else.

use irepair_core::spec::Method;
use irepair_core::{BlockSlice, Scope};
use irepair_model::{BlockModel, CausalLm, TextBatch};
use irepair_objective::Objective;
use irepair_train::{Engine, Localise, Measured, OptimizerKind, Settings, step_flops};
use tch::{Device, Tensor, no_grad};

mod support;
use support::{Always, FAMILIES, assert_resume_of, bits, data, model, settings, take, texts};

fn prefixed(family: &str) -> CausalLm {
    model(family).with_soft_prefix(5, 3).unwrap()
}

fn everything() -> Box<dyn Localise + Send> {
    Box::new(Always(Scope::Everything))
}

fn logits(model: &dyn BlockModel) -> Tensor {
    let padded = irepair_core::PaddedTokens::right_padded(&texts(3, 2, 9, 7), 0).unwrap();
    no_grad(|| model.logits(&TextBatch::new(padded, Device::Cpu)))
}

#[test]
fn the_prefix_moves_and_every_weight_keeps_its_bits() {
    let data = data();
    for family in FAMILIES {
        for method in [Method::Dpo, Method::DpoKl, Method::DaptKl, Method::Npo] {
            let (model, plain) = (prefixed(family), model(family));
            let settings = Settings { lr: 1e-2, ..settings() };
            let mut engine = Engine::new(&model, method, everything(), &data, settings).unwrap();
            let mut before = bits(&model);
            for _ in 0..3 {
                let record = engine.step().unwrap();
                assert_eq!(record.slice, BlockSlice::default(), "no block is updated");
                assert!(record.loss.is_finite() && record.grad_norm > 0.0);
                let after = bits(&model);
                let (prefix, weights) = after.split_last().unwrap();
                assert!(weights == &bits(&plain)[..] && prefix != before.last().unwrap(), "{family} {method}");
                before = after;
            }
            let reference = engine.reference().unwrap();
            assert!(logits(reference).equal(&logits(&plain)), "{family}: the reference is the model as it was");
            assert!(!logits(&model).equal(&logits(&plain)));
            assert_eq!(engine.changed_weights().len(), 1);
        }
    }
}

/// DPO's loss is ln 2 where model and reference agree: a prefix makes them differ from the first step on, unless the
/// reference had it too.
#[test]
fn the_first_loss_compares_with_the_model_as_it_was() {
    let (data, model) = (data(), prefixed("gpt2"));
    let mut engine = Engine::new(&model, Method::Dpo, everything(), &data, settings()).unwrap();
    let first = engine.step().unwrap().loss;
    assert!((first - std::f64::consts::LN_2).abs() > 1e-4, "{first}");
}

#[test]
fn training_a_prefix_lowers_its_loss() {
    let (data, model) = (data(), prefixed("llama"));
    let settings = Settings { lr: 3e-2, n_steps: 60, ..settings() };
    let mut engine = Engine::new(&model, Method::Dapt, everything(), &data, settings).unwrap();
    let records = take(&mut engine, 60);
    let mean = |part: &[irepair_core::StepRecord]| part.iter().map(|r| r.loss).sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&records[..9]), mean(&records[51..]));
    assert!(last < first - 0.05, "{first} {last}");
}

#[test]
fn a_stopped_run_of_a_prefix_continues_with_the_same_bits() {
    for (family, optimizer) in [("gpt2", OptimizerKind::rmsprop()), ("gpt-neo", OptimizerKind::adamw(0.1))] {
        let settings = Settings { optimizer, lr: 1e-2, ..settings() };
        assert_resume_of(|| prefixed(family), Method::DpoKl, &settings, |_| everything());
    }
}

#[test]
fn a_state_of_a_run_without_the_prefix_is_refused() {
    let (data, dir) = (data(), tempfile::tempdir().unwrap());
    let file = dir.path().join("state");
    let (with, without) = (prefixed("gpt2"), model("gpt2"));
    let engine = |model| Engine::new(model, Method::Dpo, everything(), &data, settings()).unwrap();
    engine(&without).save(&file).unwrap();
    let error = engine(&with).resume(&file).unwrap_err().to_string();
    let reason = format!("{error} {:?}", engine(&with).resume(&file).unwrap_err());
    assert!(reason.contains("the model's weights"), "{reason}");
}

/// By hand, in units of one block's forward pass of one token.
#[test]
fn work_is_that_of_activations_alone_and_of_the_prefix() {
    let (data, with) = (data(), prefixed("gpt2"));
    let record = take(&mut Engine::new(&with, Method::Dpo, everything(), &data, settings()).unwrap(), 1).remove(0);
    let found = step_flops(
        &with,
        &Objective::of_method(Method::Dpo, &Default::default()),
        false,
        Measured::default(),
        &record,
        2,
    );
    let (blocks, head) = (with.config().block_flops(), with.config().head_flops());
    // Model: forward, and backward to activations. Reference: forward. Prefix: 5 vectors before 2 texts of both kinds.
    let want = record.tokens as f64 * 3.0 * (blocks + head) + 2.0 * (2.0 * 5.0) * 2.0 * blocks;
    assert!((found / want - 1.0).abs() < 1e-12, "{found} {want}");
}
