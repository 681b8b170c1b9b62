//! The step log: one JSON object per line of `metrics.jsonl`.

use serde::{Deserialize, Serialize};

use crate::{BlockSlice, UnitList};

/// What one training step did. `kl` is absent when the objective has no KL term, `nll` when it has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Step number, from 0.
    pub step: u64,
    /// The objective's value before the update.
    pub loss: f64,
    /// Mean NLL of the chosen text, nats per counted token.
    pub nll: Option<f64>,
    /// KL(reference ‖ model) on utility text, nats per token.
    pub kl: Option<f64>,
    /// Global gradient norm over the updated parameters, before clipping.
    pub grad_norm: f64,
    /// Learning rate of this step; where a direction is ablated, the strength that it goes to.
    pub lr: f64,
    /// Blocks updated at this step; those of which a part was, where units below the block are chosen.
    pub slice: BlockSlice,
    /// Units updated at this step, where units below the block are chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<UnitList>,
    /// Real tokens fed through the model in this step (all texts, each counted once).
    pub tokens: u64,
    /// Wall time of the step in seconds.
    pub seconds: f64,
    /// Loss on the held-out pairs before the first step; in its record alone, where the training loop measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss_before: Option<f64>,
    /// Loss on the held-out pairs after the update, at the steps that are validated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    /// The loss is far over the losses before it (METHOD §8). The training loop sets it; written only when true.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spike: bool,
}
