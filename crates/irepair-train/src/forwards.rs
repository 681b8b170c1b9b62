//! Runs the forward passes that an objective asks for, and nothing more.

use irepair_model::CausalLm;
use irepair_objective::{Loss, Objective, Views};
use tch::{Tensor, no_grad};

use crate::Result;
use crate::batch::MicroBatch;

/// The loss of a micro-batch under the model, with the reference where the objective needs it.
pub(crate) fn loss(
    model: &CausalLm,
    reference: Option<&CausalLm>,
    objective: &Objective,
    batch: &MicroBatch,
) -> Result<Loss> {
    let needs = objective.needs();
    let run = |wanted: bool, text: &crate::Text| wanted.then(|| model.logits(&text.tokens));
    let run_reference = |wanted: bool, text: &crate::Text| -> Option<Tensor> {
        reference.filter(|_| wanted).map(|r| no_grad(|| r.logits(&text.tokens)))
    };
    let utility = batch.utility.as_ref();
    // Reference passes first: their activations are gone before the model's graph is kept.
    let ref_chosen = run_reference(needs.ref_chosen, &batch.chosen);
    let ref_rejected = run_reference(needs.ref_rejected, &batch.rejected);
    let ref_utility = utility.and_then(|u| run_reference(needs.utility, u));
    let chosen = run(needs.chosen, &batch.chosen);
    let rejected = run(needs.rejected, &batch.rejected);
    let utility_logits = utility.and_then(|u| run(needs.utility, u));
    let views = Views {
        chosen: chosen.as_ref().map(|l| batch.chosen.with(l)),
        rejected: rejected.as_ref().map(|l| batch.rejected.with(l)),
        utility: utility.zip(utility_logits.as_ref()).map(|(u, l)| u.with(l)),
        ref_chosen: ref_chosen.as_ref(),
        ref_rejected: ref_rejected.as_ref(),
        ref_utility: ref_utility.as_ref(),
    };
    Ok(objective.loss(&views)?)
}

/// Real tokens that [`loss`] feeds through the model and the reference.
pub(crate) fn n_tokens(objective: &Objective, batch: &MicroBatch) -> usize {
    let needs = objective.needs();
    let (chosen, rejected) = (batch.chosen.tokens.n_real(), batch.rejected.tokens.n_real());
    let utility = batch.utility.as_ref().map_or(0, |u| u.tokens.n_real());
    chosen * usize::from(needs.chosen) + rejected * usize::from(needs.rejected) + utility * usize::from(needs.utility)
}
