//! `irepair scorer`: train an offline toxicity scorer; measure one on labelled texts.

use std::collections::BTreeMap;
use std::time::Instant;

use irepair_classifier::{Classifier, Record, TrainSettings, train_classifier};
use irepair_config::{Dtype, Judge, ScorerEvalPlan, ScorerKind, ScorerTrainPlan, Shape};
use irepair_core::fs::sha256_file;
use irepair_data::{Labeled, read_labels};
use irepair_scorer::{
    IdentityCheck, LinearScorer, LinearSettings, Quality, Scorer, WordSettings, identity_check, toxic_words,
    train_linear,
};
use serde::Serialize;
use serde_json::Value;
use tch::Device;

use crate::apply::refuse_unscored;
use crate::error::CliError;
use crate::model_dir::use_threads;
use crate::output::{print, print_json};
use crate::scorers::{ClassifierUse, open_scorer};
use crate::{memory, progress};

/// Runs `irepair scorer train`.
pub(crate) fn train(plan: &ScorerTrainPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    let (data, out) = (&plan.data, &plan.out);
    if out.exists() {
        return Err(CliError::OutExists { path: out.clone() }.into());
    }
    // Hashed before it is read: a file that changes meanwhile must not be recorded under its later hash.
    let sha256 = sha256_file(data)?;
    let labels = read_labels(data)?;
    let start = Instant::now();
    let (json, text) = match plan.kind {
        ScorerKind::Linear => {
            let settings = LinearSettings { c: plan.penalty_c, ..LinearSettings::default() };
            let scorer = train_linear(&labels, sha256, settings)?;
            scorer.write(out)?;
            linear(&scorer, start)
        }
        ScorerKind::Transformer => {
            let settings = TrainSettings {
                vocab_size: plan.vocab_size,
                n_block: plan.n_layer,
                n_embd: plan.n_embd,
                n_head: plan.n_head,
                n_positions: plan.n_positions,
                n_epochs: plan.epochs,
                batch_size: plan.batch_size,
                lr: plan.lr,
                seed: plan.seed,
            };
            fit(plan, &labels)?;
            let bar = progress::bar("scorer", 0);
            let record = train_classifier(&labels, sha256, settings, out, |step, n_steps, loss| {
                bar.set_length(n_steps);
                bar.set_position(step);
                bar.set_message(format!("loss {loss:.3}"));
                // The bar is for terminals; a log gets ten lines.
                if step.is_multiple_of(n_steps.div_ceil(10)) {
                    tracing::info!("step {step} of {n_steps}: loss {loss:.3}");
                }
            })?;
            bar.finish_and_clear();
            let scorer = Classifier::load(out, None, Device::Cpu, 1)?;
            transformer(&scorer, &record, start)
        }
        ScorerKind::Words => {
            let list = toxic_words(&labels, WordSettings::default());
            anyhow::ensure!(list.words().next().is_some(), CliError::NoWords { path: data.clone() });
            let lines: String = list.words().map(|word| format!("{word}\n")).collect();
            irepair_core::fs::write_atomic(out, lines.as_bytes())?;
            let scorer = open_scorer(
                &Judge::Words(out.clone()),
                &ClassifierUse { toxic_labels: None, device: "cpu", batch_size: 1 },
            )?;
            let (name, n) = (scorer.name(), list.words().len());
            let json = serde_json::json!({ "name": name, "data_sha256": sha256, "n_words": n });
            (json, format!("{name}: {n} words\ntrained on file {sha256}\n"))
        }
    };
    if plan.json { print_json(&json) } else { print(&format!("{text}scorer: {}\n", out.display())) }
}

/// Refuses a transformer whose weights, gradients, optimizer state and order of texts alone are more than there is
/// memory.
fn fit(plan: &ScorerTrainPlan, labels: &[Labeled]) -> anyhow::Result<()> {
    // Every token is a byte, one of five marks, or joins two places of the texts.
    let most_tokens = 261 + labels.iter().map(|label| label.text.len()).sum::<usize>();
    let sizes = [plan.n_layer, plan.n_embd, plan.n_head];
    // A classifier's blocks have the weights of GPT-2's.
    let shape = Shape::new("gpt2", sizes, plan.n_positions, plan.vocab_size.min(most_tokens));
    let n_weights = shape.architecture()?.n_weights();
    let order = plan.epochs.saturating_mul((size_of::<usize>() * labels.len()) as u64);
    let needed = order.saturating_add((4 * Dtype::F32.n_bytes()).saturating_mul(n_weights));
    let instead = "a smaller --n-layer, --n-embd, --n-positions or --vocab-size, or fewer --epochs";
    Ok(memory::fit(needed, memory::free("cpu", None), instead)?)
}

/// A trained linear scorer as JSON and as text.
fn linear(scorer: &LinearScorer, start: Instant) -> (Value, String) {
    let (name, manifest, seconds) = (scorer.name(), scorer.manifest(), start.elapsed().as_secs_f64());
    let t = &manifest.training;
    let text = format!(
        "{name}: {} n-grams, fitted on {} texts in {} steps, calibrated on {} others, {} without words left out; \
         {seconds:.1} s\ntrained on file {}\n",
        t.n_features, t.n_fit, t.n_iterations, t.n_calibration, t.n_blank, t.data_sha256
    );
    (serde_json::json!({ "name": name, "seconds": seconds, "manifest": manifest }), text)
}

/// A trained transformer as JSON and as text.
fn transformer(scorer: &Classifier, record: &Record, start: Instant) -> (Value, String) {
    let (name, seconds) = (scorer.name(), start.elapsed().as_secs_f64());
    let Record { data_sha256, n_texts, n_toxic, n_steps, last_loss, settings, .. } = record;
    let json = serde_json::json!({
        "name": name, "seconds": seconds, "data_sha256": data_sha256, "n_texts": n_texts, "n_toxic": n_toxic,
        "n_steps": n_steps, "last_loss": last_loss, "settings": settings,
    });
    let text = format!(
        "{name}: {n_steps} steps on {n_texts} texts, last loss {last_loss:.4} nats; {seconds:.1} s\n\
         trained on file {data_sha256}\n"
    );
    (json, text)
}

/// The output of `irepair scorer eval`.
#[derive(Serialize)]
struct Evaluation {
    scorer: String,
    version: u32,
    data_sha256: String,
    /// Number of texts without a score, by reason.
    failures: BTreeMap<String, usize>,
    all: Quality,
    by_source: BTreeMap<String, Quality>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_terms: Option<IdentityCheck>,
}

/// Runs `irepair scorer eval`.
pub(crate) fn eval(plan: &ScorerEvalPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    let data = &plan.data;
    plan.out.as_deref().map_or(Ok(()), irepair_patch::refuse_existing)?;
    let run =
        ClassifierUse { toxic_labels: plan.toxic_labels.as_deref(), device: &plan.device, batch_size: plan.batch_size };
    let scorer = open_scorer(&plan.scorer, &run)?;
    let data_sha256 = sha256_file(data)?;
    let labels = read_labels(data)?;
    let texts: Vec<&str> = labels.iter().map(|label| label.text.as_str()).collect();
    let mut failures = BTreeMap::new();
    let keep = |score: Result<f64, String>| score.map_err(|why| *failures.entry(why).or_insert(0) += 1).ok();
    let scores: Vec<Option<f64>> = scorer.score_all(&texts).into_iter().map(keep).collect();
    let found = Evaluation {
        scorer: scorer.name().to_owned(),
        version: scorer.version(),
        data_sha256,
        failures,
        all: quality(&labels, &scores, |_| true),
        by_source: by_source(&labels, &scores),
        identity_terms: plan.identity_terms.then(|| identity_check(&*scorer)),
    };
    let json = serde_json::to_string_pretty(&found)? + "\n";
    if let Some(out) = &plan.out {
        irepair_core::fs::write_atomic(out, json.as_bytes())?;
    }
    print(&if plan.json { json } else { table(&found) })?;
    let first = found.failures.keys().next().cloned();
    refuse_unscored(data, found.all.n + found.all.n_failed, found.all.n_failed, first)
}

fn quality(labels: &[Labeled], scores: &[Option<f64>], is_counted: impl Fn(&Labeled) -> bool) -> Quality {
    let both = labels.iter().zip(scores).filter(|(label, _)| is_counted(label));
    let (toxic, scores): (Vec<bool>, Vec<Option<f64>>) = both.map(|(label, score)| (label.toxic, *score)).unzip();
    Quality::of(&scores, &toxic)
}

fn by_source(labels: &[Labeled], scores: &[Option<f64>]) -> BTreeMap<String, Quality> {
    let sources: std::collections::BTreeSet<&str> = labels.iter().filter_map(|l| l.source.as_deref()).collect();
    let one = |source: &str| quality(labels, scores, |label| label.source.as_deref() == Some(source));
    sources.into_iter().map(|source| (source.to_owned(), one(source))).collect()
}

fn table(found: &Evaluation) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
    let percent = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{:.1} %", 100.0 * v));
    let mut text = format!("scorer `{}` version {}\n", found.scorer, found.version);
    for (why, n) in &found.failures {
        text += &format!("{n} without a score: {why}\n");
    }
    text += &format!(
        "\n{:<20} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}\n",
        "source", "n", "failed", "toxic", "AUC", "F1", "prec.", "recall", "FPR", "acc.", "Brier", "ECE"
    );
    for (source, q) in std::iter::once(("all", &found.all)).chain(found.by_source.iter().map(|(s, q)| (s.as_str(), q)))
    {
        text += &format!("{source:<20} {:>7} {:>7} {:>7}", q.n, q.n_failed, q.n_toxic);
        for value in [q.auc, q.f1, q.precision, q.recall, q.false_positive_rate, q.accuracy, q.brier, q.ece] {
            text += &format!(" {:>7}", number(value));
        }
        text += "\n";
    }
    text += "\nreliability, all sources\n";
    for bin in &found.all.bins {
        let (mean, share) = (number(bin.mean_score), number(bin.toxic_share));
        text += &format!("({:.1}, {:.1}]  n {:>6}  mean score {mean:>7}  toxic {share:>7}\n", bin.from, bin.to, bin.n);
    }
    if let Some(check) = &found.identity_terms {
        text += "\nfalse positives over 0.5 on neutral sentences, and their mean score\n";
        for rate in [&check.control, &check.identity].into_iter().chain(&check.terms) {
            let (positives, mean) = (percent(rate.false_positive_rate), number(rate.mean_score));
            text += &format!(
                "{:<20} {positives:>8}  mean {mean:>7}  n {:>4}  failed {}\n",
                rate.term, rate.n, rate.n_failed
            );
        }
    }
    text
}
