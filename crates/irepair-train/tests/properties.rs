//! Laws of the engine (METHOD §6, §8, §19), on models of four blocks.

use std::path::Path;
use std::sync::Arc;

use irepair_core::spec::Method;
use irepair_core::{BlockId, Diagnose, Scope};
use irepair_model::{BlockModel, CausalLm};
use irepair_train::{Engine, Error, OptimizerKind, RepairData, Settings, StateMode};
use support::{
    Always, FAMILIES, N_BLOCKS, REPAIR, Rolling, assert_near, assert_resume_is_exact, bits, blocks, changed,
    changed_blocks, data, decaying_and_clipped, distance, model, pairs, plain_data, settings, take, texts,
};
use tch::{Tensor, no_grad};

mod support;

const DPO: Method = Method::Dpo;
const NPO: Method = Method::Npo;
const METHODS: [Method; 7] =
    [REPAIR, Method::Dapt, DPO, Method::DpoKl, NPO, Method::GradientAscent, Method::GradientDifference];

fn everything() -> Always {
    Always(Scope::Everything)
}

// ---- step 0 -------------------------------------------------------------------------------------------------------

#[test]
fn at_step_0_the_kl_is_0_and_the_dpo_loss_is_ln_2() {
    let data = data();
    for family in FAMILIES {
        for skip_prompt in [false, true] {
            let settings = Settings { skip_prompt, ..settings() };
            let first = |objective| {
                let model = model(family);
                Engine::new(&model, objective, &mut everything(), &data, settings.clone()).unwrap().step().unwrap()
            };
            assert!(first(REPAIR).kl.unwrap().abs() <= 1e-6);
            assert!((first(DPO).loss - 2f64.ln()).abs() <= 1e-6);
            // METHOD §7: (2 / beta) ln 2, with a KL of 0.
            assert_near("NPO", first(NPO).loss, 20.0 * 2f64.ln(), 1e-6);
            assert_eq!((first(DPO).kl, first(Method::GradientAscent).nll), (None, None), "no such term");
        }
    }
}

// ---- who may change -----------------------------------------------------------------------------------------------

#[test]
fn a_step_changes_its_blocks_and_nothing_else_bit_for_bit() {
    let data = data();
    for family in FAMILIES {
        for slice in [vec![0], vec![3], vec![1, 2], vec![0, 1, 2, 3]] {
            for settings in [settings(), decaying_and_clipped()] {
                let model = model(family);
                let before = bits(&model);
                let mut choose = Always(blocks(slice.clone()));
                let record = Engine::new(&model, REPAIR, &mut choose, &data, settings).unwrap().step().unwrap();
                let after = bits(&model);
                assert_eq!(changed_blocks(&model, &before, &after), record.slice);
                assert_eq!(record.slice, blocks(slice.clone()).blocks(4));
                for (i, parameter) in model.parameters().iter().enumerate() {
                    let inside = parameter.block.is_some_and(|b| slice.contains(&b.0));
                    assert_eq!(before[i] != after[i], inside, "{}", parameter.name);
                }
            }
        }
    }
}

#[test]
fn frozen_blocks_stay_frozen_while_slices_move() {
    // Stale gradients, decay of sleeping state and weight decay would all show here.
    let data = data();
    for family in FAMILIES {
        for (state_mode, optimizer) in [
            (StateMode::Keep, OptimizerKind::adamw(0.1)),
            (StateMode::Reset, OptimizerKind::adamw(0.1)),
            (StateMode::Debias, OptimizerKind::rmsprop()),
        ] {
            let settings = Settings { n_steps: 12, state_mode, optimizer, ..decaying_and_clipped() };
            let (model, mut rolling) = (model(family), Rolling);
            let mut engine = Engine::new(&model, REPAIR, &mut rolling, &data, settings).unwrap();
            for _ in 0..12 {
                let before = bits(&model);
                let record = engine.step().unwrap();
                assert_eq!(changed_blocks(&model, &before, &bits(&model)), record.slice);
            }
        }
    }
}

#[test]
fn debias_is_refused_where_the_optimizer_does_it_anyway() {
    let (model, data) = (model("gpt2"), data());
    let settings = Settings { state_mode: StateMode::Debias, ..decaying_and_clipped() };
    let error = Engine::new(&model, REPAIR, &mut Rolling, &data, settings).err().unwrap();
    assert!(matches!(error, Error::BadSetting { key: "state_mode", .. }), "{error}");
}

#[test]
fn unsliced_steps_change_every_parameter() {
    let data = data();
    for family in FAMILIES {
        let model = model(family);
        let before = bits(&model);
        take(&mut Engine::new(&model, Method::Dapt, &mut everything(), &data, settings()).unwrap(), 1);
        assert!(bits(&model).iter().zip(&before).all(|(a, b)| a != b));
    }
}

#[test]
fn every_block_is_not_everything() {
    // The blocks move as in the unsliced run (their gradients are the same); what is of no block does not move at all.
    let data = data();
    // With a large eps RMSprop is smooth: rounding in a gradient stays rounding in the update. Nothing is clipped.
    let settings =
        Settings { optimizer: OptimizerKind::RmsProp { alpha: 0.99, eps: 0.1 }, clip_norm: 1e9, ..settings() };
    for family in FAMILIES {
        let (sliced, unsliced) = (model(family), model(family));
        let before = bits(&sliced);
        take(&mut Engine::new(&sliced, REPAIR, &mut Always(blocks(0..4)), &data, settings.clone()).unwrap(), 1);
        take(&mut Engine::new(&unsliced, REPAIR, &mut everything(), &data, settings.clone()).unwrap(), 1);
        assert_eq!(changed_blocks(&sliced, &before, &bits(&sliced)).len(), 4);
        assert!(changed(&unsliced, &before, &bits(&unsliced)).contains(&None));
        for (a, b) in sliced.parameters().iter().zip(unsliced.parameters()).filter(|(p, _)| p.block.is_some()) {
            let far = no_grad(|| (&a.tensor - &b.tensor).abs().max().double_value(&[]));
            assert!(far <= 1e-7, "{}: {far:e}", a.name);
        }
    }
}

#[test]
fn optimizer_state_exists_only_for_blocks_ever_selected() {
    let data = data();
    for (optimizer, bytes_per_weight) in [(OptimizerKind::rmsprop(), 4), (OptimizerKind::adamw(0.0), 8)] {
        let (model, mut rolling) = (model("gpt-neo"), Rolling);
        let mut engine =
            Engine::new(&model, REPAIR, &mut rolling, &data, Settings { optimizer, ..settings() }).unwrap();
        let block = |b| bytes_per_weight * model.n_block_weights(BlockId(b));
        let mut want = 0;
        for step in 0..6 {
            assert_eq!(engine.n_optimizer_bytes(), want);
            take(&mut engine, 1);
            want += if step < 4 { block(step) } else { 0 };
        }
        assert_eq!(engine.n_optimizer_bytes(), want);
    }
}

// ---- two routes, one result ---------------------------------------------------------------------------------------

#[test]
fn eight_micro_batches_of_one_are_one_batch_of_eight() {
    // Texts differ in length, so micro-batches hold unequal numbers of tokens: averaging their means would be wrong.
    let data = data();
    let optimizer = OptimizerKind::RmsProp { alpha: 0.99, eps: 0.1 };
    for family in FAMILIES {
        // Scaled embeddings and caps enlarge what the first step rounds: its second is 1.2e-5 away.
        let n_steps = if family == "gemma2" { 1 } else { 2 };
        for objective in METHODS {
            for skip_prompt in [false, objective == REPAIR] {
                let run = |batch_size, accumulation| {
                    let model = model(family);
                    let settings = Settings { batch_size, accumulation, optimizer, skip_prompt, ..settings() };
                    let records =
                        take(&mut Engine::new(&model, objective, &mut everything(), &data, settings).unwrap(), n_steps);
                    (model, records)
                };
                let ((whole, want), (parts, got)) = (run(8, 1), run(1, 8));
                for (got, want) in got.iter().zip(&want) {
                    let what = &format!("{family}, {}", objective.name());
                    assert_near(what, got.loss, want.loss, 1e-5);
                    assert_near(what, got.grad_norm, want.grad_norm, 1e-5);
                    for (got, want) in [(got.nll, want.nll), (got.kl, want.kl)] {
                        assert_eq!(got.is_some(), want.is_some());
                        assert_near(what, got.unwrap_or(0.0), want.unwrap_or(0.0), 1e-5);
                    }
                    assert_eq!(got.tokens, want.tokens);
                }
                assert!(distance(&whole, &parts) <= 1e-6, "{}: {:e}", objective.name(), distance(&whole, &parts));
            }
        }
    }
}

#[test]
fn a_run_resumed_at_any_step_is_the_uninterrupted_run() {
    for family in FAMILIES {
        let adamw = Settings { optimizer: OptimizerKind::adamw(0.1), ..settings() };
        assert_resume_is_exact(family, DPO, &adamw, |_| Box::new(everything()));
        let reset = Settings { state_mode: StateMode::Reset, accumulation: 2, ..settings() };
        assert_resume_is_exact(family, REPAIR, &reset, |_| Box::new(Rolling));
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
    let data = data();
    let run = |seed| {
        let (model, mut rolling) = (model("gpt2"), Rolling);
        let mut engine = Engine::new(&model, REPAIR, &mut rolling, &data, Settings { seed, ..settings() }).unwrap();
        let records = take(&mut engine, 5);
        (records, bits(&model))
    };
    assert!(run(3) == run(3));
    assert!(run(3) != run(4));
}

#[test]
fn prompt_masking_does_not_change_the_dpo_loss() {
    // METHOD §7: chosen and rejected share the prompt, so its terms cancel, in the gradient too.
    let data = data();
    for family in FAMILIES {
        let run = |objective, skip_prompt| {
            let model = model(family);
            let settings =
                Settings { skip_prompt, optimizer: OptimizerKind::RmsProp { alpha: 0.99, eps: 0.1 }, ..settings() };
            take(&mut Engine::new(&model, objective, &mut everything(), &data, settings).unwrap(), 5)
        };
        for (with, without) in run(DPO, false).iter().zip(&run(DPO, true)) {
            assert_near("loss", without.loss, with.loss, 1e-5);
            assert_near("gradient norm", without.grad_norm, with.grad_norm, 1e-4);
        }
        let (with, without) = (run(Method::Dapt, false), run(Method::Dapt, true));
        assert!((with[0].loss - without[0].loss).abs() > 0.1, "where prompts do count, masking must show");
    }
}

#[test]
fn the_validation_loss_is_that_of_one_big_batch() {
    let data = data();
    for family in FAMILIES {
        for objective in METHODS {
            let loss = |eval_batch_size| {
                let model = model(family);
                let mut choose = everything();
                let settings = Settings { eval_batch_size, ..settings() };
                let mut engine = Engine::new(&model, objective, &mut choose, &data, settings).unwrap();
                take(&mut engine, 2);
                engine.validation_loss().unwrap().unwrap()
            };
            for eval_batch_size in [1, 2, 3] {
                assert_near(objective.name(), loss(eval_batch_size), loss(100), 1e-5);
            }
        }
    }
}

// ---- validation, best checkpoint, early stop ----------------------------------------------------------------------

/// Takes every step, with the validation loss and the weights after each that was validated.
fn watched(
    engine: &mut Engine<&CausalLm, &mut Rolling>,
    model: &CausalLm,
    every: u64,
) -> Vec<(u64, f64, Vec<Vec<u32>>)> {
    let mut seen = Vec::new();
    while engine.unfinished() {
        engine.step().unwrap();
        let (step, done) = (engine.next_step(), !engine.unfinished());
        if step % every == 0 || done {
            seen.push((step, engine.validation_loss().unwrap().unwrap(), bits(model)));
        }
    }
    seen
}

#[test]
fn finishing_brings_back_the_weights_of_the_best_validation() {
    // Held-out pairs that are the training pairs the other way round: the better one fits, the worse the other. So the
    // best step comes before some blocks are first touched, and those must go back to where they began.
    let mut reversed = plain_data();
    reversed.validation = reversed.pairs.clone();
    reversed.validation.iter_mut().for_each(|p| std::mem::swap(&mut p.chosen, &mut p.rejected));
    let reversed = Arc::new(reversed);
    for family in FAMILIES {
        for (objective, data, batch_size, lr) in [(DPO, &reversed, 18, 1e-4), (REPAIR, &data(), 2, 1e-3)] {
            let settings =
                Settings { n_steps: 12, batch_size, lr, warmup_steps: 0, eval_every_examples: 1, ..settings() };
            let (model, mut rolling) = (model(family), Rolling);
            let mut engine = Engine::new(&model, objective, &mut rolling, data, settings).unwrap();
            let seen = watched(&mut engine, &model, 1);
            let (_, outcome) = engine.finish().unwrap();
            let (step, loss, weights) = seen.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert_eq!((outcome.best_step, outcome.best_loss), (Some(*step), Some(*loss)));
            assert!(bits(&model) == *weights, "best at step {step}");
            assert!(!outcome.stopped_early);
            assert!(
                objective == REPAIR || *step < 4,
                "the test wants a best step before the last block is touched, got {step}"
            );
        }
    }
}

#[test]
fn without_held_out_pairs_the_last_weights_stay() {
    let data = Arc::new(RepairData { validation: vec![], validation_utility: vec![], ..plain_data() });
    let (model, mut rolling) = (model("gpt2"), Rolling);
    let mut engine = Engine::new(&model, REPAIR, &mut rolling, &data, settings()).unwrap();
    take(&mut engine, 5);
    let last = bits(&model);
    assert_eq!(engine.validation_loss().unwrap(), None);
    let (_, outcome) = engine.finish().unwrap();
    assert_eq!((outcome.best_step, outcome.best_loss, outcome.n_steps), (None, None, 5));
    assert!(bits(&model) == last);
}

#[test]
fn early_stop_waits_exactly_for_its_patience() {
    let data = data();
    for patience in [1, 3] {
        let settings =
            Settings { n_steps: 200, lr: 0.05, warmup_steps: 0, eval_every_examples: 4, patience, ..settings() };
        let (model, mut rolling) = (model("gpt2"), Rolling);
        let mut engine = Engine::new(&model, REPAIR, &mut rolling, &data, settings).unwrap();
        let seen = watched(&mut engine, &model, 2);
        let (_, outcome) = engine.finish().unwrap();
        // By hand: validations since the best, when the run ended and never before.
        let (mut best, mut waited) = (f64::INFINITY, Vec::new());
        for (_, loss, _) in &seen {
            let since = waited.last().copied().unwrap_or(0);
            waited.push(if *loss < best { 0 } else { since + 1 });
            best = best.min(*loss);
        }
        assert_eq!(waited.iter().position(|&w| w == patience), Some(seen.len() - 1));
        assert!(outcome.stopped_early && outcome.n_steps < 200);
        assert_eq!(outcome.best_loss, Some(best));
    }
}

#[test]
fn evaluating_changes_no_weight() {
    let data = data();
    for family in FAMILIES {
        for objective in METHODS {
            let model = model(family);
            let mut choose = everything();
            let mut engine = Engine::new(&model, objective, &mut choose, &data, settings()).unwrap();
            take(&mut engine, 1);
            let before = bits(&model);
            let first = engine.validation_loss().unwrap();
            assert_eq!(engine.validation_loss().unwrap(), first);
            assert!(bits(&model) == before);
        }
    }
}

// ---- what goes wrong ----------------------------------------------------------------------------------------------

fn refused(data: &Arc<RepairData>, objective: Method, settings: Settings) -> String {
    let model = model("gpt2");
    match Engine::new(&model, objective, &mut everything(), data, settings) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.diagnostic().to_string(),
    }
}

#[test]
fn settings_that_cannot_work_are_refused_by_key() {
    let data = data();
    let base = settings;
    let refused = |settings| refused(&data, Method::Dapt, settings);
    for (settings, key, got) in [
        (Settings { lr: 0.0, ..base() }, "lr", "0"),
        (Settings { lr: f64::NAN, ..base() }, "lr", "NaN"),
        (Settings { lr: f64::INFINITY, ..base() }, "lr", "inf"),
        (Settings { lr: -1.0, ..base() }, "lr", "-1"),
        (Settings { clip_norm: 0.0, ..base() }, "clip_norm", "0"),
        (Settings { batch_size: 0, ..base() }, "batch_size", "0"),
        (Settings { accumulation: 0, ..base() }, "accumulation", "0"),
        (Settings { eval_batch_size: 0, ..base() }, "eval_batch_size", "0"),
        (Settings { eval_every_examples: 0, ..base() }, "eval_every", "0"),
        (Settings { patience: 0, ..base() }, "patience", "0"),
    ] {
        assert_eq!(
            refused(settings),
            format!("error: setting `{key}` is out of range\n want: a finite number over 0    got: {got}")
        );
    }
}

#[test]
fn too_little_data_is_refused_before_the_first_step() {
    let no_pairs = Arc::new(RepairData { pairs: vec![], ..plain_data() });
    assert_eq!(
        refused(&no_pairs, Method::Dapt, settings()),
        "error: not enough training pairs\n want: at least 1    got: 0"
    );
    let few = Arc::new(RepairData { utility: texts(3, 2, 5, 1), ..plain_data() });
    let want = "error: not enough utility texts\n want: at least 4    got: 3";
    assert_eq!(refused(&few, REPAIR, Settings { batch_size: 4, ..settings() }), want);
    // A step draws for all of its micro-batches without repeats.
    assert_eq!(refused(&few, REPAIR, Settings { batch_size: 2, accumulation: 2, ..settings() }), want);
    // A loss that reads no utility text does not ask for any.
    let model = model("gpt2");
    let settings = Settings { batch_size: 4, ..settings() };
    assert!(Engine::new(&model, DPO, &mut everything(), &few, settings).is_ok());
}

#[test]
fn held_out_pairs_without_held_out_utility_text_are_refused() {
    let data = Arc::new(RepairData { validation_utility: vec![], ..plain_data() });
    let model = model("gpt2");
    let mut choose = everything();
    let engine = Engine::new(&model, REPAIR, &mut choose, &data, settings()).unwrap();
    assert_eq!(
        engine.validation_loss().unwrap_err().diagnostic().to_string(),
        "error: not enough held-out utility texts\n want: at least 1    got: 0"
    );
}

#[test]
fn a_text_over_the_context_is_refused_before_the_first_step() {
    let mut long = plain_data();
    long.validation.push(irepair_data::TokenPair { prompt: vec![1; 20], chosen: vec![2; 3], rejected: vec![3; 5] });
    let long = Arc::new(long);
    assert_eq!(
        refused(&long, Method::Dapt, settings()),
        "error: text is longer than the model's context\n want: at most 24 positions    got: 25\n help: shorten the text, \
         or ask for fewer tokens of the prompt or the continuation"
    );
}

/// What resuming from `file` says under other circumstances.
fn refused_resume(
    file: &Path,
    model: &CausalLm,
    mut choose: Always,
    objective: Method,
    data: &Arc<RepairData>,
    settings: Settings,
) -> Error {
    let before = bits(model);
    let error = Engine::new(model, objective, &mut choose, data, settings).unwrap().resume(file).unwrap_err();
    assert!(bits(model) == before, "a refusal changes nothing");
    error
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_what_changed() {
    let (data, dir) = (data(), tempfile::tempdir().unwrap());
    let file = dir.path().join("run.safetensors");
    let base = || model("gpt2");
    let dapt = Method::Dapt;
    let mut choose = everything();
    let started = base();
    let mut engine = Engine::new(&started, dapt, &mut choose, &data, settings()).unwrap();
    take(&mut engine, 2);
    engine.save(&file).unwrap();

    // The same shapes, one weight another: as when a checkpoint is replaced where it lies.
    let other = base();
    tch::no_grad(|| drop(other.parameters()[5].tensor.view(-1).narrow(0, 1, 1).g_add_scalar_(1e-3)));
    let other_lr = Settings { lr: 2e-3, ..settings() };
    let fewer = Arc::new(RepairData { pairs: pairs(17, 1), ..plain_data() });
    let mut held_out = plain_data();
    held_out.validation[0].chosen[0] ^= 1;
    let held_out = Arc::new(held_out);
    let first = || Always(blocks([0]));
    for (error, want) in [
        (refused_resume(&file, &other, everything(), dapt, &data, settings()), "the model's weights"),
        (
            refused_resume(&file, &base(), first(), dapt, &data, settings()),
            "the policy (Everything → Blocks(BlockSlice({BlockId(0)})))",
        ),
        (refused_resume(&file, &base(), everything(), dapt, &data, other_lr), "setting `lr` (0.001 → 0.002)"),
        (
            refused_resume(&file, &base(), everything(), DPO, &data, settings()),
            "the objective (1 (1 sequence-nll(chosen)) → 1 (1 dpo at beta 0.1))",
        ),
        (refused_resume(&file, &base(), everything(), dapt, &fewer, settings()), "the training pairs"),
        (refused_resume(&file, &base(), everything(), dapt, &held_out, settings()), "the validation pairs"),
    ] {
        assert_eq!(
            error.diagnostic().to_string(),
            format!(
                "error: checkpoint does not fit this run: changed since it was written: {want}\n   at: {}\n help: undo the \
                 change to resume, or start a new run: give another --out, or delete that file",
                file.display()
            )
        );
    }
    let unchanged = base();
    let mut engine = Engine::new(&unchanged, dapt, &mut choose, &data, settings()).unwrap();
    engine = engine.identified_by("the tokenizer", "a");
    let error = engine.resume(&file).unwrap_err().to_string();
    assert_eq!(error, "checkpoint does not fit this run: changed since it was written: the tokenizer (none → a)");
}

#[test]
fn a_broken_checkpoint_is_refused_by_its_reason() {
    let (data, dir) = (data(), tempfile::tempdir().unwrap());
    let file = dir.path().join("run.safetensors");
    let model = model("gpt2");
    let mut choose = everything();
    let mut engine = Engine::new(&model, Method::Dapt, &mut choose, &data, settings()).unwrap();
    take(&mut engine, 2);
    engine.save(&file).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let reason = || {
        let again = support::model("gpt2");
        refused_resume(&file, &again, everything(), Method::Dapt, &data, settings()).diagnostic().what
    };

    std::fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
    assert_eq!(reason(), "file cannot be read: its size is not what its header says: a copy or download was cut short");
    irepair_model::write_tensors(&file, &[("x".to_owned(), &Tensor::from(1f32))], Default::default()).unwrap();
    assert_eq!(reason(), "checkpoint does not fit this run: it holds no record of a run");
    let older = [("run".to_owned(), r#"{"fingerprint":"5c1e","next_step":2}"#.to_owned())].into();
    irepair_model::write_tensors(&file, &[("x".to_owned(), &Tensor::from(1f32))], older).unwrap();
    assert_eq!(
        reason(),
        "checkpoint does not fit this run: an older irepair wrote it, without the hashes that say which run it belongs to"
    );
    std::fs::remove_file(&file).unwrap();
    assert!(reason().starts_with("read failed: "));
}

/// DEVIATIONS D14: softmax ignores what every key has in common, so the key bias of GPT-2 reaches no logit, and its
/// gradient is rounding noise.
#[test]
fn the_key_bias_of_gpt2_reaches_no_logit() {
    let (data, model) = (data(), model("gpt2"));
    let key_bias = |tensor: &Tensor| tensor.narrow(0, tensor.size()[0] / 3, tensor.size()[0] / 3);
    let mut choose = everything();
    let engine = Engine::new(&model, Method::Dapt, &mut choose, &data, settings()).unwrap();
    let before = engine.validation_loss().unwrap().unwrap();
    let biases = || model.parameters().iter().filter(|p| p.name.ends_with("attn.c_attn.bias"));
    assert_eq!(biases().count(), N_BLOCKS);
    no_grad(|| biases().for_each(|p| drop(key_bias(&p.tensor.detach()).g_add_scalar_(0.5))));
    assert_near("loss", engine.validation_loss().unwrap().unwrap(), before, 1e-6);
    // The bias of the queries, shifted as much, is another model.
    no_grad(|| biases().for_each(|p| drop(p.tensor.detach().narrow(0, 0, p.tensor.size()[0] / 3).g_add_scalar_(0.5))));
    assert!((engine.validation_loss().unwrap().unwrap() - before).abs() > 1e-5);
}
