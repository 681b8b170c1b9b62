//! Laws of the locators of METHOD §3, on random models of three blocks and on one whose loss is linear.

use irepair_core::BlockId;
use irepair_model::{BlockModel, CausalLm, Parameter, Probe, TextBatch, UnitMap};
use irepair_objective::TextLogits;
use irepair_sensitivity::{MeanGradient, Measure, Metric, Texts};
use support::{FAMILIES, model_of, text};
use tch::{Device, Kind, Tensor, no_grad};

mod support;

const PROMPTS: [&[u32]; 3] = [&[3, 8], &[1], &[5, 2, 9]];

fn batch(continuations: [&[u32]; 3]) -> TextBatch {
    text(&PROMPTS.map(<[u32]>::to_vec), &continuations.map(<[u32]>::to_vec))
}

fn rejected() -> TextBatch {
    batch([&[4, 4, 1, 7, 12], &[18, 6], &[2, 11, 3]])
}

fn chosen() -> TextBatch {
    batch([&[9, 1], &[7, 7, 16, 2], &[15]])
}

fn measured(model: &dyn BlockModel, metric: Metric, rejected: &[&TextBatch], other: &[&TextBatch]) -> Vec<f64> {
    let texts = Texts { rejected, chosen: other, neutral: other };
    Measure::new(metric).of(model, &texts).unwrap().values().to_vec()
}

fn nll(text: &TextBatch, logits: &Tensor) -> f64 {
    let TextBatch { ids, attention_mask, loss_mask, counts, .. } = text;
    let scores = TextLogits { ids, attention_mask, loss_mask, counts: *counts, logits }.log_probs().unwrap();
    scores.nll_mean().unwrap().double_value(&[])
}

fn assert_near(what: &str, got: &[f64], want: &[f64], within: f64) {
    assert_eq!(got.len(), want.len());
    let off = got.iter().zip(want).any(|(a, b)| (a - b).abs() > within);
    assert!(!off, "{what}: {got:?} against {want:?}");
}

/// The hidden states of `rejected` with those of `chosen` at shared continuation positions, position by position.
fn mixed(rejected: &Tensor, chosen: &Tensor) -> Tensor {
    // Continuations start in column 3; both texts of the pairs have so many tokens of it.
    let mixed = rejected.copy();
    for (row, n) in [2, 2, 1].into_iter().enumerate() {
        for column in 3..3 + n {
            let at = |tensor: &Tensor| tensor.get(row as i64).get(column);
            at(&mixed).copy_(&at(chosen));
        }
    }
    mixed
}

/// Keeps what one block adds, or lets it add another thing.
struct Swap<'a> {
    block: BlockId,
    with: Option<&'a Tensor>,
    seen: Option<Tensor>,
}

impl Probe for Swap<'_> {
    fn block(&mut self, block: BlockId, input: &Tensor, output: Tensor) -> Tensor {
        if block != self.block {
            return output;
        }
        self.seen = Some(&output - input);
        self.with.map_or(output, |added| input + added)
    }
}

#[test]
fn patching_is_the_loss_with_what_one_block_adds_swapped() {
    let (rejected, chosen) = (rejected(), chosen());
    for family in FAMILIES {
        let model = model_of(family, 3, None);
        let got = measured(&model, Metric::Patching, &[&rejected], &[&chosen]);
        let want: Vec<f64> = no_grad(|| {
            let before = nll(&rejected, &model.logits(&rejected));
            let change = |block: usize| {
                let output = |text: &TextBatch, with: Option<&Tensor>| {
                    let mut swap = Swap { block: BlockId(block), with, seen: None };
                    let last = model.hidden_states_probed(text, &mut swap);
                    (swap.seen.unwrap(), last)
                };
                let swapped = mixed(&output(&rejected, None).0, &output(&chosen, None).0);
                let (_, last) = output(&rejected, Some(&swapped));
                nll(&rejected, &model.project(&last)) - before
            };
            let mut changes: Vec<f64> = (0..3).map(change).collect();
            changes.iter_mut().for_each(|change| *change = change.max(0.0));
            changes
        });
        assert_near(family, &got, &want, 1e-6);
    }
}

/// Blocks that are linear maps of every token, and a loss that is linear in the last hidden states: one token that is
/// no target is so likely that the normaliser is its logit.
struct Linear {
    parameters: Vec<Parameter>,
}

const WIDTH: i64 = 4;

impl Linear {
    fn new(sign: f64) -> Self {
        let wave = |phase: f64, rows: i64| {
            let n = Tensor::arange(rows * WIDTH, (Kind::Double, Device::Cpu));
            ((n * 12.9898 + phase).sin() * 0.5).to_kind(Kind::Float).view([rows, WIDTH])
        };
        let embedding = wave(1.0, 20);
        let _ = embedding.narrow(1, 3, 1).fill_(1.0);
        let head = wave(2.0, 20) * sign;
        let _ = head.narrow(1, 3, 1).fill_(0.0);
        let _ = head.get(19).get(3).fill_(80.0);
        let mut parameters = vec![("tokens", None, embedding), ("head", None, head)];
        for block in 0..3 {
            let map = wave(3.0 + block as f64, WIDTH);
            let _ = map.narrow(1, 3, 1).fill_(0.0);
            parameters.push(("map", Some(BlockId(block)), map));
        }
        let parameter = |(name, block, tensor): (&str, _, _)| Parameter { name: name.to_owned(), block, tensor };
        Self { parameters: parameters.into_iter().map(parameter).collect() }
    }
}

impl BlockModel for Linear {
    fn n_blocks(&self) -> usize {
        3
    }

    fn n_positions(&self) -> usize {
        16
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn hidden_states_probed(&self, batch: &TextBatch, probe: &mut dyn Probe) -> Tensor {
        let embedded = Tensor::embedding(&self.parameters[0].tensor, &batch.ids, -1, false, false);
        (0..3).fold(embedded, |x, b| probe.block(BlockId(b), &x, &x + x.matmul(&self.parameters[2 + b].tensor)))
    }

    fn head(&self) -> Tensor {
        self.parameters[1].tensor.shallow_clone()
    }

    fn with_tensors(&self, _: Vec<Tensor>) -> irepair_model::Result<Box<dyn BlockModel + Send>> {
        unreachable!("no test asks for it")
    }
}

#[test]
fn where_the_loss_is_linear_attribution_is_all_of_the_change() {
    let (rejected, chosen) = (rejected(), chosen());
    for (sign, falls) in [(-1.0, true), (1.0, false)] {
        let model = Linear::new(sign);
        let before = nll(&rejected, &model.logits(&rejected));
        let change = |last: &Tensor| nll(&rejected, &model.project(last)) - before;
        // Tokens do not see one another: with the whole stream after any block patched the last states are these.
        let stream = change(&mixed(&model.hidden_states(&rejected), &model.hidden_states(&chosen)));
        assert!(stream.abs() > 0.05 && (stream > 0.0) == falls, "{stream}");
        assert_near("atp", &measured(&model, Metric::Atp, &[&rejected], &[&chosen]), &[stream.abs(); 3], 3e-5);
        // With what one block adds patched, the blocks above it carry the difference on.
        let map = |b: usize| &model.parameters[2 + b].tensor;
        let through = |x: &Tensor, b: usize| x + x.matmul(map(b));
        let embedded = |text: &TextBatch| Tensor::embedding(&model.parameters[0].tensor, &text.ids, -1, false, false);
        let before_block = |text: &TextBatch, block: usize| (0..block).fold(embedded(text), |x, b| through(&x, b));
        let changes: Vec<f64> = (0..3)
            .map(|block| {
                let [on_rejected, on_chosen] = [&rejected, &chosen].map(|text| before_block(text, block));
                let added = mixed(&on_rejected.matmul(map(block)), &on_chosen.matmul(map(block)));
                change(&(block + 1..3).fold(on_rejected + added, |x, b| through(&x, b)))
            })
            .collect();
        assert!(changes.iter().any(|change| change.abs() > 0.01), "{changes:?}");
        let sizes: Vec<f64> = changes.iter().map(|change| change.abs()).collect();
        assert_near("eap-ig", &measured(&model, Metric::EapIg, &[&rejected], &[&chosen]), &sizes, 3e-5);
        let drops: Vec<f64> = changes.iter().map(|change| change.max(0.0)).collect();
        assert_near("patching", &measured(&model, Metric::Patching, &[&rejected], &[&chosen]), &drops, 3e-5);
    }
}

/// With the whole residual stream patched, every block would get the same number.
#[test]
fn blocks_differ_where_both_continuations_have_one_length() {
    let (rejected, chosen) =
        (batch([&[4, 4, 1], &[18, 6, 2], &[2, 11, 3]]), batch([&[9, 1, 8], &[7, 7, 16], &[15, 3, 3]]));
    for family in FAMILIES {
        let model = model_of(family, 3, None);
        for metric in [Metric::EapIg, Metric::Patching] {
            let found = measured(&model, metric, &[&rejected], &[&chosen]);
            let largest = found.iter().copied().fold(0.0, f64::max);
            let smallest = found.iter().copied().fold(f64::INFINITY, f64::min);
            assert!(largest > 1.05 * smallest, "{family} {}: {found:?}", metric.name());
        }
    }
}

#[test]
fn micro_batches_with_shared_counts_are_the_whole_batch() {
    let rows = |whole: &TextBatch| -> Vec<TextBatch> {
        (0..3)
            .map(|row| {
                let mut text = whole.row(row);
                text.counts = whole.counts;
                text
            })
            .collect()
    };
    let (rejected, chosen) = (rejected(), chosen());
    let (rejected_rows, chosen_rows) = (rows(&rejected), rows(&chosen));
    for family in ["gpt2", "llama", "gemma2"] {
        let model = model_of(family, 3, None);
        for metric in [Metric::EapIg, Metric::Patching, Metric::SnipDiff, Metric::WandaDiff, Metric::Mask] {
            let by_rows = measured(
                &model,
                metric,
                &rejected_rows.iter().collect::<Vec<_>>(),
                &chosen_rows.iter().collect::<Vec<_>>(),
            );
            // Of a share, as much as one weight in a thousand may be on the other side of the threshold.
            let within = if metric.compares_top_shares() { 1e-3 } else { 1e-6 };
            assert_near(metric.name(), &by_rows, &measured(&model, metric, &[&rejected], &[&chosen]), within);
        }
    }
}

#[test]
fn the_same_text_on_both_sides_leaves_no_weight() {
    let text = rejected();
    for family in FAMILIES {
        let model = model_of(family, 3, None);
        for metric in [Metric::SnipDiff, Metric::WandaDiff] {
            assert_eq!(measured(&model, metric, &[&text], &[&text]), [0.0; 3], "{family}, {metric}");
            let found = measured(&model, metric, &[&text], &[&chosen()]);
            assert!(found.iter().any(|share| *share > 0.0) && found.iter().all(|share| *share < 0.2), "{found:?}");
        }
    }
}

/// Scores by hand, in double precision, from gradients; a sort for the threshold.
#[test]
fn snip_diff_at_the_mean_gradient_is_its_formula() {
    let (a, b, neutral) = (rejected(), chosen(), batch([&[3, 3, 3], &[2, 17], &[10, 1, 6, 4]]));
    let model = model_of("qwen3", 3, None);
    let mut mean = MeanGradient::new(Metric::SnipDiff).unwrap();
    for text in [&a, &b] {
        mean.add(&model, &Texts { neutral: &[&neutral], ..Texts::of(&[text]) }).unwrap();
    }
    let top = |texts: &[&TextBatch]| -> Vec<(usize, Vec<bool>)> {
        let gradients: Vec<_> =
            texts.iter().map(|text| irepair_sensitivity::error_gradients(&model, &[text]).unwrap()).collect();
        let score = |i: usize| {
            let (index, _) = gradients[0][i];
            let sum = gradients.iter().fold(Tensor::from(0.0), |sum, of| sum + of[i].1.to_kind(Kind::Double));
            let score = (model.parameters()[index].tensor.detach().to_kind(Kind::Double) * sum).abs();
            (index, Vec::<f64>::try_from(score.flatten(0, -1)).unwrap())
        };
        let scores: Vec<_> = (0..gradients[0].len()).map(score).collect();
        let mut all: Vec<f64> = scores.iter().flat_map(|(_, scores)| scores.clone()).collect();
        all.sort_by(|a, b| b.total_cmp(a));
        let least = all[(0.05 * all.len() as f64).round() as usize - 1];
        scores.into_iter().map(|(index, scores)| (index, scores.iter().map(|s| *s >= least).collect())).collect()
    };
    let (mut n_left, mut n) = ([0.0; 3], [0.0; 3]);
    for ((index, error), (_, other)) in top(&[&a, &b]).iter().zip(top(&[&neutral])) {
        let block = model.parameters()[*index].block.unwrap().0;
        n[block] += error.len() as f64;
        n_left[block] += error.iter().zip(other).filter(|(error, other)| **error && !other).count() as f64;
    }
    let want: Vec<f64> = n_left.iter().zip(n).map(|(left, n)| left / n).collect();
    // Within two weights.
    assert_near("snip-diff", mean.sensitivities(&model).unwrap().values(), &want, 2.0 / n[0]);
    let blocks = mean.of_units(&model, irepair_core::spec::UnitKind::Block).unwrap();
    assert_near("blocks as units", blocks.values(), &want, 2.0 / n[0]);
}

#[test]
fn the_weights_left_of_units_are_those_of_their_block() {
    use irepair_core::spec::UnitKind;
    let (rejected, chosen) = (rejected(), chosen());
    let texts = Texts { rejected: &[&rejected], chosen: &[], neutral: &[&chosen] };
    for family in ["gpt2", "llama", "phi3", "gemma2"] {
        let model: CausalLm = model_of(family, 3, Some(24));
        let map: UnitMap = model.unit_map().unwrap();
        for metric in [Metric::SnipDiff, Metric::WandaDiff] {
            let measure = Measure::new(metric);
            let blocks = measure.of(&model, &texts).unwrap();
            let units = measure.of_units(&model, &texts, UnitKind::Block).unwrap();
            assert_near("blocks", units.values(), blocks.values(), 1e-12);
            let halves = measure.of_units(&model, &texts, UnitKind::Half).unwrap();
            let scored = |unit| {
                let rows = map.slice([unit]).unwrap();
                let shape = |parameter: usize| &map.parameters()[parameter].shape;
                let rows = rows.iter().filter(|rows| metric == Metric::SnipDiff || shape(rows.parameter).len() == 2);
                rows.map(|rows| rows.n_weights(shape(rows.parameter))).sum::<usize>() as f64
            };
            let (mut left, mut n) = ([0.0; 3], [0.0; 3]);
            for (unit, share) in halves.iter() {
                left[unit.block.0] += share * scored(unit);
                n[unit.block.0] += scored(unit);
            }
            let want: Vec<f64> = left.iter().zip(n).map(|(left, n)| left / n).collect();
            assert_near(&format!("{family} {metric}"), blocks.values(), &want, 1e-12);
            for kind in [UnitKind::Head, UnitKind::Neuron] {
                let found = measure.of_units(&model, &texts, kind).unwrap();
                assert!(found.values().iter().all(|share| (0.0..=1.0).contains(share)));
                assert!(found.values().iter().any(|share| *share > 0.0), "{family} {metric} {kind}");
            }
        }
        let texts = Texts { chosen: &[&chosen], ..texts };
        let blocks = Measure::new(Metric::Patching).of_units(&model, &texts, UnitKind::Block).unwrap();
        assert_eq!(blocks.values(), Measure::new(Metric::Patching).of(&model, &texts).unwrap().values());
        let error = Measure::new(Metric::Patching).of_units(&model, &texts, UnitKind::Head).unwrap_err();
        assert_eq!(error.to_string(), "metric `patching` is of whole blocks alone");
    }
}

#[test]
fn gates_of_every_kind_change_no_weight() {
    use irepair_core::spec::UnitKind;
    let (rejected, chosen) = (rejected(), chosen());
    let texts = Texts { rejected: &[&rejected], chosen: &[&chosen], neutral: &[] };
    let bits = |model: &CausalLm| -> Vec<Vec<f32>> {
        let values = |parameter: &Parameter| Vec::try_from(parameter.tensor.detach().flatten(0, -1)).unwrap();
        model.parameters().iter().map(values).collect()
    };
    for family in FAMILIES {
        let model = model_of(family, 3, Some(24));
        let before = bits(&model);
        for kind in UnitKind::ALL.iter().copied() {
            let found = Measure::new(Metric::Mask).of_units(&model, &texts, kind).unwrap();
            assert_eq!(found.iter().len(), model.unit_map().unwrap().units(kind).count());
            assert!(found.values().iter().all(|value| (0.0..=1.0).contains(value)), "{family} {kind}");
            assert!(found.values().iter().any(|value| *value != found.values()[0]), "{family} {kind} differ");
            // The same again, from the same start.
            assert_eq!(Measure::new(Metric::Mask).of_units(&model, &texts, kind).unwrap(), found);
        }
        assert!(bits(&model) == before, "{family}");
        assert!(model.parameters().iter().all(|p| !p.tensor.grad().defined() && !p.tensor.requires_grad()));
    }
}

#[test]
fn equal_texts_close_all_gates_alike() {
    let text = rejected();
    for family in FAMILIES {
        let found = measured(&model_of(family, 3, None), Metric::Mask, &[&text], &[&text]);
        assert!(found.iter().all(|value| *value == found[0]), "{family}: {found:?}");
    }
}
