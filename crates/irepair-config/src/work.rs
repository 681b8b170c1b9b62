//! Work that a repair will take, from the shape of the model and the settings alone; [`Memory`](crate::Memory) is what
//! memory it needs.

use irepair_arch::Architecture;
use irepair_core::spec::{Against, Measures};

use crate::passes::Passes;
use crate::reached::Reached;
use crate::{RepairOptions, Texts};

/// Matrix-multiplication work, in FLOPs, counted as METHOD §12 says.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    model: &'a Architecture,
    options: &'a RepairOptions,
    texts: &'a Texts,
}

impl<'a> Work<'a> {
    /// The work of a repair.
    pub fn new(model: &'a Architecture, options: &'a RepairOptions, texts: &'a Texts) -> Self {
        Self { model, options, texts }
    }

    /// One forward pass of one token: `2 P_b` per block and `2 d V` for the head.
    pub fn forward_token(model: &Architecture) -> f64 {
        model.block_flops() + model.head_flops()
    }

    /// One step: forward and backward of the trained texts, forward of the reference's, and the sensitivity pass.
    pub fn per_step(&self) -> f64 {
        if !self.options.method().trains() {
            return 0.0;
        }
        let (passes, texts, prefixed) = (Passes::of(self.options), self.texts, self.texts.prefixed(self.options));
        let trained = passes.pairs * prefixed.pairs + passes.utility * prefixed.utility;
        let compared = passes.reference_pairs * texts.pairs + passes.utility * texts.utility;
        let policy = self.options.policy();
        // Unsliced methods also differentiate the weights of the head, which is the token embedding.
        let prefix = self.options.soft_prefix.is_some();
        let n_heads = if policy.is_sliced() || prefix { 1.0 } else { 2.0 };
        let reached = Reached::of(self.model, self.options);
        let n_updated = if prefix { 0.0 } else { reached.n_blocks as f64 * reached.share };
        let updated = self.model.block_flops() * n_updated / self.model.n_block as f64;
        let backward = self.model.block_flops() + updated + n_heads * self.model.head_flops();
        let backward = if self.options.method().ablates() { 0.0 } else { backward };
        let sensitivity = match policy.row().measures {
            Measures::EveryNSteps => self.sensitivity() / self.options.policy_every() as f64,
            Measures::EveryStep => self.sensitivity(),
            Measures::Never | Measures::Once => 0.0,
        };
        let forward = Self::forward_token(self.model);
        texts.accumulation as f64 * (trained as f64 * (forward + backward) + compared as f64 * forward)
            + self.options.n_measured() as f64 * sensitivity
    }

    /// Sensitivities of one batch: its texts forward, and as many as the metric asks for backward through all blocks.
    pub fn sensitivity(&self) -> f64 {
        let metric = self.options.sensitivity();
        let [forward, backward] = metric.row().at_steps.unwrap_or_default().map(f64::from);
        let to = if metric.has_weight_gradients() { 2.0 } else { 1.0 };
        let backward = backward * (to * self.model.block_flops() + self.model.head_flops());
        // Half of what such a metric reads may be utility text.
        let neutral = if metric.row().against == Against::Neutral { self.texts.utility } else { 0 };
        self.texts.pairs.max(neutral) as f64 * (forward * Self::forward_token(self.model) + backward)
    }

    /// One validation (METHOD §8): the loss on the held-out pairs, and on as many held-out utility texts.
    pub fn validation(&self) -> f64 {
        let (passes, texts) = (Passes::of(self.options), self.texts.prefixed(self.options));
        let both = (passes.pairs + passes.reference_pairs) * texts.pairs + 2 * passes.utility * texts.utility;
        let n_batches = self.options.n_validation() as f64 / self.options.batch_size() as f64;
        n_batches * both as f64 * Self::forward_token(self.model)
    }

    /// Steps of a run over `n_pairs` pairs, those of validation included, if patience never runs out.
    pub fn n_steps(options: &RepairOptions, n_pairs: u64) -> u64 {
        if !options.method().trains() {
            return 0;
        }
        let n_trained = n_pairs.saturating_sub(options.n_validation() as u64);
        let per_step = (options.batch_size() * options.accumulation()) as u64;
        options.steps.unwrap_or_else(|| options.epochs() * n_trained.div_ceil(per_step.max(1)))
    }

    /// The Fisher matrix, where something reads it: a forward and a backward pass through everything.
    fn fisher(&self) -> f64 {
        let n_tokens = self.options.fisher_texts() as f64 * self.texts.longest as f64;
        if self.options.reads_fisher() { 3.0 * n_tokens * Self::forward_token(self.model) } else { 0.0 }
    }

    /// A whole run of `n_steps`: the steps, their validations, the one estimate of fixed selection, the Fisher matrix.
    pub fn of_run(&self, n_steps: u64) -> f64 {
        let per_step = (self.options.batch_size() * self.options.accumulation()) as u64;
        let n_validations = n_steps / self.options.eval_every().div_ceil(per_step.max(1)).max(1);
        let fixed = match self.options.policy().row().measures {
            Measures::Once if n_steps > 0 => {
                (self.options.fixed_batches() * self.options.accumulation() as u64) as f64 * self.sensitivity()
            }
            Measures::Never | Measures::Once | Measures::EveryNSteps | Measures::EveryStep => 0.0,
        };
        n_steps as f64 * self.per_step() + n_validations as f64 * self.validation() + fixed + self.fisher()
    }
}

#[cfg(test)]
mod tests {
    use irepair_arch::Shape;

    use super::*;
    use crate::{Method, Metric, Policy};

    fn row(method: Method) -> RepairOptions {
        RepairOptions { method: Some(method), ..Default::default() }
    }

    /// The authors' own count (METHOD §12) in units of one forward pass of a batch, the head left out by making it
    /// small: DAPT 3, DAPT+KL 5 where it runs two texts, each with its backward pass here, DPO 4 + 4.
    #[test]
    fn steps_cost_what_method_12_counts() {
        let shape = Shape::new("gpt2", [4, 4096, 2], 64, 1).architecture().unwrap();
        let in_forwards = |options: &RepairOptions| {
            let texts =
                Texts { pairs: 10, utility: 10, held_out: 20, held_out_utility: 20, longest: 10, accumulation: 1 };
            let one = 10.0 * Work::forward_token(&shape);
            Work::new(&shape, options, &texts).per_step() / one
        };
        let close = |got: f64, want: f64| assert!((got - want).abs() < 0.01, "{got}, not {want}");
        close(in_forwards(&row(Method::Dapt)), 3.0);
        close(in_forwards(&row(Method::DaptKl)), 7.0);
        close(in_forwards(&row(Method::Dpo)), 8.0);
        // Sensitivity 3, then forward and backward to activations, and the weights of one block in four.
        close(in_forwards(&row(Method::IrepairNoKl)), 3.0 + 2.25);
        close(in_forwards(&row(Method::Irepair)), 3.0 + 2.0 * 2.25 + 1.0);
        let random = RepairOptions { policy: Some(Policy::Random), ..row(Method::IrepairNoKl) };
        close(in_forwards(&random), 2.25);
        let by = |metric| RepairOptions { sensitivity: Some(metric), ..row(Method::IrepairNoKl) };
        close(in_forwards(&by(Metric::ActDist)), 2.0 + 2.25);
        close(in_forwards(&by(Metric::Atp)), 3.0 + 2.25);
        close(in_forwards(&by(Metric::SnipDiff)), 6.0 + 2.25);
        close(in_forwards(&by(Metric::Random)), 2.25);
        let two = RepairOptions { policy: Some(Policy::EveryN), policy_every: Some(2), ..row(Method::IrepairNoKl) };
        close(in_forwards(&two), 1.5 + 2.25);
        close(in_forwards(&row(Method::DifferenceOfMeans)), 4.0);
        assert_eq!(in_forwards(&row(Method::Vanilla)), 0.0);
    }

    #[test]
    fn a_run_has_its_epochs_and_validations() {
        let options = row(Method::Dapt);
        assert_eq!(Work::n_steps(&options, 24_576), 5 * 6128);
        assert_eq!(Work::n_steps(&RepairOptions { steps: Some(7), ..options.clone() }, 24_576), 7);
        assert_eq!(Work::n_steps(&row(Method::Vanilla), 24_576), 0);
        let model = Shape::new("gpt2", [4, 8, 2], 64, 100).architecture().unwrap();
        let texts = Texts::of(&options, 101);
        let work = Work::new(&model, &options, &texts);
        let (step, validation) = (work.per_step(), work.validation());
        assert!((work.of_run(50) - (50.0 * step + 2.0 * validation)).abs() < 1e-6 * step);
        // 64 pairs are 16 batches of forward passes alone.
        assert!((validation / (16.0 * 512.0 * Work::forward_token(&model)) - 1.0).abs() < 1e-9);
        let fixed = RepairOptions { policy: Some(Policy::Fixed), ..row(Method::IrepairNoKl) };
        let work = Work::new(&model, &fixed, &texts);
        assert!(work.of_run(10) > 10.0 * work.per_step() + 499.0 * work.sensitivity());
    }
}
