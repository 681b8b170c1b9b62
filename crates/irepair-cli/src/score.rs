//! `irepair score`: one line per text, `{"index", "n_tokens", "nll_sum"}`.

use irepair_config::ScoreOptions;
use irepair_data::read_token_texts;
use irepair_eval::text_nlls;

use crate::refusal::Refusal;
use crate::repair::print;
use crate::weights::{open, use_threads};

/// Runs the command.
pub(crate) fn command(options: ScoreOptions) -> anyhow::Result<()> {
    use_threads(options.threads);
    let (Some(model), Some(input)) = (&options.model, &options.input) else { unreachable!("validated") };
    let opened = open(model, &options.device(), options.dtype())?;
    let texts = read_token_texts(input, &opened.tokenizer)?;
    for (index, nll) in text_nlls(&opened.model, &texts, options.batch_size())?.iter().enumerate() {
        if !nll.nll_sum.is_finite() {
            return Err(Refusal::NoNumber { path: input.clone(), index }.into());
        }
        let line = serde_json::json!({ "index": index, "n_tokens": nll.n_tokens, "nll_sum": nll.nll_sum });
        print(&format!("{line}\n"))?;
    }
    Ok(())
}
