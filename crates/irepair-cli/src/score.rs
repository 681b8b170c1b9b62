//! `irepair score`: one line per text, `{"index", "n_tokens", "nll_sum"}`.

use irepair_config::{Long, ScorePlan};
use irepair_data::{place_of, read_token_texts};
use irepair_eval::{text_nlls, windowed_nlls};
use irepair_model::BlockModel;
use serde::Serialize;

use crate::error::CliError;
use crate::model_dir::{open, use_threads};
use crate::output::print_json_line;

#[derive(Serialize)]
struct Scored {
    index: usize,
    n_tokens: usize,
    nll_sum: f64,
    /// Windows that a text longer than the context was read in.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_windows: Option<usize>,
    /// Tokens at the end of such a text that were cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_cut: Option<usize>,
}

/// Runs the command.
pub(crate) fn command(plan: &ScorePlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    let loaded = open(&plan.model, &plan.device, plan.dtype)?;
    let (tokenizer, n_positions) = (&loaded.tokenizer, loaded.model.n_positions());
    tracing::info!("{}", tokenizer.begin_rule());
    let mut texts: Vec<Vec<u32>> =
        read_token_texts(&plan.input, tokenizer)?.into_iter().map(|ids| tokenizer.begin_text(ids)).collect();
    let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    let n_long = lengths.iter().filter(|&&n| n > n_positions).count();
    let nlls = match plan.long {
        Long::Refuse => {
            if let Some(index) = lengths.iter().position(|&n| n > n_positions) {
                let help =
                    "give --long window to score such texts in windows, or --long cut for their first tokens alone";
                let place = place_of(&plan.input, index);
                return Err(CliError::TooLong { place, n_positions, got: lengths[index], help }.into());
            }
            text_nlls(&loaded.model, &texts, plan.batch_size)?
        }
        Long::Window => windowed_nlls(&loaded.model, &texts, tokenizer.begin_id(), plan.batch_size)?,
        Long::Cut => {
            texts.iter_mut().for_each(|text| text.truncate(n_positions));
            text_nlls(&loaded.model, &texts, plan.batch_size)?
        }
    };
    if n_long > 0 {
        let how = if plan.long == Long::Window { "scored in windows" } else { "cut" };
        tracing::info!(
            "{n_long} of {} texts are longer than the model's {n_positions} positions and {how}",
            texts.len()
        );
    }
    for (index, nll) in nlls.iter().enumerate() {
        if !nll.nll_sum.is_finite() {
            return Err(CliError::NoNumber { path: plan.input.clone(), index }.into());
        }
        let cut = lengths[index].saturating_sub(n_positions);
        print_json_line(&Scored {
            index,
            n_tokens: nll.n_tokens,
            nll_sum: nll.nll_sum,
            n_windows: Some(nll.n_windows).filter(|&n| n > 1),
            n_cut: Some(cut).filter(|&n| n > 0 && plan.long == Long::Cut),
        })?;
    }
    Ok(())
}
