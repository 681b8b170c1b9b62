//! Steps of the engine, as a user of the library would run them.

use std::sync::Arc;

use irepair_baselines::Unsliced;
use irepair_core::StepRecord;
use irepair_core::spec::Method;
use irepair_data::TokenPair;
use irepair_objective::Objective;
use irepair_repair::SliceLocaliser;
use irepair_sensitivity::{Metric, Route};
use irepair_slicing::PolicySpec;
use irepair_train::{Engine, Localise, RepairData, Settings, step_flops};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::turns::repeated;
use crate::{Args, Measured, What, weight_bytes};

/// Steps before a text comes again.
const N_DRAWN: usize = 16;

/// Steps on texts of random tokens, every one of them as long as the others.
pub(crate) fn steps(args: &Args) -> anyhow::Result<Measured> {
    let model = args.random_model()?;
    let data = Arc::new(random_data(args, model.config().n_vocab as u32, N_DRAWN * args.batch));
    let settings = Settings {
        n_steps: u64::MAX,
        batch_size: args.batch,
        lr: 1e-6,
        warmup_steps: 0,
        shuffle: false,
        ..Settings::default()
    };
    let method = match args.what {
        What::Irepair => Method::Irepair,
        What::IrepairNoKl => Method::IrepairNoKl,
        What::DaptKl => Method::DaptKl,
        What::Dpo => Method::Dpo,
        _ => Method::Dapt,
    };
    let objective = Objective::from(method);
    let sliced = method.row().policy.is_sliced();
    let localiser: Box<dyn Localise + Send> = if sliced {
        let spec = PolicySpec { slice_k: args.top_k, ..PolicySpec::new(method.row().policy) };
        Box::new(SliceLocaliser::new(&spec, &data, &settings)?.metric(Metric::GradL2, Route::Ghost))
    } else {
        Box::new(Unsliced)
    };
    let mut engine = Engine::new(&model, method, localiser, &data, settings)?;
    let mut records = Vec::new();
    let measured = repeated(args, 0.0, || {
        records.push(engine.step()?);
        Ok(())
    })?;
    let counted = &records[args.warm_up..];
    let share = if sliced { 1.0 } else { 0.0 };
    let of_step = irepair_train::Measured { forward: share, backward: share, to_weights: true, fisher: 0.0 };
    let flops = |record| step_flops(&model, &objective, sliced, of_step, record, args.batch);
    let flops = counted.iter().map(flops).sum::<f64>();
    let slice = |record: &StepRecord| if sliced { record.slice.to_string() } else { "all".to_owned() };
    Ok(Measured {
        flops: flops / counted.len().max(1) as f64,
        tokens: counted.first().map_or(0.0, |record| record.tokens as f64),
        slices: counted.iter().map(slice).collect(),
        weight_bytes: weight_bytes(&model),
        ..measured
    })
}

fn random_data(args: &Args, n_vocab: u32, n: usize) -> RepairData {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut text = |n_tokens: usize| (0..n_tokens).map(|_| rng.random_range(0..n_vocab)).collect::<Vec<u32>>();
    let half = args.tokens / 2;
    let mut pair =
        || TokenPair { prompt: text(half), chosen: text(args.tokens - half), rejected: text(args.tokens - half) };
    let pairs = (0..n).map(|_| pair()).collect();
    let utility = (0..n).map(|_| text(args.tokens)).collect();
    RepairData { pairs, utility, ..RepairData::default() }
}
