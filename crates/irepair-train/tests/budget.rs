//! The KL budget (METHOD §22): a run ends where a validation finds more KL, with the best weights before.

use std::sync::Arc;

use irepair_core::Scope;
use irepair_core::spec::{Method, Term};
use irepair_model::{BlockModel, CausalLm};
use irepair_train::{Engine, Outcome, RepairData, Settings};
use support::{Always, assert_near, assert_resume_is_exact, bits, data, model, plain_data, settings};

mod support;

const DPO: Method = Method::Dpo;

fn everything() -> Always {
    Always(Scope::Everything)
}

fn held_to(budget_kl: Option<f64>, n_steps: u64, lr: f64) -> Settings {
    Settings { budget_kl, n_steps, lr, warmup_steps: 0, eval_every_examples: 4, patience: 1000, ..settings() }
}

/// Held-out pairs that are trained on: every step makes the validation loss better.
fn fitting() -> Arc<RepairData> {
    let data = plain_data();
    Arc::new(RepairData { validation: data.pairs.clone(), ..data })
}

fn run(model: &CausalLm, settings: Settings) -> Outcome {
    let mut choose = everything();
    let mut engine = Engine::new(model, DPO, &mut choose, &fitting(), settings).unwrap();
    while engine.unfinished() {
        engine.step().unwrap();
    }
    engine.finish().unwrap().1
}

/// KL of a model to the one that runs start from, on the held-out utility texts, by an engine whose loss it is.
fn kl_of(changed: &CausalLm) -> f64 {
    let (start, mut choose) = (model("gpt2"), everything());
    let engine = Engine::new(&start, Term::Kl, &mut choose, &data(), settings()).unwrap();
    tch::no_grad(|| {
        for (to, from) in start.parameters().iter().zip(changed.parameters()) {
            // The reference keeps what the run starts from.
            engine.reference().unwrap().copy_on_write(index_of(&start, &to.name));
            to.tensor.detach().copy_(&from.tensor);
        }
    });
    engine.validation_loss().unwrap().unwrap()
}

fn index_of(model: &CausalLm, name: &str) -> usize {
    model.parameters().iter().position(|parameter| parameter.name == name).unwrap()
}

#[test]
fn a_run_ends_over_its_budget_and_keeps_weights_within_it() {
    // Some way beyond the first validation, and far from where 60 steps lead.
    let first = run(&model("gpt2"), held_to(Some(1e3), 2, 2e-5)).best_kl.unwrap();
    let budget = 4.0 * first;
    let bounded = model("gpt2");
    let outcome = run(&bounded, held_to(Some(budget), 60, 2e-5));
    assert!(outcome.is_over_budget && outcome.stopped_early && outcome.n_steps < 60, "{outcome:?}");
    let kl = outcome.best_kl.unwrap();
    assert!(kl > first / 2.0 && kl <= budget, "{kl} of {budget}");
    assert_near("KL", kl, kl_of(&bounded), 1e-6);
}

#[test]
fn a_first_validation_over_the_budget_gives_the_start_back() {
    let tried = model("gpt2");
    let start = bits(&tried);
    let outcome = run(&tried, held_to(Some(1e-9), 60, 3e-3));
    assert_eq!((outcome.best_step, outcome.best_kl, outcome.is_over_budget), (Some(0), Some(0.0), true));
    assert!(bits(&tried) == start);
}

#[test]
fn a_run_that_ended_between_two_validations_would_give_weights_within_its_budget() {
    let (tried, data) = (model("gpt2"), fitting());
    let start = bits(&tried);
    let given = |settings: Settings, n: usize| {
        let (model, mut choose) = (model("gpt2"), everything());
        let mut engine = Engine::new(&model, DPO, &mut choose, &data, settings).unwrap();
        (0..n).for_each(|_| drop(engine.step().unwrap()));
        let (step, weights) = engine.outcome_now().unwrap();
        (step, weights.into_iter().map(|(name, weights)| (name, weights.copy())).collect::<Vec<_>>())
    };
    // Two steps are one validation, and the loss falls at every step.
    let within = |budget| held_to(Some(budget), 60, 2e-5);
    assert_eq!([1, 2, 3].map(|n| given(within(1e3), n).0), [1, 2, 3]);
    let (step, weights) = given(within(1e-12), 1);
    assert_eq!(step, 0);
    for (name, weights) in weights {
        let of_start = Vec::<f32>::try_from(weights.view(-1)).unwrap().into_iter().map(f32::to_bits);
        assert!(of_start.eq(start[index_of(&tried, &name)].iter().copied()), "{name}");
    }
    // Validated after six steps, within the budget; over it after nine.
    let rarely = |budget, n_steps| Settings { eval_every_examples: 12, ..held_to(Some(budget), n_steps, 2e-5) };
    let [six, nine] = [6, 9].map(|n_steps| run(&model("gpt2"), rarely(1e3, n_steps)).best_kl.unwrap());
    assert!(2.0 * six < nine, "{six} {nine}");
    let after_nine = |budget| given(rarely(budget, 60), 9).0;
    assert_eq!([after_nine((six + nine) / 2.0), after_nine(1e3)], [6, 9]);
}

#[test]
fn a_budget_that_is_kept_changes_nothing() {
    let (with, without) = (model("gpt2"), model("gpt2"));
    let kept = run(&with, held_to(Some(1e3), 12, 1e-3));
    let free = run(&without, held_to(None, 12, 1e-3));
    assert!(!kept.is_over_budget && kept.best_kl.is_some());
    assert_eq!((kept.best_step, kept.best_loss, kept.n_steps), (free.best_step, free.best_loss, free.n_steps));
    assert!(bits(&with) == bits(&without));
}

#[test]
fn a_budget_needs_held_out_pairs_and_is_a_number_over_0() {
    let data = Arc::new(RepairData { validation: Vec::new(), ..plain_data() });
    let (start, mut choose) = (model("gpt2"), everything());
    let refused = |data: &Arc<RepairData>, budget: f64, choose: &mut _| {
        Engine::new(&start, DPO, choose, data, held_to(Some(budget), 5, 1e-3)).err().map(|error| error.to_string())
    };
    assert!(refused(&data, 0.1, &mut choose).unwrap().contains("held-out pairs"));
    assert!(refused(&support::data(), 0.0, &mut choose).unwrap().contains("budget_kl"));
}

#[test]
fn a_run_under_a_budget_resumes_exactly() {
    assert_resume_is_exact("gpt2", DPO, &held_to(Some(0.02), 12, 3e-3), |_| Box::new(everything()));
}
