//! Models whose files or weights are bfloat16: what is reported is true of what is saved, and small changes are not
//! lost.

#![expect(clippy::print_stdout, reason = "measured losses are quoted in DEVIATIONS")]

mod support;

use std::collections::HashMap;
use std::path::Path;

use irepair_core::Scope;
use irepair_core::spec::Method;
use irepair_model::{BlockModel, CausalLm, Rounded, write_tensors};
use irepair_train::{Engine, Settings};
use support::{Always, REPAIR, bits, data, model, settings, take};
use tch::{Device, Kind, Tensor, no_grad};

/// Writes the usual model as a checkpoint of bfloat16.
fn store_narrow(dir: &Path) {
    let model = model("gpt2");
    model.save(dir).unwrap();
    let narrow: Vec<(String, Tensor)> = model
        .parameters()
        .iter()
        .map(|p| (format!("transformer.{}", p.name), p.tensor.detach().to_kind(Kind::BFloat16)))
        .collect();
    let narrow: Vec<(String, &Tensor)> = narrow.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    write_tensors(&dir.join("model.safetensors"), &narrow, HashMap::new()).unwrap();
}

fn load(dir: &Path, kind: Kind) -> CausalLm {
    CausalLm::load(dir, Device::Cpu, kind).unwrap().0
}

/// Steps so small that most of them are below the spacing of bfloat16 numbers.
fn gentle() -> Settings {
    Settings { n_steps: 30, lr: 2e-5, warmup_steps: 0, eval_every_examples: 12, ..settings() }
}

fn train(model: &CausalLm, settings: Settings) -> irepair_train::Outcome {
    let (data, mut choose) = (data(), Always(Scope::Everything));
    let n = settings.n_steps;
    let mut engine = Engine::new(model, Method::Dapt, &mut choose, &data, settings).unwrap();
    take(&mut engine, n);
    engine.finish().unwrap().1
}

fn held_out(model: &CausalLm) -> f64 {
    let (data, mut choose) = (data(), Always(Scope::Everything));
    Engine::new(model, Method::Dapt, &mut choose, &data, gentle()).unwrap().validation_loss().unwrap().unwrap()
}

/// Validation loss of the start, after training, of the saved file, and of the same training rounded to the nearest.
fn losses(lr: f64) -> ([f64; 4], Rounded) {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    store_narrow(dir.path());
    let trained = load(dir.path(), Kind::Float);
    let start = held_out(&trained);
    let settings = Settings { lr, ..gentle() };
    let outcome = train(&trained, settings.clone());
    trained.save(out.path()).unwrap();
    let saved = load(out.path(), Kind::Float);
    assert!(bits(&saved) == bits(&trained), "the model in memory is the one in the file");
    assert_eq!(outcome.saved_loss, Some(held_out(&saved)));
    assert_eq!(saved.round_to_stored(1).unwrap(), Rounded::default(), "nothing is left to round");

    // Trained once more, not finished.
    let nearest = load(dir.path(), Kind::Float);
    let (data, mut choose) = (data(), Always(Scope::Everything));
    take(&mut Engine::new(&nearest, Method::Dapt, &mut choose, &data, settings).unwrap(), 30);
    let rounded = |t: &Tensor| t.to_kind(Kind::BFloat16).to_kind(Kind::Float);
    no_grad(|| nearest.parameters().iter().for_each(|p| p.tensor.detach().copy_(&rounded(&p.tensor.detach()))));
    let found = [start, outcome.best_loss.unwrap(), outcome.saved_loss.unwrap(), held_out(&nearest)];
    let Rounded { n_changed, n_lost } = outcome.rounded;
    println!("lr {lr:e}: start, trained, saved, nearest {found:.4?}; {n_lost} of {n_changed} changed weights lost");
    (found, outcome.rounded)
}

#[test]
fn the_last_numbers_are_those_of_the_saved_file() {
    for lr in [1e-6, 3e-6, 2e-5] {
        let ([start, best, kept, nearest], Rounded { n_changed, n_lost }) = losses(lr);
        assert!(best < start && n_changed > 10_000 && n_lost < n_changed);
        // Of what training won, stochastic rounding keeps most, whatever the rate.
        assert!((kept - best).abs() < 0.3 * (start - best), "{start} {best} {kept}");
        if lr == 1e-6 {
            assert!(n_lost > n_changed / 2, "{n_lost} of {n_changed}");
            assert!(start - nearest < 0.5 * (start - best), "{start} {best} {nearest}");
        }
    }
}

#[test]
fn small_steps_add_up_in_bfloat16_too() {
    let dir = tempfile::tempdir().unwrap();
    store_narrow(dir.path());
    let (narrow, wide) = (load(dir.path(), Kind::BFloat16), load(dir.path(), Kind::Float));
    let start = held_out(&wide);
    let settings = Settings { n_steps: 60, ..gentle() };
    let (by_narrow, by_wide) = (train(&narrow, settings.clone()), train(&wide, settings));
    assert_eq!(by_narrow.saved_loss, by_narrow.best_loss, "what is computed in bfloat16 is stored as it is");
    let (narrow, wide) = (by_narrow.best_loss.unwrap(), by_wide.best_loss.unwrap());
    println!("start {start:.4}, bfloat16 {narrow:.4}, float32 {wide:.4}");
    assert!(start - narrow > 0.7 * (start - wide), "start {start}, bfloat16 {narrow}, float32 {wide}");
}

#[test]
fn resuming_in_bfloat16_gives_the_same_bits() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    store_narrow(dir.path());
    let file = state.path().join("run.safetensors");
    let data = data();
    let run = |stop: Option<u64>| {
        let model = load(dir.path(), Kind::BFloat16);
        let mut choose = Always(Scope::Everything);
        let mut engine = Engine::new(&model, REPAIR, &mut choose, &data, gentle()).unwrap();
        match stop {
            Some(n) => {
                take(&mut engine, n);
                engine.save(&file).unwrap();
            }
            None => {
                if file.exists() {
                    engine.resume(&file).unwrap();
                }
                let left = 8 - engine.next_step();
                take(&mut engine, left);
            }
        }
        let of = |t: &Tensor| Vec::<f32>::try_from(t.detach().to_kind(Kind::Float).view(-1)).unwrap();
        model.parameters().iter().map(|p| of(&p.tensor)).collect::<Vec<_>>()
    };
    let whole = run(None);
    run(Some(3));
    assert!(run(None) == whole);
}
