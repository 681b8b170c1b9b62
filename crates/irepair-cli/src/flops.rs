//! Counted matrix-multiplication work of a run (METHOD §12), beside the measured time.

use irepair_config::{Job, Policy};
use irepair_core::{BlockId, StepRecord};
use irepair_model::CausalLm;

use crate::job::slices;
use crate::method::objective;

/// Work per token of the parts of a model: two operations per weight of a matrix.
struct PerToken {
    block: f64,
    head: f64,
    n_blocks: f64,
}

/// FLOPs of all steps: forward 2P per token and block, backward to activations 2P down to the lowest updated block,
/// backward to weights 2P in updated blocks; the head forward and backward; the sensitivity pass a full backward.
///
/// Norms, softmax and attention scores are not counted, nor is validation.
pub(crate) fn of_run(model: &CausalLm, job: &Job, records: &[StepRecord]) -> f64 {
    let config = model.config();
    let matrices = |b: usize| -> usize {
        let of_block = |p: &&irepair_model::Parameter| p.block == Some(BlockId(b)) && p.tensor.dim() == 2;
        model.parameters().iter().filter(of_block).map(|p| p.tensor.numel()).sum()
    };
    let work = PerToken {
        block: 2.0 * matrices(0) as f64,
        head: 2.0 * (config.n_embd * config.n_vocab) as f64,
        n_blocks: config.n_block as f64,
    };
    let Some(objective) = objective(&job.repair) else { return 0.0 };
    let needs = objective.needs();
    let texts = |flags: &[bool]| flags.iter().filter(|&&f| f).count() as f64;
    let n_trained = texts(&[needs.chosen, needs.rejected, needs.utility]);
    let n_reference = texts(&[needs.ref_chosen, needs.ref_rejected, needs.utility]);
    let measures = !matches!(job.repair.policy(), Policy::All | Policy::Fixed | Policy::Random | Policy::Cyclic);
    let forward = work.n_blocks * work.block + work.head;
    // Embedding, tied head and all: the unsliced methods also differentiate the head's weights.
    let unsliced = job.repair.policy() == Policy::All;
    records
        .iter()
        .zip(slices(records))
        .map(|(record, (n_updated, lowest))| {
            let n_passes = n_trained + f64::from(u8::from(measures));
            let tokens = record.tokens as f64 / n_passes;
            let down_to = work.n_blocks - lowest as f64;
            let head_backward = if unsliced { 2.0 * work.head } else { work.head };
            let backward = work.block * (down_to + n_updated as f64) + head_backward;
            let sensitivity = if measures { forward + 2.0 * work.n_blocks * work.block + work.head } else { 0.0 };
            tokens * (n_trained * (forward + backward) + n_reference * forward + sensitivity)
        })
        .sum()
}
