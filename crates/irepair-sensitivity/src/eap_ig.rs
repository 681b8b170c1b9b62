//! Attribution patching along the way from rejected to chosen text (METHOD §3; EAP-IG, arXiv 2403.17806).
//!
//! The gradient at the rejected text alone is the slope there and not between the two texts. The mean of the gradients
//! on the way, times its length, is the integral of the loss along it: what `patching` measures.
//!
//! Cost: one forward pass of each text, and for every block as many forward and backward passes of the rejected text
//! as there are points, each through the blocks above it.

use irepair_core::BlockId;
use irepair_core::spec::Metric;
use irepair_model::{BlockModel, TextBatch};
use tch::{Kind, Tensor, no_grad};

use crate::Result;
use crate::block_sums::BlockSums;
use crate::patching::Runs;

/// Where on the way gradients are taken: 0 is the rejected text, 1 the chosen one. Midpoints of five equal parts, whose
/// mean is exact for a loss of second degree.
pub(crate) const POINTS: [f64; 5] = [0.1, 0.3, 0.5, 0.7, 0.9];

/// `sum over pairs and shared positions of <mean over points of dL/dH_b, D_b(X+) - D_b(X-)>`, with `D_b` what block `b`
/// adds.
pub(crate) fn changes(
    model: &dyn BlockModel,
    rejected: &[&TextBatch],
    chosen: &[&TextBatch],
    points: &[f64],
) -> Result<Vec<f64>> {
    model.freeze();
    let mut sums = BlockSums::default();
    for (rejected, chosen) in rejected.iter().zip(chosen) {
        let runs = Runs::of(Metric::EapIg, model, rejected, chosen)?;
        for block in (0..model.n_blocks()).map(BlockId) {
            let way = no_grad(|| runs.way(block));
            for &point in points {
                let start = no_grad(|| runs.moved(block, &(&way * point))).set_requires_grad(true);
                let loss = runs.loss(block, &start)?;
                let gradient =
                    Tensor::f_run_backward(&[&loss], &[&start], false, false).map_err(irepair_model::Error::from)?;
                let product = no_grad(|| runs.columns(&gradient[0]).to_kind(Kind::Float) * &way);
                sums.push(block, product.sum(Kind::Double) / points.len() as f64);
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
    use crate::patching;
    use crate::support::{FAMILIES, model_of, text};

    fn pair() -> (TextBatch, TextBatch) {
        let prompts = [vec![3, 8], vec![1], vec![5, 2, 9]];
        let rejected = text(&prompts, &[vec![4, 4, 1, 7, 12], vec![18, 6], vec![2, 11, 3]]);
        (rejected, text(&prompts, &[vec![9, 1], vec![7, 7, 16, 2], vec![15]]))
    }

    fn model(family: &str) -> CausalLm {
        model_of(family, 3, None)
    }

    #[test]
    fn one_point_at_the_rejected_text_is_the_slope_there() {
        let (rejected, chosen) = pair();
        for family in FAMILIES {
            let model = model(family);
            let found = changes(&model, &[&rejected], &[&chosen], &[0.0]).unwrap();
            let runs = Runs::of(Metric::EapIg, &model, &rejected, &chosen).unwrap();
            let slope = |block| {
                let at = |part: f64| no_grad(|| runs.loss(block, &runs.moved(block, &(runs.way(block) * part))));
                let [before, after] = [-0.02, 0.02].map(|part| at(part).unwrap().double_value(&[]));
                (after - before) / 0.04
            };
            let want: Vec<f64> = (0..3).map(|block| slope(BlockId(block))).collect();
            let size = want.iter().map(|slope| slope.abs()).fold(0.0, f64::max);
            let near = found.iter().zip(&want).all(|(found, want)| (found - want).abs() < 3e-5 + 1e-2 * size);
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
