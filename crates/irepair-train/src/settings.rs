//! Settings of a training run, with METHOD §17's defaults.

use crate::{Error, OptimizerKind, Result, Schedule, StateMode};

/// How long, how fast and how carefully to train. Which loss and which blocks are said elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Steps at most. METHOD §17: up to 5 epochs [L, O]; the caller turns epochs into steps.
    pub n_steps: u64,
    /// Pairs per step and micro-batch, `B`. METHOD §17: 4 [D].
    pub batch_size: usize,
    /// Micro-batches per step. METHOD §8; 1 = no accumulation.
    pub accumulation: usize,
    /// Utility texts per micro-batch; 0 means as many as pairs (METHOD §2 [D]).
    pub utility_batch_size: usize,
    /// Optimizer. METHOD §17: RMSprop [D, L].
    pub optimizer: OptimizerKind,
    /// What happens to the state of a block that is not updated. METHOD §8: kept [D].
    pub state_mode: StateMode,
    /// Learning rate after warm-up. METHOD §17: 5e-5 for models of the paper's size [F].
    pub lr: f64,
    /// What the learning rate does after warm-up. METHOD §8: constant [D, L].
    pub schedule: Schedule,
    /// Warm-up steps, `W`. METHOD §17: 150 [D, L].
    pub warmup_steps: u64,
    /// Global gradient norm kept at most. METHOD §17: 10 [L].
    pub clip_norm: f64,
    /// Examples between validations, `E`. METHOD §17: 100 [L].
    pub eval_every_examples: u64,
    /// Validations without improvement before stopping. METHOD §17: 30 [L].
    pub patience: u64,
    /// Pairs per validation batch. METHOD §17: 8 [D, L].
    pub eval_batch_size: usize,
    /// Score continuation tokens only. METHOD §2: off [D].
    pub skip_prompt: bool,
    /// Draw pairs in a new random order each epoch.
    pub shuffle: bool,
    /// Seed of every draw.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            n_steps: 1000,
            batch_size: 4,
            accumulation: 1,
            utility_batch_size: 0,
            optimizer: OptimizerKind::rmsprop(),
            state_mode: StateMode::Keep,
            lr: 5e-5,
            schedule: Schedule::Constant,
            warmup_steps: 150,
            clip_norm: 10.0,
            eval_every_examples: 100,
            patience: 30,
            eval_batch_size: 8,
            skip_prompt: false,
            shuffle: true,
            seed: 0,
        }
    }
}

impl Settings {
    /// Utility texts per micro-batch.
    pub(crate) fn n_utility(&self) -> usize {
        if self.utility_batch_size == 0 { self.batch_size } else { self.utility_batch_size }
    }

    /// Steps between validations: at least `eval_every_examples` examples.
    pub(crate) fn steps_per_eval(&self) -> u64 {
        self.eval_every_examples.div_ceil((self.batch_size * self.accumulation) as u64).max(1)
    }

    /// Every setting by its name, for the identity of a run.
    pub(crate) fn parts(&self) -> Vec<(&'static str, String)> {
        // Destructured, so that a new field does not compile until it stands here.
        macro_rules! parts {
            ($($key:ident),*) => {{
                let Self { $($key),* } = self;
                vec![$((stringify!($key), format!("{:?}", $key))),*]
            }};
        }
        parts!(
            n_steps,
            batch_size,
            accumulation,
            utility_batch_size,
            optimizer,
            state_mode,
            lr,
            schedule,
            warmup_steps,
            clip_norm,
            eval_every_examples,
            patience,
            eval_batch_size,
            skip_prompt,
            shuffle,
            seed
        )
    }

    pub(crate) fn check(&self) -> Result<()> {
        let positive = [
            ("lr", self.lr),
            ("clip_norm", self.clip_norm),
            ("batch_size", self.batch_size as f64),
            ("accumulation", self.accumulation as f64),
            ("eval_batch_size", self.eval_batch_size as f64),
            ("eval_every", self.eval_every_examples as f64),
            ("patience", self.patience as f64),
        ];
        if let Some((key, value)) = positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(Error::BadSetting { key, want: "a finite number over 0", got: value.to_string() });
        }
        if self.state_mode == StateMode::Debias && matches!(self.optimizer, OptimizerKind::AdamW { .. }) {
            let (key, want) = ("state_mode", "keep or reset with AdamW, which always corrects for its start at 0");
            return Err(Error::BadSetting { key, want, got: "debias".to_owned() });
        }
        Ok(())
    }
}
