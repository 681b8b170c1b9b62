//! `irepair sensitivity`: how strongly the error moves each block, and how concentrated that is.

use std::path::Path;
use std::sync::Arc;

use irepair_config::SensitivityOptions;
use irepair_core::Sensitivities;
use irepair_data::{Limits, Sides, TokenPair, read_token_pairs};
use irepair_model::BlockModel;
use irepair_repair::Estimate;
use irepair_report::{SCHEMA, SensitivityResult, write_result};
use irepair_stats::error_density;
use irepair_train::{BatchSampler, RepairData, Settings};

use crate::method;
use crate::progress;
use crate::repair::print;
use crate::utility::documents;
use crate::weights::{Opened, open, use_threads};

/// Share of the blocks called "top" in the paper's error density (METHOD §4).
const TOP_SHARE: f64 = 0.2;

/// Runs the command.
pub(crate) fn command(options: SensitivityOptions) -> anyhow::Result<()> {
    use_threads(options.threads);
    let (Some(dir), Some(path)) = (&options.model, &options.data) else { unreachable!("validated") };
    let opened = open(dir, &options.device(), options.dtype())?;
    let (max_prompt, max_continuation) = (options.max_prompt(), options.max_continuation());
    let limits = Limits { max_prompt, max_continuation, ..Limits::default() };
    let sides = if options.metric().reads_chosen() || options.chosen() { Sides::Both } else { Sides::Rejected };
    let (pairs, _) = read_token_pairs(path, &opened.tokenizer, limits, sides)?;
    let neutral = match &options.general {
        Some(path) => {
            let max_tokens = (limits.max_prompt + limits.max_continuation).min(opened.model.config().n_positions);
            documents(path, &opened.tokenizer, opened.eos_id, max_tokens)?
        }
        None => Vec::new(),
    };
    // A text takes the rejected side: the same loss, the same layout, another text.
    let swap = |pair: &TokenPair| TokenPair { rejected: pair.chosen.clone(), ..pair.clone() };
    let chosen: Vec<TokenPair> = if options.chosen() { pairs.iter().map(swap).collect() } else { Vec::new() };
    let error = over_batches(&opened, &options, pairs, &neutral, "error")?;
    let mut results = vec![("error", error)];
    if !chosen.is_empty() {
        results.push(("chosen", over_batches(&opened, &options, chosen, &neutral, "chosen")?));
    }
    if !neutral.is_empty() {
        let plain =
            |rejected: &Vec<u32>| TokenPair { prompt: Vec::new(), chosen: Vec::new(), rejected: rejected.clone() };
        results.push((
            "neutral",
            over_batches(&opened, &options, neutral.iter().map(plain).collect(), &neutral, "neutral")?,
        ));
    }
    for (text, (sensitivities, n_batches)) in &results {
        let result = SensitivityResult {
            schema: SCHEMA,
            profile: "own".to_owned(),
            model: name(dir),
            metric: options.metric().to_string().replace('-', "_"),
            reduction: options.reduction().to_string().replace('-', "_"),
            text: (*text).to_owned(),
            n_batches: *n_batches,
            values: sensitivities.values().to_vec(),
        };
        if let Some(out) = &options.out {
            write_result(&out.join(format!("{text}.json")), &result)?;
        }
        if options.json() {
            print(&(serde_json::to_string(&result)? + "\n"))?;
        } else {
            print(&table(&result, sensitivities)?)?;
        }
    }
    Ok(())
}

fn name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// Measures batch after batch and puts them together as asked.
fn over_batches(
    opened: &Opened,
    options: &SensitivityOptions,
    pairs: Vec<TokenPair>,
    neutral: &[Vec<u32>],
    what: &'static str,
) -> anyhow::Result<(Sensitivities, u64)> {
    let model = &opened.model;
    let settings = Settings {
        batch_size: options.batch_size(),
        skip_prompt: options.skip_prompt(),
        seed: options.seed(),
        ..Settings::default()
    };
    let n_batches = options.n_batches().min(pairs.len().div_ceil(options.batch_size()) as u64);
    let data = RepairData { pairs, utility: neutral.to_vec(), pad_id: opened.eos_id, ..RepairData::default() };
    let data = Arc::new(data);
    model.check_length(data.longest())?;
    let sampler = BatchSampler::new(&data, !neutral.is_empty(), &settings, model.device())?;
    let bar = progress::bar(what, n_batches);
    let estimate = Estimate { metric: options.metric(), ..Estimate::new(options.seed()) };
    let reduction = method::reduction(options.reduction());
    let sensitivities = estimate.over_batches(model, &sampler, &settings, n_batches, reduction, || bar.inc(1))?;
    bar.finish_and_clear();
    Ok((sensitivities, n_batches))
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
        // Too few blocks to have a top fifth: the table stands alone.
        Err(_) => Ok(text),
    }
}
