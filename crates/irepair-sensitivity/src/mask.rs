//! `mask` (METHOD §3, §24): a Hard-Concrete gate on what each unit writes to the residual stream (Louizos et al. 2018,
//! arXiv 1712.01312). Gates are trained to make rejected text less likely than chosen text, at a price for each that is
//! not open. A unit's value says how far its gate closed.
//!
//! No weight changes. The state of a gate is a number on the host.
//!
//! Cost: a forward and a backward pass of both texts at each of [`N_STEPS`] and before the first. The graphs of both
//! texts are in memory together; no weight has a gradient.

use irepair_core::spec::{Metric, UnitKind};
use irepair_model::{BlockModel, TextBatch, UnitMap, host};
use irepair_objective::{TextLogits, counted_targets};
use tch::{Kind, Tensor, no_grad};

use crate::gates::{Gates, Point, STEEPEST, expected, noise, not_open, sampled, sigmoid};
use crate::{Error, Result};

/// Steps of training.
const N_STEPS: u64 = 20;

/// How far a gate moves in a step at most, in `log_alpha`.
const RATE: f64 = 0.5;

/// What it costs to close all gates, in nats of the loss.
const PRICE: f64 = 0.1;

/// `log_alpha` of a gate before the first step: open, but for 0.04.
const START: f64 = 2.0;

/// What gates are trained on.
struct Task<'a> {
    model: &'a dyn BlockModel,
    rejected: &'a [&'a TextBatch],
    chosen: &'a [&'a TextBatch],
    kind: UnitKind,
    n_each: usize,
    map: Option<UnitMap>,
}

impl<'a> Task<'a> {
    fn new(
        model: &'a dyn BlockModel,
        rejected: &'a [&'a TextBatch],
        chosen: &'a [&'a TextBatch],
        kind: UnitKind,
    ) -> Result<Self> {
        let map = model.unit_map();
        let n_each = match (kind, &map) {
            (UnitKind::Block, _) => 1,
            (UnitKind::Half, _) => 2,
            (UnitKind::Head | UnitKind::Neuron, Some(map)) => map.n_per_block(kind),
            (UnitKind::Head | UnitKind::Neuron, None) => return Err(Error::NoUnits { kind }),
        };
        Ok(Self { model, rejected, chosen, kind, n_each, map })
    }

    fn n_units(&self) -> usize {
        self.model.n_blocks() * self.n_each
    }

    /// Mean log-probability of each continuation's counted tokens with `gates` in the pass, `[batch]`.
    fn log_probs(&self, text: &TextBatch, gates: &Tensor) -> Result<Tensor> {
        let (kind, n_each, map) = (self.kind, self.n_each, self.map.as_ref());
        let mut probe = Gates::new(kind, n_each, map, gates);
        let last = self.model.hidden_states_probed(text, &mut probe);
        let (want, got) = (probe.n_places() * self.model.n_blocks(), probe.n_placed());
        if want != got {
            return Err(Error::NoGates { metric: Metric::Mask.name(), want, got });
        }
        // From the last column of the prompt on: it predicts the first of the continuation.
        let start = (text.n_prompt_cols() as i64 - 1).max(0);
        let continuation = |tensor: &Tensor| tensor.narrow(1, start, tensor.size()[1] - start);
        let [ids, attention_mask, loss_mask] = [&text.ids, &text.attention_mask, &text.loss_mask].map(continuation);
        // Contiguous: libtorch multiplies a part of a tensor row by row.
        let logits = self.model.project(&continuation(&last).contiguous());
        let text = TextLogits {
            ids: &ids,
            attention_mask: &attention_mask,
            loss_mask: &loss_mask,
            counts: text.counts,
            logits: &logits,
        };
        let sum = |tensor: &Tensor| tensor.sum_dim_intlist(-1, false, Kind::Float);
        let n_counted = sum(&counted_targets(&attention_mask, &loss_mask));
        Ok(sum(&text.log_probs()?.values) / n_counted.clamp_min(1.0))
    }

    /// The loss `mean over pairs of softplus(log p(y-) - log p(y+))`, of means over tokens, `[]`, and its gradient by
    /// the gates, `[n_units]`.
    ///
    /// The gradients of the two texts are taken apart, so that those of equal texts leave exactly 0.
    fn loss(&self, gates: &[f64]) -> Result<(Tensor, Tensor)> {
        let gates = Tensor::from_slice(gates).to_kind(Kind::Float).to_device(self.model.device());
        let gates = gates.set_requires_grad(true);
        let n_pairs: i64 = self.rejected.iter().map(|text| text.dims().0).sum();
        let (mut loss, mut gradient) = (Tensor::from(0f32).to_device(gates.device()), gates.detach().zeros_like());
        for (rejected, chosen) in self.rejected.iter().zip(self.chosen) {
            let (rejected, chosen) = (self.log_probs(rejected, &gates)?, self.log_probs(chosen, &gates)?);
            let ahead = (&rejected - &chosen).detach();
            let weights = ahead.sigmoid() / n_pairs as f64;
            let by_gates = |log_probs: Tensor| -> Result<Tensor> {
                let sum = (log_probs * &weights).sum(Kind::Float);
                let found =
                    Tensor::f_run_backward(&[&sum], &[&gates], false, false).map_err(irepair_model::Error::from);
                Ok(found?.remove(0))
            };
            let (rejected, chosen) = (by_gates(rejected)?, by_gates(chosen)?);
            no_grad(|| {
                gradient += rejected - chosen;
                loss += ahead.softplus().sum(Kind::Float) / n_pairs as f64;
            });
        }
        Ok((loss, gradient))
    }

    /// The gradient of the objective by `log_alpha`: of the loss at the gates `of(unit, log_alpha)`, and of `price`
    /// times the mean over units of [`not_open`].
    fn gradient(&self, log_alphas: &[f64], price: f64, of: impl Fn(usize, f64) -> Point) -> Result<Vec<f64>> {
        let points: Vec<Point> = log_alphas.iter().enumerate().map(|(unit, x)| of(unit, *x)).collect();
        let (_, gradient) = self.loss(&points.iter().map(|point| point.value).collect::<Vec<_>>())?;
        let by_gates = host::vectors(&[gradient])?.remove(0);
        let by_price = |x: f64| price * not_open(x).slope / log_alphas.len() as f64;
        let all = by_gates.into_iter().zip(&points).zip(log_alphas);
        Ok(all.map(|((by_gate, point), x)| by_gate * point.slope + by_price(*x)).collect())
    }

    /// `log_alpha` of every unit after the last step. Plain steps, down the gradient over one number for all units: the
    /// steepest that any gate could be for the loss as it is before the first step, without noise.
    fn trained(&self, price: f64) -> Result<Vec<f64>> {
        let mut log_alphas = vec![START; self.n_units()];
        let (_, by_gates) = self.loss(&vec![expected(START).value; log_alphas.len()])?;
        let scale = STEEPEST * host::vectors(&[by_gates])?.remove(0).into_iter().fold(0.0, |max, g| g.abs().max(max));
        for step in 0..N_STEPS {
            let gradient = self.gradient(&log_alphas, price, |unit, x| sampled(x, noise(step, unit)))?;
            for (log_alpha, g) in log_alphas.iter_mut().zip(gradient).filter(|(_, g)| *g != 0.0) {
                *log_alpha -= RATE * (g / scale).clamp(-1.0, 1.0);
            }
        }
        Ok(log_alphas)
    }
}

/// How far the gate of every unit of `kind` has closed after training: near 0 open, near 1 closed. It is `1 - z`
/// without noise, before `z` is stretched and cut, which would make all open gates equal.
pub(crate) fn closed(
    model: &dyn BlockModel,
    rejected: &[&TextBatch],
    chosen: &[&TextBatch],
    kind: UnitKind,
) -> Result<Vec<f64>> {
    model.freeze();
    let log_alphas = Task::new(model, rejected, chosen, kind)?.trained(PRICE)?;
    Ok(log_alphas.into_iter().map(|log_alpha| sigmoid(-log_alpha)).collect())
}

#[cfg(test)]
mod tests {
    use irepair_core::{BlockId, Unit, UnitPart};
    use irepair_model::{CausalLm, Part, Rows, Slot};

    use super::*;
    use crate::support::{FAMILIES, model_of, text};

    fn pair() -> (TextBatch, TextBatch) {
        let prompts = [vec![3, 8], vec![1], vec![5, 2, 9]];
        let rejected = text(&prompts, &[vec![4, 4, 1, 7, 12], vec![18, 6], vec![2, 11, 3]]);
        (rejected, text(&prompts, &[vec![9, 1], vec![7, 7, 16, 2], vec![15]]))
    }

    fn loss(model: &CausalLm, kind: UnitKind, gates: &[f64]) -> (f64, Vec<f64>) {
        let (rejected, chosen) = pair();
        let (rejected, chosen) = ([&rejected], [&chosen]);
        let (loss, gradient) = Task::new(model, &rejected, &chosen, kind).unwrap().loss(gates).unwrap();
        (loss.double_value(&[]), Vec::<f32>::try_from(gradient).unwrap().into_iter().map(f64::from).collect())
    }

    /// Open, half open, closed and between, in turn.
    fn mixed(n: usize) -> Vec<f64> {
        (0..n).map(|i| [1.0, 0.5, 0.0, 0.8, 0.25][i % 5]).collect()
    }

    /// The weights by which a unit writes: its columns of the projections, or the norm behind a whole half.
    fn writes(map: &UnitMap, unit: Unit) -> Vec<Rows> {
        let writes = |rows: &Rows| {
            let parameter = &map.parameters()[rows.parameter];
            let is_normed = |slot| map.parameter(unit.block, slot, Part::Weight).is_some();
            let is_part = matches!(unit.part, UnitPart::Head(_) | UnitPart::Neuron(_));
            let norm = match parameter.slot {
                Slot::AttentionOut => Slot::AttentionOutNorm,
                Slot::Down => Slot::MlpOutNorm,
                Slot::AttentionOutNorm | Slot::MlpOutNorm => return !is_part,
                _ => return false,
            };
            parameter.part == Part::Weight && (is_part || !is_normed(norm))
        };
        map.slice([unit]).unwrap().into_iter().filter(writes).collect()
    }

    #[test]
    fn a_gate_multiplies_the_weights_by_which_its_unit_writes() {
        for family in FAMILIES {
            for kind in UnitKind::ALL.iter().copied() {
                let (model, gated) = (model_of(family, 2, Some(24)), model_of(family, 2, Some(24)));
                let map = model.unit_map().unwrap();
                // Gemma's norms multiply by one and their weight.
                let added = if family.starts_with("gemma") { 1.0 } else { 0.0 };
                let gates = mixed(map.units(kind).count());
                for (unit, gate) in map.units(kind).zip(&gates) {
                    for Rows { parameter, dim, range } in writes(&map, unit) {
                        let weight = &gated.parameters()[parameter].tensor;
                        let added = if weight.dim() == 1 { added } else { 0.0 };
                        let mut part = weight.narrow(dim as i64, range.start as i64, range.len() as i64);
                        no_grad(|| part.copy_(&((&part + added) * *gate - added)));
                    }
                }
                let (found, _) = loss(&model, kind, &gates);
                let (want, _) = loss(&gated, kind, &vec![1.0; gates.len()]);
                assert!((found - want).abs() < 2e-6, "{family} {kind}: {found}, {want}");
                let (open, _) = loss(&model, kind, &vec![1.0; gates.len()]);
                assert!((found - open).abs() > 1e-4, "{family} {kind}: {found}, {open}");
            }
        }
    }

    #[test]
    fn the_gradient_of_a_step_is_a_central_difference_of_the_objective() {
        let (rejected, chosen) = pair();
        let (rejected, chosen) = ([&rejected], [&chosen]);
        let mut n_moved = 0;
        for (family, kind) in FAMILIES.iter().flat_map(|f| UnitKind::ALL.iter().map(move |kind| (*f, *kind))) {
            let model = model_of(family, 2, Some(24));
            model.freeze();
            let task = Task::new(&model, &rejected, &chosen, kind).unwrap();
            for start in [START, 0.3] {
                let log_alphas = vec![start; task.n_units()];
                let of = |unit: usize, x: f64| sampled(x, noise(0, unit));
                let found = task.gradient(&log_alphas, PRICE, of).unwrap();
                let objective = |moved: usize, by: f64| {
                    let x = |unit: usize| start + if unit == moved { by } else { 0.0 };
                    let gates: Vec<f64> = (0..found.len()).map(|unit| of(unit, x(unit)).value).collect();
                    let price: f64 = (0..found.len()).map(|unit| not_open(x(unit)).value).sum();
                    let (loss, _) = task.loss(&gates).unwrap();
                    loss.double_value(&[]) + PRICE * price / found.len() as f64
                };
                // Of neurons, every eighth.
                let each = if kind == UnitKind::Neuron { 8 } else { 1 };
                for unit in (0..found.len()).step_by(each) {
                    let is_cut = |by: f64| of(unit, start + by).slope == 0.0;
                    if is_cut(-0.02) != is_cut(0.02) {
                        continue;
                    }
                    // Losses are rounded to some 3e-7; where they are steep, they bend too. Two differences cancel
                    // what bends.
                    let h = 0.01 / (1.0 + 20.0 * found[unit].abs());
                    let over = |h: f64| (objective(unit, h) - objective(unit, -h)) / (2.0 * h);
                    let want = (4.0 * over(h) - over(2.0 * h)) / 3.0;
                    let near = (found[unit] - want).abs() < 6e-5 + 3e-3 * want.abs();
                    assert!(near, "{family} {kind} {unit} at {start}: {}, {want}", found[unit]);
                    n_moved += usize::from(!is_cut(0.0));
                }
            }
        }
        assert!(n_moved > 150, "{n_moved} gates had a slope");
    }

    #[test]
    fn pad_columns_change_neither_loss_nor_gradient() {
        let (prompt, long) = (vec![3, 8, 2], vec![7; 6]);
        let of = |continuation: &[u32]| {
            // A longer neighbour pads both sides; then it is dropped.
            let wide = text(&[prompt.clone(), long.clone()], &[continuation.to_vec(), long.clone()]).row(0);
            [text(std::slice::from_ref(&prompt), &[continuation.to_vec()]), wide]
        };
        let (rejected, chosen) = (of(&[4, 1, 12, 5]), of(&[9, 9, 3]));
        for (family, kind) in FAMILIES.iter().flat_map(|f| UnitKind::ALL.iter().map(move |kind| (*f, *kind))) {
            let model = model_of(family, 3, Some(24));
            model.freeze();
            let [plain, padded] = [0, 1].map(|i| {
                let (rejected, chosen) = ([&rejected[i]], [&chosen[i]]);
                let task = Task::new(&model, &rejected, &chosen, kind).unwrap();
                let (loss, gradient) = task.loss(&mixed(task.n_units())).unwrap();
                [vec![loss.double_value(&[])], host::vectors(&[gradient]).unwrap().remove(0)].concat()
            });
            let largest = plain.iter().fold(0.0, |max: f64, value| value.abs().max(max));
            let near = plain.iter().zip(&padded).all(|(a, b)| (a - b).abs() < 1e-5 * largest);
            assert!(near, "{family} {kind}: {padded:?} against {plain:?}");
        }
    }

    #[test]
    fn at_a_high_price_no_gate_closes() {
        let (rejected, chosen) = pair();
        for kind in UnitKind::ALL.iter().copied() {
            let model = model_of("llama", 3, Some(24));
            model.freeze();
            let log_alphas = Task::new(&model, &[&rejected], &[&chosen], kind).unwrap().trained(1e6).unwrap();
            assert!(log_alphas.iter().all(|x| *x > START + 1.0 && expected(*x).value == 1.0), "{kind}: {log_alphas:?}");
            let free = Task::new(&model, &[&rejected], &[&chosen], kind).unwrap().trained(0.0).unwrap();
            assert!(free.iter().any(|x| *x < START), "{kind}: {free:?}");
        }
    }

    #[test]
    fn without_a_price_gates_of_equal_texts_stay_where_they_were() {
        let (text, _) = pair();
        for (family, kind) in FAMILIES.iter().flat_map(|f| UnitKind::ALL.iter().map(move |kind| (*f, *kind))) {
            let model = model_of(family, 2, Some(24));
            model.freeze();
            let found = Task::new(&model, &[&text], &[&text], kind).unwrap().trained(0.0).unwrap();
            assert!(found.iter().all(|x| *x == START), "{family} {kind}");
        }
    }

    /// One head says the rejected token whatever it reads: its values are constant, and its columns write what parts
    /// the two tokens. The others write too.
    #[test]
    fn the_gate_of_the_head_that_says_the_rejected_token_closes_most() {
        let prompts = [vec![3, 8], vec![1], vec![5, 2, 11]];
        let (rejected, chosen) = ([vec![4], vec![4], vec![4]], [vec![9], vec![9], vec![9]]);
        let (rejected, chosen) = (text(&prompts, &rejected), text(&prompts, &chosen));
        for (block, head) in (0..3).flat_map(|block| [(block, 0), (block, 1)]) {
            let model = model_of("gpt2", 3, None);
            let map = model.unit_map().unwrap();
            let tensor = |slot, part| {
                let index = map.parameter(BlockId(block), slot, part).unwrap();
                model.parameters()[index].tensor.shallow_clone()
            };
            no_grad(|| {
                let parting = model.head().get(4) - model.head().get(9);
                // 16 queries, 16 keys, 16 values; 8 of a head.
                let _ = tensor(Slot::Qkv, Part::Weight).narrow(1, 32 + 8 * head, 8).fill_(0.0);
                let _ = tensor(Slot::Qkv, Part::Bias).narrow(0, 32 + 8 * head, 8).fill_(1.0);
                let columns = (parting * 0.5).unsqueeze(0).expand([8, 16], false);
                tensor(Slot::AttentionOut, Part::Weight).narrow(0, 8 * head, 8).copy_(&columns);
            });
            for (kind, want) in
                [(UnitKind::Head, 2 * block + head as usize), (UnitKind::Half, 2 * block), (UnitKind::Block, block)]
            {
                let found = closed(&model, &[&rejected], &[&chosen], kind).unwrap();
                let rest = found.iter().enumerate().filter(|(i, _)| *i != want).map(|(_, v)| *v).fold(0.0, f64::max);
                assert!(found[want] > rest + 0.05, "{block}.head.{head}, {kind}: {found:?}");
                // The other way round, it opens.
                let opened = closed(&model, &[&chosen], &[&rejected], kind).unwrap();
                assert!(opened[want] < sigmoid(-START), "{block}.head.{head}, {kind}: {opened:?}");
            }
        }
    }
}
