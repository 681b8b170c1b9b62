//! Made-up results that the tests of this crate share.

use std::collections::BTreeMap;

use irepair_config::{
    BaseModel, Comparison, Experiment, FigureKey, Method, Paper, Policy, Profile, RepairOptions, Row, TableKey,
    from_str,
};
use irepair_core::SliceSize;
use irepair_core::metric::{self, Metric, Metrics};

use crate::report::Report;
use crate::result::{
    Compared, Cost, MeasuredStep, PointDetails, Purpose, RowResult, SCHEMA, Sample, SensitivityResult, Stopped,
    TrajectoryPoint, VANILLA,
};
use crate::results::Results;

/// A metric of four things, one of them failed.
pub(crate) fn measured(value: Option<f64>, unit: &str, definition: &str) -> Metric {
    Metric {
        value,
        unit: unit.into(),
        n: 4,
        n_failed: 1,
        definition: definition.into(),
        version: 2,
        values: Vec::new(),
    }
}

/// A row with toxicity and perplexity, and prompt scores that agree with the toxicity.
pub(crate) fn row(method: &str, model: &str, seed: u64, toxicity: f64, perplexity: f64) -> RowResult {
    let metrics = Metrics::from_iter([
        (metric::TOX, measured(Some(toxicity), "%", "mean lexicon score of greedy continuations")),
        (metric::TOKEN_PERPLEXITY, measured(Some(perplexity), "", "exp of the mean NLL, window 64")),
        (metric::LAST_WORD_ACCURACY, measured(Some(90.0), "%", "last word exact")),
        (metric::DISTINCT_1, measured(Some(0.5), "", "different tokens / tokens")),
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
        sampled_max_scores: Vec::new(),
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
        ..RowResult::default()
    }
}

/// Points 10 steps apart.
pub(crate) fn trajectory(places: &[(f64, f64)]) -> Vec<TrajectoryPoint> {
    let point = |(i, &(toxicity, perplexity)): (usize, &(f64, f64))| TrajectoryPoint {
        step: 10 * i as u64,
        toxicity: Some(toxicity),
        perplexity: Some(perplexity),
        more: None,
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

/// Some of the paper's numbers.
const PAPER: &str = "
pooled_density_percent = 773.0
models = [
    { name = 'gpt2-large', title = 'GPT2-Large', density_percent = 120.8 },
    { name = 'gpt-neo', title = 'GPT-Neo 1.3B', density_percent = 1137.7 },
]
headlines = [
    { claim = 'H1', method = 'irepair', percent = 88.7 },
    { claim = 'H1', method = 'dpo', percent = 61.8 },
    { claim = 'H2', method = 'irepair', percent = 43.6 },
    { claim = 'H3', method = 'irepair', percent = 46.0 },
]
[[methods]]
name = 'vanilla'
mean = { tox = 43.54, token_perplexity = 17.13 }
models.gpt2-large = { tox = 41.53, token_perplexity = 19.44 }
models.gpt-neo = { tox = 40.89, token_perplexity = 14.56 }
[[methods]]
name = 'dapt'
mean = { tox = 27.77, token_perplexity = 22.31 }
models.gpt2-large = { tox = 11.99, token_perplexity = 26.95 }
models.gpt-neo = { tox = 31.57, token_perplexity = 17.00 }
[[methods]]
name = 'dpo'
mean = { tox = 16.65, token_perplexity = 20.61 }
[[methods]]
name = 'irepair'
step_time = 1.93
mean = { tox = 4.91, token_perplexity = 19.01 }
models.gpt2-large = { tox = 5.11, token_perplexity = 22.35 }
models.gpt-neo = { tox = 4.94, token_perplexity = 16.52 }
[[methods]]
name = 'reverse'
mean = { tox = 43.40, token_perplexity = 19.26 }
";

/// A run that had the given error and KL at steps 0, 10 and 20 on validation data, and stopped at 20.
pub(crate) fn kept(method: &str, seed: u64, stopped: Stopped, test_tox: f64) -> RowResult {
    let mut run = row(method, "m", seed, test_tox, 11.0);
    let point = |step: u64, kl: f64, error: f64| TrajectoryPoint {
        step,
        toxicity: Some(error),
        perplexity: Some(10.0),
        more: Some(PointDetails { kl: Some(kl), passes: true, ..PointDetails::default() }),
    };
    run.trajectory = vec![point(0, 0.0, 40.0), point(10, 0.05, 20.0), point(20, 0.2, 2.0)];
    run.stopped = Some(stopped);
    let of = |purpose, step: u64| Compared { purpose, n_steps: step, flops: 1e12 * step as f64, step };
    run.compared = vec![
        of(Purpose::Stopped, 20),
        of(Purpose::EqualUpdates, 10),
        of(Purpose::EqualCompute, 20),
        of(Purpose::Budget(0.1), 10),
    ];
    let at_10 = row(method, "m", seed, test_tox + 15.0, 10.5);
    run.measured = vec![MeasuredStep {
        step: 10,
        metrics: at_10.metrics,
        prompt_scores: at_10.prompt_scores,
        ..Default::default()
    }];
    run
}

/// Rows of every kind: run and not, of the paper and not, of the main tables, of RQ3 and of an ablation.
pub(crate) fn experiment() -> Experiment {
    use TableKey::{Ablation, General, Guard, Headlines, Pairwise, Rq1, Rq2, Rq3, Scorers, Trajectory};
    let drawn = [FigureKey::Pareto, FigureKey::Trajectory, FigureKey::Cost];
    let main = [Headlines, Rq1, Trajectory, Scorers, General, Guard, Pairwise, Rq2];
    let others = [Scorers, General, Guard, Ablation];
    let row = |method: Method, policy: Option<Policy>, paper: Option<&str>, tables: &[TableKey]| Row {
        tables: tables.to_vec(),
        paper: paper.map(str::to_owned),
        repair: RepairOptions { method: Some(method), policy, ..RepairOptions::default() },
        ..Row::default()
    };
    let (reverse, random) = (Some(Policy::Reverse), Some(Policy::Random));
    let with_figures = |row: Row, figures: &[FigureKey]| Row { figures: figures.to_vec(), ..row };
    let slice = |row: Row, share: &str| Row {
        repair: RepairOptions { top_k: share.parse::<SliceSize>().ok(), ..row.repair },
        ..row
    };
    let repaired = with_figures(row(Method::Irepair, None, Some("irepair"), &[&main[..], &[Rq3]].concat()), &drawn);
    let cell = || row(Method::Irepair, None, None, &others);
    let vanilla = row(Method::Vanilla, None, Some("vanilla"), &[Rq1, Scorers, General, Guard, Pairwise, Rq3]);
    let rows = [
        ("vanilla", with_figures(vanilla, &drawn[..1])),
        ("dapt", with_figures(row(Method::Dapt, None, Some("dapt"), &main), &drawn)),
        ("dpo", with_figures(row(Method::Dpo, None, Some("dpo"), &main), &drawn)),
        ("reverse", row(Method::Irepair, reverse, Some("reverse"), &[Rq3])),
        ("random", row(Method::Irepair, random, None, &[Rq3])),
        ("random-no-kl", row(Method::IrepairNoKl, random, None, &[Rq3])),
        ("irepair", with_figures(repaired, &[&drawn[..], &[FigureKey::Selection]].concat())),
        ("dynamic-20", slice(cell(), "20%")),
        ("dynamic-50", slice(cell(), "50%")),
    ];
    let titled = |(i, (key, row)): (usize, (&str, Row))| {
        (key.to_owned(), Row { title: key.to_uppercase(), order: Some(i as u32), ..row })
    };
    let model = |name: &str, paper: &str| BaseModel {
        name: name.into(),
        title: name.into(),
        paper: Some(paper.into()),
        ..BaseModel::default()
    };
    let profile = Profile {
        models: vec![model("gpt2", "gpt2-large"), model("gpt-neo", "gpt-neo")],
        compare: Comparison { subject: Some("irepair".into()), baseline: Some("dpo".into()) },
        ..Profile::default()
    };
    let rows = rows.into_iter().enumerate().map(titled).collect();
    Experiment { profile, rows, paper: from_str::<Paper>(PAPER, "paper.toml").unwrap(), ..Experiment::default() }
}

/// [`rows`] where [`experiment`] puts them, without sensitivities.
pub(crate) fn report() -> Report {
    Report { title: "Made up".into(), experiment: experiment(), results: results(), ..Report::default() }
}
