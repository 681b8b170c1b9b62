//! Counted matrix-multiplication work of a step (METHOD §12).

use std::collections::BTreeSet;

use irepair_core::StepRecord;
use irepair_model::{BlockModel, CausalLm};
use irepair_objective::Objective;

/// FLOPs of a step without gradients: every text of the objective through the model, and through the reference where it
/// is read there.
pub fn forward_flops(model: &CausalLm, objective: &Objective, record: &StepRecord) -> f64 {
    let (of, needs) = (model.config(), objective.needs());
    let texts = |flags: &[bool]| flags.iter().filter(|&&f| f).count() as f64;
    let n_run = texts(&[needs.chosen, needs.rejected, needs.utility]);
    let n_reference = texts(&[needs.ref_chosen, needs.ref_rejected, needs.utility]);
    record.tokens as f64 * (n_run + n_reference) / n_run.max(1.0) * (of.block_flops() + of.head_flops())
}

/// The texts that are read to choose the slice of a step, for each text of a kind that the step trains on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Those that go forward.
    pub forward: f64,
    /// Those that go backward as well, through every block.
    pub backward: f64,
    /// True where they go backward to the weights of the blocks too.
    pub to_weights: bool,
    /// Texts of the Fisher matrix: forward, and backward to every weight.
    pub fisher: f64,
}

/// FLOPs of a step: forward 2P per token and block, backward to activations 2P down to the lowest updated block,
/// backward to weights 2P in updated blocks, or as much of it as the matrices take of which rows are updated: the
/// gradient of a matrix is computed whole; the head forward and backward; and the texts on which sensitivities and the
/// Fisher matrix are `measured`, those that are read once before the first step among the work of that step.
///
/// Texts of all kinds are taken to be of one length. Every text is counted through every block and the head, whether or
/// not model and reference share some of them. Norms, softmax and attention scores are not counted, nor is validation.
/// `sliced` says whether blocks alone are updated: else the embedding and its tied head are too.
///
/// A soft prefix is in front of each of the `n_pairs` texts of a kind that a step draws: its vectors run forward and
/// backward through every block and not through the head, under the model alone; the texts go backward to activations,
/// and no weight of a block or the head is updated.
pub fn step_flops(
    model: &CausalLm,
    objective: &Objective,
    sliced: bool,
    measured: Measured,
    record: &StepRecord,
    n_pairs: usize,
) -> f64 {
    let of = model.config();
    let (n_blocks, head) = (of.n_block as f64, of.head_flops());
    let block = of.block_flops() / n_blocks;
    let needs = objective.needs();
    let texts = |flags: &[bool]| flags.iter().filter(|&&f| f).count() as f64;
    let n_trained = texts(&[needs.chosen, needs.rejected, needs.utility]);
    let n_reference = texts(&[needs.ref_chosen, needs.ref_rejected, needs.utility]);
    let Measured { forward: n_forward, backward: n_backward, to_weights, fisher } = measured;
    let tokens = record.tokens as f64 / (n_trained + n_forward + fisher);
    let forward = n_blocks * block + head;
    let down_to = n_blocks - record.slice.lowest().map_or(0, |b| b.0) as f64;
    let n_prefix = model.n_soft_prefix();
    let head_backward = if sliced || n_prefix > 0 { head } else { 2.0 * head };
    let backward = block * (down_to + n_learning(model, record)) + head_backward;
    let to_blocks = n_blocks * block;
    let sensitivity = n_forward * forward + n_backward * (if to_weights { 2.0 } else { 1.0 } * to_blocks + head);
    let fisher = fisher * 3.0 * forward;
    let prefix = n_trained * (n_pairs * n_prefix) as f64 * 2.0 * n_blocks * block;
    tokens * (n_trained * (forward + backward) + n_reference * forward + sensitivity + fisher) + prefix
}

/// Blocks whose weights get a gradient, parts of blocks by the share of their matrices' weights.
fn n_learning(model: &CausalLm, record: &StepRecord) -> f64 {
    let Some((units, map)) = record.units.as_ref().zip(model.unit_map()) else { return record.slice.len() as f64 };
    let rows = map.slice(units.iter()).unwrap_or_default();
    let cut: BTreeSet<usize> = rows.iter().map(|rows| rows.parameter).collect();
    let shapes = cut.into_iter().map(|parameter| &map.parameters()[parameter].shape);
    let n_weights: usize = shapes.filter(|shape| shape.len() == 2).map(|shape| shape[0] * shape[1]).sum();
    n_weights as f64 / model.config().block_matrix_weights() as f64
}
