//! Attribution patching along the way from rejected to chosen text (METHOD §3; EAP-IG, arXiv 2403.17806).
//!
//! `atp` takes the gradient at the rejected text alone, which is the slope there and not between the two texts. The
//! mean of the gradients on the way, times its length, is the integral of the loss along it: what `patching` measures.
//!
//! Cost: one forward pass of each text, and for every block as many forward and backward passes of the rejected text
//! as there are points, each through the blocks above it.

use irepair_core::BlockId;
use irepair_core::spec::Metric;
use irepair_model::{BlockModel, Probe, TextBatch};
use tch::{Kind, Tensor, no_grad};

use crate::activation::{Outputs, Shared};
use crate::block_sums::BlockSums;
use crate::gradient::text_nll;
use crate::{Error, Result};

/// Where on the way gradients are taken: 0 is the rejected text, 1 the chosen one. Midpoints of five equal parts, whose
/// mean is exact for a loss of second degree.
pub(crate) const POINTS: [f64; 5] = [0.1, 0.3, 0.5, 0.7, 0.9];

/// Moves the output of one block, which is the `at`-th that it is shown, along the way.
struct Moved<'a> {
    at: usize,
    n_seen: usize,
    point: f64,
    shared: &'a Shared,
    /// The block's output on the chosen text.
    chosen: &'a Tensor,
    /// The same on the rejected text.
    rejected: &'a Tensor,
    /// The output that the pass continues with, where its graph starts, and the whole way, on the shared columns.
    found: Option<(Tensor, Tensor)>,
}

impl Moved<'_> {
    /// Where the graph starts: the block's output, on the way from `hidden`.
    fn start(&mut self, hidden: &Tensor) -> Tensor {
        let hidden = hidden.detach();
        let way = self.shared.difference(self.chosen, &hidden);
        let columns = self.shared.columns(&hidden) + (&way * self.point).to_kind(hidden.kind());
        let start = self.shared.replaced(&hidden, &columns).set_requires_grad(true);
        self.found = Some((start.shallow_clone(), way));
        start
    }
}

impl Probe for Moved<'_> {
    /// What lies below the block changes nothing that is read.
    fn known(&mut self, _block: BlockId) -> Option<Tensor> {
        if self.n_seen > self.at {
            return None;
        }
        self.n_seen += 1;
        let rejected = self.rejected;
        Some(if self.n_seen == self.at + 1 { self.start(rejected) } else { rejected.shallow_clone() })
    }

    fn block(&mut self, _block: BlockId, hidden: Tensor) -> Tensor {
        self.n_seen += 1;
        if self.n_seen == self.at + 1 { self.start(&hidden) } else { hidden }
    }
}

/// `sum over pairs and shared positions of <mean over points of dL/dH_b, H_b(X+) - H_b(X-)>`.
pub(crate) fn changes(
    model: &dyn BlockModel,
    rejected: &[&TextBatch],
    chosen: &[&TextBatch],
    points: &[f64],
) -> Result<Vec<f64>> {
    model.freeze();
    let mut sums = BlockSums::default();
    for (rejected, chosen) in rejected.iter().zip(chosen) {
        let shared = Shared::of(rejected, chosen);
        let outputs = |text| no_grad(|| Outputs::of(Metric::EapIg, model, text, false));
        let (of_chosen, of_rejected) = (outputs(chosen)?.0, outputs(rejected)?.0);
        for (at, (chosen, rejected_at)) in of_chosen.iter().zip(&of_rejected).enumerate() {
            for &point in points {
                let mut moved =
                    Moved { at, n_seen: 0, point, shared: &shared, chosen, rejected: rejected_at, found: None };
                let last = model.hidden_states_probed(rejected, &mut moved);
                let got = moved.n_seen;
                let missing = Error::NoBlockOutputs { metric: Metric::EapIg.name(), want: model.n_blocks(), got };
                let (start, way) = moved.found.ok_or(missing)?;
                let loss = text_nll(model, rejected, &last)?;
                let gradient =
                    Tensor::f_run_backward(&[&loss], &[&start], false, false).map_err(irepair_model::Error::from)?;
                let product = no_grad(|| shared.columns(&gradient[0]).to_kind(Kind::Float) * way);
                sums.push(BlockId(at), product.sum(Kind::Double) / points.len() as f64);
            }
        }
    }
    sums.read_alone(model.n_blocks())
}

/// The size of [`changes`] by [`POINTS`].
pub(crate) fn attribution(model: &dyn BlockModel, rejected: &[&TextBatch], chosen: &[&TextBatch]) -> Result<Vec<f64>> {
    Ok(changes(model, rejected, chosen, &POINTS)?.into_iter().map(f64::abs).collect())
}

#[cfg(test)]
mod tests {
    use irepair_model::CausalLm;

    use super::*;
    use crate::support::{FAMILIES, model_of, text};
    use crate::{activation, patching};

    fn pair() -> (TextBatch, TextBatch) {
        let prompts = [vec![3, 8], vec![1], vec![5, 2, 9]];
        let rejected = text(&prompts, &[vec![4, 4, 1, 7, 12], vec![18, 6], vec![2, 11, 3]]);
        (rejected, text(&prompts, &[vec![9, 1], vec![7, 7, 16, 2], vec![15]]))
    }

    fn model(family: &str) -> CausalLm {
        model_of(family, 3, None)
    }

    #[test]
    fn one_point_at_the_rejected_text_is_attribution_patching() {
        let (rejected, chosen) = pair();
        for family in FAMILIES {
            let model = model(family);
            let found = changes(&model, &[&rejected], &[&chosen], &[0.0]).unwrap();
            let want = activation::attribution(&model, &[&rejected], &[&chosen]).unwrap();
            let near = found.iter().zip(&want).all(|(found, want)| (found.abs() - want).abs() < 1e-6);
            assert!(near, "{family}: {found:?} against {want:?}");
        }
    }

    /// The fundamental theorem of calculus, in each block: the mean gradient on the way is the loss at its end. In
    /// Gemma 2's block 0 the loss bends sharply on the way: 64 points are not enough there.
    #[test]
    fn many_points_add_up_to_what_patching_measures() {
        let (rejected, chosen) = pair();
        for (family, n) in [("gpt2", 64), ("llama", 64), ("gpt-neox", 64), ("qwen3", 64), ("gemma2", 1024)] {
            let points: Vec<f64> = (0..n).map(|i| (f64::from(i) + 0.5) / f64::from(n)).collect();
            let model = model(family);
            let want = patching::changes(&model, &[&rejected], &[&chosen]).unwrap();
            let found = changes(&model, &[&rejected], &[&chosen], &points).unwrap();
            let size = want.iter().map(|change| change.abs()).fold(0.0, f64::max);
            let near = found.iter().zip(&want).all(|(found, want)| (found - want).abs() < 2e-6 + 1e-3 * size);
            assert!(near, "{family}: {found:?} against {want:?}");
        }
    }
}
