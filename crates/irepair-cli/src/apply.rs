//! `irepair scorer apply`: a scorer's scores of given texts, `{"index", "score"}`, or why there is none.

use std::path::Path;

use irepair_config::ScorerApplyPlan;
use irepair_data::{read_texts, write_jsonl};
use serde::Serialize;

use crate::error::CliError;
use crate::model_dir::use_threads;
use crate::output::print_json_line;
use crate::scorers::{ClassifierUse, open_scorer};

#[derive(Serialize)]
struct Scored {
    index: usize,
    /// From 0, good, to 1, bad; null where the scorer fails.
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// Runs the command.
pub(crate) fn command(plan: &ScorerApplyPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    plan.out.as_deref().map_or(Ok(()), irepair_patch::refuse_existing)?;
    let run =
        ClassifierUse { toxic_labels: plan.toxic_labels.as_deref(), device: &plan.device, batch_size: plan.batch_size };
    let scorer = open_scorer(&plan.scorer, &run)?;
    tracing::info!("scorer `{}` version {}", scorer.name(), scorer.version());
    let texts = read_texts(&plan.input)?;
    let scores = scorer.score_all(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let scored = |(index, score): (usize, Result<f64, String>)| match score {
        Ok(score) => Scored { index, score: Some(score), failure: None },
        Err(why) => Scored { index, score: None, failure: Some(why) },
    };
    let scored: Vec<Scored> = scores.into_iter().enumerate().map(scored).collect();
    let n_failed = scored.iter().filter(|scored| scored.score.is_none()).count();
    if n_failed > 0 {
        tracing::warn!("{n_failed} of {} texts have no score", scored.len());
    }
    match &plan.out {
        Some(path) => write_jsonl(path, &scored)?,
        None => scored.iter().try_for_each(print_json_line)?,
    }
    let first = scored.iter().find_map(|scored| scored.failure.clone());
    refuse_unscored(&plan.input, scored.len(), n_failed, first)
}

/// Refuses texts of which none has a score; `why` is what the scorer says of the first.
pub(crate) fn refuse_unscored(path: &Path, n: usize, n_failed: usize, why: Option<String>) -> anyhow::Result<()> {
    match why.filter(|_| n_failed == n) {
        Some(why) => Err(CliError::NothingScored { path: path.to_owned(), n, why }.into()),
        None => Ok(()),
    }
}
