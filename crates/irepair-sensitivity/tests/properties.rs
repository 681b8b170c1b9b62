//! Laws of the sensitivities (METHOD §3, §19), on random models of three blocks.

use irepair_core::spec::Against;
use irepair_core::{BlockId, Diagnose, PaddedTokens, Scope, Sensitivities};
use irepair_model::{BlockModel, CausalLm, Fisher, TextBatch};
use irepair_objective::TextLogits;
use irepair_sensitivity::{MeanGradient, Measure, Metric, Route, Texts, block_squares, error_gradients, mean_of_norm};
use proptest::prelude::*;
use support::{FAMILIES, model_of, text};
use tch::{Device, Kind, Tensor, no_grad};

mod support;

/// Three blocks of width 16.
fn model(family: &str) -> CausalLm {
    model_of(family, 3, None)
}

fn rejected() -> TextBatch {
    text(&[vec![3, 8], vec![1], vec![5, 2, 9]], &[vec![4, 4, 1, 7, 12], vec![18, 6], vec![2, 11, 3]])
}

fn chosen() -> TextBatch {
    text(&[vec![3, 8], vec![1], vec![5, 2, 9]], &[vec![9, 1], vec![7, 7, 16, 2], vec![15]])
}

fn grad_l2(model: &CausalLm, texts: &[&TextBatch]) -> Vec<f64> {
    Measure::new(Metric::GradL2).of(model, &Texts::of(texts)).unwrap().values().to_vec()
}

fn assert_near(what: &str, got: &[f64], want: &[f64], relative: f64) {
    assert_eq!(got.len(), want.len());
    let off = got.iter().zip(want).any(|(a, b)| (a - b).abs() > relative * b.abs());
    assert!(!off, "{what}: {got:?} against {want:?}");
}

fn bits(model: &CausalLm) -> Vec<Vec<u32>> {
    let of = |t: &Tensor| Vec::<f32>::try_from(t.detach().view(-1)).unwrap().into_iter().map(f32::to_bits).collect();
    model.parameters().iter().map(|p| of(&p.tensor)).collect()
}

#[test]
fn block_norms_and_the_rest_make_the_global_gradient_norm() {
    let text = rejected();
    for family in FAMILIES {
        let model = model(family);
        let by_block = grad_l2(&model, &[&text]);

        model.train_only(&Scope::Everything);
        let logits = model.logits(&text);
        let loss = TextLogits::new(&text.ids, &text.attention_mask, &logits).log_probs().unwrap().nll_mean().unwrap();
        let (mut rest, mut global) = (0.0, 0.0);
        for (index, gradient) in model.gradients(&loss).unwrap() {
            let square = gradient.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
            global += square;
            rest += if model.parameters()[index].block.is_none() { square } else { 0.0 };
        }
        let sum = by_block.iter().map(|s| s * s).sum::<f64>() + rest;
        assert_near("squares", &[sum], &[global], 1e-5);
        assert!(rest > 0.0 && by_block.iter().all(|s| *s > 0.0));
    }
}

#[test]
fn ghost_norms_are_the_norms_of_the_gradients() {
    // Width 16: `[16, 64]` weights take the Gram branch up to 12 rows of input, `[16, 16]` up to 7, then the product.
    let row = |n: usize| (0..n).map(|i| (i * 7 + n) as u32 % 19).collect::<Vec<u32>>();
    for family in FAMILIES {
        let model = model(family);
        for lengths in [vec![3], vec![6], vec![9], vec![5, 2], vec![12, 4, 9], vec![40, 33, 21, 8]] {
            let continuations: Vec<_> = lengths.iter().map(|&n| row(n)).collect();
            let prompts: Vec<_> = (0..lengths.len()).map(|i| row(i % 4)).collect();
            let text = text(&prompts, &continuations);
            for metric in [Metric::GradL2, Metric::Density, Metric::Relative] {
                let by = |route| Measure::new(metric).by(route).of(&model, &Texts::of(&[&text])).unwrap();
                let (ghost, stored) = (by(Route::Ghost), by(Route::Stored));
                assert_near(&format!("{metric} {lengths:?}"), ghost.values(), stored.values(), 1e-4);
            }
        }
    }
}

#[test]
fn sensitivity_scales_with_the_loss() {
    let text = rejected();
    let mut doubled = rejected();
    doubled.counts.targets *= 2.0;
    for family in FAMILIES {
        let model = model(family);
        for (metric, power) in [(Metric::GradL2, 1), (Metric::Density, 1), (Metric::Relative, 1), (Metric::Snip, 1)] {
            for route in [Route::Stored, Route::Ghost] {
                let of =
                    |text| Measure::new(metric).by(route).of(&model, &Texts::of(&[text])).unwrap().values().to_vec();
                let half: Vec<f64> = of(&text).iter().map(|s| s / f64::from(1 << power)).collect();
                assert_near(&format!("{metric}"), &of(&doubled), &half, 1e-5);
            }
        }
    }
}

#[test]
fn pad_columns_change_no_sensitivity() {
    let long = vec![7; 6];
    let (prompt, continuation) = (vec![3, 8, 2], vec![4, 1, 12, 5]);
    for family in FAMILIES {
        let model = model(family);
        let plain = text(std::slice::from_ref(&prompt), std::slice::from_ref(&continuation));
        // Next to a longer neighbour the text gets pad columns on both sides; then the neighbour is dropped.
        let both = PaddedTokens::prompted(&[prompt.clone(), long.clone()], &[continuation.clone(), long.clone()], 0);
        let padded = TextBatch::new(both.unwrap(), Device::Cpu).row(0);
        assert_eq!((plain.dims().1, padded.dims().1), (7, 12));
        let metrics = [
            Metric::GradL2,
            Metric::Density,
            Metric::Snip,
            Metric::Fisher,
            Metric::ActDist,
            Metric::Atp,
            Metric::EapIg,
            Metric::Patching,
            Metric::WandaDiff,
            Metric::Mask,
        ];
        for metric in metrics {
            for route in [Route::Stored, Route::Ghost] {
                // The other side of each pair: another text, laid out once without and once with its pads.
                let against = |wide: bool| {
                    let n = if wide { 2 } else { 1 };
                    let other = [vec![9, 9, 3], long.clone()];
                    let text = PaddedTokens::prompted(&[prompt.clone(), long.clone()][..n], &other[..n], 0).unwrap();
                    TextBatch::new(text, Device::Cpu).row(0)
                };
                let of = |text: &TextBatch, wide| {
                    let other = against(wide);
                    let other = [&other];
                    Measure::new(metric)
                        .by(route)
                        .of(&model, &Texts { chosen: &other, neutral: &other, ..Texts::of(&[text]) })
                        .unwrap()
                        .values()
                        .to_vec()
                };
                let (got, want) = (of(&padded, true), of(&plain, false));
                // A product of two differences: what rounding leaves of a small one is measured by the largest. A
                // difference of two losses: each is rounded to some 2e-7. Twenty steps of gates make more of it
                // where the model is steep; the tests in `mask.rs` hold a single one closer.
                let largest = want.iter().copied().fold(0.0, f64::max);
                let differs = [Metric::Atp, Metric::EapIg, Metric::Patching].contains(&metric);
                let least = if differs { largest } else { 0.0 };
                let rounded = match metric {
                    Metric::Patching => 1e-6,
                    Metric::Mask => 1e-3,
                    _ => 0.0,
                };
                let far = got.iter().zip(&want).any(|(a, b)| (a - b).abs() > 1e-5 * b.abs().max(least) + rounded);
                assert!(!far, "{family}, {metric}: {got:?} against {want:?}");
            }
        }
    }
}

#[test]
fn micro_batches_with_shared_counts_measure_the_whole_batch() {
    let whole = rejected();
    let with_counts = |row| {
        let mut text = whole.row(row);
        text.counts = whole.counts;
        text
    };
    let rows: Vec<TextBatch> = (0..3).map(with_counts).collect();
    let rows: Vec<&TextBatch> = rows.iter().collect();
    for family in FAMILIES {
        let model = model(family);
        for route in [Route::Stored, Route::Ghost] {
            let of =
                |texts: &[&TextBatch]| Measure::new(Metric::GradL2).by(route).of(&model, &Texts::of(texts)).unwrap();
            assert_near("grad-l2", of(&rows).values(), of(&[&whole]).values(), 1e-5);
        }
    }
}

#[test]
fn measuring_changes_no_weight_and_leaves_no_gradient() {
    let (rejected, chosen) = (rejected(), chosen());
    let chosen = [&chosen];
    for family in FAMILIES {
        let model = model(family);
        let before = bits(&model);
        for name in Metric::ALL {
            for route in [Route::Stored, Route::Ghost] {
                let fisher = Some(Fisher::estimate(&model, &[vec![1, 2, 3]], 0.1, 0).unwrap());
                let measure = Measure { fisher, ..Measure::new(*name).by(route) };
                let texts = Texts { rejected: &[&rejected], chosen: &chosen, neutral: &chosen };
                let first = measure.of(&model, &texts).unwrap();
                assert_eq!(first.len(), 3, "{name}");
                assert_eq!(measure.of(&model, &texts).unwrap(), first, "{name}: the same again");
                assert!(bits(&model) == before, "{name}");
                assert!(model.parameters().iter().all(|p| !p.tensor.grad().defined() && !p.tensor.requires_grad()));
            }
        }
    }
}

#[test]
fn the_mean_gradient_is_shorter_than_the_mean_of_norms() {
    let (a, b) = (rejected(), chosen());
    for family in FAMILIES {
        let model = model(family);
        let mut mean = MeanGradient::new(Metric::GradL2).unwrap();
        mean.add(&model, &Texts::of(&[&a])).unwrap();
        assert_near("one batch", mean.sensitivities(&model).unwrap().values(), &grad_l2(&model, &[&a]), 1e-6);
        mean.add(&model, &Texts::of(&[&b])).unwrap();
        let norm_of_mean = mean.sensitivities(&model).unwrap();
        let each = [&a, &b].map(|t| Sensitivities::new(grad_l2(&model, &[t])).unwrap());
        let mean_of_norm = mean_of_norm(&each).unwrap();
        assert!(norm_of_mean.values().iter().zip(mean_of_norm.values()).all(|(short, long)| short < long));
    }
}

/// Every metric at the mean gradient of two batches, by hand: from the two batches' gradients, in double precision.
#[test]
fn metrics_at_the_mean_gradient_are_their_formulas() {
    let (a, b) = (rejected(), chosen());
    for family in FAMILIES {
        let model = model(family);
        let [first, second] = [&a, &b].map(|text| error_gradients(&model, &[text]).unwrap());
        let double = |t: &Tensor| t.detach().to_kind(Kind::Double);
        let sum = |t: Tensor| t.sum(Kind::Double).double_value(&[]);
        // By block: squares of the mean gradient, of one batch's, of the weights; |weight times mean|; weights counted.
        let mut by_block = [[0.0; 5]; 3];
        for ((index, g), (_, h)) in first.iter().zip(&second) {
            let parameter = &model.parameters()[*index];
            let (mean, weight) = ((double(g) + double(h)) / 2.0, double(&parameter.tensor));
            let found = [
                sum(mean.square()),
                sum(double(h).square()),
                sum(weight.square()),
                sum((&weight * &mean).abs()),
                weight.numel() as f64,
            ];
            by_block[parameter.block.unwrap().0].iter_mut().zip(found).for_each(|(all, x)| *all += x);
        }
        for (metric, formula) in [
            (Metric::GradL2, (|[g, ..]| g.sqrt()) as fn([f64; 5]) -> f64),
            (Metric::Density, |[g, _, _, _, n]| (g / n).sqrt()),
            (Metric::Relative, |[g, _, w, ..]| (g / w).sqrt()),
            (Metric::Snip, |[_, _, _, gw, _]| gw),
            (Metric::Contrast, |[g, h, ..]| (g / h).sqrt()),
        ] {
            let mut mean = MeanGradient::new(metric).unwrap();
            let texts = [&a, &b].map(|text| [text]);
            texts.iter().for_each(|text| mean.add(&model, &Texts { neutral: &[&b], ..Texts::of(text) }).unwrap());
            let got = mean.sensitivities(&model).unwrap();
            let want: Vec<f64> = by_block.iter().map(|sums| formula(*sums)).collect();
            assert_near(metric.name(), got.values(), &want, 1e-5);
            let neutral = [&b];
            let each = [&a, &b].map(|text| {
                Measure::new(metric).of(&model, &Texts { neutral: &neutral, ..Texts::of(&[text]) }).unwrap()
            });
            let longer = mean_of_norm(&each).unwrap();
            assert!(got.values().iter().zip(longer.values()).all(|(x, y)| *x < 0.999 * y), "{metric}: another number");
        }
        for metric in Metric::ALL.iter().copied().filter(|metric| !metric.has_mean_gradient()) {
            assert!(MeanGradient::new(metric).is_err(), "{metric}");
        }
    }
}

#[test]
fn contrast_is_a_ratio_of_sensitivities() {
    let (rejected, chosen) = (rejected(), chosen());
    let neutral = [&chosen];
    let model = model("gpt2");
    let got =
        Measure::new(Metric::Contrast).of(&model, &Texts { neutral: &neutral, ..Texts::of(&[&rejected]) }).unwrap();
    let (top, bottom) = (grad_l2(&model, &[&rejected]), grad_l2(&model, &neutral));
    let want: Vec<f64> = top.iter().zip(bottom).map(|(a, b)| a / b).collect();
    assert_near("contrast", got.values(), &want, 1e-6);
}

#[test]
fn texts_that_agree_have_no_activation_distance() {
    let text = rejected();
    let same = [&text];
    let model = model("gpt-neo");
    for metric in [Metric::ActDist, Metric::Atp, Metric::EapIg, Metric::Patching] {
        let got = Measure::new(metric).of(&model, &Texts { chosen: &same, ..Texts::of(&[&text]) }).unwrap();
        assert_eq!(got.values(), [0.0; 3], "{metric}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn stored_squares_are_sums_over_the_gradients(tokens in prop::collection::vec(0u32..19, 2..20)) {
        let model = model("gpt-neo");
        let text = text(&[vec![]], &[tokens]);
        let gradients = error_gradients(&model, &[&text]).unwrap();
        let mut by_hand = vec![0.0; 3];
        for (index, gradient) in &gradients {
            let block = model.parameters()[*index].block.unwrap();
            by_hand[block.0] += gradient.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
        }
        for (a, b) in block_squares(&model.block_map(), &gradients).unwrap().iter().zip(&by_hand) {
            prop_assert!((a - b).abs() <= 1e-5 * b);
        }
    }
}

#[test]
fn a_nan_weight_is_an_error_naming_a_block() {
    let text = rejected();
    for route in [Route::Stored, Route::Ghost] {
        let model = model("gpt2");
        let parameter = model.parameters().iter().find(|p| p.block == Some(BlockId(1))).unwrap();
        no_grad(|| drop(parameter.tensor.narrow(0, 2, 1).fill_(f64::NAN)));
        let error = Measure::new(Metric::GradL2).by(route).of(&model, &Texts::of(&[&text])).unwrap_err();
        assert_eq!(
            error.diagnostic().to_string(),
            "error: sensitivity of block 0 is NaN\n help: the model or its gradients diverged: lower the learning rate, \
             or check the weights for NaN"
        );
    }
}

#[test]
fn what_a_metric_lacks_is_named() {
    let (model, text) = (model("gpt2"), rejected());
    let missing = |metric| Measure::new(metric).of(&model, &Texts::of(&[&text])).unwrap_err().diagnostic().to_string();
    assert_eq!(
        missing(Metric::Contrast),
        "error: metric `contrast` needs neutral text\n help: use grad-l2, the paper's metric, or give that text"
    );
    for metric in Metric::ALL {
        let lacks = Measure::new(*metric).of(&model, &Texts::of(&[&text])).is_err();
        let wants = metric.row().against != Against::Nothing || metric.reads_fisher();
        assert_eq!(lacks, wants, "{metric}: the row says what it compares with");
    }
    assert!(missing(Metric::ActDist).starts_with("error: metric `act-dist` needs chosen text"));
    assert!(missing(Metric::Atp).starts_with("error: metric `atp` needs chosen text"));
    let error = Measure::new(Metric::GradL2).of(&model, &Texts::of(&[])).unwrap_err();
    assert_eq!(error.to_string(), "metric `grad-l2` needs rejected text");
    let mean = |metric| MeanGradient::new(metric).unwrap();
    let error = mean(Metric::Snip).add(&model, &Texts::of(&[])).unwrap_err();
    assert_eq!(error.to_string(), "metric `snip` needs rejected text");
    let error = mean(Metric::Contrast).add(&model, &Texts::of(&[&text])).unwrap_err();
    assert_eq!(error.to_string(), "metric `contrast` needs neutral text");
    assert!(mean(Metric::GradL2).sensitivities(&model).is_err());
    assert!(mean_of_norm(&[]).is_err());
    assert_eq!(
        "grad_l2".parse::<Metric>().unwrap_err().diagnostic().to_string(),
        "error: no sensitivity metric is called `grad_l2`\n want: grad-l2, density, relative, snip, fisher, contrast, \
         efficiency, act-dist, atp, eap-ig, patching, snip-diff, wanda-diff, mask, random    got: grad_l2"
    );
}

#[test]
fn a_text_of_one_token_has_nothing_to_measure() {
    let text = text(&[vec![]], &[vec![4]]);
    for route in [Route::Stored, Route::Ghost] {
        let error = Measure::new(Metric::GradL2).by(route).of(&model("gpt2"), &Texts::of(&[&text])).unwrap_err();
        assert_eq!(error.to_string(), "no token counts in the text");
    }
}
