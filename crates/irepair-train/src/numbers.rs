//! The numbers of a step: they stay on the device until all are there, then the host waits for them once.

use irepair_model::host;
use irepair_objective::Loss;
use irepair_ranks::Ranks;
use tch::Tensor;

use crate::Result;
use crate::ranks::gather_numbers;

/// Losses of the micro-batches and terms of a step, on the device: totals, NLLs, KLs.
#[derive(Debug, Default)]
pub(crate) struct StepScalars([Vec<Tensor>; 3]);

/// What a step reports, each number summed over micro-batches and terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepNumbers {
    /// The loss that is minimised.
    pub(crate) loss: f64,
    /// Mean NLL of the chosen texts, nats per counted token, where the objective has such a term.
    pub(crate) nll: Option<f64>,
    /// KL on utility text, nats per token, where the objective has such a term.
    pub(crate) kl: Option<f64>,
    /// Norm of all gradients together, before clipping; 0 without any.
    pub(crate) grad_norm: f64,
}

impl StepScalars {
    /// Takes the numbers of a loss, without its graph.
    pub(crate) fn push(&mut self, Loss { total, nll, kl }: &Loss) {
        for (all, scalar) in self.0.iter_mut().zip([Some(total), nll.as_ref(), kl.as_ref()]) {
            all.extend(scalar.map(Tensor::detach));
        }
    }

    /// Those of all ranks, in their order.
    ///
    /// # Errors
    /// When a rank is gone, or the copy to the host fails.
    pub(crate) fn of_all(self, ranks: &dyn Ranks) -> Result<Self> {
        let of_all = |mine: &[Tensor]| -> Result<Vec<Tensor>> {
            let numbers = gather_numbers(Some(ranks), host::numbers(mine)?)?;
            Ok(numbers.into_iter().map(Tensor::from).collect())
        };
        let [totals, nlls, kls] = &self.0;
        Ok(Self([of_all(totals)?, of_all(nlls)?, of_all(kls)?]))
    }

    /// Waits for the device once, for the losses and the norm of the gradients.
    ///
    /// # Errors
    /// When the copy to the host fails.
    pub(crate) fn read(self, grad_norm: Option<Tensor>) -> Result<StepNumbers> {
        let [totals, nlls, kls] = self.0;
        let groups = [totals, nlls, kls, grad_norm.into_iter().collect()];
        let scalars: Vec<Tensor> = groups.iter().flatten().map(Tensor::shallow_clone).collect();
        let mut values = host::numbers(&scalars)?.into_iter();
        let mut sum = |n: usize| (n > 0).then(|| values.by_ref().take(n).fold(0.0, |sum, value| sum + value));
        let [loss, nll, kl, grad_norm] = groups.map(|group| sum(group.len()));
        Ok(StepNumbers { loss: loss.unwrap_or(0.0), nll, kl, grad_norm: grad_norm.unwrap_or(0.0) })
    }
}

impl StepNumbers {
    /// Whether an update may follow: neither the loss nor the gradients hold a NaN or an infinity.
    pub(crate) fn are_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_its_own_sum() {
        let scalar = |value: f32| Tensor::from(value);
        let mut scalars = StepScalars::default();
        scalars.push(&Loss { total: scalar(1.0), nll: Some(scalar(3.0)), kl: None });
        scalars.push(&Loss { total: scalar(0.5), nll: None, kl: Some(scalar(0.25)) });
        scalars.push(&Loss { total: scalar(2.0), nll: Some(scalar(4.0)), kl: None });
        let before = host::n_waits();
        let numbers = scalars.read(Some(scalar(9.0))).unwrap();
        assert_eq!((numbers.loss, numbers.nll, numbers.kl, numbers.grad_norm), (3.5, Some(7.0), Some(0.25), 9.0));
        assert_eq!(host::n_waits() - before, 1);
        assert!(numbers.are_finite());
        assert!(!StepNumbers { grad_norm: f64::NAN, ..numbers }.are_finite());
    }
}
