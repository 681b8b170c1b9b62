//! What a preset settles beyond the defaults of single settings.

use crate::{Method, Optimizer, Preset, RepairOptions};

/// The learning rate, its warm-up and the KL budget of preset best (docs/FINDINGS.md), and how often the budget is
/// looked at: at that rate a hundred examples may take half of it.
const BEST: (f64, u64, f64, u64) = (1e-5, 10, 0.05, 40);

impl RepairOptions {
    /// With what the preset settles beyond the defaults of single settings, where the user left it open.
    #[must_use]
    pub fn with_preset(self) -> Self {
        // What names a method, or is read by the paper's alone.
        let papers = [
            self.method.is_some(),
            self.policy.is_some(),
            self.sensitivity.is_some(),
            self.top_k.is_some(),
            self.unit.is_some(),
            self.only.is_some(),
            self.exclude.is_some(),
            self.policy_every.is_some(),
            self.policy_rho.is_some(),
            self.policy_epsilon.is_some(),
            self.policy_quota.is_some(),
            self.localise.is_some(),
            self.fixed_batches.is_some(),
            self.beta.is_some(),
            self.gamma.is_some(),
            self.scale.is_some(),
        ];
        let preset = self.preset.unwrap_or(if papers.contains(&true) { Preset::Paper } else { Preset::Best });
        let with = Self { preset: Some(preset), ..self };
        if preset == Preset::Paper {
            return with;
        }
        let (rate, warmup_steps, budget, eval_every) = BEST;
        let method = with.method.unwrap_or(Method::Dpo);
        let with = Self { method: Some(method), ..with };
        let narrowed = with.policy().is_sliced() || with.lora_rank.is_some() || with.soft_prefix.is_some();
        let is_its_own =
            method == Method::Dpo && !narrowed && with.optimizer() == Optimizer::Rmsprop && !with.equal_step();
        // A soft prefix changes the model before it has learned anything.
        let is_held = method.trains() && with.n_validation != Some(0) && with.soft_prefix.is_none();
        Self {
            lr: with.lr.or(is_its_own.then_some(rate)),
            warmup_steps: with.warmup_steps.or(is_its_own.then_some(warmup_steps)),
            eval_every: with.eval_every.or(is_held.then_some(eval_every)),
            budget_kl: with.budget_kl.or(is_held.then_some(budget)),
            ..with
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, Validate};

    fn problems(options: &RepairOptions) -> Vec<String> {
        options.problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_a_method_the_preset_is_best() {
        let best = RepairOptions::default().with_preset();
        let of = |o: &RepairOptions| (o.preset, o.method(), o.policy(), o.lr(), o.budget_kl);
        let want = (Some(Preset::Best), Method::Dpo, Policy::All, 1e-5, Some(0.05));
        assert_eq!((of(&best), problems(&best)), (want, Vec::new()));
        assert_eq!((best.warmup_steps(), best.eval_every()), (10, 40));
        let named = RepairOptions { method: Some(Method::Irepair), ..Default::default() }.with_preset();
        assert_eq!(of(&named), (Some(Preset::Paper), Method::Irepair, Policy::Dynamic, 5e-5, None));
        let paper = RepairOptions { preset: Some(Preset::Paper), ..Default::default() }.with_preset();
        assert_eq!(of(&paper), of(&named));
        let prefix = RepairOptions { soft_prefix: Some(4), ..Default::default() }.with_preset();
        assert_eq!(
            (of(&prefix), problems(&prefix)),
            ((Some(Preset::Best), Method::Dpo, Policy::All, 1e-6, None), Vec::new())
        );
        let kept = RepairOptions { policy_every: Some(5), ..Default::default() }.with_preset();
        assert_eq!(kept.preset, Some(Preset::Paper));
        let sliced = RepairOptions { exclude: Some("0".parse().unwrap()), ..Default::default() }.with_preset();
        assert_eq!(of(&sliced), (Some(Preset::Paper), Method::Irepair, Policy::Dynamic, 5e-5, None));
    }

    #[test]
    fn a_preset_gives_way_to_what_is_given() {
        let given = RepairOptions { lr: Some(3e-6), budget_kl: Some(0.1), ..Default::default() }.with_preset();
        assert_eq!((given.method(), given.lr(), given.budget_kl), (Method::Dpo, 3e-6, Some(0.1)));
        let best = RepairOptions { preset: Some(Preset::Best), ..Default::default() };
        let other = RepairOptions { method: Some(Method::Irepair), ..best.clone() }.with_preset();
        assert_eq!((other.lr, other.budget_kl), (None, Some(0.05)), "the rate is DPO's own");
        let unheld = RepairOptions { n_validation: Some(0), ..best.clone() }.with_preset();
        assert_eq!((unheld.budget_kl, problems(&unheld)), (None, Vec::new()));
        let clash = RepairOptions { n_validation: Some(0), budget_kl: Some(0.1), ..best }.with_preset();
        assert_eq!(
            problems(&clash),
            ["`budget_kl`: clashes with `n_validation`: KL is measured where held-out pairs are"]
        );
    }
}
