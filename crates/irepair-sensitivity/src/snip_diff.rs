//! `snip-diff` (METHOD §3; Wei et al., arXiv 2402.05162): weights that matter for the error text alone.
//!
//! Cost: a forward and a backward pass over error text and over neutral text, and a float32 score and two masks of a
//! byte each for every weight of the blocks.

use irepair_model::Gradients;
use tch::{Kind, Tensor, no_grad};

use crate::Result;
use crate::top_share::{Members, Scores};

/// `|theta_i g_i|` of every block weight.
fn scores(weights: &[&Tensor], gradients: &Gradients) -> Scores {
    let score = |(index, gradient): &(usize, Tensor)| {
        let weight = weights[*index].detach().to_kind(Kind::Float);
        (*index, (weight * gradient.to_kind(Kind::Float)).abs())
    };
    no_grad(|| gradients.iter().map(score).collect())
}

/// The weights in the top `share` by these gradients.
pub(crate) fn top(weights: &[&Tensor], gradients: &Gradients, share: f64) -> Result<Members> {
    Members::top(scores(weights, gradients), share)
}
