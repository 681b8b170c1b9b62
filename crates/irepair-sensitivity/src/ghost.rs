//! Gradient norms without gradients: what a layer's weight gradient would weigh, from its input and output gradient.
//!
//! For `y = x W + c` with inputs `X: [n, in]` and output gradients `D: [n, out]` the weight gradient is `X^T D`, and
//! `|X^T D|_F^2 = sum_ij (X X^T)_ij (D D^T)_ij` (METHOD §3). When `n` is large the product itself is cheaper; it is formed
//! for one layer at a time and dropped.

use irepair_core::BlockId;
use irepair_model::{CausalLm, Probe, Site};
use irepair_objective::{Targets, head_log_probs};
use tch::{Kind, Tensor, no_grad};

use crate::gradient::on_host;
use crate::{ErrorText, Result};

/// What is remembered of a layer until its output gradient is known.
enum Seen {
    Linear { input: Tensor, has_bias: bool },
    Norm { normalised: Tensor },
}

/// Remembers every block layer of a forward pass and its output.
#[derive(Default)]
struct Recorder {
    layers: Vec<(BlockId, Seen)>,
    outputs: Vec<Tensor>,
}

impl Probe for Recorder {
    fn embedded(&mut self, hidden: Tensor) -> Tensor {
        // The weights are constants here: the graph starts at the embedding.
        hidden.detach().set_requires_grad(true)
    }

    fn layer(&mut self, site: Site<'_>, input: &Tensor, output: Tensor) -> Tensor {
        self.layers.push(match site {
            Site::Linear { block, has_bias } => (block, Seen::Linear { input: input.detach(), has_bias }),
            Site::Norm { block, normalised } => (block, Seen::Norm { normalised: normalised.shallow_clone() }),
        });
        self.outputs.push(output.shallow_clone());
        output
    }

    fn wants_norms(&self) -> bool {
        true
    }
}

/// Sum of squared gradient entries per block, as [`crate::block_squares`] of the stored gradients would give it.
pub(crate) fn block_squares(model: &CausalLm, text: &ErrorText<'_>) -> Result<Vec<f64>> {
    model.freeze();
    let mut recorder = Recorder::default();
    let hidden = model.hidden_states_probed(text.tokens, &mut recorder);
    let targets = Targets::of(&text.tokens.ids, &text.tokens.real, text.scored);
    let hidden = CausalLm::states_at(&hidden, &targets.at);
    let scores = head_log_probs(&hidden, model.head(), &targets.ids);
    let nll = scores.pull(&scores.values.full_like(-1.0 / text.counts.targets));
    let nll = nll.ok_or(irepair_objective::Error::NothingCounted { what: "text" })?;
    let output_gradients =
        Tensor::f_run_backward(&[&nll], &recorder.outputs, false, false).map_err(irepair_model::Error::from)?;
    let mut sums = vec![0.0; model.n_blocks()];
    let squares: Vec<Tensor> =
        no_grad(|| recorder.layers.iter().zip(&output_gradients).map(|((_, seen), d)| layer_square(seen, d)).collect());
    for ((block, _), value) in recorder.layers.iter().zip(on_host(&squares)?) {
        sums[block.0] += value;
    }
    Ok(sums)
}

/// Squared norm of the gradients of one layer's weight and bias, `[]` float32.
fn layer_square(seen: &Seen, output_gradient: &Tensor) -> Tensor {
    let rows = |t: &Tensor| t.to_kind(Kind::Float).reshape([-1, t.size()[t.dim() - 1]]);
    let d = rows(output_gradient);
    let bias = || d.sum_dim_intlist([0].as_slice(), false, Kind::Float).square().sum(Kind::Float);
    match seen {
        Seen::Norm { normalised } => {
            let weight = (rows(normalised) * &d).sum_dim_intlist([0].as_slice(), false, Kind::Float);
            weight.square().sum(Kind::Float) + bias()
        }
        Seen::Linear { input, has_bias } => {
            let x = rows(input);
            let (n, n_in, n_out) = (x.size()[0], x.size()[1], d.size()[1]);
            let weight = if n * (n_in + n_out) < n_in * n_out {
                (x.matmul(&x.tr()) * d.matmul(&d.tr())).sum(Kind::Float)
            } else {
                x.tr().matmul(&d).square().sum(Kind::Float)
            };
            if *has_bias { weight + bias() } else { weight }
        }
    }
}
