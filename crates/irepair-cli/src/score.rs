//! `irepair score`: one line per text, `{"index", "n_tokens", "nll_sum"}`.

use irepair_config::ScorePlan;
use irepair_data::read_token_texts;
use irepair_eval::text_nlls;

use crate::error::CliError;
use crate::model_dir::{open, use_threads};
use crate::output::print_json_line;

/// Runs the command.
pub(crate) fn command(plan: &ScorePlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    let loaded = open(&plan.model, &plan.device, plan.dtype)?;
    let tokenizer = &loaded.tokenizer;
    tracing::info!("{}", tokenizer.begin_rule());
    let texts: Vec<_> =
        read_token_texts(&plan.input, tokenizer)?.into_iter().map(|ids| tokenizer.begin_text(ids)).collect();
    for (index, nll) in text_nlls(&loaded.model, &texts, plan.batch_size)?.iter().enumerate() {
        if !nll.nll_sum.is_finite() {
            return Err(CliError::NoNumber { path: plan.input.clone(), index }.into());
        }
        print_json_line(&serde_json::json!({ "index": index, "n_tokens": nll.n_tokens, "nll_sum": nll.nll_sum }))?;
    }
    Ok(())
}
