//! Every baseline from the same start on the same pairs: what its loss does, and how likely both sides become.
//!
//! `cargo run -p irepair-baselines --example baselines`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;
use std::sync::Arc;

use irepair_baselines::Unsliced;
use irepair_core::spec::Method;
use irepair_data::TokenPair;
use irepair_model::{Architecture, BlockModel, CausalLm, TextBatch, states_at};
use irepair_objective::head_log_probs;
use irepair_train::{BatchSampler, Engine, RepairData, Settings};
use tch::{Device, Kind, no_grad};

/// Mean NLL of a text under the model, nats per token.
fn nll(model: &CausalLm, text: Option<&TextBatch>) -> Result<f64, Box<dyn Error>> {
    let text = text.ok_or("no such side")?;
    let hidden = no_grad(|| model.hidden_states(text));
    let scores = head_log_probs(
        &states_at(&hidden, &text.target_positions),
        &model.head(),
        model.logit_softcap(),
        &text.target_ids,
    );
    Ok(-scores.values.mean(Kind::Float).double_value(&[]))
}

fn main() -> Result<(), Box<dyn Error>> {
    // More threads only wait for one another in operations this small.
    tch::set_num_threads(1);
    let start = CausalLm::random(Architecture::gpt_neo(4, 32, 4, 32, 64, 8), 0, Device::Cpu, Kind::Float)?;
    let pair = |i: u32| TokenPair { prompt: vec![i, i + 1], chosen: vec![i + 2, i + 3], rejected: vec![60, 61, 62] };
    let data = Arc::new(RepairData {
        pairs: (1..33).map(pair).collect(),
        utility: (1..20).map(|i| vec![i, i + 7, i + 14]).collect(),
        ..RepairData::default()
    });
    let settings = Settings { n_steps: 25, lr: 3e-4, warmup_steps: 0, skip_prompt: true, ..Settings::default() };
    let everything = Settings { batch_size: data.pairs.len(), ..settings.clone() };
    let pairs = BatchSampler::new(&data, false, &everything, Device::Cpu)?.at(0, &everything)?;
    let both = |model: &CausalLm| -> Result<(f64, f64), Box<dyn Error>> {
        Ok((nll(model, pairs.micro[0].chosen.as_ref())?, nll(model, pairs.micro[0].rejected.as_ref())?))
    };

    let (chosen, rejected) = both(&start)?;
    println!("{:<20} {:>22}   {:>11} {:>13}", "", "loss", "NLL(chosen)", "NLL(rejected)");
    println!("{:<20} {:>22}   {chosen:>11.2} {rejected:>13.2}", "start", "");
    for method in Method::ALL.iter().filter(|method| method.has_rate() && !method.row().policy.is_sliced()) {
        let mut engine =
            Engine::new(Box::new(start.duplicate()?), *method, Box::new(Unsliced), &data, settings.clone())?;
        let mut losses = Vec::new();
        while engine.unfinished() {
            losses.push(engine.step()?.loss);
        }
        let (model, _) = engine.finish()?;
        let (chosen, rejected) = both(&model)?;
        let loss = format!("{:.3} -> {:.3}", losses[0], losses[losses.len() - 1]);
        println!("{method:<20} {loss:>22}   {chosen:>11.2} {rejected:>13.2}");
    }
    Ok(())
}
