//! `irepair eval`: every number with its definition, how many texts it is over and how many failed.

use irepair_config::EvalPlan;

use crate::error::CliError;
use crate::measure::{Measured, measure};
use crate::model_dir::{open, use_threads};
use crate::output::{four_decimals, print, print_json};

/// Runs the command.
pub(crate) fn command(plan: &EvalPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    let open = |dir| open(dir, &plan.device, plan.dtype);
    let loaded = open(&plan.model)?;
    let reference = plan.reference.as_deref().map(open).transpose()?;
    tracing::info!("{}", loaded.tokenizer.begin_rule());
    let measured = measure(&loaded, reference.as_ref().map(|reference| &reference.model), plan)?;
    if measured.metrics.iter().len() == 0 && measured.footprint.is_none() {
        return Err(CliError::NothingToMeasure.into());
    }
    if plan.json { print_json(&measured) } else { print(&table(&measured)) }
}

fn table(measured: &Measured) -> String {
    let mut text = String::new();
    for (key, metric) in measured.metrics.iter() {
        let failed = if metric.n_failed > 0 { format!(", {} failed", metric.n_failed) } else { String::new() };
        let value = four_decimals(metric.value);
        text +=
            &format!("{key:<24} {value:>12} {:<18} n = {}{failed}\n    {}\n", metric.unit, metric.n, metric.definition);
    }
    match &measured.footprint {
        Some(found) if found.n_changed() == 0 => text += "changed: nothing\n",
        Some(found) => {
            let blocks = found.changed_blocks();
            let blocks = if blocks.is_empty() { "none".to_owned() } else { blocks.to_string() };
            text +=
                &format!("changed: blocks {blocks}, {} weights, {} bytes\n", found.n_changed(), found.changed_bytes());
        }
        None => {}
    }
    text
}
