//! A value that is not finite stops a run, and the error says which texts led there.

use std::ops::{Deref, DerefMut};

use irepair_core::{BlockSlice, Scope};
use irepair_model::{BlockModel, Gradients, Parameter, host};
use tch::{Kind, Tensor};

use crate::{Engine, Error, Localise, Result};

impl<M: Deref<Target: BlockModel + Sized>, L: DerefMut<Target: Localise>> Engine<M, L> {
    /// Adds the texts of the step to a localiser's error about a value that is not finite; a bad weight is named first.
    pub(crate) fn localise_failed(&self, error: Error) -> Error {
        match error {
            Error::Core(irepair_core::Error::BadSensitivity { .. }) | Error::Model(irepair_model::Error::NotFinite) => {
                self.bad_weight(self.all()).unwrap_or_else(|| self.not_finite(error.to_string(), self.next_step, None))
            }
            _ => error,
        }
    }

    /// The error of a step whose loss or gradients are not finite; weights are named first, since they spoil the rest.
    pub(crate) fn step_failed(&self, loss: f64, gradients: &Gradients, scope: &Scope) -> Error {
        let parameters = self.model.parameters();
        let of = |(_, gradient): &(usize, Tensor)| gradient.shallow_clone();
        let what = match first_not_finite(&gradients.iter().map(of).collect::<Vec<_>>()) {
            Ok(Some(i)) if loss.is_finite() => {
                format!("the gradient of `{}` is not finite", parameters[gradients[i].0].name)
            }
            Ok(_) => "the loss is not finite".to_owned(),
            Err(error) => return error,
        };
        self.bad_weight(self.all()).unwrap_or_else(|| self.not_finite(what, self.next_step, Some(scope.clone())))
    }

    /// The error of a validation loss that is not finite, after the step before.
    pub(crate) fn validation_failed(&self) -> Error {
        let step = self.next_step.saturating_sub(1);
        self.bad_weight(self.all())
            .unwrap_or_else(|| self.not_finite("the validation loss is not finite".to_owned(), step, None))
    }

    /// Refuses weights of which one is not finite. Reads those that the run has changed, once.
    ///
    /// # Errors
    /// [`Error::NotFinite`] with the weight and the step before, whose update was the last.
    pub(crate) fn check_weights(&self) -> Result<()> {
        self.bad_weight(self.best.values.keys().copied()).map_or(Ok(()), Err)
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.model.parameters().len()
    }

    fn bad_weight(&self, indices: impl Iterator<Item = usize>) -> Option<Error> {
        let parameters: Vec<&Parameter> = indices.map(|index| &self.model.parameters()[index]).collect();
        let tensors: Vec<Tensor> = parameters.iter().map(|parameter| parameter.tensor.detach()).collect();
        let Parameter { name, block, .. } = match first_not_finite(&tensors) {
            Ok(found) => parameters[found?],
            Err(error) => return Some(error),
        };
        let scope = block.map(|block| Scope::Blocks(BlockSlice::from_iter([block])));
        Some(self.not_finite(format!("weight `{name}` is not finite"), self.next_step.saturating_sub(1), scope))
    }

    fn not_finite(&self, what: String, step: u64, scope: Option<Scope>) -> Error {
        match self.sampler.indices(step, &self.settings) {
            Ok(drawn) => Error::NotFinite { what, step, scope, drawn },
            Err(error) => error,
        }
    }
}

/// The first tensor that holds a NaN or an infinity. One wait for the sums of all; the sum of finite numbers may
/// overflow, so that only a tensor whose sum is not finite is looked at number by number.
fn first_not_finite(tensors: &[Tensor]) -> Result<Option<usize>> {
    let sums = host::numbers(&tensors.iter().map(|tensor| tensor.sum(Kind::Float)).collect::<Vec<_>>())?;
    for (i, _) in sums.iter().enumerate().filter(|(_, sum)| !sum.is_finite()) {
        if host::numbers(&[tensors[i].isfinite().all()])? == [0.0] {
            return Ok(Some(i));
        }
    }
    Ok(None)
}
