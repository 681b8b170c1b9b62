//! Gradient norms without gradients: what a layer's weight gradient would weigh, from its input and output gradient.
//!
//! For `y = x W + c` with inputs `X: [n, in]` and output gradients `D: [n, out]` the weight gradient is `X^T D`, and
//! `|X^T D|_F^2 = sum_ij (X X^T)_ij (D D^T)_ij` (METHOD §3). When `n` is large the product itself is cheaper; it is
//! formed for one layer at a time and dropped.

use irepair_core::BlockId;
use irepair_model::{BlockModel, Layer, Part, Probe, Slot, TextBatch, states_at};
use irepair_objective::head_log_probs;
use tch::{Device, Kind, Tensor, no_grad};

use crate::activation::differentiable;
use crate::block_sums::BlockSums;
use crate::gradient::weights;
use crate::metric::n_weights;
use crate::units::{Cut, RowSums};
use crate::{Error, Result};

/// What is remembered of a layer until its output gradient is known.
struct Seen {
    block: BlockId,
    slot: Option<Slot>,
    /// The input, or that of a norm after normalisation.
    input: Tensor,
    is_norm: bool,
    has_bias: bool,
}

impl Seen {
    /// Number of weights of a layer with outputs of width `n_out`.
    fn n_weights(&self, n_out: usize) -> usize {
        n_out * (if self.is_norm { 1 } else { width(&self.input) } + usize::from(self.has_bias))
    }
}

/// Remembers every layer that a forward pass shows, and its output.
#[derive(Default)]
struct Recorder {
    layers: Vec<Seen>,
    outputs: Vec<Tensor>,
}

impl Probe for Recorder {
    fn layer(&mut self, layer: Layer<'_>, input: &Tensor, output: Tensor) -> Tensor {
        let Layer { block, slot, has_bias, normalised } = layer;
        let (input, is_norm) = (normalised.unwrap_or(input).detach(), normalised.is_some());
        self.layers.push(Seen { block, slot, input, is_norm, has_bias });
        // The weights are constants here: the graph starts at the first outputs.
        let output = differentiable(output);
        self.outputs.push(output.shallow_clone());
        output
    }

    fn wants_norms(&self) -> bool {
        true
    }
}

fn width(tensor: &Tensor) -> usize {
    tensor.size().last().map_or(0, |&n| n as usize)
}

/// The layers that a pass showed, each with the gradient of its output. None when they do not hold every weight of
/// their blocks exactly once: sums over them would lack some, or be wrong for a weight that is used twice.
///
/// # Errors
/// [`Error::NoSuchBlock`]; when libtorch refuses.
fn layers(model: &dyn BlockModel, text: &TextBatch) -> Result<Option<Vec<(Seen, Tensor)>>> {
    model.freeze();
    let mut recorder = Recorder::default();
    let hidden = model.hidden_states_probed(text, &mut recorder);
    let n_blocks = model.n_blocks();
    let mut n_shown = vec![0; n_blocks];
    for (seen, output) in recorder.layers.iter().zip(&recorder.outputs) {
        let BlockId(block) = seen.block;
        *n_shown.get_mut(block).ok_or(Error::NoSuchBlock { block, n_blocks })? += seen.n_weights(width(output));
    }
    if n_shown != n_weights(&model.block_map(), &weights(model)) {
        return Ok(None);
    }
    let hidden = states_at(&hidden, &text.target_positions);
    let scores = head_log_probs(&hidden, &model.head(), model.logit_softcap(), &text.target_ids);
    let nll = scores.vjp(&scores.values.full_like(-1.0 / text.counts.targets));
    let nll = nll.ok_or(irepair_objective::Error::NothingCounted { what: "text" })?;
    let output_gradients =
        Tensor::f_run_backward(&[&nll], &recorder.outputs, false, false).map_err(irepair_model::Error::from)?;
    Ok(Some(recorder.layers.into_iter().zip(output_gradients).collect()))
}

/// Sum of squared gradient entries per block, as [`crate::block_squares`] of the stored gradients would give it; still
/// on the device. None when the model does not show every layer.
///
/// # Errors
/// [`Error::NoSuchBlock`]; when libtorch refuses.
pub(crate) fn squares(model: &dyn BlockModel, text: &TextBatch) -> Result<Option<BlockSums>> {
    let Some(layers) = layers(model, text)? else { return Ok(None) };
    let mut sums = BlockSums::default();
    no_grad(|| layers.iter().for_each(|(seen, gradient)| sums.push(seen.block, layer_square(seen, gradient))));
    Ok(Some(sums))
}

/// Sums of squared gradient entries along the dimension in which units cut each parameter, from the same pass. None
/// when the model does not show every layer, or not its place.
///
/// # Errors
/// As [`squares`].
pub(crate) fn rows(model: &dyn BlockModel, text: &TextBatch, cut: &Cut) -> Result<Option<RowSums>> {
    let Some(layers) = layers(model, text)? else { return Ok(None) };
    let mut sums = RowSums::new();
    for (seen, gradient) in &layers {
        let Some(slot) = seen.slot else { return Ok(None) };
        let Some(weight) = cut.map.parameter(seen.block, slot, Part::Weight) else { return Ok(None) };
        no_grad(|| {
            let (x, d) = (by_token(&seen.input), by_token(gradient));
            let (x, d) = (x.to_kind(Kind::Float), d.to_kind(Kind::Float));
            if let Some(dim) = cut.dim(weight) {
                let along_outputs = cut.map.is_output(dim);
                sums.push((
                    weight,
                    if seen.is_norm { squared_sums(&(&x * &d)) } else { weight_rows(&x, &d, along_outputs) },
                ));
            }
            let bias = cut.map.parameter(seen.block, slot, Part::Bias).filter(|bias| cut.dim(*bias).is_some());
            if let Some(bias) = bias {
                sums.push((bias, squared_sums(&d)));
            }
        });
    }
    Ok(Some(sums))
}

/// `[.., width] -> [n, width]`.
fn by_token(t: &Tensor) -> Tensor {
    t.reshape([-1, width(t) as i64])
}

/// The squared sum of every column of `[n, width]`.
fn squared_sums(t: &Tensor) -> Tensor {
    t.sum_dim_intlist([0].as_slice(), false, Kind::Float).square()
}

/// Squares of `X^T D` of `x: [n, in]` and `d: [n, out]`, summed for each output or for each input, by whichever route
/// multiplies less: `sum_ij (X X^T)_ij D_io D_jo`, and the same with `X` and `D` exchanged.
fn weight_rows(x: &Tensor, d: &Tensor, along_outputs: bool) -> Tensor {
    let (n, n_in, n_out) = (x.size()[0], x.size()[1], d.size()[1]);
    let (kept, other) = if along_outputs { (d, x) } else { (x, d) };
    if n * (n_in + n_out) < n_in * n_out {
        let sums = (other.matmul(&other.tr()).matmul(kept) * kept).sum_dim_intlist([0].as_slice(), false, Kind::Float);
        // Rounding may leave a sum of squares just below 0.
        return sums.clamp_min(0.0);
    }
    kept.tr().matmul(other).square().sum_dim_intlist([1].as_slice(), false, Kind::Float)
}

/// Squared norm of the gradients of one layer's weight and bias, `[]` float32.
fn layer_square(seen: &Seen, output_gradient: &Tensor) -> Tensor {
    let (x, d) = (by_token(&seen.input), by_token(output_gradient));
    let square_of_sum = |t: &Tensor| t.sum_dim_intlist([0].as_slice(), false, Kind::Float).square().sum(Kind::Float);
    let weight = if seen.is_norm {
        square_of_sum(&(x.to_kind(Kind::Float) * d.to_kind(Kind::Float)))
    } else if d.kind() != Kind::Float && d.device() != Device::Cpu {
        // A GPU multiplies half precision ten times as fast as float32, which is the better route on a CPU.
        product_square(&x, &d)
    } else {
        weight_square(&x, &d)
    };
    if seen.has_bias { weight + square_of_sum(&d) } else { weight }
}

/// `|X^T D|_F^2` of `x: [n, in]` and `d: [n, out]` in float32, by whichever route multiplies less.
fn weight_square(x: &Tensor, d: &Tensor) -> Tensor {
    let (x, d) = (x.to_kind(Kind::Float), d.to_kind(Kind::Float));
    let (n, n_in, n_out) = (x.size()[0], x.size()[1], d.size()[1]);
    if n * (n_in + n_out) < n_in * n_out {
        return (x.matmul(&x.tr()) * d.matmul(&d.tr())).sum(Kind::Float);
    }
    x.tr().matmul(&d).square().sum(Kind::Float)
}

/// `|X^T D|_F^2`, the product in the tensors' own type, as the stored gradient would be, and its squares summed in
/// float32.
fn product_square(x: &Tensor, d: &Tensor) -> Tensor {
    x.tr().matmul(d).norm_scalaropt_dtype(2, Kind::Float).square()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_in_half_precision_weighs_what_the_one_in_float32_does() {
        tch::manual_seed(0);
        for n in [3, 40] {
            let of =
                |width: i64| (Tensor::randn([n, width], (Kind::Float, Device::Cpu)) * 1e-4).to_kind(Kind::BFloat16);
            let (x, d) = (of(16), of(24));
            let (half, whole) = (product_square(&x, &d).double_value(&[]), weight_square(&x, &d).double_value(&[]));
            assert!((half / whole - 1.0).abs() < 2e-3, "{n}: {half} of {whole}");
        }
    }
}
