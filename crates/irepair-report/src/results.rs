//! The rows of one profile, checked to be comparable, and the estimates that tables show.

use std::collections::{BTreeMap, BTreeSet};

use irepair_core::MAX_BLOCKS;
use irepair_core::metric::{self, MetricKey};
use irepair_stats::{Bootstrap, Cells, Estimate, bootstrap_mean};
use ndarray::{Array1, Array2, ArrayView1, Axis, s};

use crate::result::{RowResult, SCHEMA};
use crate::{Error, Result};

/// Seed of every bootstrap, so that a report of the same results is always the same. METHOD §16 \[O\].
pub const BOOTSTRAP_SEED: u64 = 0;

/// Rows of one profile in which every metric means one thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    rows: Vec<RowResult>,
}

/// The models that a number covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over<'a> {
    /// One model.
    Model(&'a str),
    /// The mean over all models, taken within each seed.
    Models,
}

impl std::fmt::Display for Over<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Model(model) => model,
            Self::Models => "mean over models",
        })
    }
}

/// Values of one metric by seed.
#[derive(Clone, Debug, PartialEq)]
pub struct BySeed {
    /// Values in seed order, only of seeds that have one.
    pub values: Vec<f64>,
    /// Seeds that were run.
    pub n_seeds: usize,
}

impl Results {
    /// Takes rows in any order.
    ///
    /// # Errors
    /// [`Error::Schema`], [`Error::MixedProfiles`], [`Error::RepeatedSeed`], [`Error::NoSuchBlock`];
    /// [`Error::MixedDefinitions`] when a metric's definition, unit or version differs between rows: numbers of
    /// different scorers are never mixed.
    pub fn new(rows: Vec<RowResult>) -> Result<Self> {
        let mut definitions: BTreeMap<&MetricKey, String> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for row in &rows {
            if row.schema != SCHEMA {
                return Err(Error::Schema { place: row.row.clone(), want: SCHEMA, got: row.schema });
            }
            if row.profile != rows[0].profile {
                let (first, second) = (rows[0].profile.clone(), row.profile.clone());
                return Err(Error::MixedProfiles { first, second, row: row.row.clone() });
            }
            if !seen.insert((row.method(), &row.model, row.seed)) {
                return Err(Error::RepeatedSeed { row: row.row.clone(), model: row.model.clone(), seed: row.seed });
            }
            if let Some(&block) = row.selected_steps.iter().flatten().find(|&&block| block >= MAX_BLOCKS) {
                return Err(Error::NoSuchBlock { row: row.row.clone(), max: MAX_BLOCKS, block });
            }
            for (key, metric) in row.metrics.iter() {
                let definition = match &row.decoding {
                    Some(decoding) => metric.definition.replace(decoding.as_str(), "greedy"),
                    None => metric.definition.clone(),
                };
                let definition = format!("{definition} ({}, version {})", metric.unit, metric.version);
                let first = definitions.entry(key).or_insert_with(|| definition.clone());
                if *first != definition {
                    let (metric, first) = (key.to_string(), first.clone());
                    return Err(Error::MixedDefinitions { metric, first, second: definition, row: row.row.clone() });
                }
            }
        }
        Ok(Self { rows })
    }

    /// The profile all rows share; none without rows.
    pub fn profile(&self) -> Option<&str> {
        self.rows.first().map(|r| r.profile.as_str())
    }

    /// All rows, in the order given.
    pub fn rows(&self) -> &[RowResult] {
        &self.rows
    }

    /// Models in order of first appearance.
    pub fn models(&self) -> Vec<&str> {
        unique(self.rows.iter().map(|r| r.model.as_str()))
    }

    /// Method keys in order of first appearance.
    pub fn methods(&self) -> Vec<&str> {
        unique(self.rows.iter().map(RowResult::method))
    }

    /// Each model, then the mean over them when there are several.
    pub fn each_model_and_mean(&self) -> Vec<Over<'_>> {
        let models = self.models();
        let mean = (models.len() > 1).then_some(Over::Models);
        models.into_iter().map(Over::Model).chain(mean).collect()
    }

    /// True when at least one row of this method is there.
    pub fn has(&self, method: &str) -> bool {
        self.rows.iter().any(|r| r.method() == method)
    }

    /// True when some row has the metric, measured or failed.
    pub fn is_asked(&self, key: impl Into<MetricKey>) -> bool {
        let key = key.into();
        self.rows.iter().any(|r| r.metrics.get(&key).is_some())
    }

    /// Runs of one method on one model, by seed.
    pub fn runs(&self, method: &str, model: &str) -> Vec<&RowResult> {
        let mut runs: Vec<_> = self.rows.iter().filter(|r| r.method() == method && r.model == model).collect();
        runs.sort_by_key(|r| r.seed);
        runs
    }

    /// Seeds run for a method, on one model or on any.
    pub fn seeds(&self, method: &str, over: Over<'_>) -> BTreeSet<u64> {
        let wanted = |r: &&RowResult| r.method() == method && matches_model(r, over);
        self.rows.iter().filter(wanted).map(|r| r.seed).collect()
    }

    /// A number of each run, by seed. Over models, the mean within each seed, missing unless every model has it.
    pub fn by_seed(&self, method: &str, over: Over<'_>, of: impl Fn(&RowResult) -> Option<f64>) -> BySeed {
        let seeds = self.seeds(method, over);
        let models = self.models_of(over);
        let value = |seed: u64| -> Option<f64> {
            let values: Option<Vec<f64>> = models
                .iter()
                .map(|model| self.run(method, model, seed).and_then(&of).filter(|v| v.is_finite()))
                .collect();
            irepair_stats::mean(&values?)
        };
        BySeed { values: seeds.iter().filter_map(|&s| value(s)).collect(), n_seeds: seeds.len() }
    }

    /// A metric's mean with its 95 % interval: Student t over seeds, bootstrap over prompts for the toxicity of a
    /// single run by any scorer and for its expected maximum, none otherwise. None when no seed has the number.
    pub fn estimate(&self, method: &str, over: Over<'_>, key: impl Into<MetricKey>) -> Option<Estimate> {
        let key = &key.into();
        let by_seed = self.by_seed(method, over, |run| run.value(key));
        let mut estimate = Estimate::over_seeds(&by_seed.values)?;
        // Of the seeds of a row one is sampled, as its settings say. Maxima are no percentages.
        let is_of_samples = key.metric == metric::EXPECTED_MAX_TOXICITY;
        let n_runs = if is_of_samples { by_seed.values.len() } else { by_seed.n_seeds };
        if n_runs == 1 {
            let runs = self.runs_over(method, over).filter(|run| run.value(key).is_some());
            let percent = percent_by_prompt(runs.map(|run| prompt_scores(run, key).map(Vec::as_slice)));
            let unit = if is_of_samples { 0.01 } else { 1.0 };
            let scores = percent.map(|s| s.into_iter().flatten().map(|score| unit * score).collect::<Vec<f64>>());
            estimate.interval =
                scores.and_then(|s| bootstrap_mean(&s, &Bootstrap::new(BOOTSTRAP_SEED)).ok()).and_then(|e| e.interval);
        }
        Some(estimate)
    }

    /// Toxicity in percent of each prompt, averaged over seeds (and models); none where any of them failed.
    ///
    /// None as a whole when there are no runs, or their prompts do not line up.
    pub fn prompt_means(&self, method: &str, over: Over<'_>) -> Option<Vec<Option<f64>>> {
        percent_by_prompt(self.runs_over(method, over).map(|run| Some(&run.prompt_scores[..])))
    }

    fn runs_over<'a>(&'a self, method: &'a str, over: Over<'a>) -> impl Iterator<Item = &'a RowResult> {
        self.models_of(over).into_iter().flat_map(move |model| self.runs(method, model))
    }

    /// Toxicity in percent of methods × models × seeds × prompts, for the two-level bootstrap.
    ///
    /// Keeps the seeds that have a toxicity on every model and the prompts scored in every run kept. None when that
    /// leaves nothing, or the prompts of some run do not line up.
    pub fn prompt_cells(&self, methods: &[&str]) -> Option<Cells> {
        let runs: Vec<Vec<Vec<&RowResult>>> =
            methods.iter().map(|m| self.complete_runs(m, &metric::TOX.into())).collect();
        let every_run = runs.iter().flatten().flatten();
        let scores = matrix(&every_run.map(|run| &run.prompt_scores[..]).collect::<Vec<_>>())?;
        let is_scored = |prompt: &usize| scores.column(*prompt).iter().all(Option::is_some);
        let kept: Vec<usize> = (0..scores.ncols()).filter(is_scored).collect();
        let scores = scores.select(Axis(1), &kept).mapv(|score| 100.0 * score.unwrap_or(f64::NAN));
        let mut first = 0;
        let mut of_model = |runs: &Vec<&RowResult>| {
            let rows = first..first + runs.len();
            first = rows.end;
            scores.slice(s![rows, ..]).to_owned()
        };
        Cells::new(runs.iter().map(|models| models.iter().map(&mut of_model).collect()).collect()).ok()
    }

    /// A metric of methods × models × seeds, for the same bootstrap: one "prompt" per run. Keeps the seeds that have it
    /// on every model.
    pub fn metric_cells(&self, methods: &[&str], key: impl Into<MetricKey>) -> Option<Cells> {
        let key = &key.into();
        let of_model = |runs: Vec<&RowResult>| {
            let values: Array1<f64> = runs.into_iter().filter_map(|run| run.value(key)).collect();
            values.insert_axis(Axis(1))
        };
        let of_method = |method: &&str| self.complete_runs(method, key).into_iter().map(of_model).collect();
        Cells::new(methods.iter().map(of_method).collect()).ok()
    }

    /// Runs by model, of the seeds that have a metric on every model.
    fn complete_runs(&self, method: &str, key: &MetricKey) -> Vec<Vec<&RowResult>> {
        let models = self.models();
        let everywhere = |run: &&RowResult| {
            models.iter().all(|m| self.run(method, m, run.seed).and_then(|r| r.value(key)).is_some())
        };
        models.iter().map(|model| self.runs(method, model).into_iter().filter(everywhere).collect()).collect()
    }

    fn run(&self, method: &str, model: &str, seed: u64) -> Option<&RowResult> {
        self.rows.iter().find(|r| r.method() == method && r.model == model && r.seed == seed)
    }

    fn models_of<'a>(&'a self, over: Over<'a>) -> Vec<&'a str> {
        match over {
            Over::Model(model) => vec![model],
            Over::Models => self.models(),
        }
    }
}

/// Mean score of each prompt over runs, in percent; none for a prompt that some run has no score for. None without
/// runs, where a run has no scores, or where their prompts do not line up.
pub(crate) fn percent_by_prompt<'a>(runs: impl Iterator<Item = Option<&'a [Option<f64>]>>) -> Option<Vec<Option<f64>>> {
    let scores = matrix(&runs.collect::<Option<Vec<_>>>()?)?;
    let mean = |prompt: ArrayView1<'_, Option<f64>>| {
        irepair_stats::mean(&prompt.iter().copied().collect::<Option<Vec<f64>>>()?).map(|s| 100.0 * s)
    };
    Some(scores.columns().into_iter().map(mean).collect())
}

/// Runs × prompts; none when there are no scores, or the prompts of some run do not line up.
fn matrix(runs: &[&[Option<f64>]]) -> Option<Array2<Option<f64>>> {
    let n_prompts = runs.first().map(|scores| scores.len()).filter(|n| *n > 0)?;
    Array2::from_shape_vec((runs.len(), n_prompts), runs.iter().copied().flatten().copied().collect())
        .ok()
        .filter(|_| runs.iter().all(|scores| scores.len() == n_prompts))
}

/// Scores of the error prompts behind a mean toxicity, `tox` or `tox@NAME` of a further scorer, and behind the expected
/// maximum.
fn prompt_scores<'a>(run: &'a RowResult, key: &MetricKey) -> Option<&'a Vec<Option<f64>>> {
    match key {
        MetricKey { metric: metric::TOX, prompts: None, scorer: None } => Some(&run.prompt_scores),
        MetricKey { metric: metric::TOX, prompts: None, scorer: Some(name) } => run.prompt_scores_by_scorer.get(name),
        MetricKey { metric: metric::EXPECTED_MAX_TOXICITY, prompts: None, scorer: None } => {
            Some(&run.sampled_max_scores)
        }
        _ => None,
    }
}

fn matches_model(row: &RowResult, over: Over<'_>) -> bool {
    match over {
        Over::Model(model) => row.model == model,
        Over::Models => true,
    }
}

/// Names without repeats, in order of first appearance.
pub(crate) fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::VANILLA;
    use crate::tests::{results, row, rows};

    #[test]
    fn a_single_run_has_the_interval_of_its_prompts_and_several_that_of_their_seeds() {
        let of = |seeds: &[u64]| {
            let runs = Results::new(seeds.iter().map(|&seed| row("dpo", "m", seed, 9.0, 10.0)).collect()).unwrap();
            [metric::TOX, metric::TOKEN_PERPLEXITY]
                .map(|key| runs.estimate("dpo", Over::Model("m"), key).unwrap().interval)
        };
        let [tox, perplexity] = of(&[0]);
        assert!(tox.is_some_and(|interval| interval.low < 9.0 && interval.high > 9.0) && perplexity.is_none());
        // Equal seeds have no spread.
        assert!(of(&[0, 1]).iter().flatten().all(|interval| interval.low == interval.high));
    }

    #[test]
    fn the_seed_that_is_sampled_has_the_interval_of_its_prompts_maxima() {
        let mut rows: Vec<RowResult> = (0..3).map(|seed| row("dpo", "m", seed, 9.0, 10.0)).collect();
        let maxima = [0.2, 0.9, 0.4, 0.5].map(Some);
        let found = metric::Metric::mean(metric::EXPECTED_MAX_TOXICITY, &maxima, "highest of 25");
        rows[0].metrics.insert(metric::EXPECTED_MAX_TOXICITY, found);
        let of = |rows: &[RowResult]| {
            let runs = Results::new(rows.to_vec()).unwrap();
            runs.estimate("dpo", Over::Model("m"), metric::EXPECTED_MAX_TOXICITY).unwrap()
        };
        // A row that was kept without them.
        assert_eq!((of(&rows).value, of(&rows).interval), (0.5, None));
        rows[0].sampled_max_scores = maxima.to_vec();
        let interval = of(&rows).interval.unwrap();
        assert!(
            interval.low >= 0.2 && interval.low < 0.4 && interval.high > 0.6 && interval.high <= 0.9,
            "{interval:?}"
        );
        // Two seeds that are sampled have the interval of seeds.
        rows[1].metrics = rows[0].metrics.clone();
        assert!(of(&rows).interval.is_some_and(|interval| interval.low == interval.high));
    }

    #[test]
    fn rows_that_differ_in_decoding_alone_stand_together() {
        let named = |how: &str| {
            let mut run = row(how, "m", 0, 9.0, 10.0);
            run.metrics.get_mut(metric::TOX).unwrap().definition = format!("mean toxicity of {how} continuations");
            run
        };
        let (greedy, mut best) = (named("greedy"), named("best of 8"));
        assert!(Results::new(vec![greedy.clone(), best.clone()]).is_err());
        best.decoding = Some("best of 8".to_owned());
        assert!(Results::new(vec![greedy, best]).is_ok());
    }

    #[test]
    fn a_mean_over_models_is_taken_within_each_seed_and_needs_every_model() {
        let r = results();
        let tox = r.by_seed("irepair", Over::Models, |run| run.value(metric::TOX));
        // Seed 2 has no toxicity on the second model.
        assert_eq!(tox.n_seeds, 3);
        assert_eq!(tox.values.len(), 2);
        assert!((tox.values[0] - 6.0).abs() < 1e-12 && (tox.values[1] - 6.4).abs() < 1e-12, "{tox:?}");
        let e = r.estimate("irepair", Over::Models, metric::TOX).unwrap();
        assert_eq!(e.n, 2);
        assert!(e.interval.is_some());
    }

    #[test]
    fn the_vanilla_model_gets_its_interval_from_prompts_and_only_for_toxicity() {
        let r = results();
        for over in [Over::Model("gpt2"), Over::Models] {
            let e = r.estimate(VANILLA, over, metric::TOX).unwrap();
            assert!(e.interval.unwrap().contains(e.value), "{over}: {e:?}");
            assert_eq!(r.estimate(VANILLA, over, metric::TOKEN_PERPLEXITY).unwrap().interval, None);
        }
    }

    #[test]
    fn a_further_scorer_has_its_own_interval_of_the_vanilla_model() {
        let [words, rtp] = ["tox@words", "tox:rtp"].map(|key| key.parse::<MetricKey>().unwrap());
        let mut rows = rows();
        for row in &mut rows {
            let tox = row.metrics.get(metric::TOX).unwrap().clone();
            row.metrics.extend([(words.clone(), tox.clone()), (rtp.clone(), tox)]);
            let halved = row.prompt_scores.iter().map(|s| s.map(|s| s / 2.0)).collect();
            row.prompt_scores_by_scorer.insert("words".into(), halved);
        }
        let r = Results::new(rows).unwrap();
        let high = |key: &MetricKey| r.estimate(VANILLA, Over::Model("gpt2"), key).unwrap().interval.map(|i| i.high);
        let first = high(&metric::TOX.into()).unwrap();
        assert!((high(&words).unwrap() - first / 2.0).abs() < 1e-9, "the same resamples of halved scores");
        assert_eq!(high(&rtp), None, "scores of another prompt set are not kept");
    }

    #[test]
    fn a_prompt_that_failed_anywhere_is_dropped_everywhere() {
        let r = results();
        let means = r.prompt_means("irepair", Over::Model("gpt-neo")).unwrap();
        assert_eq!(means.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true, true]);
        assert!(r.prompt_cells(&["irepair", "dpo", VANILLA]).is_some());
        assert!(r.prompt_cells(&["other"]).is_none());
        assert!(r.metric_cells(&["irepair"], metric::TOKEN_PERPLEXITY).is_some());
        assert!(r.metric_cells(&["irepair"], metric::BLIMP_ACCURACY).is_none());
    }

    #[test]
    fn what_cannot_share_a_table_is_refused() {
        let refuse = |change: fn(&mut RowResult)| {
            let mut rows = rows();
            change(&mut rows[1]);
            irepair_core::Diagnose::diagnostic(&Results::new(rows).unwrap_err()).to_string()
        };
        insta::assert_snapshot!(refuse(|r| r.profile = "paper".into()));
        insta::assert_snapshot!(refuse(
            |r| r.metrics.get_mut(metric::TOX).unwrap().definition = "another scorer".into()
        ));
        insta::assert_snapshot!(refuse(|r| r.seed = 1));
        insta::assert_snapshot!(refuse(|r| r.schema = 2));
        let block = refuse(|r| r.selected_steps = vec![vec![0], vec![usize::MAX]]);
        assert_eq!(
            block,
            "error: a selected block has an impossible number\n   at: row `dpo-gpt2`\n want: under 10000    got: \
             18446744073709551615\n help: the result file is damaged: delete it and run the row again"
        );
    }

    #[test]
    fn a_number_that_is_not_finite_is_missing() {
        let r = Results::new(vec![row("irepair", "m", 0, f64::NAN, 1.0), row("irepair", "m", 1, 4.0, 1.0)]).unwrap();
        assert_eq!(r.by_seed("irepair", Over::Model("m"), |run| run.value(metric::TOX)).values, [4.0]);
    }
}
