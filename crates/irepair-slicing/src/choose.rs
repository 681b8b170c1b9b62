//! From sensitivities to the active set (METHOD §5).

#![deny(clippy::wildcard_enum_match_arm)]

use irepair_core::spec::{Measures, Number, Policy};
use irepair_core::{BlockId, BlockSlice, Scope, Sensitivities};

use crate::{Error, Memory, Result, SlicePolicy, random};

impl SlicePolicy {
    /// True when [`choose`](Self::choose) needs the sensitivities of this step's batch.
    ///
    /// False for `fixed`, which needs one estimate over many batches: see
    /// [`needs_fixed_estimate`](Self::needs_fixed_estimate).
    pub fn needs_sensitivities(&self, step: u64) -> bool {
        self.kind().measures_at(step, self.every())
    }

    /// True when the next [`choose`](Self::choose) needs the fixed-selection estimate (METHOD §3: norm of the mean
    /// gradient over many batches, at the weights before the first step). Memory holds it after that choice.
    pub fn needs_fixed_estimate(&self, memory: &Memory) -> bool {
        self.kind().row().measures == Measures::Once && matches!(memory.held(), Ok(None))
    }

    /// The active set of `step`.
    ///
    /// `sensitivities` are of this step's batch (or the fixed-selection estimate); policies that do not need them
    /// ignore them. `seed` is the run's; random draws depend on it and on `step` alone.
    ///
    /// # Errors
    /// [`Error::NoSensitivities`] when the policy needs them and neither the caller nor memory has them;
    /// [`Error::WrongBlockCount`] when they are of another model; [`irepair_core::Error::NoBlocks`] for `n_blocks = 0`.
    ///
    /// # Source
    /// METHOD §5; tags on [`Policy`].
    pub fn choose(
        &self,
        memory: &mut Memory,
        step: u64,
        sensitivities: Option<&Sensitivities>,
        n_blocks: usize,
        seed: u64,
    ) -> Result<Scope> {
        if n_blocks == 0 {
            return Err(irepair_core::Error::NoBlocks.into());
        }
        let measured = || self.checked(sensitivities, step, n_blocks);
        let (k, every) = (self.k(n_blocks), self.every());
        let slice = match self.kind() {
            Policy::All => return Ok(Scope::Everything),
            Policy::Blocks => BlockSlice::from_indices(0..n_blocks),
            Policy::Dynamic => top(measured()?, k),
            Policy::Reverse => bottom(measured()?, k),
            Policy::Coverage => covering(measured()?, self.number(Number::PolicyQuota), k),
            Policy::Fixed => {
                if memory.held()?.is_none() {
                    memory.hold(measured()?);
                }
                self.top_held(memory, step, n_blocks)?
            }
            Policy::EveryN => {
                if step.is_multiple_of(every) || memory.held()?.is_none() {
                    memory.hold(measured()?);
                }
                self.top_held(memory, step, n_blocks)?
            }
            Policy::Ema => {
                let new = measured()?;
                let mean = match memory.held()? {
                    Some(old) => {
                        let old = self.checked(Some(&old), step, n_blocks)?;
                        running_mean(old, new, self.number(Number::PolicyRho))?
                    }
                    None => new.clone(),
                };
                memory.hold(&mean);
                top(&mean, k)
            }
            Policy::Random => random::blocks(seed, step / every, n_blocks, k),
            Policy::Cyclic => {
                // Reduced before multiplying, so that no step number overflows.
                let turn = ((step / every) % n_blocks as u64) as usize;
                BlockSlice::from_indices((0..k).map(|i| (turn * k + i) % n_blocks))
            }
            Policy::Explore => {
                // Halves every `every` steps.
                let chance = self.number(Number::PolicyEpsilon) * (-(step as f64) / every as f64).exp2();
                match random::blocks_with_chance(seed, step, n_blocks, k, chance) {
                    Some(slice) => slice,
                    None => top(measured()?, k),
                }
            }
        };
        Ok(Scope::Blocks(slice))
    }

    /// [`choose`](Self::choose) among the blocks of `eligible` alone, as if the model had no others: sizes in percent
    /// are of their number, and the memory of a run holds their sensitivities. `sensitivities` are of the whole model.
    ///
    /// # Errors
    /// As [`choose`](Self::choose).
    ///
    /// # Source
    /// METHOD §5 [O].
    pub fn choose_among(
        &self,
        eligible: &BlockSlice,
        memory: &mut Memory,
        step: u64,
        sensitivities: Option<&Sensitivities>,
        seed: u64,
    ) -> Result<Scope> {
        let blocks: Vec<BlockId> = eligible.iter().collect();
        let of = |s: &Sensitivities, BlockId(block): BlockId| {
            let wrong = Error::WrongBlockCount { want: block + 1, got: s.len() };
            s.values().get(block).copied().ok_or(wrong)
        };
        let sensitivities = match sensitivities {
            Some(s) => Some(Sensitivities::new(blocks.iter().map(|block| of(s, *block)).collect::<Result<_>>()?)?),
            None => None,
        };
        let chosen = self.choose(memory, step, sensitivities.as_ref(), blocks.len(), seed)?.blocks(blocks.len());
        Ok(Scope::Blocks(chosen.iter().map(|BlockId(position)| blocks[position]).collect()))
    }

    fn checked<'a>(
        &self,
        sensitivities: Option<&'a Sensitivities>,
        step: u64,
        n_blocks: usize,
    ) -> Result<&'a Sensitivities> {
        match sensitivities {
            None => Err(Error::NoSensitivities { kind: self.kind(), step }),
            Some(s) if s.len() != n_blocks => Err(Error::WrongBlockCount { want: n_blocks, got: s.len() }),
            Some(s) => Ok(s),
        }
    }

    fn top_held(&self, memory: &Memory, step: u64, n_blocks: usize) -> Result<BlockSlice> {
        let held = memory.held()?;
        Ok(top(self.checked(held.as_ref(), step, n_blocks)?, self.k(n_blocks)))
    }
}

/// The `k` largest; ties to the lower block.
fn top(s: &Sensitivities, k: usize) -> BlockSlice {
    s.ranking().into_iter().take(k).collect()
}

/// The `k` smallest; ties to the lower block.
fn bottom(s: &Sensitivities, k: usize) -> BlockSlice {
    let mut order: Vec<usize> = (0..s.len()).collect();
    order.sort_by(|&a, &b| s.values()[a].total_cmp(&s.values()[b]));
    BlockSlice::from_indices(order.into_iter().take(k))
}

/// The fewest largest whose squares reach `quota` of the sum of squares, at least 1 and at most `k_max`.
fn covering(s: &Sensitivities, quota: f64, k_max: usize) -> BlockSlice {
    let ranking = s.ranking();
    // Relative to the largest, so that squaring neither overflows nor vanishes; summed in rank order both times, so
    // that quota 1 is reached.
    let largest = s.values()[ranking[0].0].max(f64::MIN_POSITIVE);
    let squares: Vec<f64> = ranking.iter().map(|b| (s.values()[b.0] / largest).powi(2)).collect();
    let wanted = quota * squares.iter().sum::<f64>();
    let mut held = 0.0;
    let mut k = 0;
    while k < k_max && (k == 0 || held < wanted) {
        held += squares[k];
        k += 1;
    }
    ranking.into_iter().take(k).collect()
}

/// `rho * old + (1 - rho) * new`, block by block.
fn running_mean(old: &Sensitivities, new: &Sensitivities, rho: f64) -> Result<Sensitivities> {
    let mean = old.values().iter().zip(new.values()).map(|(old, new)| rho * old + (1.0 - rho) * new);
    Ok(Sensitivities::new(mean.collect())?)
}

#[cfg(test)]
mod tests {
    use irepair_core::SliceSize;

    use super::*;
    use crate::PolicySpec;

    /// A policy with slices of `k` blocks and these numbers; METHOD's defaults for the others.
    fn policy(kind: Policy, k: usize, numbers: &[(Number, f64)]) -> SlicePolicy {
        let spec = PolicySpec { slice_k: SliceSize::Blocks(k), ..PolicySpec::new(kind) };
        SlicePolicy::new(&numbers.iter().fold(spec, |spec, (number, value)| spec.with(*number, *value))).unwrap()
    }

    fn s(values: &[f64]) -> Sensitivities {
        Sensitivities::new(values.to_vec()).unwrap()
    }

    fn chosen(policy: SlicePolicy, memory: &mut Memory, step: u64, values: Option<&[f64]>) -> String {
        policy.choose(memory, step, values.map(s).as_ref(), 3, 7).unwrap().to_string()
    }

    #[test]
    fn ties_go_to_the_lower_block_at_both_ends() {
        let memory = &mut Memory::default();
        assert_eq!(chosen(policy(Policy::Dynamic, 2, &[]), memory, 0, Some(&[1.0, 1.0, 1.0])), "0,1");
        assert_eq!(chosen(policy(Policy::Reverse, 2, &[]), memory, 0, Some(&[1.0, 1.0, 1.0])), "0,1");
        assert_eq!(chosen(policy(Policy::Reverse, 1, &[]), memory, 0, Some(&[2.0, 1.0, 1.0])), "1");
    }

    #[test]
    fn all_is_everything_and_not_every_block() {
        let scope = policy(Policy::All, 1, &[]).choose(&mut Memory::default(), 0, None, 3, 0).unwrap();
        assert_eq!(scope, Scope::Everything);
    }

    #[test]
    fn fixed_keeps_its_first_estimate() {
        let policy = policy(Policy::Fixed, 1, &[]);
        let memory = &mut Memory::default();
        assert!(policy.needs_fixed_estimate(memory) && !policy.needs_sensitivities(0));
        assert_eq!(chosen(policy, memory, 0, Some(&[1.0, 3.0, 2.0])), "1");
        assert!(!policy.needs_fixed_estimate(memory));
        assert_eq!(chosen(policy, memory, 1, None), "1");
        assert_eq!(chosen(policy, memory, 2, Some(&[9.0, 0.0, 0.0])), "1");
    }

    #[test]
    fn every_n_measures_every_n_steps() {
        let policy = policy(Policy::EveryN, 1, &[(Number::PolicyEvery, 3.0)]);
        let memory = &mut Memory::default();
        let wants: Vec<bool> = (0..5).map(|step| policy.needs_sensitivities(step)).collect();
        assert_eq!(wants, [true, false, false, true, false]);
        assert_eq!(chosen(policy, memory, 0, Some(&[1.0, 3.0, 2.0])), "1");
        assert_eq!(chosen(policy, memory, 2, None), "1");
        assert_eq!(chosen(policy, memory, 3, Some(&[5.0, 3.0, 2.0])), "0");
        assert_eq!(chosen(policy, memory, 4, None), "0");
    }

    #[test]
    fn ema_waits_for_a_lasting_change() {
        let policy = policy(Policy::Ema, 1, &[(Number::PolicyRho, 0.75)]);
        let memory = &mut Memory::default();
        assert_eq!(chosen(policy, memory, 0, Some(&[1.0, 0.0, 0.0])), "0");
        // 0.75 * 1 against 0.25 * 2
        assert_eq!(chosen(policy, memory, 1, Some(&[0.0, 2.0, 0.0])), "0");
        // 0.5625 against 0.75 * 0.5 + 0.25 * 2
        assert_eq!(chosen(policy, memory, 2, Some(&[0.0, 2.0, 0.0])), "1");
    }

    #[test]
    fn cyclic_visits_every_block_in_order() {
        let cyclic = policy(Policy::Cyclic, 1, &[(Number::PolicyEvery, 2.0)]);
        let memory = &mut Memory::default();
        let visited: Vec<String> = (0..8).map(|step| chosen(cyclic, memory, step, None)).collect();
        assert_eq!(visited, ["0", "0", "1", "1", "2", "2", "0", "0"]);
        let cyclic = policy(Policy::Cyclic, 2, &[(Number::PolicyEvery, 1.0)]);
        let visited: Vec<String> = (0..3).map(|step| chosen(cyclic, memory, step, None)).collect();
        assert_eq!(visited, ["0,1", "0,2", "1,2"]);
        chosen(cyclic, memory, u64::MAX, None);
    }

    #[test]
    fn explore_ends_as_dynamic() {
        let policy = policy(Policy::Explore, 1, &[(Number::PolicyEpsilon, 1.0), (Number::PolicyEvery, 10.0)]);
        let memory = &mut Memory::default();
        let differs = |step| chosen(policy, memory, step, Some(&[0.0, 0.0, 1.0])) != "2";
        let explored: Vec<bool> = (0..400).map(differs).collect();
        assert!(explored[..10].contains(&true));
        assert!(!explored[200..].contains(&true));
    }

    #[test]
    fn coverage_takes_as_few_blocks_as_the_quota_allows() {
        let covering = |quota, k_max| policy(Policy::Coverage, k_max, &[(Number::PolicyQuota, quota)]);
        let memory = &mut Memory::default();
        // shares of the squares: 9/14, 4/14, 1/14
        let values: &[f64] = &[1.0, 2.0, 3.0];
        assert_eq!(chosen(covering(0.5, 3), memory, 0, Some(values)), "2");
        assert_eq!(chosen(covering(0.7, 3), memory, 0, Some(values)), "1,2");
        assert_eq!(chosen(covering(1.0, 3), memory, 0, Some(values)), "0,1,2");
        assert_eq!(chosen(covering(1.0, 2), memory, 0, Some(values)), "1,2");
        assert_eq!(chosen(covering(0.5, 3), memory, 0, Some(&[0.0, 0.0, 0.0])), "0");
    }

    #[test]
    fn missing_or_foreign_sensitivities_are_an_error() {
        let memory = &mut Memory::default();
        let error = policy(Policy::EveryN, 1, &[(Number::PolicyEvery, 4.0)]).choose(memory, 1, None, 3, 0).unwrap_err();
        assert_eq!(error.to_string(), "policy every-n has no sensitivities at step 1");
        let error = policy(Policy::Dynamic, 1, &[]).choose(memory, 0, Some(&s(&[1.0])), 3, 0).unwrap_err();
        assert_eq!(error.to_string(), "sensitivities are of a model with another number of blocks");
        assert!(policy(Policy::Random, 1, &[]).choose(memory, 0, None, 0, 0).is_err());
    }

    /// A policy asks for sensitivities exactly when its row says that it measures.
    #[test]
    fn rows_say_when_a_policy_reads_sensitivities() {
        for kind in Policy::ALL {
            // Explore draws random blocks instead of measuring while epsilon is 1.
            let policy = policy(*kind, 1, &[(Number::PolicyEpsilon, 0.0), (Number::PolicyEvery, 3.0)]);
            let memory = &mut Memory::default();
            for step in 0..7 {
                let wants = policy.needs_sensitivities(step) || policy.needs_fixed_estimate(memory);
                assert_eq!(policy.choose(memory, step, None, 3, 7).is_err(), wants, "{kind} at step {step}");
                assert!(policy.choose(memory, step, Some(&s(&[1.0, 3.0, 2.0])), 3, 7).is_ok());
            }
        }
    }
}
