//! Laws of the sensitivities of units (METHOD §3, §23), for every family: ghost norms equal the direct ones, units add
//! up to their blocks, and a unit's norm is that of its rows of the gradient.

use irepair_core::spec::UnitKind;
use irepair_core::{Unit, UnitPart};
use irepair_model::{BlockModel, CausalLm, Fisher, TextBatch, UnitMap};
use irepair_sensitivity::{Error, MeanGradient, Measure, Metric, Route, Texts, UnitSensitivities, error_gradients};
use support::{FAMILIES, model_of, text};
use tch::{Device, Kind, Tensor, no_grad};

mod support;

/// Two blocks of width 16 with 24 neurons.
fn model(family: &str) -> CausalLm {
    model_of(family, 2, Some(24))
}

/// Few tokens, for which ghost norms multiply token by token, and so many that products are formed.
fn texts() -> [TextBatch; 2] {
    let long = |salt: u32| (0..30).map(|i| (i * 7 + salt) % 19).collect::<Vec<u32>>();
    [text(&[vec![3, 8], vec![1]], &[vec![4, 1], vec![18]]), text(&[vec![5, 2, 9], vec![1, 1]], &[long(3), long(11)])]
}

fn assert_near(what: &str, got: &[f64], want: &[f64], relative: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().copied().fold(0.0, f64::max);
    let off = got.iter().zip(want).position(|(a, b)| (a - b).abs() > relative * b.abs() + 1e-6 * largest);
    assert!(off.is_none(), "{what}: {:?}", off.map(|i| (i, got[i], want[i])));
}

#[test]
fn ghost_norms_equal_direct_ones_for_every_unit() {
    for family in FAMILIES {
        let (model, [short, long]) = (model(family), texts());
        for (kind, text) in UnitKind::ALL.iter().flat_map(|kind| [(*kind, &short), (*kind, &long)]) {
            let of = |route| {
                let measure = Measure::new(Metric::GradL2).by(route);
                measure.of_units(&model, &Texts::of(&[text]), kind).unwrap()
            };
            let direct = of(Route::Stored);
            assert!(
                direct.values().iter().filter(|v| **v > 0.0).count() * 2 > direct.values().len(),
                "{family} {kind}"
            );
            assert_near(&format!("{family} {kind}"), of(Route::Ghost).values(), direct.values(), 1e-4);
        }
    }
}

/// The oracle: the norm of the rows that the map names, cut out of the stored gradient.
#[test]
fn a_units_norm_is_that_of_its_rows_of_the_gradient() {
    for family in FAMILIES {
        let (model, [text, _]) = (model(family), texts());
        let map: UnitMap = model.unit_map().unwrap();
        let gradients = error_gradients(&model, &[&text]).unwrap();
        let norm = |unit: Unit| {
            let square = map.slice([unit]).unwrap().into_iter().map(|rows| {
                let (_, gradient) = gradients.iter().find(|(index, _)| *index == rows.parameter).unwrap();
                let (first, n) = (rows.range.start as i64, rows.range.len() as i64);
                gradient.narrow(rows.dim as i64, first, n).square().sum(Kind::Double).double_value(&[])
            });
            square.sum::<f64>().sqrt()
        };
        for &kind in UnitKind::ALL {
            let found = Measure::new(Metric::GradL2).of_units(&model, &Texts::of(&[&text]), kind).unwrap();
            let want: Vec<f64> = found.iter().map(|(unit, _)| norm(unit)).collect();
            assert_near(&format!("{family} {kind}"), found.values(), &want, 1e-5);
        }
    }
}

/// The oracle of every other metric of weight gradients: its definition, on the rows that the map names.
#[test]
fn every_metric_of_a_unit_is_that_of_its_rows() {
    let damped = |i: usize, p: &irepair_model::Parameter| {
        let n = Tensor::arange(p.tensor.numel() as i64, (Kind::Float, Device::Cpu));
        ((n + i as f64).sin() + 1.5).view_as(&p.tensor)
    };
    for family in ["gpt2", "llama", "phi3", "gemma2"] {
        let (model, [text, neutral]) = (model(family), texts());
        let map: UnitMap = model.unit_map().unwrap();
        let fisher = model.parameters().iter().enumerate().map(|(i, p)| damped(i, p)).collect::<Vec<_>>();
        let fisher = Fisher::of(fisher, 0.0).unwrap();
        let whole = |text: &TextBatch| -> Vec<Tensor> {
            let mut all: Vec<Tensor> = model.parameters().iter().map(|p| p.tensor.detach().zeros_like()).collect();
            for (index, gradient) in error_gradients(&model, &[text]).unwrap() {
                all[index] = gradient;
            }
            all
        };
        let (rejected, other) = (whole(&text), whole(&neutral));
        let weights: Vec<Tensor> = model.parameters().iter().map(|p| p.tensor.detach()).collect();
        let products: Vec<Tensor> = weights.iter().zip(&rejected).map(|(w, g)| (w * g).abs()).collect();
        // The top 5 % of the blocks' weights by `|w g|` on one text, without those on the other.
        let in_blocks = |i: &usize| model.parameters()[*i].block.is_some();
        let top = |gradients: &[Tensor]| -> Vec<Tensor> {
            let scores: Vec<Tensor> = weights.iter().zip(gradients).map(|(w, g)| (w * g).abs()).collect();
            let all: Vec<Tensor> = (0..scores.len()).filter(in_blocks).map(|i| scores[i].flatten(0, -1)).collect();
            let (sorted, _) = Tensor::cat(&all, 0).sort(0, true);
            let n = (0.05 * sorted.numel() as f64).round() as i64;
            scores.iter().map(|score| score.ge(sorted.double_value(&[n - 1]))).collect()
        };
        let left: Vec<Tensor> = top(&rejected)
            .into_iter()
            .zip(top(&other))
            .map(|(of, without)| of.logical_and(&without.logical_not()))
            .collect();
        for (kind, metric) in UnitKind::ALL.iter().flat_map(|kind| {
            let metrics = [
                Metric::Density,
                Metric::Relative,
                Metric::Contrast,
                Metric::Snip,
                Metric::Efficiency,
                Metric::SnipDiff,
            ];
            metrics.map(|metric| (*kind, metric))
        }) {
            let measure = Measure { fisher: Some(fisher.clone()), ..Measure::new(metric) };
            let given = Texts { rejected: &[&text], chosen: &[], neutral: &[&neutral] };
            let found = measure.of_units(&model, &given, kind).unwrap();
            let want = |unit: Unit| {
                let rows = map.slice([unit]).unwrap();
                let sum = |of: &dyn Fn(usize) -> Tensor| -> f64 {
                    let of_rows = rows.iter().map(|rows| {
                        let (first, n) = (rows.range.start as i64, rows.range.len() as i64);
                        of(rows.parameter).narrow(rows.dim as i64, first, n).sum(Kind::Double).double_value(&[])
                    });
                    of_rows.sum()
                };
                let n_weights = sum(&|i| weights[i].ones_like());
                let norm = |of: &[Tensor]| sum(&|i| of[i].square()).sqrt();
                match metric {
                    Metric::Density => norm(&rejected) / n_weights.sqrt(),
                    Metric::Relative => norm(&rejected) / norm(&weights),
                    Metric::Contrast => norm(&rejected) / (norm(&other) + 1e-12),
                    Metric::Snip => sum(&|i| products[i].shallow_clone()),
                    Metric::Efficiency => sum(&|i| rejected[i].square() / fisher.damped(i)).sqrt(),
                    _ => sum(&|i| left[i].to_kind(Kind::Float)) / n_weights,
                }
            };
            let want: Vec<f64> = found.iter().map(|(unit, _)| want(unit)).collect();
            assert_near(&format!("{family} {kind} {metric}"), found.values(), &want, 1e-5);
        }
    }
}

#[test]
fn blocks_are_units_and_halves_add_up_to_them_by_every_metric() {
    let fisher = |model: &CausalLm| {
        let ones = |p: &irepair_model::Parameter| Tensor::ones(p.tensor.size(), (Kind::Float, Device::Cpu)) * 2.0;
        Fisher::of(model.parameters().iter().map(ones).collect(), 0.0).unwrap()
    };
    for family in ["gpt2", "qwen3", "gemma2"] {
        let (model, [text, neutral]) = (model(family), texts());
        let texts = Texts { rejected: &[&text], chosen: &[], neutral: &[&neutral] };
        for metric in [
            Metric::GradL2,
            Metric::Density,
            Metric::Relative,
            Metric::Snip,
            Metric::Fisher,
            Metric::Contrast,
            Metric::Efficiency,
        ] {
            let measure = Measure { fisher: Some(fisher(&model)), ..Measure::new(metric) };
            let blocks = measure.of(&model, &texts).unwrap();
            let units = measure.of_units(&model, &texts, UnitKind::Block).unwrap();
            assert_near(&format!("{family} {metric}"), units.values(), blocks.values(), 1e-5);
            let halves = measure.of_units(&model, &texts, UnitKind::Half).unwrap();
            let power = match metric {
                Metric::GradL2 | Metric::Efficiency => 2,
                Metric::Snip | Metric::Fisher => 1,
                _ => continue,
            };
            let sums: Vec<f64> = halves.values().chunks(2).map(|of| of.iter().map(|v| v.powi(power)).sum()).collect();
            let want: Vec<f64> = blocks.values().iter().map(|v| v.powi(power)).collect();
            assert_near(&format!("{family} {metric} halves"), &sums, &want, 1e-5);
        }
    }
}

#[test]
fn the_mean_gradient_has_units_too() {
    let (model, [one, other]) = (model("llama"), texts());
    for metric in [Metric::GradL2, Metric::Density, Metric::Snip, Metric::Relative] {
        let mut mean = MeanGradient::new(metric).unwrap();
        for text in [&one, &other] {
            mean.add(&model, &Texts::of(&[text])).unwrap();
        }
        let units = mean.of_units(&model, UnitKind::Block).unwrap();
        assert_near(metric.name(), units.values(), mean.sensitivities(&model).unwrap().values(), 1e-5);
        assert_eq!(mean.of_units(&model, UnitKind::Neuron).unwrap().values().len(), 2 * 24);
    }
    assert!(MeanGradient::new(Metric::GradL2).unwrap().of_units(&model, UnitKind::Head).is_err());
}

#[test]
fn a_head_without_a_way_out_has_a_gradient_of_its_output_alone() {
    let (model, [text, _]) = (model("llama"), texts());
    let map = model.unit_map().unwrap();
    let head: Unit = "1.head.2".parse().unwrap();
    let rows = map.slice([head]).unwrap();
    let out = rows.iter().find(|rows| map.parameters()[rows.parameter].slot.writes_residual()).unwrap();
    let mut columns =
        model.parameters()[out.parameter].tensor.narrow(1, out.range.start as i64, out.range.len() as i64);
    no_grad(|| drop(columns.zero_()));
    let gradients = error_gradients(&model, &[&text]).unwrap();
    for rows in &rows {
        let (_, gradient) = gradients.iter().find(|(index, _)| *index == rows.parameter).unwrap();
        let (first, n) = (rows.range.start as i64, rows.range.len() as i64);
        let size = gradient.narrow(rows.dim as i64, first, n).abs().max().double_value(&[]);
        assert_eq!(size > 0.0, rows.parameter == out.parameter, "{}", map.parameters()[rows.parameter].name);
    }
}

/// Sets all weights of a unit to 0.
fn silence(model: &CausalLm, unit: &str) {
    for rows in model.unit_map().unwrap().slice([unit.parse().unwrap()]).unwrap() {
        let (first, n) = (rows.range.start as i64, rows.range.len() as i64);
        let mut cut = model.parameters()[rows.parameter].tensor.narrow(rows.dim as i64, first, n);
        no_grad(|| drop(cut.zero_()));
    }
}

/// Nothing moves a neuron, or a head with values of its own, whose weights are all 0: 0 / 0 is 0. A head that shares
/// its values with others has a gradient then, and so has a half with biases: x / 0 is no number.
#[test]
fn a_dead_unit_has_a_relative_value_of_0_and_one_with_a_gradient_is_named() {
    for (family, dead, unit_of) in [
        ("gpt2", Some(0.0), "1.head.1"),
        ("llama", None, "1.head.1"),
        ("gpt2", Some(0.0), "0.neuron.5"),
        ("llama", Some(0.0), "0.neuron.5"),
        ("gpt2", None, "1.mlp"),
        ("llama", Some(0.0), "1.mlp"),
    ] {
        let (model, [text, other]) = (model(family), texts());
        silence(&model, unit_of);
        let unit: Unit = unit_of.parse().unwrap();
        let check = |what: &str, found: Result<UnitSensitivities, Error>| match (dead, found) {
            (Some(_), Ok(found)) => {
                let value = found.iter().find(|(other, _)| *other == unit).map(|(_, value)| value);
                assert_eq!(value, dead, "{what} of {unit} in {family}");
            }
            (None, Err(Error::BadUnit { unit: named, value })) => assert_eq!((named, value), (unit, f64::INFINITY)),
            (_, other) => panic!("{what} of {unit} in {family}: {other:?}"),
        };
        for route in [Route::Stored, Route::Ghost] {
            let of = |metric| Measure::new(metric).by(route).of_units(&model, &Texts::of(&[&text]), unit.kind());
            check("relative", of(Metric::Relative));
            assert!(of(Metric::Density).is_ok());
        }
        let mut mean = MeanGradient::new(Metric::Relative).unwrap();
        for text in [&text, &other] {
            mean.add(&model, &Texts::of(&[text])).unwrap();
        }
        check("relative at the mean", mean.of_units(&model, unit.kind()));
    }
    for (family, want) in [("gpt2", Err("sensitivity of block 1 is inf".to_owned())), ("llama", Ok(0.0))] {
        let (model, [text, _]) = (model(family), texts());
        silence(&model, "1");
        let found = Measure::new(Metric::Relative).of(&model, &Texts::of(&[&text]));
        assert_eq!(found.map(|found| found.values()[1]).map_err(|error| error.to_string()), want, "{family}");
    }
}

#[test]
fn what_has_no_units_says_so() {
    let (model, [text, _]) = (model("gpt2"), texts());
    let texts = Texts { rejected: &[&text], chosen: &[&text], neutral: &[] };
    let refused = Measure::new(Metric::ActDist).of_units(&model, &texts, UnitKind::Head).unwrap_err();
    assert!(matches!(refused, Error::BlocksAlone { metric: "act-dist" }));
    let random =
        |seed| Measure { seed, ..Measure::new(Metric::Random) }.of_units(&model, &texts, UnitKind::Head).unwrap();
    assert_eq!((random(1) == random(1), random(1) == random(2)), (true, false));
    assert!(random(1).iter().all(|(unit, _)| matches!(unit.part, UnitPart::Head(_))));
}
