//! How often a step waits for the device: once for the choice of its slice, once for all its numbers.

use std::sync::Arc;

use irepair_core::spec::Method;
use irepair_model::host;
use irepair_repair::SliceLocaliser;
use irepair_sensitivity::{Metric, Route};
use irepair_slicing::{Policy, PolicySpec};
use irepair_train::{Engine, RepairData, Settings};
use support::{data, model, plain_data, settings};

#[path = "../../irepair-train/tests/support/mod.rs"]
mod support;

/// Waits of each of the first `n` steps; `data` decides whether validations are among them.
fn waits(
    objective: Method,
    slicer: &mut SliceLocaliser,
    data: &Arc<RepairData>,
    settings: Settings,
    n: u64,
) -> Vec<u64> {
    let model = model("gpt2");
    let mut engine = Engine::new(&model, objective, slicer, data, settings).unwrap();
    let mut step = || {
        let before = host::n_waits();
        engine.step().unwrap();
        host::n_waits() - before
    };
    (0..n).map(|_| step()).collect()
}

fn slicer(kind: Policy, data: &Arc<RepairData>, settings: &Settings) -> SliceLocaliser {
    SliceLocaliser::new(&PolicySpec::new(kind), data, settings).unwrap().fixed_batches(3)
}

/// Nothing held out: no validation.
fn training_only() -> Arc<RepairData> {
    Arc::new(RepairData { validation: Vec::new(), validation_utility: Vec::new(), ..plain_data() })
}

#[test]
fn a_step_waits_once_for_its_slice_and_once_for_its_numbers() {
    let data = training_only();
    let objectives = [Method::Irepair, Method::IrepairNoKl, Method::Dpo, Method::Npo, Method::GradientDifference];
    for objective in objectives {
        for accumulation in [1, 3] {
            for route in [Route::Stored, Route::Ghost] {
                let settings = Settings { accumulation, ..settings() };
                let mut slicer = slicer(Policy::Dynamic, &data, &settings).metric(Metric::GradL2, route);
                assert_eq!(waits(objective, &mut slicer, &data, settings, 3), [2; 3], "{objective:?} {route:?}");
            }
        }
    }
}

#[test]
fn every_metric_without_a_threshold_waits_once() {
    let (data, settings) = (training_only(), settings());
    for &metric in Metric::ALL {
        let mut slicer = slicer(Policy::Dynamic, &data, &settings).metric(metric, Route::Ghost);
        let per_step = match metric {
            Metric::Random => 1,
            // The exact threshold of each text's scores is found digit by digit: four more for each of the two.
            Metric::SnipDiff | Metric::WandaDiff => 10,
            // Gates are trained for twenty steps, behind one that sets their rate.
            Metric::Mask => 22,
            _ => 2,
        };
        let found = waits(Method::Irepair, &mut slicer, &data, settings.clone(), 2);
        assert_eq!(found, [per_step; 2], "{metric}");
    }
}

#[test]
fn a_slice_chosen_without_measuring_costs_no_wait() {
    let (data, settings) = (training_only(), settings());
    for (kind, first) in [(Policy::Fixed, 2), (Policy::Random, 1), (Policy::Cyclic, 1)] {
        let mut slicer = slicer(kind, &data, &settings);
        let found = waits(Method::Irepair, &mut slicer, &data, settings.clone(), 3);
        assert_eq!(found, [first, 1, 1], "{kind}");
    }
}

#[test]
fn a_validation_waits_once_more() {
    // Three parts of 3 pairs at most, after every third step.
    let (data, settings) = (data(), settings());
    let mut slicer = slicer(Policy::Dynamic, &data, &settings);
    assert_eq!(waits(Method::Irepair, &mut slicer, &data, settings, 4), [2, 2, 3, 2]);
}
