//! `irepair pairs`: pairs of the model's own texts, and the prompts kept for choosing and measuring.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use irepair_config::PairsPlan;
use irepair_core::fs::sha256_file;
use irepair_core::{NUMBERS_VERSION, is_unfinished, mark_finished};
use irepair_data::{Part, RecordFile, write_pairs_of, write_prompts_of};
use irepair_eval::{Evaluator, Generation, PairCounts, PairRule};
use irepair_report::write_result;
use irepair_scorer::Scorer;
use serde::{Deserialize, Serialize};

use crate::environment::weights_sha256;
use crate::error::CliError;
use crate::model_dir::{ModelDir, use_threads};
use crate::output::{print, print_json};
use crate::run_dir::claim;
use crate::scorers::{ClassifierUse, open_scorer, trusted};
use crate::{notes, progress, prompts, run_dir};

const REPORT: &str = "report.json";
const PAIRS: &str = "pairs.jsonl";
/// Prompts to choose settings on, and to measure on.
const PROMPTS: [&str; 2] = ["prompts.valid.jsonl", "prompts.test.jsonl"];
/// What the mark of an unfinished directory says.
const MAKER: &str = "irepair pairs";

/// What a set of pairs was made from, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    /// Everything that the pairs follow from; the same inputs are not sampled again.
    made_from: BTreeMap<String, String>,
    /// Prompts for pairs, for choosing settings, for measuring.
    n_prompts: [usize; 3],
    counts: PairCounts,
}

/// Runs the command.
pub(crate) fn command(plan: &PairsPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    let run =
        ClassifierUse { toxic_labels: plan.toxic_labels.as_deref(), device: &plan.device, batch_size: plan.batch_size };
    let judge = open_scorer(&plan.judge, &run)?;
    let model = ModelDir::read(&plan.model)?;
    let made_from = inputs(plan, &model, &*judge)?;
    if let Some(report) = made_before(&plan.out, &made_from)? {
        tracing::info!("{}: made before from the same inputs", plan.out.display());
        return show(&report, plan);
    }
    run_dir::refuse_used(&plan.out, MAKER)?;
    let columns = plan.columns.clone().unwrap_or_default();
    let file = RecordFile { path: &plan.prompts, columns: &columns };
    let prompts = prompts::read(file, &model.tokenizer, plan.prompt_tokens)?;
    let kind = prompts.kind;
    let [own, valid, test] = parts(prompts.items, plan)?;
    let loaded = model.open(&plan.device, plan.dtype)?;
    tracing::info!("{}", notes::begin_rule(&loaded.tokenizer, kind));
    notes::say_text_rule(&loaded.tokenizer);
    let rule = PairRule {
        generation: Generation {
            prompt_tokens: plan.prompt_tokens,
            n_new: plan.max_new_tokens,
            ..Generation::default()
        },
        n_samples: plan.samples,
        greedy: false,
        n_more: plan.more_samples,
        min_gap: plan.min_gap,
        steer_chosen: plan.steer_chosen.clone(),
        steer_rejected: plan.steer_rejected.clone(),
        seed: plan.seed,
    };
    // From here on something is written.
    let _held = claim(&plan.out, MAKER)?;
    let bar = progress::bar("sample", own.len() as u64);
    let tokenizer = loaded.tokenizer.of_kind(kind);
    let evaluator = Evaluator::new(&loaded.model, &tokenizer, plan.batch_size);
    let made = evaluator.own_pairs(&own, &*judge, &rule, || bar.inc(1))?;
    drop(bar);
    let PairCounts { n_samples, n_unscored, .. } = made.counts;
    if let Some(why) = &made.first_failure {
        // What has no score is left out; without any score there is nothing to make pairs of.
        if n_unscored == n_samples {
            trusted(&*judge, n_samples, n_unscored, Some(why))?;
        }
        tracing::warn!("{n_unscored} of {n_samples} samples have no score of `{}`: {why}", judge.name());
    }
    let report = Report { made_from, n_prompts: [own.len(), valid.len(), test.len()], counts: made.counts };
    let kind = tokenizer.marked_kind(kind);
    write_pairs_of(&plan.out.join(PAIRS), &made.pairs, kind)?;
    write_prompts_of(&plan.out.join(PROMPTS[0]), &valid, kind)?;
    write_prompts_of(&plan.out.join(PROMPTS[1]), &test, kind)?;
    write_result(&plan.out.join(REPORT), &report)?;
    mark_finished(&plan.out)?;
    show(&report, plan)
}

/// Names and hashes of everything that decides the pairs.
fn inputs(plan: &PairsPlan, model: &ModelDir, judge: &dyn Scorer) -> anyhow::Result<BTreeMap<String, String>> {
    let mut from = weights_sha256(&plan.model)?;
    from.extend([
        ("numbers".to_owned(), NUMBERS_VERSION.to_string()),
        ("config".to_owned(), format!("{:?}", model.config)),
        ("tokenizer".to_owned(), model.tokenizer.sha256()?),
        ("end tokens".to_owned(), format!("{:?}", model.tokenizer.end_ids())),
        ("prompts".to_owned(), sha256_file(&plan.prompts)?),
        ("judge".to_owned(), format!("{} version {}", judge.name(), judge.version())),
    ]);
    // Where things lie, and how fast they are read, decide nothing.
    let nowhere = PathBuf::new();
    let settings = PairsPlan {
        model: nowhere.clone(),
        prompts: nowhere.clone(),
        judge: nowhere.clone().into(),
        out: nowhere,
        batch_size: 1,
        threads: None,
        json: false,
        ..plan.clone()
    };
    // Pairs that were made before there was this setting are known by the same words.
    let settings = format!("{settings:?}").replace(", columns: None", "");
    from.insert("settings".to_owned(), settings);
    Ok(from)
}

/// The report of a directory that was made from the same inputs and is whole.
///
/// # Errors
/// A file of it that was moved away or emptied: the others may have been worked on, so that none is written again.
fn made_before(out: &Path, made_from: &BTreeMap<String, String>) -> anyhow::Result<Option<Report>> {
    let report = fs::read_to_string(out.join(REPORT)).ok().and_then(|text| serde_json::from_str::<Report>(&text).ok());
    let Some(report) = report.filter(|report| report.made_from == *made_from && !is_unfinished(out)) else {
        return Ok(None);
    };
    let PairCounts { n_first, n_greedy, n_more, n_steered, .. } = report.counts;
    let [_, n_valid, n_test] = report.n_prompts;
    let n_lines = [(PAIRS, n_first + n_greedy + n_more + n_steered), (PROMPTS[0], n_valid), (PROMPTS[1], n_test)];
    let is_gone = |path: &PathBuf, n: usize| path.metadata().map_or(true, |found| n > 0 && found.len() == 0);
    match n_lines.into_iter().map(|(name, n)| (out.join(name), n)).find(|(path, n)| is_gone(path, *n)) {
        Some((path, _)) => {
            let what = format!("{}, which was made here before", path.display());
            let want = "the file back in its place, or another --out to make the pairs again".to_owned();
            Err(CliError::Missing { what, want }.into())
        }
        None => Ok(Some(report)),
    }
}

/// The prompts of each part.
fn parts(prompts: Vec<String>, plan: &PairsPlan) -> anyhow::Result<[Vec<String>; 3]> {
    let mut parts = [const { Vec::new() }; 3];
    for prompt in prompts {
        parts[Part::of(&prompt, plan.valid_share, plan.test_share) as usize].push(prompt);
    }
    if parts[Part::Repair as usize].is_empty() {
        let what = format!("{}: the part of the prompts that pairs are made of", plan.prompts.display());
        let want = "more prompts, or a lower --valid-share or --test-share".to_owned();
        return Err(CliError::Missing { what, want }.into());
    }
    Ok(parts)
}

fn show(report: &Report, plan: &PairsPlan) -> anyhow::Result<()> {
    if plan.json {
        return print_json(report);
    }
    let ([own, valid, test], counts) = (report.n_prompts, &report.counts);
    let mut text = format!("prompts: {own} for pairs, {valid} to choose settings on, {test} to measure on\n");
    let n_pairs = counts.n_first + counts.n_more + counts.n_steered;
    if n_pairs == 0 {
        tracing::warn!(
            "no pair was made: try more --samples or --more-samples, --steer-rejected, or a smaller --min-gap"
        );
    }
    let _ = writeln!(
        text,
        "pairs: {n_pairs} ({} of the first samples, {} of further ones, {} after a steering text)",
        counts.n_first, counts.n_more, counts.n_steered
    );
    let _ = writeln!(
        text,
        "no pair: {} prompts with good texts alone, {} with bad ones alone, {} without a good text that is fit",
        counts.n_all_good, counts.n_all_bad, counts.n_unfit
    );
    if counts.n_all_unscored > 0 {
        let _ = writeln!(text, "no pair, because no sample has a score: {} prompts", counts.n_all_unscored);
    }
    let _ = writeln!(text, "samples: {}, without a score {}", counts.n_samples, counts.n_unscored);
    if let Some([rejected, chosen]) = counts.mean_scores {
        let _ = writeln!(text, "mean score: rejected {rejected:.3}, chosen {chosen:.3}");
    }
    print(&text)
}
