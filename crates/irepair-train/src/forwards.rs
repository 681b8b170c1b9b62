//! Runs the forward passes that an objective asks for, and nothing more.

use irepair_model::CausalLm;
use irepair_objective::{Loss, Objective, TextLogits, Views};
use tch::{Tensor, no_grad};

use crate::batch::MicroBatch;
use crate::{Result, Text};

/// The loss of a micro-batch under the model, with the reference where the objective needs it.
pub(crate) fn loss(
    model: &CausalLm,
    reference: Option<&CausalLm>,
    objective: &Objective,
    batch: &MicroBatch,
) -> Result<Loss> {
    let needs = objective.needs();
    let (chosen, rejected, utility) = (batch.chosen.as_ref(), batch.rejected.as_ref(), batch.utility.as_ref());
    let run = |wanted: bool, text: Option<&Text>| text.filter(|_| wanted).map(|t| model.logits(&t.tokens));
    let run_reference = |wanted: bool, text: Option<&Text>| {
        reference.zip(text).filter(|_| wanted).map(|(r, t)| no_grad(|| r.logits(&t.tokens)))
    };
    // Reference passes first: their activations are gone before the model's graph is kept.
    let ref_chosen = run_reference(needs.ref_chosen, chosen);
    let ref_rejected = run_reference(needs.ref_rejected, rejected);
    let ref_utility = run_reference(needs.utility, utility);
    let chosen_logits = run(needs.chosen, chosen);
    let rejected_logits = run(needs.rejected, rejected);
    let utility_logits = run(needs.utility, utility);
    let views = Views {
        chosen: view(chosen, chosen_logits.as_ref()),
        rejected: view(rejected, rejected_logits.as_ref()),
        utility: view(utility, utility_logits.as_ref()),
        ref_chosen: ref_chosen.as_ref(),
        ref_rejected: ref_rejected.as_ref(),
        ref_utility: ref_utility.as_ref(),
    };
    Ok(objective.loss(&views)?)
}

/// Real tokens that [`loss`] feeds through the model.
pub(crate) fn n_tokens(objective: &Objective, batch: &MicroBatch) -> usize {
    let needs = objective.needs();
    let real = |wanted: bool, text: &Option<Text>| text.as_ref().filter(|_| wanted).map_or(0, |t| t.tokens.n_real());
    real(needs.chosen, &batch.chosen) + real(needs.rejected, &batch.rejected) + real(needs.utility, &batch.utility)
}

fn view<'a>(text: Option<&'a Text>, logits: Option<&'a Tensor>) -> Option<TextLogits<'a>> {
    text.zip(logits).map(|(t, l)| t.with(l))
}
