//! What is not a number: the run stops, names where and with which texts, and saves nothing of it.

use std::sync::Arc;

use irepair_core::spec::Method;
use irepair_core::{BlockId, Diagnose, Scope};
use irepair_model::{BlockModel, CausalLm, Parameter};
use irepair_train::{
    BatchSampler, Engine, Error, Identity, Localise, RepairData, Result, SampledIndices, Settings, StepBatch,
};
use support::{Always, FAMILIES, REPAIR, bits, blocks, data, model, plain_data, settings, take};
use tch::no_grad;

mod support;

fn poison(model: &CausalLm, name: &str) {
    let parameter = model.parameters().iter().find(|p| p.name == name).unwrap();
    no_grad(|| drop(parameter.tensor.view(-1).narrow(0, 3, 1).fill_(f64::NAN)));
}

fn sampled(model: &CausalLm, data: &Arc<RepairData>, settings: &Settings, step: u64) -> SampledIndices {
    BatchSampler::new(data, true, settings, model.device()).unwrap().indices(step, settings).unwrap()
}

fn without_validation() -> Arc<RepairData> {
    Arc::new(RepairData { validation: vec![], validation_utility: vec![], ..plain_data() })
}

#[test]
fn a_nan_weight_stops_the_step_by_name_and_nothing_moves_or_is_saved() {
    let data = data();
    for family in FAMILIES {
        let model = model(family);
        let mut choose = Always(blocks([1, 2]));
        let mut engine = Engine::new(&model, REPAIR, &mut choose, &data, settings()).unwrap();
        take(&mut engine, 1);
        let of_block = |p: &&Parameter| p.block == Some(BlockId(2)) && p.tensor.dim() == 2;
        let name = model.parameters().iter().rfind(of_block).map(|p| p.name.clone()).unwrap();
        poison(&model, &name);
        let before = bits(&model);
        let [a, b] = sampled(&model, &data, &settings(), 0).pairs[..] else { panic!("two pairs a step") };
        assert_eq!(
            engine.step().unwrap_err().diagnostic().to_string(),
            format!(
                "error: weight `{name}` is not finite at step 0\n   at: blocks 2; training pairs {a}, {b} \
                 (counted from 0)\n help: lower the learning rate, and look at these texts; earlier checkpoints are untouched"
            )
        );
        assert!(bits(&model) == before);
        assert_eq!(engine.next_step(), 1);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(engine.save(file.path()), Err(Error::NotFinite { step: 0, .. })));
        assert_eq!(file.as_file().metadata().unwrap().len(), 0, "the earlier checkpoint is what it was");
    }
}

#[test]
fn an_update_that_leaves_no_number_is_neither_saved_nor_handed_over() {
    // Loss and gradient are finite: only the update is too long for f32.
    let (data, settings) = (without_validation(), Settings { lr: 1e39, warmup_steps: 0, n_steps: 1, ..settings() });
    let model = model("gpt2");
    let mut choose = Always(blocks([1]));
    let mut engine = Engine::new(&model, REPAIR, &mut choose, &data, settings.clone()).unwrap();
    let record = engine.step().unwrap();
    assert!(record.loss.is_finite() && record.grad_norm.is_finite());
    let dir = tempfile::tempdir().unwrap();
    for error in
        [engine.save(&dir.path().join("run")).unwrap_err(), engine.finish().map(|(_, outcome)| outcome).unwrap_err()]
    {
        let Error::NotFinite { what, step: 0, scope, sampled: texts } = error else { panic!("{error}") };
        assert!(what.starts_with("weight `h.1.") && scope == Some(blocks([1])), "{what}");
        assert_eq!(texts, sampled(&model, &data, &settings, 0));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_loss_that_breaks_names_the_batch_that_broke_it() {
    // The embedding of the tenth position is finite, but no sum over it is: only texts that long break the loss.
    let (data, settings) = (without_validation(), settings());
    let is_long = |&i: &usize| {
        let pair = &data.pairs[i];
        pair.prompt.len() + pair.chosen.len().max(pair.rejected.len()) >= 10
    };
    let model = model("gpt2");
    let wpe = &model.parameters().iter().find(|p| p.name == "wpe.weight").unwrap().tensor;
    no_grad(|| drop(wpe.select(0, 9).fill_(3e38)));
    let mut choose = Always(Scope::Everything);
    let mut engine = Engine::new(&model, Method::Dpo, &mut choose, &data, settings.clone()).unwrap();
    let error = (0..9).find_map(|_| engine.step().err()).unwrap();
    let Error::NotFinite { what, step, scope, sampled: texts } = error else { panic!("{error}") };
    assert_eq!((what.as_str(), scope), ("the loss is not finite", Some(Scope::Everything)));
    assert!(texts.pairs.iter().any(is_long) && texts.utility.is_empty(), "{texts:?}");
    assert!((0..step).all(|step| !sampled(&model, &data, &settings, step).pairs.iter().any(is_long)));
}

/// A localiser whose sensitivities are not finite.
struct Lost;

impl Localise for Lost {
    fn localise(&mut self, _: &dyn BlockModel, _: &StepBatch, _: u64) -> Result<Scope> {
        Err(irepair_core::Error::BadSensitivity { block: BlockId(1), value: f64::INFINITY }.into())
    }

    fn identity(&self) -> Identity {
        Identity::default()
    }
}

#[test]
fn a_sensitivity_that_is_not_finite_names_its_texts_too() {
    let (data, model) = (data(), model("gpt2"));
    let error = Engine::new(&model, REPAIR, &mut Lost, &data, settings()).unwrap().step().unwrap_err();
    let Error::NotFinite { what, step: 0, scope: None, sampled: texts } = error else { panic!("{error}") };
    assert_eq!(what, "sensitivity of block 1 is inf");
    assert_eq!(texts, sampled(&model, &data, &settings(), 0));
}
