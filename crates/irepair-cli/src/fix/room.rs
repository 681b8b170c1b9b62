//! Whether a fix fits into memory, before anything is done.

use irepair_config::{FixPlan, Memory, Options, Texts};
use irepair_model::Architecture;

use super::plan::{presets, shared};
use super::prepared::Prompts;
use crate::memory::{fit, free};
use crate::model_dir::ModelDir;

/// Refuses a fix whose training, with the model as it was in memory too, needs more than there is.
///
/// # Errors
/// `Memory` with what is needed; the tokenizer's.
pub(crate) fn refuse_too_large(plan: &FixPlan, dir: &ModelDir, prompts: &Prompts) -> anyhow::Result<()> {
    let Some(free) = free(&plan.device, plan.memory_budget) else { return Ok(()) };
    let tokens = dir.tokenizer.of_kind(prompts.kind).encode_texts(&prompts.items)?;
    let longest = tokens.iter().map(Vec::len).max().unwrap_or(0);
    // Pairs of the user's own are read later.
    let longest = if plan.pairs.is_some() { plan.prompt_tokens } else { longest.clamp(1, plan.prompt_tokens) };
    let instead = "shorter texts (--prompt-tokens, --max-new-tokens), --dtype bf16 or a larger --memory-budget";
    Ok(fit(needed(plan, &dir.config, longest), Some(free), instead)?)
}

/// Bytes of the preset that needs most, on pairs with prompts of so many tokens, and of the model as it was.
fn needed(plan: &FixPlan, config: &Architecture, longest: usize) -> u64 {
    let of_preset = |options| {
        let options =
            irepair_config::RepairOptions { max_prompt: Some(longest), ..Options::over(options, shared(plan)) };
        // No pair is held out.
        let texts = Texts { held_out: 0, held_out_utility: 0, ..Texts::of(&options, 0) };
        Memory::of(config, &options, &texts).total()
    };
    let training = presets(config.n_block).into_iter().map(|preset| of_preset(preset.options)).max().unwrap_or(0);
    training + config.n_weights() * plan.dtype.n_bytes()
}

#[cfg(test)]
mod tests {
    use irepair_config::Shape;

    use super::*;
    use crate::fix::plan::some_plan;

    #[test]
    fn all_weights_are_trained_beside_the_model_as_it_was() {
        let config = Shape::new("gpt2", [12, 768, 12], 1024, 50_257).architecture().unwrap();
        let (plan, weights) = (some_plan(), 4 * config.n_weights());
        let least = needed(&plan, &config, 8);
        // The model twice, its first values for DPO, gradients, two moments.
        assert!(least > 6 * weights && least < 10 * weights, "{least} of {weights}");
        assert!(needed(&plan, &config, 32) > least);
    }
}
