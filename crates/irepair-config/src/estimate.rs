//! Memory that a repair will need, from the shape of the model and the settings alone; [`Work`](crate::Work) counts its
//! work.
//!
//! Both are upper bounds: every text at its longest, every step the settings allow, a slice that reaches down to block
//! 0.
//!
//! ```
//! use irepair_config::{Memory, RepairOptions, Shape, Texts, Work};
//!
//! let xl = Shape::new("gpt2", [48, 1600, 25], 1024, 50_257).architecture()?;
//! let options = RepairOptions::default();
//! let texts = Texts::of(&options, 101);
//! let memory = Memory::of(&xl, &options, &texts);
//! assert_eq!(memory.weights, 4 * xl.n_weights());
//! assert!(memory.total() < 40_000_000_000);
//! assert!(Work::new(&xl, &options, &texts).per_step() > 1e12);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use irepair_arch::Architecture;
use irepair_core::spec::{Against, Evidence, Measures, Reach};

use crate::passes::{Held, Passes};
use crate::reached::Reached;
use crate::{Dtype, Method, Optimizer, RepairOptions, Texts};

/// The program itself, measured: libtorch's pages, the tokenizer, what kernels keep once they are prepared.
const PROCESS: u64 = 192 << 20;

/// Peak bytes on the device during a repair, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The model.
    pub weights: u64,
    /// What KL and preference losses compare with, in the model's type (METHOD §1 [O]): the first values of everything
    /// the run can come to change; the rest is shared with the model.
    pub reference: u64,
    /// Gradients: of the slice, with its weights before an update and their change where every step is as long; of all
    /// blocks where the sensitivity needs them stored.
    pub gradients: u64,
    /// Optimizer state in f32, of every block the policy can come to.
    pub optimizer: u64,
    /// The Fisher matrix in f32, where something reads it.
    pub fisher: u64,
    /// The best weights so far, of the same blocks.
    pub best: u64,
    /// What the forward pass keeps for the backward pass, and the logits.
    pub activations: u64,
    /// The program.
    pub process: u64,
}

impl Memory {
    /// Memory of one repair; of `vanilla`, that of measuring a model and its reference.
    pub fn of(model: &Architecture, options: &RepairOptions, texts: &Texts) -> Self {
        let (width, passes, policy) = (options.dtype().n_bytes(), Passes::of(options), options.policy().row());
        let texts = &texts.prefixed(options);
        let weights = model.n_weights().saturating_mul(width);
        let held = Held { of: model, texts, dtype: options.dtype() };
        if !options.method().trains() {
            return Self {
                weights,
                reference: weights,
                activations: held.comparing(),
                process: PROCESS,
                ..Self::default()
            };
        }
        // A soft prefix is all that changes.
        let prefix = options.soft_prefix.map(|n| (n as u64).saturating_mul(model.n_embd as u64));
        let reached = Reached::of(model, options);
        let k = if prefix.is_some() { 0 } else { reached.n_blocks };
        let block = model.block_weights();
        let blocks = |n: usize| block.saturating_mul(n as u64);
        // Of heads and neurons the matrices that hold them: gradients, state and copies are of whole tensors.
        let parts = |n: usize| reached.n_weights.saturating_mul(n as u64);
        // Blocks that a run of known length can come to; never more than there are.
        let n_steps = options.steps.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let (slice, touched) = match policy.reach {
            _ if prefix.is_some() => prefix.map_or((0, 0), |n| (n, n)),
            Reach::Everything => (model.n_weights(), model.n_weights()),
            Reach::OneSlice | Reach::EveryBlock => (parts(k), parts(k)),
            Reach::AnyBlock => (parts(k), parts(k.saturating_mul(n_steps).min(reached.n_eligible_blocks))),
        };
        // A second gradient exists while batches are added up.
        let twice = |n: u64| if texts.accumulation > 1 { 2 * n } else { n };
        let by_ghosts = takes_ghost_norms(options);
        let metric = options.sensitivity().row();
        let stored = match (policy.measures, metric.evidence) {
            (Measures::Never, _)
            | (_, Evidence::Activations | Evidence::LayerInputs | Evidence::Gates | Evidence::Nothing) => 0,
            (Measures::Once, Evidence::GradientNorms | Evidence::StoredGradients | Evidence::GradientsAndFisher) => {
                2 * blocks(model.n_block)
            }
            (Measures::EveryStep | Measures::EveryNSteps, Evidence::GradientNorms) if by_ghosts => 0,
            (Measures::EveryStep | Measures::EveryNSteps, _) if options.n_measured() == 1 => blocks(model.n_block),
            (Measures::EveryStep | Measures::EveryNSteps, _) => 2 * blocks(model.n_block),
        };
        // Weights in the top share of two texts: a float32 score and two masks of a byte each, and 32 bytes for each
        // weight of the tensor at work: its bits and digits, whether they count, and the digits as 64 bits.
        let all = blocks(model.n_block);
        let compared = all.saturating_mul(Dtype::F32.n_bytes() + 2).saturating_add(block.saturating_mul(32));
        let compared = match policy.measures {
            _ if !options.sensitivity().compares_top_shares() => 0,
            Measures::Never => 0,
            // The mean gradient of the other text is there too.
            Measures::Once => compared.saturating_add(all.saturating_mul(width)),
            Measures::EveryStep | Measures::EveryNSteps => compared,
        };
        let moments = match options.optimizer() {
            Optimizer::Rmsprop | Optimizer::Natural => 1,
            Optimizer::Adamw => 2,
        };
        let localising = match (policy.measures, metric.evidence) {
            (Measures::Never, _) | (_, Evidence::Nothing) => 0,
            // A contrast is taken with utility texts where the method reads any.
            _ if by_ghosts && metric.against == Against::Neutral => {
                held.measuring(texts.pairs.max(passes.utility * texts.utility))
            }
            _ if by_ghosts => held.measuring(texts.pairs),
            // By the plain route: a pass that could change every block.
            _ => {
                let passes = Passes { pairs: 1, ..Passes::default() };
                held.training(passes, model.n_block, false).saturating_add(held.stored_logits())
            }
        };
        // Sliced methods go backward term by term, the others through the whole loss at once.
        let sliced = options.policy().is_sliced();
        let terms = if sliced { Passes::by_part(options) } else { vec![passes] };
        let ablates = options.method().ablates();
        let head_learns = !sliced && prefix.is_none();
        let training = match ablates {
            true => held.watching(passes),
            false => terms.iter().map(|term| held.training(*term, k, head_learns)).max().unwrap_or(0),
        };
        // The gradient of one term stands while that of the next is taken.
        let gradients = match terms.len() {
            _ if ablates => 0,
            0 | 1 => twice(slice),
            _ => 2 * slice,
        };
        // The weights before, their change, and a temporary of its norm.
        let rescaled = if options.equal_step() { slice * (width + 2 * Dtype::F32.n_bytes()) } else { 0 };
        // Once, before anything else is there: a gradient of every parameter, from one text.
        let (fisher, making) = if options.reads_fisher() { (model.n_weights(), held.fisher()) } else { (0, 0) };
        Self {
            weights,
            fisher: fisher.saturating_mul(Dtype::F32.n_bytes()),
            reference: if passes.need_reference() || options.budget_kl.is_some() { touched * width } else { 0 },
            gradients: (gradients.max(fisher) * width + rescaled).max(stored * width + compared),
            // Adapters and their moments are small; the projections as they were are not.
            optimizer: match options.lora_rank {
                // An ablation has the weights as they were, and no state.
                _ if ablates => touched * width,
                Some(rank) => touched * width + (1 + moments) * model.n_adapter_weights(rank) * Dtype::F32.n_bytes(),
                None => moments * touched * Dtype::F32.n_bytes(),
            },
            best: touched * width,
            activations: localising.max(training).max(held.validation(passes)).max(making),
            process: PROCESS,
        }
    }

    /// Memory of a pre-training on batches of `batch_size` windows of so many tokens, looking at `n_valid` held-out
    /// ones at once: DAPT by AdamW that keeps no best weights.
    pub fn of_pretraining(model: &Architecture, batch_size: usize, window: usize, n_valid: usize) -> Self {
        let options = RepairOptions {
            method: Some(Method::Dapt),
            optimizer: Some(Optimizer::Adamw),
            dtype: Some(Dtype::F32),
            ..RepairOptions::default()
        };
        let texts = Texts {
            pairs: (batch_size * window) as u64,
            utility: 0,
            held_out: (n_valid * window) as u64,
            held_out_utility: 0,
            longest: window as u64,
            accumulation: 1,
        };
        Self { best: 0, ..Self::of(model, &options, &texts) }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        let parts =
            [self.weights, self.reference, self.gradients, self.optimizer, self.fisher, self.best, self.activations];
        parts.into_iter().fold(self.process, u64::saturating_add)
    }
}

/// Whether sensitivities come from layer inputs and output gradients, without a stored gradient (METHOD §3).
fn takes_ghost_norms(options: &RepairOptions) -> bool {
    options.sensitivity().row().evidence == Evidence::GradientNorms
        && options.n_measured() == 1
        && options.policy().row().measures != Measures::Once
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    use crate::{Localising, Metric, Policy, Work};
    use irepair_arch::{Published, Shape};
    use irepair_core::SliceSize;

    static MODEL: LazyLock<Architecture> = LazyLock::new(|| model("gpt2", [4, 8, 2], 64, 100));

    fn model(family: &str, sizes: [usize; 3], n_positions: usize, vocab_size: usize) -> Architecture {
        Shape::new(family, sizes, n_positions, vocab_size).architecture().unwrap()
    }

    fn row(method: Method) -> RepairOptions {
        RepairOptions { method: Some(method), ..Default::default() }
    }

    fn memory(options: &RepairOptions) -> Memory {
        Memory::of(&MODEL, options, &Texts::of(options, 101))
    }

    #[test]
    fn unsliced_methods_hold_everything_and_slices_less() {
        let all = 4 * MODEL.n_weights();
        let dpo = memory(&row(Method::Dpo));
        assert_eq!((dpo.weights, dpo.reference, dpo.optimizer, dpo.best), (all, all, all, all));
        assert_eq!(dpo.gradients, all);
        let block = 4 * MODEL.block_weights();
        let irepair = memory(&row(Method::Irepair));
        assert_eq!((irepair.gradients, irepair.optimizer), (2 * block, 4 * block), "any block may be chosen one day");
        assert_eq!((irepair.reference, irepair.best), (4 * block, 4 * block), "what never changes is not copied");
        let short = memory(&RepairOptions { steps: Some(2), ..row(Method::Irepair) });
        assert_eq!((short.optimizer, short.reference), (2 * block, 2 * block), "two steps of one block");
        let stored = memory(&RepairOptions { sensitivity: Some(Metric::Snip), ..row(Method::Irepair) });
        assert_eq!(stored.gradients, 4 * block, "snip multiplies weights with their gradients");
        let fixed = memory(&RepairOptions { policy: Some(Policy::Fixed), ..row(Method::Irepair) });
        assert_eq!((fixed.gradients, fixed.optimizer), (8 * block, block), "the mean gradient and a new one");
        let given = |policy, only: &str| {
            let only = Some(only.parse().unwrap());
            memory(&RepairOptions { policy: Some(policy), only, ..row(Method::Irepair) }).optimizer
        };
        assert_eq!([given(Policy::Dynamic, "0-1"), given(Policy::Blocks, "1-3")], [2 * block, 3 * block]);
        let random = RepairOptions {
            policy: Some(Policy::Random),
            top_k: Some(SliceSize::Blocks(2)),
            ..row(Method::IrepairNoKl)
        };
        let random = memory(&random);
        assert_eq!((random.reference, random.gradients), (0, 2 * block), "two blocks, one term");
        let parts = RepairOptions { accumulation: Some(2), ..row(Method::Irepair) };
        assert_eq!(memory(&parts).gradients, 8 * block, "of all blocks where norms need them added up, and twice");
        let first = RepairOptions { localise: Some(Localising::First), ..parts };
        assert_eq!(memory(&first).gradients, 2 * block, "of one micro-batch norms need no gradient");
    }

    #[test]
    fn a_fisher_matrix_is_held_in_f32_and_made_with_every_gradient() {
        let all = 4 * MODEL.n_weights();
        let natural = RepairOptions { optimizer: Some(Optimizer::Natural), ..row(Method::Irepair) };
        let plain = memory(&row(Method::Irepair));
        let (natural, narrow) =
            (memory(&natural), memory(&RepairOptions { dtype: Some(Dtype::Bf16), ..natural.clone() }));
        assert_eq!((natural.fisher, narrow.fisher, plain.fisher), (all, all, 0));
        assert_eq!((natural.gradients, 2 * narrow.gradients), (all, all));
        assert!(natural.optimizer == plain.optimizer && natural.activations >= plain.activations);
        let efficiency = RepairOptions { sensitivity: Some(Metric::Efficiency), ..row(Method::SlicedDpo) };
        assert_eq!(memory(&efficiency).fisher, all);
        assert_eq!(memory(&RepairOptions { policy: Some(Policy::Random), ..efficiency }).fisher, 0, "not measured");
    }

    #[test]
    fn top_shares_take_scores_and_masks() {
        let of = |metric| memory(&RepairOptions { sensitivity: Some(metric), ..row(Method::IrepairNoKl) }).gradients;
        let (all, one) = (4 * MODEL.block_weights(), MODEL.block_weights());
        assert_eq!(of(Metric::Snip), 4 * all);
        assert_eq!(of(Metric::SnipDiff), 4 * all + 6 * all + 32 * one);
        assert_eq!(of(Metric::WandaDiff), 6 * all + 32 * one, "no gradient");
    }

    #[test]
    fn an_ablation_keeps_what_it_started_from_and_no_gradient() {
        let (all, ablation) = (4 * MODEL.n_weights(), memory(&row(Method::DifferenceOfMeans)));
        assert_eq!((ablation.gradients, ablation.optimizer, ablation.best), (0, all, all));
        assert!(ablation.activations < memory(&row(Method::Dpo)).activations);
    }

    #[test]
    fn adapters_keep_the_projections_as_they_were() {
        let lora = RepairOptions { lora_rank: Some(2), ..row(Method::Dpo) };
        // Width 8: query, key and value, output, and two of the MLP in each of four blocks.
        let factors = 4 * 2 * (8 + 24 + 8 + 8 + 8 + 32 + 32 + 8);
        assert_eq!(MODEL.n_adapter_weights(2), factors);
        assert_eq!(memory(&lora).optimizer, 4 * MODEL.n_weights() + 2 * 4 * factors);
        assert_eq!(memory(&lora).gradients, memory(&row(Method::Dpo)).gradients);
    }

    #[test]
    fn a_soft_prefix_holds_longer_texts_and_nothing_of_the_blocks() {
        let dpo = row(Method::Dpo);
        let prefix = RepairOptions { soft_prefix: Some(5), ..dpo.clone() };
        let Memory { weights, reference, gradients, optimizer, best, activations, .. } = memory(&prefix);
        assert_eq!((weights, reference, gradients, optimizer, best), (4 * MODEL.n_weights(), 160, 160, 160, 160));
        let texts = Texts::of(&dpo, 101);
        let held =
            |texts: &Texts, k| Held { of: &MODEL, texts, dtype: Dtype::F32 }.training(Passes::of(&dpo), k, false);
        let longer = Texts { pairs: texts.pairs + 20, longest: texts.longest + 5, ..texts };
        assert_eq!(activations, held(&longer, 0));
        assert!(held(&texts, 0) < activations);
        let work = |options: &RepairOptions| Work::new(&MODEL, options, &texts).per_step();
        // Of 4 + 4 forward passes two are of weights; 5 vectors are in front of texts of 128 tokens.
        let forward = texts.pairs as f64 * Work::forward_token(&MODEL);
        let longer = 1.0 + 5.0 / 128.0;
        assert!((work(&prefix) / ((4.0 * longer + 2.0) * forward) - 1.0).abs() < 1e-12);
        assert!((work(&dpo) / (8.0 * forward) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn half_precision_halves_all_but_the_optimizer() {
        let bf16 = memory(&RepairOptions { dtype: Some(Dtype::Bf16), ..row(Method::Dapt) });
        let f32 = memory(&row(Method::Dapt));
        assert_eq!((2 * bf16.weights, 2 * bf16.gradients, 2 * bf16.best), (f32.weights, f32.gradients, f32.best));
        assert_eq!(bf16.optimizer, f32.optimizer);
    }

    /// The table of docs/PERFORMANCE.md: an estimate may be 15 % over the measured peak, or 7 % under it.
    #[test]
    fn estimates_are_near_the_measured_peaks() {
        const FULL: Texts =
            Texts { pairs: 512, utility: 408, held_out: 1024, held_out_utility: 816, longest: 128, accumulation: 1 };
        // The widest of one batch and of two.
        const SHORT: Texts = Texts { pairs: 116, held_out: 304, longest: 102, ..FULL };
        const SHORT_2: Texts = Texts { pairs: 156, ..SHORT };
        let small = model("gpt2", [12, 768, 12], 1024, 50_257);
        let large = model("gpt2", [36, 1280, 20], 1024, 50_257);
        let xl = model("gpt2", [48, 1600, 25], 1024, 50_257);
        let neo = model("gpt-neo", [24, 2048, 16], 2048, 50_257);
        let smol = Published::ALL[5].shape().architecture().unwrap();
        let (f32, bf16) = (Dtype::F32, Dtype::Bf16);
        for (name, shape, dtype, method, texts, steps, measured_mib) in [
            ("124M, full", &small, f32, Method::IrepairNoKl, FULL, 2, 1_335),
            ("124M, short", &small, f32, Method::IrepairNoKl, SHORT_2, 2, 881),
            ("124M, full", &small, f32, Method::Irepair, FULL, 2, 1_361),
            ("124M, short", &small, f32, Method::Irepair, SHORT_2, 2, 1_194),
            ("124M, full", &small, f32, Method::Dapt, FULL, 2, 2_690),
            ("124M, short", &small, f32, Method::Dapt, SHORT_2, 2, 2_480),
            ("124M, full", &small, f32, Method::Dpo, FULL, 2, 3_501),
            ("124M, short", &small, f32, Method::Dpo, SHORT_2, 2, 3_099),
            ("Large, full", &large, f32, Method::Irepair, FULL, 1, 6_160),
            ("Large, short", &large, f32, Method::Irepair, SHORT, 1, 4_550),
            ("Large, full", &large, f32, Method::Dapt, FULL, 2, 13_540),
            ("Large, short", &large, f32, Method::Dapt, SHORT_2, 2, 12_935),
            ("Neo, full", &neo, f32, Method::Irepair, FULL, 1, 8_350),
            ("XL, full", &xl, bf16, Method::Irepair, FULL, 1, 5_879),
            ("XL, short", &xl, bf16, Method::Irepair, SHORT, 1, 4_026),
            ("SmolLM2 135M, full", &smol, f32, Method::IrepairNoKl, FULL, 2, 1_958),
            ("SmolLM2 135M, full", &smol, f32, Method::Irepair, FULL, 2, 2_019),
            ("SmolLM2 135M, full", &smol, f32, Method::Dapt, FULL, 2, 3_197),
            ("SmolLM2 135M, full", &smol, f32, Method::Dpo, FULL, 2, 4_608),
        ] {
            let options = RepairOptions { dtype: Some(dtype), steps: Some(steps), ..row(method) };
            let estimated = Memory::of(shape, &options, &texts).total() >> 20;
            let ratio = estimated as f64 / f64::from(measured_mib);
            assert!(
                (0.93..=1.15).contains(&ratio),
                "{name}, {method}: {estimated} MiB, not {measured_mib}: {ratio:.2}"
            );
        }
    }
}
