//! `wanda-diff` (METHOD §3; Wei et al., arXiv 2402.05162; Wanda, arXiv 2306.11695): `snip-diff` without a gradient. The
//! score of a weight is its size times the norm of the inputs that it multiplies.
//!
//! Cost: a forward pass over error text and over neutral text, and a float32 score and two masks of a byte each for
//! every matrix entry of the blocks. Norms and biases have no score.

use std::collections::BTreeMap;

use irepair_model::{BlockModel, Layer, Part, Probe, TextBatch, UnitMap};
use tch::{Kind, Tensor, no_grad};

use crate::top_share::{Members, Scores};
use crate::{Error, Metric, Result};

/// Squared norms of the inputs of each linear layer over the real tokens that it has seen.
struct Inputs {
    map: UnitMap,
    /// `[batch, seq]` bool, of the text that runs.
    real: Tensor,
    /// `[in]` float32, by index of the layer's weight.
    squares: BTreeMap<usize, Tensor>,
}

impl Inputs {
    /// Squared norms of one text's inputs; none of an input that is no `[batch, seq, in]`.
    fn of(&self, input: &Tensor) -> Option<Tensor> {
        let (n_rows, n_cols) = self.real.size2().ok()?;
        let before = match input.size3().ok()? {
            // The columns of the text are the last ones.
            (n, of, _) if n == n_rows && of >= n_cols => of - n_cols,
            _ => return None,
        };
        let input = input.narrow(1, before, n_cols).to_kind(Kind::Float);
        let input = input.where_self(&self.real.unsqueeze(-1), &input.zeros_like());
        Some(input.square().sum_dim_intlist([0, 1].as_slice(), false, Kind::Float))
    }
}

impl Probe for Inputs {
    fn layer(&mut self, layer: Layer<'_>, input: &Tensor, output: Tensor) -> Tensor {
        let weight = layer.slot.and_then(|slot| self.map.parameter(layer.block, slot, Part::Weight));
        let weight = weight.filter(|_| layer.normalised.is_none());
        if let Some((weight, squares)) = weight.zip(self.of(input)) {
            let sum = self.squares.remove(&weight).map_or(squares.shallow_clone(), |sum| sum + &squares);
            self.squares.insert(weight, sum);
        }
        output
    }
}

/// `|w_ij| |x_j|_2` of every entry of the matrices of the blocks; `x_j` is input `j` over the texts' real tokens.
fn scores(model: &dyn BlockModel, texts: &[&TextBatch]) -> Result<Scores> {
    let parameters = model.parameters();
    let mut squares = BTreeMap::new();
    if let Some(map) = model.unit_map() {
        let mut inputs = Inputs { map, real: Tensor::new(), squares };
        for text in texts {
            inputs.real = text.attention_mask.shallow_clone();
            let _ = model.hidden_states_probed(text, &mut inputs);
        }
        squares = inputs.squares;
    }
    let in_dim = usize::from(!model.stores_inputs_first());
    let score = |(index, squares): (usize, Tensor)| {
        let weight = &parameters.get(index).filter(|weight| weight.tensor.dim() == 2)?.tensor;
        let norms = squares.sqrt().unsqueeze(1 - in_dim as i64);
        let fits = weight.size()[in_dim] == norms.size()[in_dim];
        fits.then(|| (index, weight.detach().to_kind(Kind::Float).abs() * norms))
    };
    let scores: Scores = squares.into_iter().filter_map(score).collect();
    let want = parameters.iter().filter(|p| p.block.is_some() && p.tensor.dim() == 2).count();
    if scores.len() == want {
        Ok(scores)
    } else {
        Err(Error::NoLayerInputs { metric: Metric::WandaDiff.name(), want, got: scores.len() })
    }
}

/// The weights in the top `share` of the model on these texts.
pub(crate) fn top(model: &dyn BlockModel, texts: &[&TextBatch], share: f64) -> Result<Members> {
    model.freeze();
    Members::top(no_grad(|| scores(model, texts))?, share)
}
