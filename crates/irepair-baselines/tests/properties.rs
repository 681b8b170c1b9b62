//! Laws of the baselines (METHOD §7, §19), on models of four blocks.

use irepair_baselines::Unsliced;
use irepair_core::spec::{Method, Number, Numbers};
use irepair_objective::Objective;
use irepair_train::{Engine, Localise, OptimizerKind, Settings};
use support::{FAMILIES, assert_near, assert_resume_is_exact, bits, data, model, settings, take};

#[path = "../../irepair-train/tests/support/mod.rs"]
mod support;

const DAPT_KL: Method = Method::DaptKl;
const DPO: Method = Method::Dpo;
const NPO: Method = Method::Npo;

/// Every method that follows gradients without a slice.
fn all() -> impl Iterator<Item = Method> {
    Method::ALL.iter().copied().filter(|method| method.has_rate() && !method.row().policy.is_sliced())
}

fn run(family: &str, baseline: Method, settings: Settings) -> (Vec<Vec<u32>>, Vec<irepair_core::StepRecord>) {
    let (data, model) = (data(), model(family));
    let n = settings.n_steps;
    let records = take(&mut Engine::new(&model, baseline, &mut Unsliced, &data, settings).unwrap(), n);
    (bits(&model), records)
}

#[test]
fn every_baseline_changes_every_parameter_and_names_every_block() {
    for family in FAMILIES {
        let before = bits(&model(family));
        for baseline in all() {
            let (after, records) = run(family, baseline, Settings { n_steps: 1, ..settings() });
            assert!(before.iter().zip(&after).all(|(a, b)| a != b), "{baseline}: embeddings included");
            assert_eq!(records[0].slice.to_string(), "0,1,2,3");
        }
    }
}

#[test]
fn a_baseline_runs_no_text_it_does_not_need() {
    // METHOD §12 counts passes: the rejected texts cost DAPT nothing, and no baseline takes a sensitivity pass.
    let data = data();
    let settings = Settings { n_steps: 1, ..settings() };
    let sampler = irepair_train::BatchSampler::new(&data, true, &settings, tch::Device::Cpu).unwrap();
    let batch = sampler.at(0, &settings).unwrap();
    let [m] = batch.micro.as_slice() else { panic!("one micro-batch") };
    let n = |text: &Option<irepair_model::TextBatch>| text.as_ref().unwrap().n_real() as u64;
    let (chosen, rejected, utility) = (n(&m.chosen), n(&m.rejected), n(&m.utility));
    let tokens = |baseline| run("gpt2", baseline, settings.clone()).1[0].tokens;
    assert_eq!(tokens(Method::Dapt), chosen);
    assert_eq!(tokens(DAPT_KL), chosen + utility);
    assert_eq!(tokens(DPO), chosen + rejected);
    assert_eq!(tokens(NPO), rejected + utility);
    assert_eq!(Unsliced.n_tokens(&batch, 0), 0);
}

#[test]
fn step_0_has_the_values_of_a_model_that_is_its_reference() {
    for family in FAMILIES {
        let first = |baseline| run(family, baseline, Settings { n_steps: 1, ..settings() }).1.remove(0);
        assert!((first(DPO).loss - 2f64.ln()).abs() <= 1e-6);
        let npo = first(NPO);
        assert_near("NPO", npo.loss, 2.0 / 0.1 * 2f64.ln(), 1e-6);
        assert!(npo.kl.unwrap().abs() <= 1e-6);
        let dapt_kl = first(DAPT_KL);
        assert!(dapt_kl.kl.unwrap().abs() <= 1e-6);
        assert_near("DAPT+KL", dapt_kl.loss, 0.5 * dapt_kl.nll.unwrap(), 1e-6);
        // The controls are the same two likelihoods with other signs.
        let (ascent, difference) = (first(Method::GradientAscent), first(Method::GradientDifference));
        assert_near("difference", difference.loss, difference.nll.unwrap() + ascent.loss, 1e-5);
    }
}

#[test]
fn only_losses_with_a_reference_keep_one() {
    let data = data();
    for baseline in all() {
        let (model, mut unsliced) = (model("gpt2"), Unsliced);
        let engine = Engine::new(&model, baseline, &mut unsliced, &data, settings()).unwrap();
        let keeps = !matches!(baseline, Method::Dapt | Method::GradientAscent | Method::GradientDifference);
        assert_eq!(engine.reference().is_some(), keeps, "{baseline}");
    }
}

#[test]
fn each_loss_falls_on_the_pairs_it_is_trained_on() {
    let data = std::sync::Arc::new(irepair_train::RepairData { pairs: support::pairs(2, 1), ..support::plain_data() });
    for family in FAMILIES {
        for baseline in all() {
            let model = model(family);
            let settings = Settings { n_steps: 30, lr: 5e-4, patience: 1000, ..settings() };
            let records = take(&mut Engine::new(&model, baseline, &mut Unsliced, &data, settings).unwrap(), 30);
            assert!(records[29].loss < records[0].loss, "{baseline}");
        }
    }
}

#[test]
fn the_kl_term_holds_dapt_near_the_reference() {
    let kl_after = |gamma| {
        let (data, model) = (data(), model("gpt2"));
        let objective = Objective::of_method(DAPT_KL, &Numbers::default().with(Number::Gamma, gamma));
        let settings = Settings { n_steps: 30, patience: 1000, ..settings() };
        take(&mut Engine::new(&model, objective, &mut Unsliced, &data, settings).unwrap(), 30)[29].kl.unwrap()
    };
    assert!(kl_after(10.0) < 0.7 * kl_after(0.01), "{} against {}", kl_after(10.0), kl_after(0.01));
}

#[test]
fn a_run_resumed_at_any_step_is_the_uninterrupted_run() {
    let adamw = Settings { optimizer: OptimizerKind::adamw(0.1), ..settings() };
    assert_resume_is_exact("gpt2", DPO, &adamw, |_| Box::new(Unsliced));
    assert_resume_is_exact("gpt-neo", DPO, &settings(), |_| Box::new(Unsliced));
    assert_resume_is_exact("gpt2", NPO, &settings(), |_| Box::new(Unsliced));
    assert_resume_is_exact("gpt-neo", DAPT_KL, &adamw, |_| Box::new(Unsliced));
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    for baseline in [Method::Dapt, DPO] {
        assert!(run("gpt2", baseline, settings()) == run("gpt2", baseline, settings()));
    }
}
