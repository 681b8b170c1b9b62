//! Laws of IRepair's step and of its slicer (METHOD §3, §5, §6, §19), on models of four blocks.

use std::sync::Arc;

use irepair_core::spec::{Method, Number};
use irepair_core::{BlockSlice, Diagnose, Scope, SliceSize};
use irepair_model::{BlockModel, CausalLm, TextBatch};
use irepair_objective::TextLogits;
use irepair_repair::SliceLocaliser;
use irepair_sensitivity::{Metric, Route};
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{BatchSampler, Engine, Localise, MicroBatch, OptimizerKind, RepairData, Settings, StepBatch};
use support::{
    Always, FAMILIES, N_BLOCKS, assert_near, assert_resume_is_exact, bits, blocks, changed_blocks, data,
    decaying_and_clipped, distance, model, plain_data, settings, take,
};
use tch::{Kind, no_grad};

#[path = "../../irepair-train/tests/support/mod.rs"]
mod support;

fn spec(kind: Policy, k: usize) -> PolicySpec {
    PolicySpec { slice_k: SliceSize::Blocks(k), ..PolicySpec::new(kind) }
        .with(Number::PolicyEvery, 2.0)
        .with(Number::PolicyEpsilon, 0.5)
}

fn slicer(spec: &PolicySpec, data: &Arc<RepairData>, settings: &Settings) -> SliceLocaliser {
    SliceLocaliser::new(spec, data, settings).unwrap().fixed_batches(3)
}

/// RMSprop that rounding cannot shake: with a large eps a tiny gradient makes a tiny update.
fn smooth() -> Settings {
    Settings { optimizer: OptimizerKind::RmsProp { alpha: 0.99, eps: 0.1 }, clip_norm: 1e9, ..settings() }
}

#[test]
fn one_step_changes_exactly_k_blocks_bit_for_bit() {
    let data = data();
    for family in FAMILIES {
        for k in 1..=N_BLOCKS {
            for kind in [Policy::Dynamic, Policy::Reverse, Policy::Fixed, Policy::Random] {
                let natural = Settings { optimizer: OptimizerKind::natural(), lr: 1e-4, ..settings() };
                for settings in [settings(), decaying_and_clipped(), natural] {
                    let model = model(family);
                    let before = bits(&model);
                    let mut slicer = slicer(&spec(kind, k), &data, &settings);
                    let mut engine = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings).unwrap();
                    let slice = engine.step().unwrap().slice;
                    assert_eq!(slice.len(), k, "{kind}");
                    assert_eq!(changed_blocks(&model, &before, &bits(&model)), slice, "{kind}");
                }
            }
        }
    }
}

#[test]
fn blocks_outside_the_slice_stay_frozen_while_slices_change() {
    let data = data();
    let kinds = [Policy::Dynamic, Policy::Random, Policy::Cyclic, Policy::Explore, Policy::Coverage];
    for family in FAMILIES {
        for kind in kinds {
            let settings = Settings { n_steps: 12, ..decaying_and_clipped() };
            let model = model(family);
            let mut slicer = slicer(&spec(kind, 2), &data, &settings);
            let mut engine = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings).unwrap();
            for _ in 0..12 {
                let before = bits(&model);
                let slice = engine.step().unwrap().slice;
                assert_eq!(changed_blocks(&model, &before, &bits(&model)), slice, "{kind}");
            }
        }
    }
}

#[test]
fn blocks_that_may_not_be_chosen_keep_their_bits_through_a_run() {
    let data = data();
    let kinds = Policy::ALL.iter().filter(|kind| kind.is_sliced());
    for kind in kinds {
        let settings = Settings { n_steps: 6, ..decaying_and_clipped() };
        let (model, eligible) = (model(FAMILIES[0]), BlockSlice::from_indices([1, 3]));
        let before = bits(&model);
        let mut slicer = slicer(&spec(*kind, 1), &data, &settings).among(eligible.clone());
        take(&mut Engine::new(&model, Method::Irepair, &mut slicer, &data, settings).unwrap(), 6);
        let changed = changed_blocks(&model, &before, &bits(&model));
        assert!(!changed.is_empty() && changed.iter().all(|block| eligible.contains(block)), "{kind}: {changed}");
        if *kind == Policy::Blocks {
            assert_eq!(changed, eligible);
        }
    }
}

#[test]
fn adapters_change_the_projections_of_the_slice_by_their_rank_and_nothing_else() {
    let data = data();
    for family in FAMILIES {
        let (model, base) = (model(family), model(family));
        let settings = Settings { lora_rank: 2, lr: 1e-2, n_steps: 4, ..settings() };
        let mut slicer = slicer(&spec(Policy::Blocks, 1), &data, &settings).among(BlockSlice::from_indices([1, 2]));
        take(&mut Engine::new(&model, Method::Dpo, &mut slicer, &data, settings).unwrap(), 4);
        for (after, before) in model.parameters().iter().zip(base.parameters()) {
            let change = no_grad(|| &after.tensor - &before.tensor);
            let adapted = after.tensor.dim() == 2 && after.block.is_some_and(|block| [1, 2].contains(&block.0));
            if !adapted {
                assert!(after.tensor.equal(&before.tensor), "{}", after.name);
                continue;
            }
            let values = Vec::<f64>::try_from(change.to_kind(Kind::Double).svd(true, false).1).unwrap();
            assert!(values[1] > 0.0 && values[2] < 1e-4 * values[0], "{}: {values:?}", after.name);
        }
    }
}

#[test]
fn a_choice_among_every_block_is_no_restriction() {
    let data = data();
    for kind in [Policy::Dynamic, Policy::Fixed, Policy::Random, Policy::Ema] {
        let run = |restricted: bool| {
            let model = model(FAMILIES[0]);
            let mut slicer = slicer(&spec(kind, 2), &data, &settings());
            if restricted {
                slicer = slicer.among(BlockSlice::from_indices(0..N_BLOCKS));
            }
            take(&mut Engine::new(&model, Method::SlicedDpo, &mut slicer, &data, settings()).unwrap(), 4);
            bits(&model)
        };
        assert!(run(true) == run(false), "{kind}");
    }
}

#[test]
fn dynamic_takes_the_most_and_reverse_the_least_sensitive_blocks() {
    let data = data();
    for family in FAMILIES {
        for kind in [Policy::Dynamic, Policy::Reverse] {
            let model = model(family);
            let mut slicer = slicer(&spec(kind, 2), &data, &settings());
            let slice = {
                let objective = Method::Irepair;
                Engine::new(&model, objective, &mut slicer, &data, settings()).unwrap().step().unwrap().slice
            };
            let mut ranking = slicer.last().unwrap().ranking();
            if kind == Policy::Reverse {
                ranking.reverse();
            }
            assert_eq!(slice, ranking.into_iter().take(2).collect::<BlockSlice>());
        }
    }
}

#[test]
fn dynamic_with_every_block_is_dapt_with_kl_restricted_to_blocks() {
    let data = data();
    let objective = Method::Irepair;
    for family in FAMILIES {
        // Bit for bit the run that simply updates all blocks: measuring leaves no trace.
        let run = |localiser: &mut dyn Localise| {
            let model = model(family);
            let records = take(&mut Engine::new(&model, objective, localiser, &data, settings()).unwrap(), 5);
            (model, records)
        };
        let (sliced, got) = run(&mut slicer(&spec(Policy::Dynamic, N_BLOCKS), &data, &settings()));
        let (plain, want) = run(&mut Always(blocks(0..N_BLOCKS)));
        assert!(bits(&sliced) == bits(&plain));
        let (unmeasured, _) = run(&mut slicer(&spec(Policy::Blocks, 1), &data, &settings()));
        assert!(bits(&unmeasured) == bits(&plain));
        for (got, want) in got.iter().zip(&want) {
            assert!(got.tokens > want.tokens, "the sensitivity pass is counted");
            assert_eq!((got.loss, got.grad_norm, &got.slice), (want.loss, want.grad_norm, &want.slice));
        }

        // And the blocks' first step is that of the unsliced loss.
        let (sliced, unsliced) = (model(family), model(family));
        let mut choose = slicer(&spec(Policy::Dynamic, N_BLOCKS), &data, &smooth());
        take(&mut Engine::new(&sliced, objective, &mut choose, &data, smooth()).unwrap(), 1);
        take(&mut Engine::new(&unsliced, objective, &mut Always(Scope::Everything), &data, smooth()).unwrap(), 1);
        for (a, b) in sliced.parameters().iter().zip(unsliced.parameters()) {
            let far = no_grad(|| (&a.tensor - &b.tensor).abs().max().double_value(&[]));
            assert_eq!(far <= 1e-7, a.block.is_some(), "{}: {far:e}", a.name);
        }
    }
}

#[test]
fn sliced_gradients_are_those_of_the_unsliced_loss() {
    let (data, settings) = (data(), settings());
    for family in FAMILIES {
        let model = model(family);
        let batch = BatchSampler::new(&data, false, &settings, model.device()).unwrap().at(0, &settings).unwrap();
        let text = batch.micro[0].chosen.as_ref().unwrap();
        let gradients = |scope: &Scope| {
            model.train_only(scope);
            let logits = model.logits(text);
            let TextBatch { ids, attention_mask, loss_mask, counts, .. } = text;
            let text = TextLogits { ids, attention_mask, loss_mask, counts: *counts, logits: &logits };
            model.gradients(&text.log_probs().unwrap().nll_mean().unwrap()).unwrap()
        };
        let all = gradients(&Scope::Everything);
        for block in 0..N_BLOCKS {
            for (index, gradient) in gradients(&blocks([block])) {
                let want = &all.iter().find(|(i, _)| *i == index).unwrap().1;
                let far = (gradient - want).abs().max().double_value(&[]);
                assert!(far <= 1e-6 * want.abs().max().double_value(&[]).max(1.0), "{far:e}");
            }
        }
    }
}

#[test]
fn at_step_0_the_kl_constraint_pulls_nowhere() {
    // KL is at its minimum there, so with and without it the first step is the same.
    let data = data();
    for family in FAMILIES {
        let run = |method| {
            let model = model(family);
            let mut slicer = slicer(&spec(Policy::Dynamic, 1), &data, &smooth());
            let record = Engine::new(&model, method, &mut slicer, &data, smooth()).unwrap().step().unwrap();
            (model, record)
        };
        let ((with, a), (without, b)) = (run(Method::Irepair), run(Method::IrepairNoKl));
        assert_eq!(a.slice, b.slice);
        assert!(a.kl.unwrap().abs() <= 1e-6 && b.kl.is_none());
        assert_near("loss", a.loss, b.loss, 1e-5);
        assert_near("gradient norm", a.grad_norm, b.grad_norm, 1e-5);
        assert!(distance(&with, &without) <= 1e-6);
        assert!(a.tokens > b.tokens, "utility text is counted where it is run");
    }
}

#[test]
fn a_run_resumed_at_any_step_is_the_uninterrupted_run() {
    let resumed = |family, kind, settings: Settings| {
        let objective = Method::Irepair;
        let choose = settings.clone();
        assert_resume_is_exact(family, objective, &settings, move |data| {
            Box::new(slicer(&spec(kind, 1), data, &choose))
        });
    };
    resumed("gpt2", Policy::Dynamic, settings());
    resumed("gpt-neo", Policy::Dynamic, decaying_and_clipped());
    resumed("gpt2", Policy::Ema, settings());
    resumed("gpt-neo", Policy::Random, Settings { optimizer: OptimizerKind::adamw(0.1), ..settings() });
    resumed("gpt2", Policy::EveryN, settings());
    let adapters = Settings { lora_rank: 2, lr: 1e-2, ..settings() };
    resumed("gpt2", Policy::Random, adapters.clone());
    resumed("llama", Policy::Blocks, Settings { optimizer: OptimizerKind::adamw(0.1), ..adapters });
    let natural = Settings { optimizer: OptimizerKind::natural(), lr: 1e-4, ..settings() };
    resumed("llama", Policy::Random, natural.clone());
    assert_resume_is_exact("gpt2", Method::IrepairNoKl, &natural.clone(), move |data| {
        let slicer = slicer(&spec(Policy::Dynamic, 1), data, &natural);
        Box::new(slicer.metric(Metric::Efficiency, Route::Ghost))
    });
    resumed("gpt2", Policy::Fixed, settings());
}

#[test]
fn eight_micro_batches_of_one_choose_and_change_as_one_batch_of_eight() {
    let data = data();
    for family in FAMILIES {
        for route in [Route::Stored, Route::Ghost] {
            let run = |batch_size, accumulation| {
                let model = model(family);
                let settings = Settings { batch_size, accumulation, ..smooth() };
                let mut slicer = slicer(&spec(Policy::Dynamic, 2), &data, &settings).metric(Metric::GradL2, route);
                let objective = Method::Irepair;
                let record = Engine::new(&model, objective, &mut slicer, &data, settings).unwrap().step().unwrap();
                (model, record, slicer.last().unwrap().clone())
            };
            let ((whole, want, s), (parts, got, s_parts)) = (run(8, 1), run(1, 8));
            for (a, b) in s_parts.values().iter().zip(s.values()) {
                assert!((a - b).abs() <= 1e-5 * b, "{a} against {b}");
            }
            assert_eq!((got.slice, got.tokens), (want.slice, want.tokens));
            assert_near("loss", got.loss, want.loss, 1e-5);
            assert!(distance(&whole, &parts) <= 1e-6);
        }
    }
}

#[test]
fn the_ghost_route_repairs_as_the_stored_one() {
    let data = data();
    for family in FAMILIES {
        let run = |route| {
            let model = model(family);
            let mut slicer = slicer(&spec(Policy::Dynamic, 1), &data, &settings()).metric(Metric::GradL2, route);
            let objective = Method::Irepair;
            let records = take(&mut Engine::new(&model, objective, &mut slicer, &data, settings()).unwrap(), 5);
            (bits(&model), records)
        };
        assert!(run(Route::Ghost) == run(Route::Stored), "the same slices, so the same bits");
    }
}

#[test]
fn the_fixed_estimate_leaves_the_weights_alone_and_is_made_once() {
    let data = data();
    let model = model("gpt2");
    let before = bits(&model);
    let mut slicer = slicer(&spec(Policy::Fixed, 1), &data, &settings());
    let batch = BatchSampler::new(&data, false, &settings(), model.device()).unwrap().at(0, &settings()).unwrap();
    let first = slicer.localise(&model, &batch, 0).unwrap();
    let estimate = slicer.last().unwrap().clone();
    assert!(bits(&model) == before);
    assert_eq!(slicer.localise(&model, &batch, 1).unwrap(), first);
    assert_eq!(slicer.last(), Some(&estimate));
    assert_eq!(slicer.n_tokens(&batch, 1), 0);
}

#[test]
fn all_texts_that_a_choice_reads_are_counted() {
    let (data, model) = (data(), model("gpt2"));
    let sampler = BatchSampler::new(&data, true, &settings(), model.device()).unwrap();
    let batches: Vec<_> = (0..3).map(|step| sampler.at(step, &settings()).unwrap()).collect();
    let n = |pick: fn(&MicroBatch) -> &Option<TextBatch>, batch: &StepBatch| -> usize {
        batch.micro.iter().map(|micro| pick(micro).as_ref().unwrap().n_real()).sum()
    };
    let [rejected, chosen, utility]: [fn(&MicroBatch) -> &Option<TextBatch>; 3] =
        [|micro| &micro.rejected, |micro| &micro.chosen, |micro| &micro.utility];
    let read = |kind, metric, step: u64| {
        let mut slicer = slicer(&spec(kind, 1), &data, &settings()).metric(metric, Route::Stored);
        (0..=step).for_each(|step| drop(slicer.localise(&model, &batches[step as usize], step).unwrap()));
        slicer.n_tokens(&batches[step as usize], step)
    };
    let first = &batches[0];
    assert_eq!(read(Policy::Dynamic, Metric::GradL2, 0), n(rejected, first));
    assert_eq!(read(Policy::Dynamic, Metric::Contrast, 0), n(rejected, first) + n(utility, first));
    assert_eq!(read(Policy::Dynamic, Metric::ActDist, 0), n(rejected, first) + n(chosen, first));
    assert_eq!(read(Policy::Dynamic, Metric::Random, 0), 0);
    assert_eq!(read(Policy::Random, Metric::GradL2, 0), 0);
    // Every second step measures.
    assert_eq!([0, 1].map(|step| read(Policy::EveryN, Metric::GradL2, step)), [n(rejected, first), 0]);
    // The estimate of fixed selection is of three batches, before the first step, on the texts that the steps draw.
    let of_all = |pick| batches.iter().map(|batch| n(pick, batch)).sum::<usize>();
    assert_eq!([0, 1].map(|step| read(Policy::Fixed, Metric::GradL2, step)), [of_all(rejected), 0]);
    assert_eq!(read(Policy::Fixed, Metric::Contrast, 0), of_all(rejected) + of_all(utility));
}

#[test]
fn texts_of_the_fisher_matrix_are_counted_with_the_first_step() {
    let (data, model) = (data(), model("gpt2"));
    let tokens = |metric| {
        let mut slicer = slicer(&spec(Policy::Dynamic, 1), &data, &settings()).metric(metric, Route::Stored);
        let mut engine = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings()).unwrap();
        take(&mut engine, 2).iter().map(|record| record.tokens as usize).collect::<Vec<_>>()
    };
    let (without, with) = (tokens(Metric::GradL2), tokens(Metric::Efficiency));
    // All utility texts: there are fewer than the 64 that are asked for.
    let of_fisher: usize = data.utility.iter().map(Vec::len).sum();
    assert_eq!(with, [without[0] + of_fisher, without[1]]);
}

// ---- what goes wrong ----------------------------------------------------------------------------------------------

#[test]
fn pairs_without_a_rejected_side_cannot_be_sliced_by_sensitivity() {
    let mut data = plain_data();
    data.pairs.iter_mut().for_each(|p| p.rejected.clear());
    let data = Arc::new(data);
    for kind in [Policy::Dynamic, Policy::Fixed] {
        let model = model("gpt2");
        let mut slicer = slicer(&spec(kind, 1), &data, &settings());
        let error = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings()).unwrap().step().unwrap_err();
        let said = error.diagnostic().to_string();
        assert!(said.starts_with("error: metric `") && said.contains("` needs rejected text"), "{said}");
    }
}

#[test]
fn a_policy_out_of_range_is_refused_by_its_key() {
    let data = data();
    let bad = PolicySpec::new(Policy::Ema).with(Number::PolicyRho, 1.0);
    assert_eq!(
        SliceLocaliser::new(&bad, &data, &settings()).unwrap_err().diagnostic().to_string(),
        "error: `policy_rho` is out of range for policy ema\n want: at least 0 and below 1    got: 1"
    );
}

#[test]
fn a_checkpoint_of_another_localiser_is_refused() {
    let (data, dir) = (data(), tempfile::tempdir().unwrap());
    let file = dir.path().join("run.safetensors");
    let objective = Method::Irepair;
    let first = model("gpt2");
    let mut dynamic = slicer(&spec(Policy::Dynamic, 1), &data, &settings());
    Engine::new(&first, objective, &mut dynamic, &data, settings()).unwrap().save(&file).unwrap();
    let was = "dynamic (k 1b)";
    for (other, want) in [
        (spec(Policy::Dynamic, 2), format!("the policy ({was} → dynamic (k 2b))")),
        (spec(Policy::Reverse, 1), format!("the policy ({was} → reverse (k 1b))")),
        (spec(Policy::Random, 1), format!("the policy ({was} → random (k 1b, policy_every 2))")),
    ] {
        let second = model("gpt2");
        let mut slicer = slicer(&other, &data, &settings());
        let mut engine = Engine::new(&second, objective, &mut slicer, &data, settings()).unwrap();
        let said = engine.resume(&file).unwrap_err().to_string();
        assert_eq!(said, format!("checkpoint does not fit this run: changed since it was written: {want}"));
    }
    let second = model("gpt2");
    let other = slicer(&spec(Policy::Dynamic, 1), &data, &settings());
    let mut other = other.metric(irepair_sensitivity::Metric::Snip, irepair_sensitivity::Route::Stored);
    let mut engine = Engine::new(&second, objective, &mut other, &data, settings()).unwrap();
    let said = engine.resume(&file).unwrap_err().to_string();
    assert!(said.contains("the sensitivity metric (grad-l2 → snip)"), "{said}");
}

#[test]
fn half_precision_models_take_steps_too() {
    let data = data();
    for family in FAMILIES {
        let exact = model(family);
        let dir = tempfile::tempdir().unwrap();
        exact.save(dir.path()).unwrap();
        let (model, _) = CausalLm::load(dir.path(), exact.device(), Kind::BFloat16).unwrap();
        let mut slicer = slicer(&spec(Policy::Dynamic, 1), &data, &settings());
        let mut engine = Engine::new(&model, Method::Irepair, &mut slicer, &data, settings()).unwrap();
        let first = engine.step().unwrap();
        assert!(first.loss.is_finite() && first.kl.unwrap().abs() <= 1e-6, "the reference has the model's type");
    }
}
