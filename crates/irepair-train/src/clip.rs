//! Gradient clipping by global norm.

use irepair_model::{Result, host};
use tch::{Kind, Tensor};

/// Norm of all gradients together, `[]` float32 on their device; none without gradients.
pub(crate) fn global_norm(gradients: &[(usize, Tensor)]) -> Option<Tensor> {
    let norms: Vec<Tensor> = gradients.iter().map(|(_, g)| g.norm_scalaropt_dtype(2, Kind::Float)).collect();
    (!norms.is_empty()).then(|| Tensor::stack(&norms, 0).norm_scalaropt_dtype(2, Kind::Float))
}

/// Scales `gradients`, whose global norm is `norm`, in place so that it is at most `max_norm`.
///
/// Source: METHOD §6 step 4; the factor is PyTorch's, `max_norm / (norm + 1e-6)` when that is under 1 [S].
pub(crate) fn scale_to_norm(gradients: &mut [(usize, Tensor)], norm: f64, max_norm: f64) {
    let factor = max_norm / (norm + 1e-6);
    if factor < 1.0 {
        for (_, gradient) in gradients {
            let _ = gradient.g_mul_scalar_(factor);
        }
    }
}

/// Scales `gradients` in place so that their global L2 norm is at most `max_norm`; returns the norm before.
///
/// # Errors
/// When the norm cannot be copied from the device.
pub fn clip_global_norm(gradients: &mut [(usize, Tensor)], max_norm: f64) -> Result<f64> {
    let norm = host::numbers(global_norm(gradients).as_slice())?.first().copied().unwrap_or(0.0);
    scale_to_norm(gradients, norm, max_norm);
    Ok(norm)
}
