//! A value that is not finite stops a run, and the error says which texts led there.

use std::ops::{Deref, DerefMut};

use irepair_core::{BlockSlice, Scope};
use irepair_model::{BlockModel, Gradients, Parameter, first_not_finite};

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
        let what = match first_not_finite(gradients.iter().map(|(_, gradient)| gradient)) {
            Ok(Some((i, _))) if loss.is_finite() => {
                format!("the gradient of `{}` is not finite", parameters[gradients[i].0].name)
            }
            Ok(_) => "the loss is not finite".to_owned(),
            Err(error) => return error.into(),
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
        let Parameter { name, block, .. } = match first_not_finite(parameters.iter().map(|p| &p.tensor)) {
            Ok(found) => parameters[found?.0],
            Err(error) => return Some(error.into()),
        };
        let scope = block.map(|block| Scope::Blocks(BlockSlice::from_iter([block])));
        Some(self.not_finite(format!("weight `{name}` is not finite"), self.next_step.saturating_sub(1), scope))
    }

    fn not_finite(&self, what: String, step: u64, scope: Option<Scope>) -> Error {
        match self.sampler.indices(step, &self.settings) {
            Ok(sampled) => Error::NotFinite { what, step, scope, sampled },
            Err(error) => error,
        }
    }
}
