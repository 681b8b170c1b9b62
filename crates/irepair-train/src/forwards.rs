//! Runs the forward passes that an objective asks for, and nothing more.

use irepair_model::CausalLm;
use irepair_objective::{
    HeadScores, Loss, Objective, Scores, TextLogits, TokenScores, Views, head_divergences, head_log_probs, pull,
};
use tch::{Tensor, no_grad};

use crate::batch::MicroBatch;
use crate::together::Together;
use crate::{Result, Text};

/// The loss of a micro-batch under the model, with the reference where the objective needs it.
///
/// The head is applied only where a token counts, and its logits do not wait for the backward pass: see `irepair_objective`'s `head`.
/// [`loss_from_logits`] is the plain route to the same numbers.
pub(crate) fn loss(
    model: &CausalLm,
    reference: Option<&CausalLm>,
    objective: &Objective,
    batch: &MicroBatch,
) -> Result<Loss> {
    let needs = objective.needs();
    let asked = |[chosen, rejected, utility]: [bool; 3]| {
        Together::of([
            batch.chosen.as_ref().filter(|_| chosen).map(|text| (text, &text.targets.at)),
            batch.rejected.as_ref().filter(|_| rejected).map(|text| (text, &text.targets.at)),
            batch.utility.as_ref().filter(|_| utility).map(|text| (text, &text.real_at)),
        ])
    };
    let by_model = asked([needs.chosen, needs.rejected, needs.utility]);
    let by_reference = asked([needs.ref_chosen, needs.ref_rejected, needs.utility]);
    // What model and reference have in common is run once.
    let from = reference.filter(|_| by_model.is_like(&by_reference)).and_then(|r| model.first_block_apart(r));
    let starts = from.filter(|block| block.0 > 0).map(|block| by_model.starts(model, block));
    // Reference passes first: their activations are gone before the model's graph is kept.
    let (ref_scores, ref_utility) = match reference {
        None => ([None, None], None),
        Some(r) => no_grad(|| {
            let [chosen, rejected, utility] = by_reference.states(r, starts.as_deref());
            let scores = |text: &Option<Text>, states: Option<Tensor>| {
                let (text, states) = text.as_ref().zip(states)?;
                Some(text.laid_out(&text.targets.at, &log_probs(r, text, &states).values))
            };
            ([scores(&batch.chosen, chosen), scores(&batch.rejected, rejected)], utility.zip(Some(r)))
        }),
    };
    let [chosen, rejected, utility] = by_model.states(model, starts.as_deref());
    let mut leaves = Leaves::default();
    let mut scored = |text: &Option<Text>, states: Option<Tensor>| {
        let (text, states) = text.as_ref().zip(states)?;
        Some(leaves.scores(text, &text.targets.at, log_probs(model, text, &states)))
    };
    let (chosen, rejected) = (scored(&batch.chosen, chosen), scored(&batch.rejected, rejected));
    let utility = batch.utility.as_ref().zip(utility).zip(ref_utility).map(|((text, states), (ref_states, r))| {
        let found = head_divergences(&ref_states, r.head(), &states, model.head());
        leaves.scores(text, &text.real_at, found)
    });
    let [ref_chosen, ref_rejected] = ref_scores;
    leaves.pull(objective.of(&Scores { chosen, rejected, ref_chosen, ref_rejected, utility })?)
}

fn log_probs(model: &CausalLm, text: &Text, states: &Tensor) -> HeadScores {
    head_log_probs(states, model.head(), &text.targets.ids)
}

/// Scores as the objective sees them, to be followed back to the hidden states they came from.
#[derive(Default)]
struct Leaves(Vec<(Tensor, HeadScores)>);

impl Leaves {
    fn scores(&mut self, text: &Text, at: &Tensor, found: HeadScores) -> TokenScores {
        let leaf = found.values.detach().set_requires_grad(true);
        let values = text.laid_out(at, &leaf);
        self.0.push((leaf, found));
        TokenScores { values, counts: text.counts }
    }

    /// The loss with the gradients that its scores pass on.
    fn pull(self, loss: Loss) -> Result<Loss> {
        if !loss.total.requires_grad() {
            return Ok(loss);
        }
        let leaves: Vec<&Tensor> = self.0.iter().map(|(leaf, _)| leaf).collect();
        let weights =
            Tensor::f_run_backward(&[&loss.total], &leaves, false, false).map_err(irepair_model::Error::from)?;
        let scored: Vec<(&HeadScores, &Tensor)> = self.0.iter().map(|(_, found)| found).zip(&weights).collect();
        // Adds nothing but a gradient.
        let pull = pull(&scored).map(|pull| &pull - pull.detach());
        let total = pull.map_or_else(|| loss.total.detach(), |pull| loss.total.detach() + pull);
        Ok(Loss { total, ..loss })
    }
}

/// The loss from the logits of every position: the plain route, and the oracle of the one the engine takes.
///
/// # Errors
/// As [`Objective::loss`].
pub fn loss_from_logits(
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

#[cfg(test)]
mod tests {
    use irepair_core::spec::{Method, Side, Term};
    use irepair_core::{BlockSlice, Scope};
    use irepair_data::TokenPair;
    use irepair_model::ModelConfig;
    use tch::{Device, Kind};

    use super::*;
    use crate::batch::micro_batch;

    /// Two pairs and two utility texts, no two of a length.
    fn batch(skip_prompt: bool) -> MicroBatch {
        let pair = |prompt: &[u32], chosen: &[u32], rejected: &[u32]| TokenPair {
            prompt: prompt.to_vec(),
            chosen: chosen.to_vec(),
            rejected: rejected.to_vec(),
        };
        let pairs = [pair(&[1, 2, 3], &[4, 5], &[6, 7, 8, 9]), pair(&[5], &[10, 11, 3], &[2, 12])];
        let utility = [vec![3, 1, 4, 1, 5, 9], vec![2, 7]];
        micro_batch(&pairs.each_ref(), &utility, 0, skip_prompt, Device::Cpu).unwrap()
    }

    fn assert_same_loss(model: &CausalLm, reference: &CausalLm, scope: &Scope, skip_prompt: bool) {
        let objectives = [
            Objective::new(0.7, [(0.5, Term::Nll(Side::Chosen)), (1.5, Term::Kl)]),
            Objective::new(0.7, [(1.0, Term::Dpo { beta: 0.3 }), (0.5, Term::Kl)]),
            Objective::new(1.0, [(1.0, Term::Npo { beta: 0.2 }), (0.5, Term::Kl)]),
            Term::Kl.into(),
            Method::Dapt.into(),
            Method::Dpo.into(),
            Method::GradientAscent.into(),
            Method::GradientDifference.into(),
        ];
        let batch = batch(skip_prompt);
        model.train_only(scope);
        for objective in objectives {
            let lean = loss(model, Some(reference), &objective, &batch).unwrap();
            let plain = loss_from_logits(model, Some(reference), &objective, &batch).unwrap();
            let parts =
                |l: &Loss| [Some(&l.total), l.nll.as_ref(), l.kl.as_ref()].map(|t| t.map(|t| t.double_value(&[])));
            for (lean, plain) in parts(&lean).into_iter().zip(parts(&plain)) {
                assert_eq!(lean.is_some(), plain.is_some());
                let (lean, plain) = (lean.unwrap_or(0.0), plain.unwrap_or(0.0));
                assert!((lean - plain).abs() <= 2e-6 * plain.abs().max(1.0), "{objective:?}: {lean} {plain}");
            }
            let (lean, plain) = (model.gradients(&lean.total).unwrap(), model.gradients(&plain.total).unwrap());
            assert_eq!(lean.len(), plain.len());
            for ((index, lean), (same, plain)) in lean.iter().zip(&plain) {
                assert_eq!(index, same);
                let far = (lean - plain).abs().max().double_value(&[]);
                let scale = plain.abs().max().double_value(&[]).max(1e-3);
                assert!(far <= 2e-5 * scale, "{objective:?}, {}: {far} of {scale}", model.parameters()[*index].name);
            }
        }
    }

    #[test]
    fn the_lean_route_is_the_plain_one() {
        for config in [ModelConfig::gpt2(3, 16, 2, 32, 13), ModelConfig::gpt_neo(3, 16, 2, 32, 13, 4)] {
            let model = CausalLm::random(config.clone(), 1, Device::Cpu, Kind::Float).unwrap();
            let other = CausalLm::random(config, 2, Device::Cpu, Kind::Float).unwrap();
            let middle = Scope::Blocks(BlockSlice::from_indices([1]));
            for (scope, skip_prompt) in [(&middle, false), (&Scope::Everything, false), (&middle, true)] {
                assert_same_loss(&model, &other, scope, skip_prompt);
            }
        }
    }

    #[test]
    fn what_model_and_reference_share_is_run_once_and_changes_nothing() {
        let config = ModelConfig::gpt2(4, 16, 2, 32, 13);
        let model = CausalLm::random(config, 1, Device::Cpu, Kind::Float).unwrap();
        model.freeze();
        let reference = model.reference().unwrap();
        assert_eq!(model.first_block_apart(&reference).map(|b| b.0), Some(4));
        // Block 2 has changed; then block 3 may.
        let block = |b: usize| Scope::Blocks(BlockSlice::from_indices([b]));
        for (index, parameter) in model.parameters().iter().enumerate() {
            if parameter.block.is_some_and(|b| b.0 == 2) {
                reference.unshare(index);
                no_grad(|| drop(parameter.tensor.shallow_clone().g_mul_scalar_(1.1)));
            }
        }
        assert_eq!(model.first_block_apart(&reference).map(|b| b.0), Some(2));
        assert_same_loss(&model, &reference, &block(3), false);
        assert_same_loss(&model, &reference, &block(2), false);
        model.train_only(&block(1));
        assert_eq!(model.first_block_apart(&reference).map(|b| b.0), Some(1), "what learns parts the models too");
        assert_same_loss(&model, &reference, &block(1), false);
        model.train_only(&Scope::Everything);
        assert!(model.first_block_apart(&reference).is_none());
        assert_same_loss(&model, &reference, &Scope::Everything, false);
    }
}
