//! A model of the user's own: the example runs, the ghost route never misses a layer, engines move between threads.

use std::thread;

use irepair_core::spec::{Method, Metric, Policy};
use irepair_core::{BlockId, StepRecord};
use irepair_model::{BlockModel, Layer, Parameter, Probe, Result, TextBatch};
use irepair_repair::SliceLocaliser;
use irepair_sensitivity::{Measure, Route, Texts};
use irepair_train::Engine;
use own_model::{Own, data, rejected, train};
use tch::Tensor;

#[path = "../examples/own_model.rs"]
#[allow(
    dead_code,
    unfulfilled_lint_expectations,
    unreachable_pub,
    missing_docs,
    reason = "an example is a program of its own"
)]
mod own_model;

/// The example's model, showing only the first `n_layers` of its twelve layers to a probe, each as one of a block that
/// is `shift` higher, and no block. It says that it has `denied` blocks fewer than it has.
struct Silent {
    own: Own,
    n_layers: usize,
    shift: usize,
    denied: usize,
}

/// Passes on the first layers.
struct Partial<'a> {
    probe: &'a mut dyn Probe,
    n_layers: usize,
    shift: usize,
}

impl Probe for Partial<'_> {
    fn layer(&mut self, layer: Layer<'_>, input: &Tensor, output: Tensor) -> Tensor {
        match self.n_layers.checked_sub(1) {
            Some(n_layers) => {
                self.n_layers = n_layers;
                self.probe.layer(Layer { block: BlockId(layer.block.0 + self.shift), ..layer }, input, output)
            }
            None => output,
        }
    }
}

impl BlockModel for Silent {
    fn n_blocks(&self) -> usize {
        self.own.n_blocks() - self.denied
    }
    fn n_positions(&self) -> usize {
        self.own.n_positions()
    }
    fn parameters(&self) -> &[Parameter] {
        self.own.parameters()
    }
    fn hidden_states_probed(&self, batch: &TextBatch, probe: &mut dyn Probe) -> Tensor {
        self.own.hidden_states_probed(batch, &mut Partial { probe, n_layers: self.n_layers, shift: self.shift })
    }
    fn head(&self) -> Tensor {
        self.own.head()
    }
    fn with_tensors(&self, tensors: Vec<Tensor>) -> Result<Box<dyn BlockModel + Send>> {
        self.own.with_tensors(tensors)
    }
}

fn measured(model: &dyn BlockModel, metric: Metric, route: Route) -> irepair_sensitivity::Result<Vec<f64>> {
    tch::set_num_threads(1);
    let text = rejected(&data()).unwrap();
    let measure = Measure::new(metric).by(route);
    let texts = Texts { rejected: &[&text], chosen: &[&text], neutral: &[&text] };
    Ok(measure.of(model, &texts)?.values().to_vec())
}

fn assert_near(got: &[f64], want: &[f64]) {
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 1e-4 * want && *want > 1e-3, "{got} against {want}");
    }
}

#[test]
fn the_example_repairs_its_model() {
    own_model::main().unwrap();
    let (_, records) = train(Box::new(Own::random(1.5)), (Method::Irepair, Policy::Dynamic), &data(), 60).unwrap();
    let (first, last) = (records[0].loss, records[59].loss);
    assert!(last < 0.75 * first, "{first} to {last}");
    assert!(records.iter().all(|record| record.slice.len() == 1));
}

#[test]
fn layers_that_are_not_shown_are_measured_by_the_stored_route() {
    let stored = measured(&Own::random(2.5), Metric::GradL2, Route::Stored).unwrap();
    assert_near(&measured(&Own::random(2.5), Metric::GradL2, Route::Ghost).unwrap(), &stored);
    for n_layers in [0, 1, 4, 11] {
        let silent = Silent { own: Own::random(2.5), n_layers, shift: 0, denied: 0 };
        assert_eq!(measured(&silent, Metric::GradL2, Route::Ghost).unwrap(), stored, "{n_layers} of 12 layers");
    }
}

#[test]
fn blocks_that_are_not_shown_are_no_zeros() {
    for metric in [Metric::ActDist, Metric::Atp, Metric::EapIg, Metric::Patching] {
        let silent = Silent { own: Own::random(2.5), n_layers: 12, shift: 0, denied: 0 };
        let error = measured(&silent, metric, Route::Stored).unwrap_err();
        let want = format!("metric `{metric}` needs the output of every block, and the model shows its probe 0 of 3");
        assert_eq!(error.to_string(), want);
        assert!(measured(&Own::random(2.5), metric, Route::Stored).is_ok());
    }
}

#[test]
fn gates_that_find_no_place_are_no_zeros() {
    let error = measured(&Own::random(2.5), Metric::Mask, Route::Stored).unwrap_err();
    let want = "metric `mask` puts gates at 6 places of the model, and the model lets its probe reach 0";
    assert_eq!(error.to_string(), want);
}

#[test]
fn inputs_of_layers_without_a_place_are_no_zeros() {
    let error = measured(&Own::random(2.5), Metric::WandaDiff, Route::Stored).unwrap_err();
    let want = "metric `wanda-diff` needs the input of every linear layer, and the model shows its probe 0 of 12";
    assert_eq!(error.to_string(), want);
    assert_eq!(measured(&Own::random(2.5), Metric::SnipDiff, Route::Stored).unwrap(), [0.0; 3], "the same text");
}

#[test]
fn a_layer_of_a_block_that_is_not_there_is_an_error() {
    let silent = Silent { own: Own::random(2.5), n_layers: 12, shift: 1, denied: 0 };
    let error = measured(&silent, Metric::GradL2, Route::Ghost).unwrap_err();
    assert!(matches!(error, irepair_sensitivity::Error::NoSuchBlock { block: 3, n_blocks: 3 }), "{error}");
}

#[test]
fn a_parameter_of_a_block_that_is_not_there_is_an_error() {
    for (metric, route) in
        [(Metric::GradL2, Route::Ghost), (Metric::GradL2, Route::Stored), (Metric::Snip, Route::Stored)]
    {
        let silent = Silent { own: Own::random(2.5), n_layers: 0, shift: 0, denied: 1 };
        let error = measured(&silent, metric, route).unwrap_err();
        assert!(
            matches!(error, irepair_sensitivity::Error::NoSuchBlock { block: 2, n_blocks: 2 }),
            "{metric}: {error}"
        );
    }
}

#[test]
fn an_engine_moves_to_another_thread_and_computes_the_same_bits() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    fn is_send<T: Send>() {}
    is_send::<Engine>();
    is_send::<Engine<Box<Own>, Box<SliceLocaliser>>>();

    tch::set_num_threads(1);
    type Weights = Vec<Vec<f32>>;
    let weights = |model: &Own| -> Weights {
        model.parameters().iter().map(|p| Vec::try_from(p.tensor.detach().view(-1)).unwrap()).collect()
    };
    let run = move || {
        let (model, records) =
            train(Box::new(Own::random(3.5)), (Method::Irepair, Policy::Dynamic), &data(), 8).unwrap();
        let records: Vec<_> = records.into_iter().map(|record| StepRecord { seconds: 0.0, ..record }).collect();
        (weights(&model), records)
    };
    let settings = irepair_train::Settings { n_steps: 8, lr: 1e-3, warmup_steps: 0, ..Default::default() };
    let spec = irepair_slicing::PolicySpec::new(Policy::Dynamic);
    let localiser = SliceLocaliser::new(&spec, &data(), &settings).unwrap().metric(Metric::GradL2, Route::Ghost);
    let engine =
        Engine::new(Box::new(Own::random(3.5)), Method::Irepair, Box::new(localiser), &data(), settings).unwrap();
    let mut engine = assert_send(engine);
    let mut records = vec![engine.step().unwrap()];
    let (model, records) = thread::spawn(move || {
        records.extend((1..8).map(|_| engine.step().unwrap()));
        (engine.finish().unwrap().0, records)
    })
    .join()
    .unwrap();
    let records: Vec<_> = records.into_iter().map(|record| StepRecord { seconds: 0.0, ..record }).collect();
    assert!((weights(&model), records) == run(), "one thread, then another");
}
