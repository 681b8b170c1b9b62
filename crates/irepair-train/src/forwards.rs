//! The loss of a micro-batch under an objective: the passes it asks for, and nothing more.

use irepair_model::{BlockModel, PrefixStates, TextBatch, first_block_apart};
use irepair_objective::{
    HeadScores, Loss, Needs, Objective, Scores, TokenScores, head_divergences, head_log_probs, vjp,
};
use tch::{Tensor, no_grad};

use crate::Result;
use crate::batch::MicroBatch;
use crate::packed::{PackedBatch, Sides};

/// The loss of a micro-batch under the model, with the reference where the objective needs it: three `[]` float32, of
/// which the total carries the gradient.
///
/// The head is applied only where a token counts, and its logits do not wait for the backward pass: see
/// `irepair_objective`'s `head`. The tests compare it with the loss from the logits of every position.
///
/// # Errors
/// As [`Objective::loss`].
pub(crate) fn loss(
    model: &dyn BlockModel,
    reference: Option<&dyn BlockModel>,
    objective: &Objective,
    micro: &MicroBatch,
) -> Result<Loss> {
    let needs = objective.needs();
    let packed = PackedBatch::new(micro, sides(needs));
    // The reference goes first: its activations are gone before the model's graph is kept.
    let pass = match reference {
        None => ReferencePass::default(),
        Some(reference) => no_grad(|| reference_pass(model, reference, needs, micro, &packed)),
    };
    let states = packed.states(model, pass.prefixes.as_deref());
    let mut gradients = TokenScoreGrads::default();
    let scores = token_scores(model, micro, states, reference, pass, &mut gradients);
    gradients.attach(objective.loss(&scores)?)
}

/// The texts that an objective reads under the model.
fn sides(needs: Needs) -> Sides {
    [needs.chosen, needs.rejected, needs.utility]
}

/// What the reference gives a loss, without gradient.
#[derive(Default)]
struct ReferencePass {
    /// States before the first block in which model and reference differ, where both run the same batches.
    prefixes: Option<Vec<PrefixStates>>,
    /// Log-probabilities of the chosen texts.
    chosen: Option<TokenScores>,
    /// Log-probabilities of the rejected texts.
    rejected: Option<TokenScores>,
    /// Last hidden states of the utility texts, `[n_real, width]`.
    utility: Option<Tensor>,
}

/// Runs the reference on the texts that the objective reads under it; `packed` holds those it reads under the model.
fn reference_pass(
    model: &dyn BlockModel,
    reference: &dyn BlockModel,
    needs: Needs,
    micro: &MicroBatch,
    packed: &PackedBatch<'_>,
) -> ReferencePass {
    let under_reference = [needs.ref_chosen, needs.ref_rejected, needs.utility];
    let (prefixes, [chosen, rejected, utility]) = if under_reference == sides(needs) {
        let block = first_block_apart(model, reference).filter(|block| block.0 > 0);
        let prefixes = block.and_then(|block| packed.prefixes(model, block));
        let states = packed.states(reference, prefixes.as_deref());
        (prefixes, states)
    } else {
        (None, PackedBatch::new(micro, under_reference).states(reference, None))
    };
    let log_probs = |text: &Option<TextBatch>, states: Option<Tensor>| {
        let (text, states) = text.as_ref().zip(states)?;
        Some(laid_out(text, &text.target_positions, &log_probs(reference, text, &states).values))
    };
    ReferencePass {
        prefixes,
        chosen: log_probs(&micro.chosen, chosen),
        rejected: log_probs(&micro.rejected, rejected),
        utility,
    }
}

/// The scores of every text that the model ran on, `[batch, seq]` each, from its last hidden states `[n, width]`; what
/// leads back from them goes to `gradients`.
fn token_scores(
    model: &dyn BlockModel,
    micro: &MicroBatch,
    [chosen, rejected, utility]: [Option<Tensor>; 3],
    reference: Option<&dyn BlockModel>,
    pass: ReferencePass,
    gradients: &mut TokenScoreGrads,
) -> Scores {
    let mut of_targets = |text: &Option<TextBatch>, states: Option<Tensor>| {
        let (text, states) = text.as_ref().zip(states)?;
        Some(gradients.track(text, &text.target_positions, log_probs(model, text, &states)))
    };
    let (chosen, rejected) = (of_targets(&micro.chosen, chosen), of_targets(&micro.rejected, rejected));
    let under_both = micro.utility.as_ref().zip(utility).zip(pass.utility.zip(reference));
    let utility = under_both.map(|((text, states), (ref_states, reference))| {
        let divergences =
            head_divergences(&ref_states, &reference.head(), &states, &model.head(), model.logit_softcap());
        gradients.track(text, &text.real_positions, divergences)
    });
    Scores { chosen, rejected, ref_chosen: pass.chosen, ref_rejected: pass.rejected, utility }
}

/// Log-probabilities of the targets of `text`, `[n_targets]`, from the states `[n_targets, width]` that predict them.
fn log_probs(model: &dyn BlockModel, text: &TextBatch, states: &Tensor) -> HeadScores {
    head_log_probs(states, &model.head(), model.logit_softcap(), &text.target_ids)
}

/// Scores `[n]` at `positions` `[n]` of a text, as `[batch, seq]`, 0 elsewhere.
fn laid_out(text: &TextBatch, positions: &Tensor, scores: &Tensor) -> TokenScores {
    let (n_rows, n_cols) = text.dims();
    let zeros = Tensor::zeros([n_rows * n_cols], (scores.kind(), scores.device()));
    let values = zeros.index_copy(0, positions, scores).view([n_rows, n_cols]);
    TokenScores { values, counts: text.counts }
}

/// Token scores as the objective sees them, and the way from their gradients back to hidden states and head.
#[derive(Default)]
struct TokenScoreGrads(Vec<TokenScoreGrad>);

struct TokenScoreGrad {
    /// The scores as the objective differentiates them, `[n]` float32.
    leaf: Tensor,
    scores: HeadScores,
}

impl TokenScoreGrads {
    /// Scores at `positions` of a text, in a form that the objective can differentiate.
    fn track(&mut self, text: &TextBatch, positions: &Tensor, scores: HeadScores) -> TokenScores {
        let leaf = scores.values.detach().set_requires_grad(true);
        let laid_out = laid_out(text, positions, &leaf);
        self.0.push(TokenScoreGrad { leaf, scores });
        laid_out
    }

    /// The loss with the gradients that its scores pass on: its total is `loss.total + vjp - vjp`, of which only the
    /// first vjp is differentiated.
    fn attach(self, loss: Loss) -> Result<Loss> {
        if !loss.total.requires_grad() {
            return Ok(loss);
        }
        let leaves: Vec<&Tensor> = self.0.iter().map(|tracked| &tracked.leaf).collect();
        let weights =
            Tensor::f_run_backward(&[&loss.total], &leaves, false, false).map_err(irepair_model::Error::from)?;
        let scores: Vec<(&HeadScores, &Tensor)> = self.0.iter().map(|tracked| &tracked.scores).zip(&weights).collect();
        let no_value = vjp(&scores).map(|vjp| &vjp - vjp.detach());
        let total = loss.total.detach();
        let total = no_value.map_or_else(|| total.shallow_clone(), |no_value| &total + no_value);
        Ok(Loss { total, ..loss })
    }
}

/// Real tokens that [`loss`] feeds through the model.
pub(crate) fn n_tokens(objective: &Objective, micro: &MicroBatch) -> usize {
    let needs = objective.needs();
    let real = |needed: bool, text: &Option<TextBatch>| text.as_ref().filter(|_| needed).map_or(0, |t| t.n_real());
    real(needs.chosen, &micro.chosen) + real(needs.rejected, &micro.rejected) + real(needs.utility, &micro.utility)
}

#[cfg(test)]
mod tests {
    use irepair_core::spec::{Method, Side, Term};
    use irepair_core::{BlockSlice, Scope};
    use irepair_data::TokenPair;
    use irepair_model::{Architecture, CausalLm, Shape};
    use irepair_objective::TextLogits;
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

    /// The loss from the logits of every position: the plain route, the oracle of the one that the engine takes.
    fn loss_from_logits(
        model: &dyn BlockModel,
        reference: Option<&dyn BlockModel>,
        objective: &Objective,
        micro: &MicroBatch,
    ) -> Loss {
        let needs = objective.needs();
        let log_probs = |model: Option<&dyn BlockModel>, needed: bool, text: &Option<TextBatch>| {
            let (model, text) = model.zip(text.as_ref().filter(|_| needed))?;
            Some(with_logits(text, &model.logits(text)).log_probs().unwrap())
        };
        let divergences = reference.zip(micro.utility.as_ref().filter(|_| needs.utility)).map(|(reference, text)| {
            let ref_logits = no_grad(|| reference.logits(text));
            with_logits(text, &model.logits(text)).divergences(&ref_logits).unwrap()
        });
        let scores = Scores {
            chosen: log_probs(Some(model), needs.chosen, &micro.chosen),
            rejected: log_probs(Some(model), needs.rejected, &micro.rejected),
            ref_chosen: no_grad(|| log_probs(reference, needs.ref_chosen, &micro.chosen)),
            ref_rejected: no_grad(|| log_probs(reference, needs.ref_rejected, &micro.rejected)),
            utility: divergences,
        };
        objective.loss(&scores).unwrap()
    }

    /// A batch with the logits `[batch, seq, vocab]` that a model gave it.
    fn with_logits<'a>(text: &'a TextBatch, logits: &'a Tensor) -> TextLogits<'a> {
        let TextBatch { ids, attention_mask, loss_mask, counts, .. } = text;
        TextLogits { ids, attention_mask, loss_mask, counts: *counts, logits }
    }

    fn assert_same_loss(model: &CausalLm, reference: &dyn BlockModel, scope: &Scope, skip_prompt: bool) {
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
            let fast = loss(model, Some(reference), &objective, &batch).unwrap();
            let plain = loss_from_logits(model, Some(reference), &objective, &batch);
            let parts =
                |l: &Loss| [Some(&l.total), l.nll.as_ref(), l.kl.as_ref()].map(|t| t.map(|t| t.double_value(&[])));
            for (fast, plain) in parts(&fast).into_iter().zip(parts(&plain)) {
                assert_eq!(fast.is_some(), plain.is_some());
                let (fast, plain) = (fast.unwrap_or(0.0), plain.unwrap_or(0.0));
                assert!((fast - plain).abs() <= 2e-6 * plain.abs().max(1.0), "{objective:?}: {fast} {plain}");
            }
            let (fast, plain) = (model.gradients(&fast.total).unwrap(), model.gradients(&plain.total).unwrap());
            assert_eq!(fast.len(), plain.len());
            for ((index, fast), (same, plain)) in fast.iter().zip(&plain) {
                assert_eq!(index, same);
                let far = (fast - plain).abs().max().double_value(&[]);
                let scale = plain.abs().max().double_value(&[]).max(1e-3);
                assert!(far <= 2e-5 * scale, "{objective:?}, {}: {far} of {scale}", model.parameters()[*index].name);
            }
        }
    }

    #[test]
    fn the_loss_from_hidden_states_is_the_loss_from_logits() {
        let llama = Shape { n_kv_head: Some(1), ..Shape::new("llama", [3, 16, 2], 32, 13) }.architecture().unwrap();
        for config in [Architecture::gpt2(3, 16, 2, 32, 13), Architecture::gpt_neo(3, 16, 2, 32, 13, 4), llama] {
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
        let config = Architecture::gpt2(4, 16, 2, 32, 13);
        let model = CausalLm::random(config, 1, Device::Cpu, Kind::Float).unwrap();
        model.freeze();
        let reference = model.reference().unwrap();
        assert_eq!(first_block_apart(&model, &*reference).map(|b| b.0), Some(4));
        // Block 2 has changed; then block 3 may.
        let block = |b: usize| Scope::Blocks(BlockSlice::from_indices([b]));
        for (index, parameter) in model.parameters().iter().enumerate() {
            if parameter.block.is_some_and(|b| b.0 == 2) {
                reference.copy_on_write(index);
                no_grad(|| drop(parameter.tensor.shallow_clone().g_mul_scalar_(1.1)));
            }
        }
        assert_eq!(first_block_apart(&model, &*reference).map(|b| b.0), Some(2));
        assert_same_loss(&model, &*reference, &block(3), false);
        assert_same_loss(&model, &*reference, &block(2), false);
        model.train_only(&block(1));
        assert_eq!(first_block_apart(&model, &*reference).map(|b| b.0), Some(1), "what learns parts the models too");
        assert_same_loss(&model, &*reference, &block(1), false);
        model.train_only(&Scope::Everything);
        assert!(first_block_apart(&model, &*reference).is_none());
        assert_same_loss(&model, &*reference, &Scope::Everything, false);
    }
}
