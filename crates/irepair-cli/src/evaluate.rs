//! `irepair eval`: every number with its definition, its interval, how many texts it is over and how many failed; with
//! those of a reference, where one is given.

use std::collections::BTreeMap;

use irepair_config::EvalPlan;
use irepair_core::metric::MetricKey;
use irepair_eval::Metrics;
use irepair_model::{BlockModel, weights_sha256};
use serde::Serialize;

use crate::compare::{self, Change, changes, interval};
use crate::error::CliError;
use crate::measure::{Measured, measure};
use crate::model_dir::{open, use_threads};
use crate::notes::say_text_rule;
use crate::output::{four_decimals, print, print_json};

/// What `--json` prints.
#[derive(Serialize)]
struct Evaluation<'a> {
    /// SHA-256 of the model's weights: numbers of equal weights are numbers of one model.
    weights_sha256: String,
    #[serde(flatten)]
    measured: &'a Measured,
    /// 95 % intervals of the metrics that are means.
    intervals: BTreeMap<&'a MetricKey, [f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<Reference<'a>>,
}

/// The model that the measured one is compared with.
#[derive(Serialize)]
struct Reference<'a> {
    weights_sha256: String,
    metrics: &'a Metrics,
    changes: &'a BTreeMap<MetricKey, Change>,
}

/// Runs the command.
pub(crate) fn command(plan: &EvalPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    let open = |dir| open(dir, &plan.device, plan.dtype);
    let loaded = open(&plan.model)?;
    let reference = plan.reference.as_deref().map(open).transpose()?;
    let chats = match loaded.tokenizer.chat_template() {
        Ok(_) if loaded.tokenizer.begin_id().is_some() => "; chats have the one of their template alone",
        _ => "",
    };
    tracing::info!("{}{chats}", loaded.tokenizer.begin_rule());
    say_text_rule(&loaded.tokenizer);
    let hashes = [Some(&loaded), reference.as_ref()].map(|loaded| loaded.map(|l| weights_sha256(l.model.parameters())));
    let is_same = hashes[0] == hashes[1];
    if is_same {
        tracing::warn!("--model and --reference have the same weights: every difference is 0");
    }
    let measured = measure(&loaded, reference.as_ref().map(|reference| &reference.model), plan)?;
    if measured.metrics.iter().len() == 0 && measured.footprint.is_none() {
        return Err(CliError::NothingToMeasure.into());
    }
    let before = match &reference {
        // What the reference says of itself is known.
        Some(_) if is_same => Some(measured.metrics.clone()),
        Some(reference) => {
            let alone = EvalPlan { reference: None, kl_texts: None, ..plan.clone() };
            Some(measure(reference, None, &alone)?.metrics)
        }
        None => None,
    };
    let changes = before.as_ref().map(|before| changes(before, &measured.metrics)).unwrap_or_default();
    if !plan.json {
        return print(&(table(&measured) + &compare::table(&changes)));
    }
    let [own, other] = hashes;
    print_json(&Evaluation {
        weights_sha256: own.unwrap_or_default(),
        intervals: measured.metrics.iter().filter_map(|(key, metric)| Some((key, interval(metric)?.0))).collect(),
        measured: &measured,
        reference: before.as_ref().zip(other).map(|(metrics, weights_sha256)| Reference {
            weights_sha256,
            metrics,
            changes: &changes,
        }),
    })
}

fn table(measured: &Measured) -> String {
    let mut text = String::new();
    for (key, metric) in measured.metrics.iter() {
        let failed = if metric.n_failed > 0 { format!(", {} failed", metric.n_failed) } else { String::new() };
        let value = four_decimals(metric.value);
        text +=
            &format!("{key:<24} {value:>12} {:<18} n = {}{failed}\n    {}\n", metric.unit, metric.n, metric.definition);
        if let Some(([low, high], how)) = interval(metric) {
            text += &format!("    95 % interval [{low:.4}, {high:.4}], {how}\n");
        }
    }
    match &measured.footprint {
        Some(found) if found.n_changed() == 0 => text += "changed: nothing\n",
        Some(found) => {
            let (blocks, outside) = (found.changed_blocks(), found.changed_non_block.join(" "));
            let tensors = match (blocks.is_empty(), outside.is_empty()) {
                (false, true) => format!("blocks {blocks}"),
                (false, false) => format!("blocks {blocks} and outside of them {outside}"),
                (true, _) => format!("no block, but {outside}"),
            };
            text += &format!("changed: {tensors}, {} weights, {} bytes\n", found.n_changed(), found.changed_bytes());
        }
        None => {}
    }
    text
}
