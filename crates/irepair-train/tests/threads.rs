//! The same bits with several threads, of which there is a fixed number. Alone in its file: the number is the
//! process's.

use irepair_core::spec::Method;
use irepair_model::{Architecture, CausalLm};
use irepair_train::{Engine, Settings};
use support::{Always, bits, data, settings, take};
use tch::{Device, Kind};

mod support;

/// Wide enough that the products of a step are shared out among threads.
fn wide() -> CausalLm {
    CausalLm::random(Architecture::gpt2(2, 256, 4, 24, 3000), 11, Device::Cpu, Kind::Float).unwrap()
}

#[test]
fn two_threads_give_the_same_bits_twice_and_across_a_stop() {
    tch::set_num_threads(2);
    assert_eq!(tch::get_num_threads(), 2);
    let (data, settings) = (data(), Settings { n_steps: 4, batch_size: 6, eval_every_examples: 12, ..settings() });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.safetensors");
    let run = |stop: Option<u64>| {
        let model = wide();
        let mut choose = Always(irepair_core::Scope::Everything);
        let mut engine = Engine::new(&model, Method::Dapt, &mut choose, &data, settings.clone()).unwrap();
        match stop {
            Some(n) => {
                take(&mut engine, n);
                engine.save(&file).unwrap();
            }
            None if file.exists() => engine.resume(&file).unwrap(),
            None => {}
        }
        let rest = settings.n_steps - engine.next_step();
        let records = take(&mut engine, rest);
        (records, bits(&model))
    };
    let (whole, weights) = run(None);
    assert!(run(Some(2)).1 == weights, "the same run twice");
    let (rest, resumed) = run(None);
    assert_eq!(rest, whole[2..]);
    assert!(resumed == weights, "stopped after two steps");
}
