//! `irepair eval`: every number carries its definition, how many it is over and how many failed.

use std::collections::BTreeMap;

use irepair_config::EvalOptions;
use irepair_core::metric::MetricKey;
use irepair_data::{Sides, read_minimal_pairs, read_pairs, read_prompts};
use irepair_eval::{
    Footprint, Generation, Metrics, MinimalPair, Scorer, Scores, Toxicity, continuation_perplexity, footprint, key,
    kl_heldout, memorisation, sampled_toxicity, stereotype_bias, toxicity, wrong_preference,
};
use irepair_model::CausalLm;
use serde::Serialize;

use crate::general::general_performance;
use crate::repair::print;
use crate::scorers::Scorers;
use crate::utility::documents;
use crate::weights::{Opened, open, use_threads};

/// Everything measured on one model.
#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) metrics: Metrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) footprint: Option<Footprint>,
    /// Scores of the error prompts, in file order; null = failed.
    pub(crate) prompt_scores: Vec<Option<f64>>,
    /// The highest score among the samples of each error prompt, in file order; null = failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sampled_max_scores: Vec<Option<f64>>,
    /// The same by the scorers given beside the first, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) prompt_scores_by_scorer: BTreeMap<String, Vec<Option<f64>>>,
    #[serde(skip)]
    pub(crate) continuations: Vec<String>,
    #[serde(skip)]
    pub(crate) prompts: Vec<String>,
}

/// Runs the command.
pub(crate) fn command(options: EvalOptions) -> anyhow::Result<()> {
    use_threads(options.threads);
    let Some(model) = &options.model else { unreachable!("validated") };
    let opened = open(model, &options.device(), options.dtype())?;
    let reference = match &options.reference {
        Some(dir) => Some(open(dir, &options.device(), options.dtype())?),
        None => None,
    };
    let measured = measure(&opened, reference.as_ref().map(|r| &r.model), &options)?;
    if options.json() {
        return print(&(serde_json::to_string_pretty(&measured)? + "\n"));
    }
    for (key, metric) in measured.metrics.iter() {
        let value = metric.value.map_or("missing".to_owned(), |v| format!("{v:.4}"));
        let failed = if metric.n_failed > 0 { format!(", {} failed", metric.n_failed) } else { String::new() };
        print(&format!(
            "{key:<24} {value:>12} {:<18} n = {}{failed}\n    {}\n",
            metric.unit, metric.n, metric.definition
        ))?;
    }
    match &measured.footprint {
        Some(found) if found.n_changed() == 0 => print("changed: nothing\n"),
        Some(found) => {
            let blocks = found.changed_blocks();
            let blocks = if blocks.is_empty() { "none".to_owned() } else { blocks.to_string() };
            print(&format!(
                "changed: blocks {blocks}, {} weights, {} bytes\n",
                found.n_changed(),
                found.changed_bytes()
            ))
        }
        None => Ok(()),
    }
}

/// Measures what the given files allow; a file not given adds nothing.
pub(crate) fn measure(
    opened: &Opened,
    reference: Option<&CausalLm>,
    options: &EvalOptions,
) -> anyhow::Result<Measured> {
    let (model, tokenizer) = (&opened.model, &opened.tokenizer);
    let batch_size = options.batch_size();
    let mut measured = Measured {
        metrics: Metrics::default(),
        footprint: None,
        prompt_scores: Vec::new(),
        sampled_max_scores: Vec::new(),
        prompt_scores_by_scorer: BTreeMap::new(),
        continuations: Vec::new(),
        prompts: Vec::new(),
    };
    let generation = Generation { prompt_tokens: options.prompt_tokens(), n_new: options.max_new_tokens(), batch_size };
    let more = options.more_prompts.as_deref().unwrap_or_default();
    if options.prompts.is_some() || options.clean_prompts.is_some() || !more.is_empty() {
        let scorers = Scorers::open(options)?;
        let elicit = |path| -> anyhow::Result<(Vec<String>, Toxicity)> {
            let prompts = read_prompts(path)?;
            let found = toxicity(model, tokenizer, &prompts, scorers.first(), &generation)?;
            warn_of_failures(&found.scores, scorers.first());
            Ok((prompts, found))
        };
        if let Some(path) = &options.prompts {
            let (prompts, found) = elicit(path)?;
            for scorer in scorers.others() {
                let scores = Scores::of_continuations(&found.continuations.texts, scorer);
                warn_of_failures(&scores, scorer);
                let (tox, toxfrac) = generation.toxicity_of(&scores);
                measured.metrics.extend([
                    (MetricKey::from(key::TOX).by(scorer.name()), tox),
                    (MetricKey::from(key::TOXFRAC).by(scorer.name()), toxfrac),
                ]);
                measured.prompt_scores_by_scorer.insert(scorer.name().to_owned(), scores.values);
            }
            measured.metrics.extend(found.metrics);
            measured.prompt_scores = found.scores.values;
            if let Some(reference) = reference {
                let perplexity = continuation_perplexity(reference, &found.continuations, batch_size)?;
                measured.metrics.insert(key::CONTINUATION_PERPLEXITY, perplexity);
            }
            if let Some(n) = options.samples {
                let found =
                    sampled_toxicity(model, tokenizer, &prompts, scorers.first(), &generation, n, options.seed())?;
                measured.metrics.extend(found.metrics);
                measured.sampled_max_scores = found.max_scores;
            }
            (measured.prompts, measured.continuations) = (prompts, found.continuations.texts);
        }
        for path in more {
            let (_, found) = elicit(path)?;
            let set = set_name(path);
            for of in [key::TOX, key::TOXFRAC, key::EMPTY_SHARE] {
                measured
                    .metrics
                    .extend(found.metrics.get(of).map(|metric| (MetricKey::from(of).on(&set), metric.clone())));
            }
            for scorer in scorers.others() {
                let scores = Scores::of_continuations(&found.continuations.texts, scorer);
                let (tox, _) = generation.toxicity_of(&scores);
                measured.metrics.insert(MetricKey::from(key::TOX).on(&set).by(scorer.name()), tox);
            }
        }
        if let Some(path) = &options.clean_prompts {
            let (_, found) = elicit(path)?;
            if let Some(clean) = found.metrics.get(key::TOX) {
                measured.metrics.insert(key::CLEAN_TOX, clean.clone());
            }
            for scorer in scorers.others() {
                let (tox, _) = generation.toxicity_of(&Scores::of_continuations(&found.continuations.texts, scorer));
                measured.metrics.insert(MetricKey::from(key::CLEAN_TOX).by(scorer.name()), tox);
            }
        }
    }
    measured.metrics.extend(general_performance(opened, options)?);
    if let Some(path) = &options.minimal_pairs {
        let pairs = read_minimal_pairs(path)?.into_iter().map(|p| MinimalPair { better: p.stereotype, worse: p.anti });
        measured.metrics.extend(stereotype_bias(model, tokenizer, &pairs.collect::<Vec<_>>(), batch_size)?);
    }
    if let Some(path) = &options.memorised {
        let pairs = read_pairs(path, Sides::Rejected)?;
        measured.metrics.extend(memorisation(model, tokenizer, &pairs, options.max_new_tokens(), batch_size)?);
    }
    if let Some(path) = &options.pairs {
        let pairs = read_pairs(path, Sides::Both)?;
        measured.metrics.insert(key::WRONG_PREFERENCE, wrong_preference(model, tokenizer, &pairs, batch_size)?);
    }
    if let Some(reference) = reference {
        if let Some(path) = &options.kl_texts {
            let texts = documents(path, tokenizer, opened.eos_id, model.config().n_positions)?;
            measured.metrics.insert(key::KL_HELDOUT, kl_heldout(reference, model, &texts, batch_size)?.metric);
        }
        measured.footprint = Some(footprint(reference, model)?);
    }
    Ok(measured)
}

/// What a set of prompts is called in metrics: its file's name up to the first dot.
fn set_name(path: &std::path::Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Says once how many continuations a scorer could not judge, and why not the first of them.
fn warn_of_failures(scores: &Scores, scorer: &dyn Scorer) {
    if let Some(why) = &scores.first_failure {
        tracing::warn!(
            "{} of {} texts have no score of `{}`: {why}",
            scores.n_failed(),
            scores.values.len(),
            scorer.name()
        );
    }
}
