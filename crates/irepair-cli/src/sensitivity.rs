//! `irepair sensitivity`: how strongly the error moves each block, and how concentrated that is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use irepair_config::{SensitivityPlan, UnitKind};
use irepair_core::fs::write_atomic;
use irepair_core::spec::Against;
use irepair_core::{Sensitivities, Unit};
use irepair_data::{Counts, Limits, RecordFile, Sides, TokenPair, read_token_pairs};
use irepair_model::{BlockModel, Fisher};
use irepair_repair::Batches;
use irepair_report::{SCHEMA, SensitivityResult, write_result};
use irepair_sensitivity::{Measure, UnitSensitivities};
use irepair_stats::error_density;
use irepair_train::{BatchSampler, RepairData, Settings, StepBatch};
use serde_json::{Map, Value, json};

use crate::conclusion::{OnText, conclusion};
use crate::model_dir::{LoadedModel, open, use_threads};
use crate::output::{print, print_json_line};
use crate::prepare::say_forms;
use crate::utility::documents;
use crate::{notes, progress};

/// Share of the blocks called "top" in the paper's error density (METHOD §4).
const TOP_SHARE: f64 = 0.2;

/// Runs the command.
pub(crate) fn command(plan: &SensitivityPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    for text in ["error", "chosen", "neutral"] {
        let path = |out: &Path| match plan.unit {
            Some(_) => ranking(out, text),
            None => out.join(format!("{text}.json")),
        };
        plan.out.as_deref().map_or(Ok(()), |out| irepair_patch::refuse_existing(&path(out)))?;
    }
    let loaded = open(&plan.model, &plan.device, plan.dtype)?;
    let SensitivityPlan { max_prompt, max_continuation, .. } = *plan;
    let prompt_side = plan.prompt_side.unwrap_or_default();
    let limits = Limits { max_prompt, max_continuation, prompt_side, ..Limits::default() };
    let sides = if plan.metric.reads_chosen() || plan.chosen { Sides::Both } else { Sides::Rejected };
    let columns = plan.columns.clone().unwrap_or_default();
    let file = RecordFile { path: &plan.data, columns: &columns };
    let records = file.pairs(Some(&loaded.tokenizer), sides)?;
    let unread = notes::of_unread(&plan.data, records.unread_texts());
    let (pairs, counts) = read_token_pairs(records, &loaded.tokenizer, limits)?;
    let cut = notes::of_cut_prompts(counts.n_truncated_prompts, counts.n_total, max_prompt, prompt_side);
    cut.iter().for_each(|note| tracing::info!("{note}"));
    say_forms(&counts, false);
    unread.iter().for_each(|note| tracing::warn!("{note}"));
    // No text is learned here: whether chosen ones end does not matter.
    let ended = Counts { n_chosen_ended: 1, ..counts };
    notes::of_pairs(&plan.data, &ended, sides, false)?.iter().for_each(|note| tracing::warn!("{note}"));
    let max_tokens = (max_prompt + max_continuation).min(loaded.model.config().n_positions);
    let read = |path| documents(path, &loaded.tokenizer, max_tokens);
    let neutral = plan.neutral.as_deref().map(read).transpose()?.unwrap_or_default();
    // A text takes the rejected side: the same loss, the same layout, another text.
    let swap = |pair: &TokenPair| TokenPair { rejected: pair.chosen.clone(), ..pair.clone() };
    let alone = |rejected: &Vec<u32>| TokenPair { prompt: Vec::new(), chosen: Vec::new(), rejected: rejected.clone() };
    let chosen = if plan.chosen { pairs.iter().map(swap).collect() } else { Vec::new() };
    // What a metric compares with the chosen side of a pair, it cannot measure on a text without one.
    let has_sides = plan.metric.row().against == Against::Chosen;
    if has_sides && !neutral.is_empty() {
        tracing::warn!("{} is measured on pairs alone: neutral text has no chosen side", plan.metric);
    }
    let controls = if has_sides { Vec::new() } else { neutral.iter().map(alone).collect() };
    let texts = [("error", pairs), ("chosen", chosen), ("neutral", controls)];
    if let Some(kind) = plan.unit {
        for (text, pairs) in texts.into_iter().filter(|(text, pairs)| *text == "error" || !pairs.is_empty()) {
            of_units(&loaded, plan, pairs, &neutral, text, kind)?;
        }
        return Ok(());
    }
    let mut results = Vec::new();
    for (text, pairs) in texts.into_iter().filter(|(text, pairs)| *text == "error" || !pairs.is_empty()) {
        let (found, n_batches) = over_batches(&loaded, plan, pairs, &neutral, text)?;
        warn_of_zeros(found.values(), text);
        results.push((text, (found, n_batches)));
    }
    for (text, (sensitivities, n_batches)) in &results {
        let result = SensitivityResult {
            schema: SCHEMA,
            profile: "own".to_owned(),
            model: name(&plan.model),
            metric: plan.metric.to_string().replace('-', "_"),
            reduction: plan.reduction.to_string().replace('-', "_"),
            text: (*text).to_owned(),
            n_batches: *n_batches,
            values: sensitivities.values().to_vec(),
        };
        if let Some(out) = &plan.out {
            write_result(&out.join(format!("{text}.json")), &result)?;
        }
        if plan.json {
            print_json_line(&result)?;
        } else {
            print(&table(&result, sensitivities)?)?;
        }
    }
    let values: Vec<OnText<'_>> = results.iter().map(|(text, (found, _))| (*text, found.values())).collect();
    let Some(((_, error), others)) = values.split_first() else { return Ok(()) };
    match conclusion(error, others) {
        // Lines of JSON are results of one text each.
        Some(text) if plan.json => tracing::info!("{}", text.trim_end()),
        Some(text) => print(&text)?,
        None if others.is_empty() => {
            tracing::info!(
                "--chosen and --neutral FILE measure text without the error too: is the ranking the error's own?"
            );
        }
        None => {}
    }
    Ok(())
}

fn name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// Measures batch after batch and reduces them to one sensitivity per block.
pub(crate) fn over_batches(
    loaded: &LoadedModel,
    plan: &SensitivityPlan,
    pairs: Vec<TokenPair>,
    neutral: &[Vec<u32>],
    what: &'static str,
) -> anyhow::Result<(Sensitivities, u64)> {
    batches(loaded, plan, pairs, neutral, what, |batches, measured| batches.of_blocks(measured))
}

/// Measures batch after batch and hands out one sensitivity per unit: as a table or a line of JSON, and as a ranking.
fn of_units(
    loaded: &LoadedModel,
    plan: &SensitivityPlan,
    pairs: Vec<TokenPair>,
    neutral: &[Vec<u32>],
    text: &'static str,
    kind: UnitKind,
) -> anyhow::Result<()> {
    let of = |batches: &Batches<'_>, measured: &mut dyn FnMut(&StepBatch)| batches.of_units(kind, measured);
    let (found, n_batches) = batches(loaded, plan, pairs, neutral, text, of)?;
    warn_of_zeros(found.values(), text);
    if let Some(out) = &plan.out {
        let line = |(unit, score): (Unit, f64)| json!({ "unit": unit, "score": score }).to_string() + "\n";
        write_atomic(&ranking(out, text), found.iter().map(line).collect::<String>().as_bytes())?;
    }
    if plan.json {
        let values: Map<String, Value> = found.iter().map(|(unit, value)| (unit.to_string(), json!(value))).collect();
        return print_json_line(&json!({
            "model": name(&plan.model), "metric": plan.metric, "reduction": plan.reduction, "text": text,
            "n_batches": n_batches, "unit": kind, "values": values,
        }));
    }
    print(&units_table(&found, &format!("{text} text: {}, {} over {n_batches} batches", plan.metric, plan.reduction)))
}

/// Says that a ranking is none.
fn warn_of_zeros(values: &[f64], text: &str) {
    if values.iter().all(|value| *value == 0.0) {
        tracing::warn!("{text} text: every sensitivity is 0, so the order means nothing");
    }
}

/// Where the ranking by one text is written.
fn ranking(out: &Path, text: &str) -> PathBuf {
    out.join(format!("{text}.ranking.jsonl"))
}

/// Units in a table; the others are in the ranking.
const N_SHOWN: usize = 20;

/// The most sensitive units.
fn units_table(found: &UnitSensitivities, what: &str) -> String {
    let mut all: Vec<(Unit, f64)> = found.iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let largest = all.first().map_or(0.0, |(_, value)| *value).max(f64::MIN_POSITIVE);
    let shown = &all[..all.len().min(N_SHOWN)];
    let lines = shown.iter().map(|(unit, value)| {
        format!("{unit:<14} {value:>11.5e}  {}\n", "█".repeat((value / largest * 40.0).round() as usize))
    });
    let lines: String = lines.collect();
    let kind = found.kind();
    format!("sensitivity on {what}\nunits of kind {kind}: {}, the first {}\n{lines}", all.len(), shown.len())
}

/// `of` the measurement of a plan and the batches of its pairs, and their number.
fn batches<T>(
    loaded: &LoadedModel,
    plan: &SensitivityPlan,
    pairs: Vec<TokenPair>,
    neutral: &[Vec<u32>],
    what: &'static str,
    of: impl FnOnce(&Batches<'_>, &mut dyn FnMut(&StepBatch)) -> irepair_train::Result<T>,
) -> anyhow::Result<(T, u64)> {
    let model = &loaded.model;
    let settings =
        Settings { batch_size: plan.batch_size, skip_prompt: plan.skip_prompt, seed: plan.seed, ..Settings::default() };
    let n_batches = plan.n_batches.min(pairs.len().div_ceil(plan.batch_size) as u64);
    let data =
        RepairData { pairs, utility: neutral.to_vec(), pad_id: loaded.tokenizer.eos_id(), ..RepairData::default() };
    let data = Arc::new(data);
    model.check_length(data.longest())?;
    let sampler = BatchSampler::new(&data, !neutral.is_empty(), &settings, model.device())?;
    let bar = progress::bar(what, n_batches);
    let fisher = if plan.metric.reads_fisher() && !neutral.is_empty() {
        let Settings { fisher_texts, fisher_damping, .. } = settings;
        let texts = &neutral[..neutral.len().min(fisher_texts)];
        Some(Fisher::estimate(model, texts, fisher_damping, plan.seed)?)
    } else {
        None
    };
    let measure = Measure { seed: plan.seed, fisher, ..Measure::new(plan.metric) };
    let (n, reduction) = (n_batches, plan.reduction);
    let batches = Batches { measure: &measure, model, sampler: &sampler, settings: &settings, n, reduction };
    Ok((of(&batches, &mut |_| bar.inc(1))?, n_batches))
}

/// A table for people: value and bar by block, then the error density.
fn table(result: &SensitivityResult, sensitivities: &Sensitivities) -> anyhow::Result<String> {
    let values = sensitivities.values();
    let largest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut text = format!(
        "sensitivity on {} text: {}, {} over {} batches\nblock        value\n",
        result.text, result.metric, result.reduction, result.n_batches
    );
    for (block, value) in values.iter().enumerate() {
        text += &format!("{block:>5}  {value:>11.5e}  {}\n", "█".repeat((value / largest * 40.0).round() as usize));
    }
    match error_density(values, TOP_SHARE) {
        Ok(density) => Ok(text
            + &format!(
                "error density, top {} of {} blocks over the rest: {:+.1} %; Gini {:.3}\n",
                density.n_top,
                values.len(),
                density.gain_percent,
                density.gini
            )),
        // There are too few blocks for a top fifth.
        Err(_) => Ok(text),
    }
}
