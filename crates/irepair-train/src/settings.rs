//! Settings of a training run, with METHOD §17's defaults.

use crate::{Error, OptimizerKind, Result, Schedule, StateMode};

/// Defines [`Settings`] from one list: a setting stands there once, with its default.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr;)*) => {
        /// How long, how fast and how carefully to train. Which loss and which blocks are said elsewhere.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings { $($(#[doc = $doc])+ pub $key: $type),* }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($key: $default),* }
            }
        }

        impl Settings {
            /// Every setting by its name, for the identity of a run.
            pub(crate) fn parts(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($key), format!("{:?}", self.$key))),*]
            }
        }
    };
}

settings! {
    /// Steps at most. METHOD §17: up to 5 epochs [L, O]; the caller turns epochs into steps.
    n_steps: u64 = 1000;
    /// Pairs per step and micro-batch, `B`. METHOD §17: 4 [D].
    batch_size: usize = 4;
    /// Micro-batches per step. METHOD §8; 1 = no accumulation.
    accumulation: usize = 1;
    /// Utility texts per micro-batch; 0 means as many as pairs (METHOD §2 [D]).
    utility_batch_size: usize = 0;
    /// Optimizer. METHOD §17: RMSprop [D, L].
    optimizer: OptimizerKind = OptimizerKind::rmsprop();
    /// What happens to the state of a block that is not updated. METHOD §8: kept [D].
    state_mode: StateMode = StateMode::Keep;
    /// Rank of the adapters that are trained in the place of the projections of blocks; 0 = none, every weight of the
    /// scope is trained. METHOD §26 [O].
    lora_rank: usize = 0;
    /// Change weights by the ablation of a direction and not along gradients: to strength `s / n_steps` after step `s`.
    /// Learning rate, optimizer and clipping are not read. METHOD §26 [O].
    ablation: bool = false;
    /// Make every update as long as the learning rate, as a share of the weights that it changes. METHOD §23 [O].
    equal_step: bool = false;
    /// Learning rate after warm-up. METHOD §17: 5e-5 for models of the paper's size [F].
    lr: f64 = 5e-5;
    /// What the learning rate does after warm-up. METHOD §8: constant [D, L].
    schedule: Schedule = Schedule::Constant;
    /// Warm-up steps, `W`. METHOD §17: 150 [D, L].
    warmup_steps: u64 = 150;
    /// Global gradient norm kept at most. METHOD §17: 10 [L].
    clip_norm: f64 = 10.0;
    /// Examples between validations, `E`. METHOD §17: 100 [L].
    eval_every_examples: u64 = 100;
    /// Validations without improvement before stopping. METHOD §17: 30 [L].
    patience: u64 = 30;
    /// KL on held-out utility texts, nats a token, over which the run ends with the best weights before; none = no end.
    /// METHOD §8 [O].
    budget_kl: Option<f64> = None;
    /// Pairs per validation batch. METHOD §17: 8 [D, L].
    eval_batch_size: usize = 8;
    /// Utility texts that the Fisher matrix is made of, where something reads it. METHOD §27: 64 [O].
    fisher_texts: usize = 64;
    /// Added to the Fisher matrix, as a share of the mean of its diagonal. METHOD §27: 0.1 [O].
    fisher_damping: f64 = 0.1;
    /// Score continuation tokens only. METHOD §2: off [D].
    skip_prompt: bool = false;
    /// Draw pairs in a new random order each epoch.
    shuffle: bool = true;
    /// Seed of every draw.
    seed: u64 = 0;
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

    pub(crate) fn check(&self) -> Result<()> {
        let positive = [
            ("lr", self.lr),
            ("clip_norm", self.clip_norm),
            ("batch_size", self.batch_size as f64),
            ("accumulation", self.accumulation as f64),
            ("eval_batch_size", self.eval_batch_size as f64),
            ("eval_every", self.eval_every_examples as f64),
            ("patience", self.patience as f64),
            ("fisher_texts", self.fisher_texts as f64),
            ("fisher_damping", self.fisher_damping),
            ("budget_kl", self.budget_kl.unwrap_or(1.0)),
        ];
        if let Some((key, value)) = positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(Error::BadSetting { key, want: "a finite number over 0", got: value.to_string() });
        }
        if self.lora_rank > 0 && matches!(self.optimizer, OptimizerKind::Natural { .. }) {
            let want = "0 with natural steps, whose Fisher matrix is of the weights themselves";
            return Err(Error::BadSetting { key: "lora_rank", want, got: self.lora_rank.to_string() });
        }
        if self.lora_rank > 0 && self.ablation {
            let want = "0 with ablation, which changes the weights themselves";
            return Err(Error::BadSetting { key: "lora_rank", want, got: self.lora_rank.to_string() });
        }
        if self.ablation && matches!(self.optimizer, OptimizerKind::Natural { .. }) {
            let want =
                "rmsprop or adamw, which it does not read: it has no gradients, and natural needs a Fisher matrix";
            return Err(Error::BadSetting { key: "optimizer", want, got: "natural with ablation".to_owned() });
        }
        if self.equal_step
            && (self.ablation || self.lora_rank > 0 || matches!(self.optimizer, OptimizerKind::Natural { .. }))
        {
            let want = "off with natural steps, whose length is a KL, with adapters and with ablation";
            return Err(Error::BadSetting { key: "equal_step", want, got: "on".to_owned() });
        }
        if self.state_mode == StateMode::Debias && self.optimizer.has_mean() {
            let (key, want) =
                ("state_mode", "keep or reset, but with RMSprop: the others correct for their start at 0");
            return Err(Error::BadSetting { key, want, got: "debias".to_owned() });
        }
        Ok(())
    }
}
