//! Elementary functions of the CPU, made ready while one thread runs.

use std::sync::Once;

use tch::{Device, Kind, Tensor};

/// Calls every elementary function once on one number, so that no first call is made by several threads.
///
/// MKL chooses the kernel of a function of its vector library at the function's first call. Where two threads make that
/// call at once, as on a busy machine, one of them computes its share of that call with a kernel of four digits instead
/// of seven: the same run does not give the same bits, and once is not as good as twice. Models call this when they are
/// made; code that computes with tensors and no model calls it first.
///
/// # Source
/// <https://github.com/pytorch/pytorch/issues/188792>: MKL 2024.0 to 2024.2, which libtorch links.
pub fn settle_kernels() {
    static SETTLED: Once = Once::new();
    // What ATen hands to MKL's vector library, in `aten/src/ATen/cpu/vml.h`.
    let functions: [fn(&Tensor) -> Tensor; 17] = [
        Tensor::acos,
        Tensor::asin,
        Tensor::atan,
        Tensor::cos,
        Tensor::erf,
        Tensor::erfc,
        Tensor::erfinv,
        Tensor::exp,
        Tensor::expm1,
        Tensor::log,
        Tensor::log10,
        Tensor::log1p,
        Tensor::sin,
        Tensor::sqrt,
        Tensor::tan,
        Tensor::tanh,
        Tensor::trunc,
    ];
    SETTLED.call_once(|| {
        for kind in [Kind::Float, Kind::Double] {
            let number = Tensor::full([1], 0.5, (kind, Device::Cpu));
            functions.iter().for_each(|function| drop(function(&number)));
        }
    });
}
