//! How numbers come from the device to the host: many at once, in one function that counts them.

use std::cell::Cell;

use tch::{Device, Kind, Tensor, no_grad};

use crate::Result;

thread_local! {
    static N_WAITS: Cell<u64> = const { Cell::new(0) };
}

/// The values of `scalars` (each `[]`, any type), in order. They are put together on the device and copied once: the
/// host waits for the device once however many there are, and not at all for none.
///
/// # Errors
/// [`crate::Error::Torch`] when a tensor is no scalar, or the copy fails.
pub fn numbers(scalars: &[Tensor]) -> Result<Vec<f64>> {
    if scalars.is_empty() {
        return Ok(Vec::new());
    }
    N_WAITS.with(|n| n.set(n.get() + 1));
    let device = scalars.iter().map(Tensor::device).find(|&device| device != Device::Cpu).unwrap_or(Device::Cpu);
    no_grad(|| {
        let there: Vec<Tensor> =
            scalars.iter().map(|scalar| scalar.f_to_device(device)).collect::<std::result::Result<_, _>>()?;
        let together = Tensor::f_stack(&there, 0)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        Ok(Vec::<f64>::try_from(together)?)
    })
}

/// The values of `vectors` (each `[n]`, any type), in order, as [`numbers`] reads scalars: with one wait.
///
/// # Errors
/// [`crate::Error::Torch`] when a tensor is no vector, or the copy fails.
pub fn vectors(vectors: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    if vectors.is_empty() {
        return Ok(Vec::new());
    }
    N_WAITS.with(|n| n.set(n.get() + 1));
    let mut values = no_grad(|| -> Result<Vec<f64>> {
        let together = Tensor::f_cat(vectors, 0)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
        Ok(Vec::<f64>::try_from(together)?)
    })?
    .into_iter();
    Ok(vectors.iter().map(|vector| values.by_ref().take(vector.numel()).collect()).collect())
}

/// How often [`numbers`] or [`vectors`] has waited for the device in this thread, for tests that count.
pub fn n_waits() -> u64 {
    N_WAITS.with(Cell::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_come_with_one_wait() {
        let before = n_waits();
        let third = 1.0f32 / 3.0;
        let scalars = [Tensor::from(third), Tensor::from(-2.5f64), Tensor::from(f32::NAN), Tensor::from(7i64)];
        let found = numbers(&scalars).unwrap();
        assert_eq!((found[0], found[1], found[3]), (f64::from(third), -2.5, 7.0));
        assert!(found[2].is_nan());
        assert_eq!(n_waits() - before, 1);
        assert_eq!(numbers(&[]).unwrap(), [0.0; 0]);
        assert_eq!(n_waits() - before, 1);
    }

    #[test]
    fn all_vectors_come_with_one_wait() {
        let before = n_waits();
        let found = vectors(&[Tensor::from_slice(&[1.5f32, -2.0]), Tensor::from_slice(&[7.0f32])]).unwrap();
        assert_eq!((found, n_waits() - before), (vec![vec![1.5, -2.0], vec![7.0]], 1));
        assert!(vectors(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_scalar_is_an_error() {
        assert!(numbers(&[Tensor::from_slice(&[1.0, 2.0])]).is_err());
    }
}
