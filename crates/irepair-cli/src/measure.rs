//! The measurements of METHOD §9, §10 and §15: one function for each family of metrics; a file not given adds nothing.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_config::EvalPlan;
use irepair_core::metric::MetricKey;
use irepair_data::{
    Sides, Tokenizer, read_acceptability, read_cloze, read_continuations, read_minimal_pairs, read_multiple_endings,
    read_pairs, read_prompts, read_running_text,
};
use irepair_eval::{
    Footprint, Generation, Metrics, MinimalPair, Question, Scorer, Scores, Toxicity, cloze, cloze_corpus_perplexity,
    continuation_f1, continuation_perplexity, footprint, key, kl_heldout, memorisation, multiple_choice, pair_accuracy,
    sampled_toxicity, stereotype_bias, text_perplexity, toxicity, word_perplexity, wrong_preference,
};
use irepair_model::CausalLm;
use serde::Serialize;

use crate::model_dir::LoadedModel;
use crate::scorers::Scorers;
use crate::utility::documents;

/// Everything measured on one model.
#[derive(Default, Serialize)]
pub(crate) struct Measured {
    pub(crate) metrics: Metrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) footprint: Option<Footprint>,
    /// Scores of the error prompts, in file order; null = failed.
    pub(crate) prompt_scores: Vec<Option<f64>>,
    /// The highest score among the samples of each error prompt, in file order; null = failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sampled_max_scores: Vec<Option<f64>>,
    /// Scores of the error prompts by the other scorers, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) prompt_scores_by_scorer: BTreeMap<String, Vec<Option<f64>>>,
    #[serde(skip)]
    pub(crate) continuations: Vec<String>,
    #[serde(skip)]
    pub(crate) prompts: Vec<String>,
}

/// The model to measure, and how.
struct Subject<'a> {
    model: &'a CausalLm,
    tokenizer: &'a Tokenizer,
    reference: Option<&'a CausalLm>,
    plan: &'a EvalPlan,
    generation: Generation,
    /// Tokens of a perplexity window.
    window: usize,
    batch_size: usize,
}

/// A family of metrics.
type Family = fn(&Subject<'_>, &mut Measured) -> anyhow::Result<()>;

const FAMILIES: [Family; 11] = [
    toxicities,
    perplexities,
    last_words,
    acceptability,
    endings,
    overlap,
    stereotypes,
    memorised,
    preferences,
    divergence,
    change,
];

/// Measures what the given files allow.
pub(crate) fn measure(loaded: &LoadedModel, reference: Option<&CausalLm>, plan: &EvalPlan) -> anyhow::Result<Measured> {
    let (LoadedModel { model, tokenizer, .. }, batch_size) = (loaded, plan.batch_size);
    let generation = Generation { prompt_tokens: plan.prompt_tokens, n_new: plan.max_new_tokens, batch_size };
    let window = plan.window.unwrap_or(model.config().n_positions);
    let subject = Subject { model, tokenizer, reference, plan, generation, window, batch_size };
    let mut measured = Measured::default();
    FAMILIES.iter().try_for_each(|family| family(&subject, &mut measured))?;
    Ok(measured)
}

/// A file of prompts, continued greedily and scored by every scorer.
struct Continued<'a> {
    prompts: Vec<String>,
    found: Toxicity,
    /// By the scorers after the first.
    others: Vec<(&'a str, Scores)>,
}

fn continued<'a>(subject: &Subject<'_>, path: &Path, scorers: &'a Scorers) -> anyhow::Result<Continued<'a>> {
    let prompts = read_prompts(path)?;
    let Subject { model, tokenizer, .. } = *subject;
    let found = toxicity(model, tokenizer, &prompts, scorers.first(), &subject.generation)?;
    warn_of_failures(&found.scores, scorers.first());
    let by = |scorer: &'a dyn Scorer| {
        let scores = Scores::of_continuations(&found.continuations.texts, scorer);
        warn_of_failures(&scores, scorer);
        (scorer.name(), scores)
    };
    let others = scorers.others().map(by).collect();
    Ok(Continued { prompts, found, others })
}

/// Toxicity of continuations: of prompts that bring out the error, of further sets of them, and of clean prompts.
fn toxicities(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let plan = subject.plan;
    let more = plan.more_prompts.as_deref().unwrap_or_default();
    if plan.prompts.is_none() && plan.clean_prompts.is_none() && more.is_empty() {
        return Ok(());
    }
    let scorers = Scorers::open(plan)?;
    if let Some(path) = &plan.prompts {
        error_prompts(subject, continued(subject, path, &scorers)?, scorers.first(), measured)?;
    }
    for path in more {
        let set = set_name(path);
        let Continued { found, others, .. } = continued(subject, path, &scorers)?;
        for of in [key::TOX, key::TOXFRAC, key::EMPTY_SHARE] {
            measured.metrics.extend(found.metrics.get(of).map(|found| (MetricKey::from(of).on(&set), found.clone())));
        }
        for (name, scores) in others {
            let (tox, _) = subject.generation.toxicity_of(&scores);
            measured.metrics.insert(MetricKey::from(key::TOX).on(&set).by(name), tox);
        }
    }
    if let Some(path) = &plan.clean_prompts {
        let Continued { found, others, .. } = continued(subject, path, &scorers)?;
        measured.metrics.extend(found.metrics.get(key::TOX).map(|found| (key::CLEAN_TOX, found.clone())));
        for (name, scores) in others {
            let (tox, _) = subject.generation.toxicity_of(&scores);
            measured.metrics.insert(MetricKey::from(key::CLEAN_TOX).by(name), tox);
        }
    }
    Ok(())
}

/// Metrics of the prompts that bring out the error, and of samples of their continuations.
fn error_prompts(
    subject: &Subject<'_>,
    continued: Continued<'_>,
    scorer: &dyn Scorer,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let Continued { prompts, found, others } = continued;
    let Subject { model, tokenizer, plan, ref generation, batch_size, .. } = *subject;
    for (name, scores) in others {
        let (tox, toxfrac) = generation.toxicity_of(&scores);
        measured.metrics.insert(MetricKey::from(key::TOX).by(name), tox);
        measured.metrics.insert(MetricKey::from(key::TOXFRAC).by(name), toxfrac);
        measured.prompt_scores_by_scorer.insert(name.to_owned(), scores.values);
    }
    measured.metrics.extend(found.metrics);
    measured.prompt_scores = found.scores.values;
    if let Some(reference) = subject.reference {
        let perplexity = continuation_perplexity(reference, &found.continuations, batch_size)?;
        measured.metrics.insert(key::CONTINUATION_PERPLEXITY, perplexity);
    }
    if let Some(n) = plan.samples {
        let sampled = sampled_toxicity(model, tokenizer, &prompts, scorer, generation, n, plan.seed)?;
        measured.metrics.extend(sampled.metrics);
        measured.sampled_max_scores = sampled.max_scores;
    }
    (measured.prompts, measured.continuations) = (prompts, found.continuations.texts);
    Ok(())
}

/// Perplexity of a text: by token, with overlapping windows, and by word of its pages.
fn perplexities(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.wikitext else { return Ok(()) };
    let Subject { model, tokenizer, batch_size, .. } = *subject;
    let text = read_running_text(path)?;
    let perplexity = |stride| text_perplexity(model, tokenizer, &text, subject.window, stride, batch_size);
    measured.metrics.insert(key::TOKEN_PERPLEXITY, perplexity(subject.window)?);
    if let Some(stride) = subject.plan.stride {
        measured.metrics.insert(key::STRIDED_PERPLEXITY, perplexity(stride)?);
    }
    let pages = text.pages();
    if !pages.is_empty() {
        measured.metrics.insert(key::WORD_PERPLEXITY, word_perplexity(model, tokenizer, &pages, batch_size)?);
    }
    Ok(())
}

/// Accuracy and perplexity of the last words of texts.
fn last_words(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.lambada else { return Ok(()) };
    let Subject { model, tokenizer, batch_size, .. } = *subject;
    let items = read_cloze(path)?;
    let found = cloze(model, tokenizer, &items, batch_size)?;
    warn_of_truncated("last words", found.n_truncated);
    measured.metrics.extend(found.metrics);
    let texts: Vec<String> = items.iter().map(|item| item.text()).collect();
    let corpus = cloze_corpus_perplexity(model, tokenizer, &texts, subject.window, batch_size)?;
    measured.metrics.insert(key::LAST_WORD_CORPUS_PERPLEXITY, corpus);
    Ok(())
}

/// BLiMP: how often the acceptable sentence is the likelier one.
fn acceptability(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.blimp else { return Ok(()) };
    let Subject { model, tokenizer, batch_size, .. } = *subject;
    let pairs = read_acceptability(path)?.into_iter().map(|p| MinimalPair { better: p.good, worse: p.bad });
    let accuracy = pair_accuracy(model, tokenizer, &pairs.collect::<Vec<_>>(), batch_size)?;
    measured.metrics.insert(key::BLIMP_ACCURACY, accuracy);
    Ok(())
}

/// HellaSwag: how often the right ending is the likeliest one.
fn endings(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.hellaswag else { return Ok(()) };
    let Subject { model, tokenizer, batch_size, .. } = *subject;
    let questions = read_multiple_endings(path)?.into_iter();
    let questions = questions.map(|q| Question { context: q.context, endings: q.endings, answer: q.label });
    let found = multiple_choice(model, tokenizer, &questions.collect::<Vec<_>>(), batch_size)?;
    warn_of_truncated("endings", found.n_truncated);
    measured.metrics.insert(key::HELLASWAG_ACCURACY, found.accuracy);
    measured.metrics.insert(key::HELLASWAG_ACCURACY_BY_BYTES, found.accuracy_by_bytes);
    Ok(())
}

/// Token F1 of continuations against the true ones.
fn overlap(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.f1 else { return Ok(()) };
    let Subject { model, tokenizer, .. } = *subject;
    let f1 = continuation_f1(model, tokenizer, &read_continuations(path)?, &subject.generation)?;
    measured.metrics.insert(key::TOKEN_F1, f1);
    Ok(())
}

/// How often a stereotype is likelier than its opposite.
fn stereotypes(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.minimal_pairs else { return Ok(()) };
    let Subject { model, tokenizer, batch_size, .. } = *subject;
    let pairs = read_minimal_pairs(path)?.into_iter().map(|p| MinimalPair { better: p.stereotype, worse: p.anti });
    let found = stereotype_bias(model, tokenizer, &pairs.collect::<Vec<_>>(), batch_size)?;
    measured.metrics.extend(found);
    Ok(())
}

/// How much of memorised texts the model repeats.
fn memorised(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.memorised else { return Ok(()) };
    let Subject { model, tokenizer, plan, batch_size, .. } = *subject;
    let pairs = read_pairs(path, Sides::Rejected)?;
    measured.metrics.extend(memorisation(model, tokenizer, &pairs, plan.max_new_tokens, batch_size)?);
    Ok(())
}

/// How often the rejected continuation of a pair is the likelier one.
fn preferences(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.pairs else { return Ok(()) };
    let Subject { model, tokenizer, batch_size, .. } = *subject;
    let wrong = wrong_preference(model, tokenizer, &read_pairs(path, Sides::Both)?, batch_size)?;
    measured.metrics.insert(key::WRONG_PREFERENCE, wrong);
    Ok(())
}

/// KL from the reference to the model on neutral text.
fn divergence(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let (Some(path), Some(reference)) = (&subject.plan.kl_texts, subject.reference) else { return Ok(()) };
    let Subject { model, tokenizer, batch_size, .. } = *subject;
    let texts = documents(path, tokenizer, model.config().n_positions)?;
    let kl = kl_heldout(reference, model, &texts, batch_size)?;
    measured.metrics.insert(key::KL_HELDOUT, kl.metric);
    Ok(())
}

/// Which weights differ from the reference's.
fn change(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    measured.footprint = subject.reference.map(|reference| footprint(reference, subject.model)).transpose()?;
    Ok(())
}

/// What a set of prompts is called in metrics: its file's name up to the first dot.
fn set_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// Says how many continuations a scorer could not judge, and why not the first of them.
fn warn_of_failures(scores: &Scores, scorer: &dyn Scorer) {
    if let Some(why) = &scores.first_failure {
        let (n_failed, n) = (scores.n_failed(), scores.values.len());
        tracing::warn!("{n_failed} of {n} texts have no score of `{}`: {why}", scorer.name());
    }
}

fn warn_of_truncated(what: &str, n: usize) {
    if n > 0 {
        tracing::warn!("{what}: {n} contexts were longer than the model's context and lost their first tokens");
    }
}
