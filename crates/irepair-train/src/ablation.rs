//! The ablation of a direction: what writes to the residual stream loses its component along it, a share at a step.

use irepair_model::{BlockModel, Parameter, round_stochastically, seed_of};
use tch::{Kind, Tensor, no_grad};

use crate::direction::Direction;
use crate::{Error, RepairData, Result, Settings};

/// Makes the draws of rounding differ from other uses of the same seed.
const DOMAIN: u64 = 0x6162_6c61;

/// The ablation of the direction in which rejected and chosen training texts differ most in the starting model.
///
/// `W = W0 - a r r^T W0` on the side of the residual stream, for every parameter that writes to it and to nothing else:
/// the output projections of attention and MLP with their biases, position embeddings, and token embeddings. A tied
/// token embedding is left out, because it is the head as well: what a model knows of the direction from its tokens
/// then stays.
#[derive(Debug)]
pub(crate) struct Ablation {
    direction: Direction,
    writers: Vec<Writer>,
    seed: u64,
}

/// A parameter that writes to the residual stream.
#[derive(Debug)]
struct Writer {
    index: usize,
    /// The dimension along the stream.
    dim: usize,
    /// `W0`.
    start: Tensor,
}

impl Ablation {
    /// The ablation for a run from the weights that `model` has now; changes nothing yet.
    ///
    /// # Errors
    /// [`Error::NoResidualStream`] for a model that does not say what writes to it; those of finding the direction.
    ///
    /// # Source
    /// METHOD §26 [O]; Arditi et al. 2024.
    pub(crate) fn new(model: &dyn BlockModel, data: &RepairData, settings: &Settings) -> Result<Self> {
        let writers = model.residual_writers();
        if writers.is_empty() {
            let what = "which parameters write to its residual stream".to_owned();
            return Err(Error::NoResidualStream { what });
        }
        // Now: the weights are those that the run starts from, whether it is resumed or not.
        let direction = Direction::find(model, data, settings.eval_batch_size)?;
        tracing::info!(
            "direction: that of block {}, {:.2} standard deviations apart; {} tensors write to the residual stream",
            direction.block.0,
            direction.effect,
            writers.len()
        );
        let start = |index: usize| no_grad(|| model.parameters()[index].tensor.detach().copy());
        let writers = writers.into_iter().map(|(index, dim)| Writer { index, dim, start: start(index) });
        Ok(Self { direction, writers: writers.collect(), seed: settings.seed })
    }

    /// The parameters that change.
    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.writers.iter().map(|writer| writer.index)
    }

    /// Tokens of the texts that the direction was made of. Each was run twice, as a text of a preference loss is, by
    /// model and reference.
    pub(crate) fn n_tokens(&self) -> usize {
        self.direction.n_tokens
    }

    /// Writes the ablation of this strength into the model, in one step from where the run started.
    pub(crate) fn apply(&self, parameters: &[Parameter], strength: f64) {
        no_grad(|| {
            for Writer { index, dim, start } in &self.writers {
                let mut weights = parameters[*index].tensor.detach();
                let exact = without(start, &self.direction.values, *dim, strength);
                // As an optimizer's steps, small changes of a narrow type are not to be lost.
                let seed = seed_of(&[DOMAIN, self.seed, *index as u64]);
                weights.copy_(&round_stochastically(&exact, weights.kind(), seed));
            }
        });
    }
}

/// `start` without `strength` times its component along `direction`, which lies in dimension `dim`; float32.
fn without(start: &Tensor, direction: &Tensor, dim: usize, strength: f64) -> Tensor {
    let mut shape = vec![1; start.dim()];
    shape[dim] = -1;
    let (weights, direction) = (start.to_kind(Kind::Float), direction.view(shape.as_slice()));
    let along = (&weights * &direction).sum_dim_intlist([dim as i64].as_slice(), true, Kind::Float);
    weights - along * direction * strength
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_taken_on_the_side_of_the_stream() {
        let r = Tensor::from_slice(&[0.6f32, 0.8]);
        let rows = |t: Tensor| Vec::<f32>::try_from(t.view(-1)).unwrap();
        let near = |got: Vec<f32>, want: &[f32]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
        let weights = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        // Columns (1, 4), (2, 5), (3, 6) of `[out, in]` have the components 3.8, 5.2, 6.6.
        let want = [1.0 - 2.28, 2.0 - 3.12, 3.0 - 3.96, 4.0 - 3.04, 5.0 - 4.16, 6.0 - 5.28];
        assert!(near(rows(without(&weights.view([2, 3]), &r, 0, 1.0)), &want));
        // Rows (1, 2), (3, 4), (5, 6) of `[in, out]`: 2.2, 5, 7.8; half of it.
        let want = [1.0 - 0.66, 2.0 - 0.88, 3.0 - 1.5, 4.0 - 2.0, 5.0 - 2.34, 6.0 - 3.12];
        assert!(near(rows(without(&weights.view([3, 2]), &r, 1, 0.5)), &want));
        assert!(near(rows(without(&Tensor::from_slice(&[1.0f32, 2.0]), &r, 0, 1.0)), &[1.0 - 1.32, 2.0 - 1.76]));
    }
}
