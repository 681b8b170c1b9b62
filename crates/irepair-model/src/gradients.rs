//! Gradients are values: a list of their own, never a field of the parameters.

use tch::Tensor;

/// Gradients as `(index into BlockModel::parameters, gradient)`, in the parameters' order.
///
/// A parameter that a loss does not reach, or that may not change, is not in the list.
pub type Gradients = Vec<(usize, Tensor)>;

/// Adds the gradients of a further micro-batch, parameter by parameter.
pub fn add_gradients(sum: &mut Gradients, more: Gradients) {
    for (index, gradient) in more {
        match sum.binary_search_by_key(&index, |(i, _)| *i) {
            Ok(at) => drop(sum[at].1.g_add_(&gradient)),
            Err(at) => sum.insert(at, (index, gradient)),
        }
    }
}
