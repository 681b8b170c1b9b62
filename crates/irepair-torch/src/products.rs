//! Products of matrices: by which library, and the product.

use tch::Tensor;

use crate::{has_onednn, is_onednn_faster, is_plain, onednn_linear};

/// Numbers of a weight from which oneDNN is asked at all. It prepares a kernel for every new shape, 0.3 to 0.8 ms,
/// which smaller products do not win back.
const LEAST_WEIGHT: i64 = 1 << 18;
/// Rows from which it is faster whatever the weight's layout (docs/PERFORMANCE.md).
const LEAST_ROWS: i64 = 64;
/// Columns from which it is faster with few rows too: heads.
const WIDE: i64 = 16_384;

/// A library that multiplies matrices on a CPU; both are parts of libtorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// What libtorch takes by itself.
    Mkl,
    /// oneDNN, faster on AMD's processors with AVX-512.
    OneDnn,
}

/// The library that [`linear`] takes for `n_rows` rows and this weight, `[out, in]`.
pub fn library(n_rows: i64, weight: &Tensor) -> Library {
    if is_onednn_faster() && is_plain(weight) { by_shape(n_rows, weight) } else { Library::Mkl }
}

/// The faster library for a shape, on a processor where it matters.
fn by_shape(n_rows: i64, weight: &Tensor) -> Library {
    let &[n_out, n_in] = weight.size().as_slice() else { return Library::Mkl };
    let is_transposed = weight.stride()[0] == 1;
    let is_large = n_out * n_in >= LEAST_WEIGHT;
    if is_large && (n_rows >= LEAST_ROWS || is_transposed || n_out >= WIDE) { Library::OneDnn } else { Library::Mkl }
}

/// `x weightᵀ + bias` over the last axis of `x`, `[.., in] -> [.., out]`, with gradients, as [`Tensor::linear`] and by
/// the faster library. The two round differently: the same numbers to float32's digits, not the same bits.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let n_in = x.size().last().copied().unwrap_or(1).max(1);
    let faster = match library(x.numel() as i64 / n_in, weight) {
        Library::OneDnn => linear_by_onednn(x, weight, bias),
        Library::Mkl => None,
    };
    faster.unwrap_or_else(|| x.linear(weight, bias))
}

/// [`linear`] by oneDNN, with first derivatives; none of types, devices and shapes that it does not take, or where
/// libtorch was built without it.
///
/// # Panics
/// As [`Tensor::linear`], such as without memory: what was checked is not left to the other library, whose bits differ.
pub fn linear_by_onednn(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
    let (mut size, &[n_out, n_in]) = (x.size(), weight.size().as_slice()) else { return None };
    let are_plain = [Some(x), Some(weight), bias].into_iter().flatten().all(is_plain);
    // It reads a bias as numbers one after the other, whatever its strides.
    let fits = bias.is_none_or(|bias| bias.size() == [n_out] && bias.is_contiguous());
    if !are_plain || !fits || size.last() != Some(&n_in) || x.numel() == 0 || !has_onednn() {
        return None;
    }
    let y = onednn_linear(&x.reshape([-1, n_in]), weight, bias).expect("oneDNN takes these");
    *size.last_mut()? = n_out;
    Some(y.view(size.as_slice()))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, no_grad};

    use super::*;

    fn noise(shape: &[i64], phase: f64) -> Tensor {
        let n = shape.iter().product::<i64>();
        ((Tensor::arange(n, (Kind::Float, Device::Cpu)) * 12.9898 + phase).sin()).view(shape)
    }

    /// [`linear`] by one library alone: a refusal of the other is not made good.
    fn by(library: Library, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        match library {
            Library::Mkl => x.linear(weight, bias),
            Library::OneDnn => linear_by_onednn(x, weight, bias).expect("oneDNN takes these"),
        }
    }

    fn stored(transposed: bool) -> [i64; 2] {
        if transposed { [24, 40] } else { [40, 24] }
    }

    /// Output and the gradients of `x`, weight and bias, of those that learn.
    fn run(library: Library, learns: [bool; 3], transposed: bool, with_bias: bool) -> Vec<Tensor> {
        let stored = noise(&stored(transposed), 1.0);
        let (x, stored) = (noise(&[3, 7, 24], 0.0), stored.set_requires_grad(learns[1]));
        let (x, bias) = (x.set_requires_grad(learns[0]), noise(&[40], 2.0).set_requires_grad(learns[2]));
        let weight = if transposed { stored.tr() } else { stored.shallow_clone() };
        let y = by(library, &x, &weight, with_bias.then_some(&bias));
        assert_eq!(y.size(), [3, 7, 40]);
        let inputs: Vec<&Tensor> = [(&x, learns[0]), (&stored, learns[1]), (&bias, learns[2] && with_bias)]
            .into_iter()
            .filter_map(|(tensor, learns)| learns.then_some(tensor))
            .collect();
        let mut all = vec![y.detach()];
        if !inputs.is_empty() {
            let loss = (&y * noise(&[3, 7, 40], 3.0)).sum(Kind::Float);
            all.extend(Tensor::f_run_backward(&[&loss], &inputs, false, false).unwrap());
        }
        all
    }

    #[test]
    fn both_libraries_give_the_same_output_and_gradients() {
        if !has_onednn() {
            return;
        }
        for i in 0..32 {
            let bit = |b: i32| i >> b & 1 == 1;
            let (learns, transposed, with_bias) = ([bit(0), bit(1), bit(2)], bit(3), bit(4));
            let one = run(Library::Mkl, learns, transposed, with_bias);
            let other = run(Library::OneDnn, learns, transposed, with_bias);
            assert_eq!(one.len(), other.len());
            for (one, other) in one.iter().zip(&other) {
                assert!(one.allclose(other, 1e-5, 1e-5, false), "{learns:?} {transposed} {with_bias}");
                // The gradient of a weight, by its shape, is one computation.
                assert!(one.size() != stored(transposed) || one.equal(other), "{learns:?} {transposed} {with_bias}");
                assert_eq!(one.stride(), other.stride(), "{learns:?} {transposed} {with_bias}");
            }
        }
    }

    #[test]
    fn what_onednn_does_not_take_is_left_to_libtorch() {
        let (x, weight) = (noise(&[64, 48], 0.0), noise(&[40, 48], 1.0));
        assert!(onednn_linear(&x, &weight.to_kind(Kind::Int64), None).is_none());
        assert!(onednn_linear(&x, &weight.tr(), None).is_none());
        let (wide, wide_weight) = (x.to_kind(Kind::Double), weight.to_kind(Kind::Double));
        assert!(linear_by_onednn(&wide, &wide_weight, None).is_none());
        assert!(linear_by_onednn(&noise(&[0, 48], 0.0), &weight, None).is_none());
        assert!(linear_by_onednn(&x, &weight.tr(), None).is_none());
        assert_eq!(linear(&noise(&[0, 48], 0.0), &weight, None).size(), [0, 40]);
    }

    #[test]
    fn views_are_multiplied_as_what_they_show() {
        if !has_onednn() {
            return;
        }
        let weight = noise(&[80, 48], 1.0);
        let rows = noise(&[64, 96], 0.0).slice(1, 0, 96, 2);
        let columns = weight.slice(0, 0, 80, 2);
        for (x, weight) in
            [(&rows, &weight), (&noise(&[64, 48], 0.0), &columns), (&noise(&[48, 64], 0.0).tr(), &weight)]
        {
            let want = x.linear(weight, None::<&Tensor>);
            assert!(linear_by_onednn(x, weight, None).unwrap().allclose(&want, 1e-5, 1e-5, false));
        }
        // Every second number of a bias, one number for all, and a matrix: not read as what lies in memory.
        let (x, bias) = (noise(&[64, 48], 0.0), noise(&[160], 2.0));
        for bias in [bias.slice(0, 0, 160, 2), bias.narrow(0, 0, 1).expand([80], false), bias.view([2, 80])] {
            assert!(linear_by_onednn(&x, &weight, Some(&bias)).is_none());
        }
        let x = x.set_requires_grad(true);
        assert!(!no_grad(|| linear_by_onednn(&x, &weight, None)).unwrap().requires_grad());
    }

    #[test]
    fn the_library_follows_from_the_shape() {
        let of = |n_rows, size: [i64; 2], transposed: bool| {
            let weight = if transposed { noise(&[size[1], size[0]], 0.0).tr() } else { noise(&size, 0.0) };
            by_shape(n_rows, &weight)
        };
        assert_eq!(of(512, [192, 576], false), Library::Mkl);
        assert_eq!(of(512, [576, 576], false), Library::OneDnn);
        assert_eq!(of(32, [576, 576], false), Library::Mkl);
        assert_eq!(of(32, [576, 576], true), Library::OneDnn);
        assert_eq!(of(1, [20_000, 64], false), Library::OneDnn);
        assert_eq!(by_shape(512, &noise(&[4], 0.0)), Library::Mkl);
        assert_eq!(library(512, &noise(&[576, 576], 0.0).to_kind(Kind::BFloat16)), Library::Mkl);
    }
}
