//! The plan of steps: how many samples, which presets, how many updates. It is made at the start, kept, and followed.

use irepair_config::{FixPlan, Method, Policy, RepairOptions};
use irepair_core::UnitList;
use serde::{Deserialize, Serialize};

/// Sizes of a plan relative to the usual one, smallest first.
const SIZES: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];

/// A way to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Preset {
    pub(crate) name: String,
    /// What differs from the settings that all presets share.
    pub(crate) options: RepairOptions,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Steps {
    /// Samples of every prompt, and further ones of a prompt that gave no pair.
    pub(crate) samples: [usize; 2],
    /// Samples of every prompt to choose on and to measure on, with its greedy answer.
    pub(crate) more_answers: usize,
    pub(crate) presets: Vec<Preset>,
    /// Updates after which a round of the search ends; half of the presets continue.
    pub(crate) rounds: Vec<u64>,
    /// Updates from one measurement to the next.
    pub(crate) every: u64,
}

/// What one unit of work takes, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Speed {
    /// An answer.
    pub(crate) answer: f64,
    /// The KL of a neutral text.
    pub(crate) text: f64,
    /// An update.
    pub(crate) update: f64,
}

/// Presets, the most promising first: what leaves least error within a budget on the profiles `wild` and `real`
/// (docs/FINDINGS.md). DPO's loss on all weights, on adapters, on random blocks but the first; the largest rate is for
/// models far smaller than GPT-2.
pub(crate) fn presets(n_blocks: usize) -> Vec<Preset> {
    let of = |name: &str, lr: f64, more: RepairOptions| Preset {
        name: format!("{name}-{lr:e}"),
        options: RepairOptions { lr: Some(lr), ..more },
    };
    let upper = RepairOptions {
        policy: Some(Policy::Random),
        exclude: "0".parse::<UnitList>().ok().filter(|_| n_blocks > 1),
        ..RepairOptions::default()
    };
    vec![
        of("dpo", 1e-5, RepairOptions::default()),
        of("dpo", 3e-5, RepairOptions::default()),
        of("dpo", 1e-4, RepairOptions::default()),
        of("dpo-lora", 1e-4, RepairOptions { lora_rank: Some(8), ..RepairOptions::default() }),
        of("dpo-random-blocks", 1e-4, upper),
        of("dpo", 3e-4, RepairOptions::default()),
    ]
}

impl Steps {
    /// The usual plan, `size` times as long.
    fn sized(size: f64, n_blocks: usize) -> Self {
        let times = |n: f64| (n * size).round().max(1.0) as usize;
        let first = 2 * times(8.0) as u64;
        let mut presets = presets(n_blocks);
        if size < 1.0 {
            presets.truncate(4);
        }
        Self {
            samples: [times(12.0).max(2), times(24.0)],
            more_answers: times(3.0),
            presets,
            rounds: [1, 2, 4].map(|n| n * first).to_vec(),
            // A point takes as long as many updates.
            every: (first / 2).max(4),
        }
    }

    /// The plan of a fix: the usual one, or the longest that takes no more than the minutes asked for.
    pub(crate) fn of(plan: &FixPlan, n_blocks: usize, n_prompts: [usize; 3], speed: &Speed) -> Self {
        let sized = |size: f64| Self::sized(size, n_blocks);
        let Some(minutes) = plan.minutes else { return sized(1.0) };
        let fits = |steps: &Self| steps.seconds(n_prompts, speed) <= 60.0 * minutes;
        let mut steps = SIZES.map(sized).into_iter();
        let smallest = steps.next().unwrap_or_else(|| sized(1.0));
        let longest = steps.take_while(|steps| fits(steps)).last();
        if longest.is_none() && !fits(&smallest) {
            let least = (smallest.seconds(n_prompts, speed) / 60.0).ceil();
            tracing::warn!(
                "{minutes} minutes are too few for the shortest plan, which takes about {least}: it is followed"
            );
        }
        longest.unwrap_or(smallest)
    }

    /// Presets that take part in each round.
    pub(crate) fn n_presets(&self, round: usize) -> usize {
        (0..round).fold(self.presets.len(), |n, _| n.div_ceil(2))
    }

    /// Updates of all runs, and points that are measured.
    pub(crate) fn work(&self) -> [u64; 2] {
        let mut before = 0;
        let mut work = [0, 1];
        for (round, &n_steps) in self.rounds.iter().enumerate() {
            let n = self.n_presets(round) as u64 * (n_steps - before);
            work = [work[0] + n, work[1] + n / self.every];
            before = n_steps;
        }
        work
    }

    /// Seconds from the plan to the end, about: further samples for half of the prompts.
    pub(crate) fn seconds(&self, n_prompts: [usize; 3], speed: &Speed) -> f64 {
        let [first, more] = self.samples.map(|n| n as f64);
        let [updates, points] = self.work().map(|n| n as f64);
        n_prompts[0] as f64 * (first + 0.5 * more) * speed.answer
            + (updates + SENSITIVITIES) * speed.update
            + points * self.point(n_prompts, speed)
            + self.after(n_prompts, speed)
    }
}

/// Batches of a sensitivity.
pub(crate) const N_BATCHES: u64 = 16;
/// Updates that take as long as the sensitivities on wrong answers, good ones and neutral text: a batch of theirs is
/// one side of the pairs without a reference.
pub(crate) const SENSITIVITIES: f64 = 0.25 * 3.0 * N_BATCHES as f64;

/// Neutral texts to choose on, and as many to measure on.
pub(crate) const N_NEUTRAL: usize = 32;

/// The settings that all presets share, over which a preset's own stand.
pub(crate) fn shared(plan: &FixPlan) -> RepairOptions {
    RepairOptions {
        model: Some(plan.model.clone()),
        method: Some(Method::Dpo),
        warmup_steps: Some(10),
        batch_size: Some(4),
        max_prompt: Some(plan.prompt_tokens),
        prompt_side: plan.prompt_side,
        // The end token follows the last one.
        max_continuation: Some(plan.max_new_tokens + 1),
        skip_prompt: Some(true),
        // Points on prompts choose, not the loss of pairs.
        n_validation: Some(0),
        memory_budget: plan.memory_budget,
        seed: Some(plan.seed),
        device: Some(plan.device.clone()),
        dtype: Some(plan.dtype),
        threads: plan.threads,
        ..RepairOptions::default()
    }
}

/// The plan of a fix that nothing is said of.
#[cfg(test)]
pub(crate) fn some_plan() -> FixPlan {
    use irepair_config::{FixOptions, resolve};
    let given = FixOptions {
        model: Some("m".into()),
        prompts: Some("p.jsonl".into()),
        judge: "words.txt".parse().ok(),
        out: Some("out".into()),
        ..FixOptions::default()
    };
    resolve(&given, "a test").unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounds_halve_and_the_work_is_their_sum() {
        let steps = Steps::sized(1.0, 30);
        assert_eq!((steps.every, steps.rounds.clone()), (8, vec![16, 32, 64]));
        assert_eq!([0, 1, 2].map(|round| steps.n_presets(round)), [6, 3, 2]);
        // 6 x 16 + 3 x 16 + 2 x 32 updates, a point every 8 and the one before the first.
        assert_eq!(steps.work(), [208, 27]);
        let quarter = Steps::sized(0.25, 30);
        assert!(quarter.work() == [32, 9] && quarter.samples == [3, 6] && quarter.presets.len() == 4);
    }

    #[test]
    fn minutes_choose_the_longest_plan_that_fits() {
        let speed = Speed { answer: 0.1, text: 0.2, update: 2.0 };
        let plan = |minutes| FixPlan { minutes, ..some_plan() };
        let of = |minutes| Steps::of(&plan(minutes), 30, [120, 60, 120], &speed);
        assert_eq!(of(None), Steps::sized(1.0, 30));
        assert_eq!(of(Some(0.1)), Steps::sized(0.25, 30), "the shortest is followed, and said");
        assert_eq!(of(Some(1e6)), Steps::sized(4.0, 30));
        for minutes in [10.0, 15.0, 40.0] {
            assert!(of(Some(minutes)).seconds([120, 60, 120], &speed) <= 60.0 * minutes);
        }
    }

    #[test]
    fn a_model_of_one_block_has_no_block_to_leave_out() {
        let upper = &presets(1)[4].options;
        assert_eq!((upper.exclude.clone(), upper.lr), (None, Some(1e-4)));
        assert!(presets(2)[4].options.exclude.is_some());
    }
}
