//! Gradient clipping by global norm.

use tch::{Kind, Tensor};

/// Norm of all gradients together, in float32.
pub(crate) fn global_norm(gradients: &[(usize, Tensor)]) -> f64 {
    let norms: Vec<Tensor> = gradients.iter().map(|(_, g)| g.norm_scalaropt_dtype(2, Kind::Float)).collect();
    if norms.is_empty() { 0.0 } else { Tensor::stack(&norms, 0).norm_scalaropt_dtype(2, Kind::Float).double_value(&[]) }
}

/// Scales `gradients` in place so that their global L2 norm is at most `max_norm`; returns the norm before.
///
/// Source: METHOD §6 step 4; the factor is PyTorch's, `max_norm / (norm + 1e-6)` when that is under 1 [S].
pub fn clip_global_norm(gradients: &mut [(usize, Tensor)], max_norm: f64) -> f64 {
    let norm = global_norm(gradients);
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 {
        for (_, gradient) in gradients {
            let _ = gradient.g_mul_scalar_(factor);
        }
    }
    norm
}
