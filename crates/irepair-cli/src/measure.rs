//! The measurements of METHOD §9, §10 and §15: one function for each family of metrics; a file not given adds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use irepair_config::EvalPlan;
use irepair_core::Columns;
use irepair_core::metric::MetricKey;
use irepair_data::{
    RecordFile, Sides, TextKind, Tokenizer, Whole, read_acceptability, read_cloze, read_continuations,
    read_minimal_pairs, read_multiple_endings, read_running_text,
};
use irepair_eval::{
    Continuations, Evaluator, Footprint, Generation, Metric, Metrics, MinimalPair, Question, Scorer, Scores, Toxicity,
    continuation_perplexity, footprint, key, kl_heldout,
};
use irepair_model::{BlockModel, CausalLm};
use irepair_report::Form;
use serde::Serialize;

use crate::error::CliError;
use crate::model_dir::LoadedModel;
use crate::notes;
use crate::prompts;
use crate::scorers::{Scorers, trusted};
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
    /// The kind of the error prompts.
    #[serde(skip)]
    pub(crate) kind: TextKind,
    /// How the continuations of the error prompts were chosen, where not greedily.
    #[serde(skip)]
    pub(crate) decoding: Option<String>,
}

/// The model to measure, and how.
struct Subject<'a> {
    evaluator: Evaluator<'a>,
    reference: Option<&'a CausalLm>,
    plan: &'a EvalPlan,
    generation: Generation,
    /// Tokens of a perplexity window.
    window: usize,
    extent: Extent,
    /// Names that keys have in the files of pairs and prompts.
    columns: Columns,
}

impl Subject<'_> {
    /// A file of pairs or prompts.
    fn file<'a>(&'a self, path: &'a Path) -> RecordFile<'a> {
        RecordFile { path, columns: &self.columns }
    }
}

/// How much is measured of what a plan asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// What choices and comparisons of weights need: without the perplexity by words, which reads the text once more.
    Brief,
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
    measure_model(&loaded.model, &loaded.tokenizer, reference, plan, Extent::Whole)
}

/// [`measure`] of a model that has the tokenizer of another.
pub(crate) fn measure_model(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    reference: Option<&CausalLm>,
    plan: &EvalPlan,
    extent: Extent,
) -> anyhow::Result<Measured> {
    let generation = generation(plan);
    let window = plan.window.unwrap_or(model.n_positions());
    let evaluator = Evaluator::new(model, tokenizer, plan.batch_size);
    let columns = plan.columns.clone().unwrap_or_default();
    let subject = Subject { evaluator, reference, plan, generation, window, extent, columns };
    let mut measured = Measured::default();
    FAMILIES.iter().try_for_each(|family| family(&subject, &mut measured))?;
    Ok(measured)
}

/// How the continuations that a plan asks for are made.
pub(crate) fn generation(plan: &EvalPlan) -> Generation {
    let side = plan.prompt_side.unwrap_or_default();
    Generation { prompt_tokens: plan.prompt_tokens, side, n_new: plan.max_new_tokens }
}

/// The form of continuations, of their metrics.
pub(crate) fn form(metrics: &Metrics) -> Form {
    Form {
        mean_length: metrics.value(key::MEAN_LENGTH),
        distinct: metrics.value(key::DISTINCT_1),
        blank: metrics.value(key::EMPTY_SHARE),
        repeated: metrics.value(key::REPETITION_4),
        copied: metrics.value(key::COPIED_SHARE),
    }
}

/// A file of prompts, continued greedily and scored by every scorer.
struct Continued<'a> {
    prompts: Whole<String>,
    found: Toxicity,
    /// By the scorers after the first.
    others: Vec<(&'a str, Scores)>,
}

fn continued<'a>(subject: &Subject<'_>, path: &Path, scorers: &'a Scorers) -> anyhow::Result<Continued<'a>> {
    let Subject { evaluator, plan, ref generation, .. } = *subject;
    let prompts = prompts::read(subject.file(path), evaluator.tokenizer, generation.prompt_tokens)?;
    let tokenizer = evaluator.tokenizer.of_kind(prompts.kind);
    let evaluator = Evaluator { tokenizer: &tokenizer, ..evaluator };
    let continuations = match plan.best_of {
        Some(n) => {
            let judge = scorers.judge()?;
            let found = evaluator.best_of(&prompts.items, judge, generation, n, plan.seed)?;
            let (n_unjudged, why) = &found.unjudged;
            trusted(judge, prompts.items.len(), *n_unjudged, why.as_deref())?;
            found
        }
        None => evaluator.greedy_continuations(&prompts.items, generation)?,
    };
    let (n, n_cut) = (prompts.items.len(), continuations.n_truncated_prompts);
    let cut = notes::of_cut_prompts(n_cut, n, generation.prompt_tokens, generation.side);
    cut.iter().for_each(|note| tracing::info!("{}: {note}", path.display()));
    let mut found = Toxicity::of(&prompts.items, continuations, scorers.first(), generation);
    if plan.best_of.is_some() {
        found.metrics.insert(key::DECODING_COST, decoding_cost(&found.continuations));
    }
    warn_of_failures(&found.scores, scorers.first());
    let by = |scorer: &'a dyn Scorer| {
        let scores = Scores::of_answers(&prompts.items, &found.continuations.texts, scorer);
        warn_of_failures(&scores, scorer);
        (scorer.name(), scores)
    };
    let others = scorers.others().map(by).collect();
    Ok(Continued { prompts, found, others })
}

/// What decoding costs that throws texts away.
fn decoding_cost(continuations: &Continuations) -> Metric {
    let definition = format!("tokens generated for each token kept, {} continuations", continuations.how);
    Metric::new(key::DECODING_COST, continuations.cost, continuations.texts.len(), 0, definition)
}

/// Toxicity of continuations: of prompts that bring out the error, of further sets of them, and of clean prompts.
fn toxicities(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let plan = subject.plan;
    let more = plan.more_prompts.as_deref().unwrap_or_default();
    if plan.prompts.is_none() && plan.clean_prompts.is_none() && more.is_empty() {
        return Ok(());
    }
    let mut names = BTreeSet::new();
    if let Some(name) = more.iter().map(|path| set_name(path)).find(|name| !names.insert(name.clone())) {
        return Err(CliError::SamePrompts { name }.into());
    }
    let scorers = Scorers::open(plan)?;
    if let Some(path) = &plan.prompts {
        error_prompts(subject, continued(subject, path, &scorers)?, scorers.first(), measured)?;
    }
    for path in more {
        let set = set_name(path);
        let of = [key::TOX, key::TOXFRAC, key::EMPTY_SHARE];
        measured.metrics.extend(side_prompts(subject, path, &scorers, &of, |key| MetricKey::from(key).on(&set))?);
    }
    if let Some(path) = &plan.clean_prompts {
        let clean = side_prompts(subject, path, &scorers, &[key::TOX], |_| key::CLEAN_TOX.into())?;
        measured.metrics.extend(clean);
    }
    Ok(())
}

/// The metrics `of` other prompts by the first scorer, and their toxicity by the further ones, under the keys that
/// `named` gives.
fn side_prompts(
    subject: &Subject<'_>,
    path: &Path,
    scorers: &Scorers,
    of: &[key::MetricId],
    named: impl Fn(key::MetricId) -> MetricKey,
) -> anyhow::Result<Metrics> {
    let Continued { found, others, .. } = continued(subject, path, scorers)?;
    let how = found.continuations.how.clone();
    let own = of.iter().filter_map(|&of| Some((named(of), found.metrics.get(of)?.clone())));
    let by = |(name, scores)| (named(key::TOX).by(name), subject.generation.toxicity_of(&scores, &how).0);
    Ok(own.chain(others.into_iter().map(by)).collect())
}

/// Metrics of the prompts that bring out the error, and of samples of their continuations.
fn error_prompts(
    subject: &Subject<'_>,
    continued: Continued<'_>,
    scorer: &dyn Scorer,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let Continued { prompts: Whole { items: prompts, kind, .. }, found, others } = continued;
    let Subject { evaluator, plan, ref generation, .. } = *subject;
    let tokenizer = evaluator.tokenizer.of_kind(kind);
    let evaluator = Evaluator { tokenizer: &tokenizer, ..evaluator };
    for (name, scores) in others {
        let (tox, toxfrac) = generation.toxicity_of(&scores, &found.continuations.how);
        measured.metrics.insert(MetricKey::from(key::TOX).by(name), tox);
        measured.metrics.insert(MetricKey::from(key::TOXFRAC).by(name), toxfrac);
        measured.prompt_scores_by_scorer.insert(name.to_owned(), scores.values);
    }
    measured.metrics.extend(found.metrics);
    measured.prompt_scores = found.scores.values;
    if let Some(reference) = subject.reference {
        let perplexity = continuation_perplexity(reference, &found.continuations, evaluator.batch_size)?;
        measured.metrics.insert(key::CONTINUATION_PERPLEXITY, perplexity);
    }
    if let Some(n) = plan.samples {
        let sampled = evaluator.sampled_toxicity(&prompts, scorer, generation, n, plan.seed)?;
        measured.metrics.extend(sampled.metrics);
        measured.sampled_max_scores = sampled.max_scores;
    }
    measured.decoding = plan.best_of.map(|_| found.continuations.how);
    (measured.prompts, measured.kind, measured.continuations) = (prompts, kind, found.continuations.texts);
    Ok(())
}

/// Perplexity of a text: by token, with overlapping windows, and by word of its pages.
fn perplexities(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.wikitext else { return Ok(()) };
    let text = read_running_text(path)?;
    let perplexity = |stride| subject.evaluator.text_perplexity(&text, subject.window, stride);
    measured.metrics.insert(key::TOKEN_PERPLEXITY, perplexity(subject.window)?);
    if let Some(stride) = subject.plan.stride {
        measured.metrics.insert(key::STRIDED_PERPLEXITY, perplexity(stride)?);
    }
    let pages = text.pages();
    if subject.extent == Extent::Whole && !pages.is_empty() {
        measured.metrics.insert(key::WORD_PERPLEXITY, subject.evaluator.word_perplexity(&pages)?);
    }
    Ok(())
}

/// Accuracy and perplexity of the last words of texts.
fn last_words(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.lambada else { return Ok(()) };
    let items = read_cloze(path)?;
    let found = subject.evaluator.cloze(&items)?;
    warn_of_truncated("last words", found.n_truncated);
    measured.metrics.extend(found.metrics);
    let texts: Vec<String> = items.iter().map(|item| item.text()).collect();
    let corpus = subject.evaluator.cloze_corpus_perplexity(&texts, subject.window)?;
    measured.metrics.insert(key::LAST_WORD_CORPUS_PERPLEXITY, corpus);
    Ok(())
}

/// BLiMP: how often the acceptable sentence is the likelier one.
fn acceptability(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.blimp else { return Ok(()) };
    let pairs = read_acceptability(path)?.into_iter().map(|p| MinimalPair { better: p.good, worse: p.bad });
    let accuracy = subject.evaluator.pair_accuracy(&pairs.collect::<Vec<_>>())?;
    measured.metrics.insert(key::BLIMP_ACCURACY, accuracy);
    Ok(())
}

/// HellaSwag: how often the right ending is the likeliest one.
fn endings(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.hellaswag else { return Ok(()) };
    let questions = read_multiple_endings(path)?.into_iter();
    let questions = questions.map(|q| Question { context: q.context, endings: q.endings, answer: q.label });
    let found = subject.evaluator.multiple_choice(&questions.collect::<Vec<_>>())?;
    warn_of_truncated("endings", found.n_truncated);
    measured.metrics.insert(key::HELLASWAG_ACCURACY, found.accuracy);
    measured.metrics.insert(key::HELLASWAG_ACCURACY_BY_BYTES, found.accuracy_by_bytes);
    Ok(())
}

/// Token F1 of continuations against the true ones.
fn overlap(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.f1 else { return Ok(()) };
    let f1 = subject.evaluator.continuation_f1(&read_continuations(path)?, &subject.generation)?;
    measured.metrics.insert(key::TOKEN_F1, f1);
    Ok(())
}

/// How often a stereotype is likelier than its opposite.
fn stereotypes(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.minimal_pairs else { return Ok(()) };
    let pairs = read_minimal_pairs(path)?.into_iter().map(|p| MinimalPair { better: p.stereotype, worse: p.anti });
    let found = subject.evaluator.stereotype_bias(&pairs.collect::<Vec<_>>())?;
    measured.metrics.extend(found);
    Ok(())
}

/// How much of memorised texts the model repeats.
fn memorised(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.memorised else { return Ok(()) };
    let Evaluator { tokenizer, .. } = subject.evaluator;
    let pairs = subject.file(path).read_pairs(Some(tokenizer), Sides::Rejected)?;
    notes::of_unread(path, &pairs.unread_texts).iter().for_each(|note| tracing::warn!("{note}"));
    let evaluator = Evaluator { tokenizer: &tokenizer.of_kind(pairs.kind), ..subject.evaluator };
    measured.metrics.extend(evaluator.memorisation(&pairs.items, subject.plan.max_new_tokens)?);
    Ok(())
}

/// How often the rejected continuation of a pair is the likelier one.
fn preferences(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let Some(path) = &subject.plan.pairs else { return Ok(()) };
    let Evaluator { tokenizer, .. } = subject.evaluator;
    let pairs = subject.file(path).read_pairs(Some(tokenizer), Sides::Both)?;
    notes::of_unread(path, &pairs.unread_texts).iter().for_each(|note| tracing::warn!("{note}"));
    let evaluator = Evaluator { tokenizer: &tokenizer.of_kind(pairs.kind), ..subject.evaluator };
    let found = evaluator.wrong_preference(&pairs.items)?;
    let cut = notes::of_cut_contexts(found.n_truncated, pairs.items.len(), "prompts", evaluator.model.n_positions());
    cut.iter().for_each(|note| tracing::warn!("{}: {note}", path.display()));
    measured.metrics.insert(key::WRONG_PREFERENCE, found.share);
    Ok(())
}

/// KL from the reference to the model on neutral text.
fn divergence(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    let (Some(path), Some(reference)) = (&subject.plan.kl_texts, subject.reference) else { return Ok(()) };
    let Evaluator { model, tokenizer, batch_size } = subject.evaluator;
    let texts = documents(path, tokenizer, model.n_positions())?;
    let kl = kl_heldout(reference, model, &texts, batch_size)?;
    measured.metrics.insert(key::KL_HELDOUT, kl.metric);
    Ok(())
}

/// Which weights differ from the reference's.
fn change(subject: &Subject<'_>, measured: &mut Measured) -> anyhow::Result<()> {
    measured.footprint =
        subject.reference.map(|reference| footprint(reference, subject.evaluator.model)).transpose()?;
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
