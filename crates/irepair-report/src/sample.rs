//! A small made-up result set for this crate's tests.

use std::collections::BTreeMap;

use crate::result::{Cost, Metric, RowResult, SCHEMA, Sample, SensitivityResult, TrajectoryPoint, VANILLA, metric};
use crate::results::Results;

/// A metric of four things, one of them failed.
pub(crate) fn measured(value: Option<f64>, unit: &str, definition: &str) -> Metric {
    Metric { value, unit: unit.into(), n: 4, n_failed: 1, definition: definition.into(), version: 2 }
}

/// A row with toxicity and perplexity, and prompt scores that agree with the toxicity.
pub(crate) fn row(method: &str, model: &str, seed: u64, toxicity: f64, perplexity: f64) -> RowResult {
    let metrics = BTreeMap::from([
        (metric::TOX.into(), measured(Some(toxicity), "%", "mean lexicon score of greedy continuations")),
        (metric::TOKEN_PERPLEXITY.into(), measured(Some(perplexity), "", "exp of the mean NLL, window 64")),
        (metric::CLOZE_ACCURACY.into(), measured(Some(90.0), "%", "last word exact")),
        (metric::DISTINCT_1.into(), measured(Some(0.5), "", "different words / words")),
    ]);
    let spread = [0.5, 1.5, 0.8, 1.2].map(|factor| Some((toxicity / 100.0 * factor).min(1.0)));
    let trained = method != VANILLA;
    RowResult {
        schema: SCHEMA,
        profile: "planted".into(),
        row: format!("{method}-{model}"),
        title: method.to_uppercase(),
        model: model.into(),
        seed,
        lr: trained.then_some(5e-4),
        metrics,
        prompt_scores: spread.to_vec(),
        prompt_scores_by_scorer: BTreeMap::new(),
        cost: trained.then_some(Cost {
            train_s: 10.0 + seed as f64,
            median_step_s: if method == "dpo" { 0.2 } else { 0.1 },
            tokens: 1000,
            tokens_per_s: 100.0,
            peak_rss_bytes: 512 << 20,
            flops: 4e12,
            n_steps: 100,
            best_step: 80,
        }),
        selection: vec![],
        selected_steps: vec![],
        weight_change: vec![],
        trajectory: Vec::new(),
        samples: vec![],
    }
}

/// Points 10 steps apart.
pub(crate) fn trajectory(places: &[(f64, f64)]) -> Vec<TrajectoryPoint> {
    let point = |(i, &(toxicity, perplexity)): (usize, &(f64, f64))| TrajectoryPoint {
        step: 10 * i as u64,
        toxicity: Some(toxicity),
        perplexity: Some(perplexity),
    };
    places.iter().enumerate().map(point).collect()
}

/// Two models, three seeds; IRepair's seed 2 on the second model has no toxicity.
pub(crate) fn rows() -> Vec<RowResult> {
    let mut rows = Vec::new();
    for (model, shift) in [("gpt2", 0.0), ("gpt-neo", 2.0)] {
        rows.push(row(VANILLA, model, 0, 45.0 + shift, 17.0));
        for (method, toxicity, perplexity) in [("dpo", 16.0, 20.5), ("irepair", 5.0, 19.0)] {
            for seed in 0..3 {
                let wobble = seed as f64 * 0.4;
                rows.push(row(method, model, seed, toxicity + shift + wobble, perplexity + wobble));
            }
        }
    }
    let last = rows.last_mut().unwrap();
    last.metrics.get_mut(metric::TOX).unwrap().value = None;
    last.prompt_scores[0] = None;
    let first = rows.iter_mut().find(|r| r.method() == "irepair").unwrap();
    first.selection = vec![3, 0, 5];
    first.selected_steps = vec![vec![0], vec![2], vec![2], vec![0], vec![2], vec![0], vec![2], vec![2]];
    first.trajectory = trajectory(&[(45.0, 17.0), (20.0, 18.0), (5.0, 19.0)]);
    first.samples =
        vec![Sample { prompt: "the <b>fox</b>".into(), before: "was & rude".into(), after: "was kind".into() }];
    rows
}

pub(crate) fn results() -> Results {
    Results::new(rows()).unwrap()
}

/// Error and neutral text for both models.
pub(crate) fn sensitivities() -> Vec<SensitivityResult> {
    let one = |model: &str, text: &str, values: &[f64]| SensitivityResult {
        schema: SCHEMA,
        profile: "planted".into(),
        model: model.into(),
        metric: "grad_l2".into(),
        reduction: "norm_of_mean".into(),
        text: text.into(),
        n_batches: 20,
        values: values.to_vec(),
    };
    vec![
        one("gpt2", "error", &[1.0, 1.0, 4.0, 1.0, 1.0]),
        one("gpt2", "neutral", &[1.0, 2.0, 1.5, 1.2, 1.1]),
        one("gpt-neo", "error", &[2.0, 2.0, 2.0, 20.0, 2.0]),
        one("gpt-neo", "neutral", &[1.0, 2.0, 1.5, 1.2, 1.1]),
    ]
}
