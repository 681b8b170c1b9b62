//! The learning-rate search of profiles under METHOD §20: successive halving on points of validation data. Every method
//! gets the same rates, updates and patience; a run that continues is continued, not repeated.

use std::fmt::Write as _;

use anyhow::Result;
use irepair_config::{Experiment, Protocol, RepairOptions, Row};
use irepair_core::{Diagnostic, ExitKind};
use irepair_report::{RowResult, TrajectoryPoint, candidate, within_budget};

use crate::cell::Cell;
use crate::kept::Kept;
use crate::prepare::Prepared;
use crate::tune::name;

/// Rates that run to the end.
const FINALISTS: usize = 2;

/// The search of one row on one model.
pub(crate) struct Search<'a> {
    pub(crate) key: &'a str,
    pub(crate) model: &'a str,
    row: &'a Row,
    /// Rates that have not been dropped.
    alive: Vec<f64>,
    /// Every rate with its runs, one a seed, as far as they went.
    pub(crate) tried: Vec<(f64, Vec<RowResult>)>,
}

/// Runs the search of every row and model; returns what was tried, and failures other than runs that diverged.
///
/// # Errors
/// When files cannot be written or read.
pub(crate) fn search<'a>(
    prepared: &'a Prepared,
    protocol: &Protocol,
    rows: &[(&'a String, &'a Row)],
) -> Result<(Vec<Search<'a>>, Vec<Diagnostic>)> {
    let profile = &prepared.experiment.profile;
    let of_row = |&(key, row): &(&'a String, &'a Row)| {
        let of_model = move |model: &'a irepair_config::BaseModel| Search {
            key,
            model: &model.name,
            row,
            alive: profile.grid.lr.clone(),
            tried: profile.grid.lr.iter().map(|lr| (*lr, Vec::new())).collect(),
        };
        profile.models_of(row).map(of_model)
    };
    let mut searches: Vec<Search<'a>> = rows.iter().flat_map(of_row).collect();
    let (mut n_steps, mut failures) = (protocol.halving_start, Vec::new());
    while n_steps < protocol.cap && searches.iter().any(|search| search.alive.len() > FINALISTS) {
        failures.extend(round(prepared, &mut searches, Some(n_steps), |search| search.alive.len() > FINALISTS)?);
        for search in searches.iter_mut().filter(|search| search.alive.len() > FINALISTS) {
            let costs: Vec<(f64, Option<f64>)> =
                search.alive.iter().map(|&lr| (lr, search.cost(lr, n_steps))).collect();
            search.alive = survivors(&costs, protocol.halving_factor as usize);
            for &(lr, _) in costs.iter().filter(|(lr, _)| !search.alive.contains(lr)) {
                (0..u64::from(profile.grid.seeds)).try_for_each(|seed| search.cell(prepared, lr, seed).end())?;
            }
        }
        n_steps = n_steps.saturating_mul(protocol.halving_factor);
    }
    failures.extend(round(prepared, &mut searches, None, |_| true)?);
    failures.retain(|failure| failure.exit != ExitKind::Outcome);
    Ok((searches, failures))
}

/// Kept results of the search, of the present settings.
///
/// # Errors
/// As [`Cell::kept_result`].
pub(crate) fn kept(prepared: &Prepared) -> Result<Vec<RowResult>> {
    let Experiment { profile, rows, .. } = &prepared.experiment;
    if profile.protocol.is_none() {
        return Ok(Vec::new());
    }
    let (mut found, mut measured_on) = (Vec::new(), None);
    for (key, row) in rows.iter().filter(|(_, row)| row.repair.method().has_rate() && row.rates_of.is_none()) {
        for model in profile.models_of(row) {
            let search = Search { key, model: &model.name, row, alive: Vec::new(), tried: Vec::new() };
            for (lr, seed) in profile.grid.lr.iter().flat_map(|lr| (0..profile.grid.seeds).map(move |seed| (lr, seed)))
            {
                let kept = search.cell(prepared, *lr, u64::from(seed)).kept_result()?;
                let is_of_first =
                    |kept: &Kept| *measured_on.get_or_insert_with(|| kept.measured_on.clone()) == kept.measured_on;
                found.extend(kept.filter(is_of_first).map(|kept| kept.result));
            }
        }
    }
    Ok(found)
}

/// Runs the rates that are left until they took `n_steps`, or stopped.
fn round(
    prepared: &Prepared,
    searches: &mut [Search<'_>],
    n_steps: Option<u64>,
    takes_part: impl Fn(&Search<'_>) -> bool,
) -> Result<Vec<Diagnostic>> {
    let profile = &prepared.experiment.profile;
    let mut cells = Vec::new();
    for seed in 0..u64::from(profile.grid.seeds) {
        for search in searches.iter().filter(|search| takes_part(search)) {
            cells.extend(search.alive.iter().map(|&lr| search.cell(prepared, lr, seed).pausing(n_steps)));
        }
    }
    let what = n_steps.map_or("last round".to_owned(), |n| format!("round of {n} updates"));
    let (results, failures) = prepared.results(&what, &cells, false)?;
    for search in searches.iter_mut() {
        for (lr, runs) in search.tried.iter_mut().filter(|(lr, _)| search.alive.contains(lr)) {
            let row = format!("{}-{}", RowResult::key_at_rate(search.key, *lr), search.model);
            let found: Vec<RowResult> = results.iter().filter(|result| result.row == row).cloned().collect();
            if !found.is_empty() {
                *runs = found;
            }
        }
    }
    Ok(failures)
}

impl Search<'_> {
    /// The run of a rate.
    fn cell(&self, prepared: &Prepared, lr: f64, seed: u64) -> Cell {
        let repair = RepairOptions { lr: Some(lr), ..prepared.experiment.profile.repair_of(self.row) };
        let method = RowResult::key_at_rate(self.key, lr);
        prepared.cell(&name(&method, &self.row.title, self.model, seed), None, repair)
    }

    /// The cost of a rate within its first updates: that of its best point, mean over seeds. None where one has none.
    pub(crate) fn cost(&self, lr: f64, n_steps: u64) -> Option<f64> {
        let (_, runs) = self.tried.iter().find(|(rate, _)| *rate == lr)?;
        mean(runs, |run| least_cost(&run.trajectory, n_steps))
    }

    /// The rate of least cost among those that ran to the end.
    pub(crate) fn winner(&self) -> Option<f64> {
        let costs = self.alive.iter().filter_map(|&lr| Some((lr, self.cost(lr, u64::MAX)?)));
        costs.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(lr, _)| lr)
    }

    /// Mean over seeds of the least error within a budget, of a rate's runs as far as they went.
    fn within(runs: &[RowResult], budget: f64) -> Option<f64> {
        mean(runs, |run| within_budget(&run.trajectory, budget)?.toxicity)
    }

    /// The rate whose points have the least error within a budget; the lower rate where several have it. None where no
    /// rate has a point there that is better than the model before repair, which every run has.
    pub(crate) fn winner_within(&self, budget: f64) -> Option<f64> {
        let repairs = |run: &RowResult| within_budget(&run.trajectory, budget).is_some_and(|point| point.step > 0);
        let tried = self.tried.iter().filter(|(_, runs)| runs.iter().any(repairs));
        let errors = tried.filter_map(|(lr, runs)| Some((*lr, Self::within(runs, budget)?)));
        errors.min_by(|(lr, a), (other, b)| a.total_cmp(b).then(lr.total_cmp(other))).map(|(lr, _)| lr)
    }

    /// Lines of the page of all rates.
    pub(crate) fn lines(&self, budgets: &[f64]) -> String {
        let (mut text, winner) = (String::new(), self.winner());
        let number = |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
        for (lr, runs) in &self.tried {
            let n_steps = runs.iter().filter_map(|run| run.cost).map(|cost| cost.n_steps).max();
            let stopped = runs.first().and_then(|run| run.stopped).map_or("failed".to_owned(), |s| s.to_string());
            // What paused for good was dropped by a round.
            let stopped = if stopped == "paused" { "dropped" } else { &stopped };
            let mark = if winner == Some(*lr) { " **chosen**" } else { "" };
            let within = budgets.iter().map(|&budget| {
                let mark = if self.winner_within(budget) == Some(*lr) { " *" } else { "" };
                format!(" {}{mark} |", number(Self::within(runs, budget), 1))
            });
            let (key, model) = (self.key, self.model);
            let n = n_steps.map_or("–".to_owned(), |n| n.to_string());
            let cost = number(self.cost(*lr, u64::MAX), 3);
            let _infallible = writeln!(
                text,
                "| {key} | {model} | {lr:e} | {n} | {stopped} | {cost}{mark} |{}",
                within.collect::<String>()
            );
        }
        text
    }
}

/// The head of the page.
pub(crate) fn header(profile: &str, protocol: &Protocol, rates: &[f64], n_seeds: u32) -> String {
    let rates: Vec<String> = rates.iter().map(|lr| format!("{lr:e}")).collect();
    let Protocol { cap, halving_start, halving_factor, .. } = protocol;
    let budgets: String = protocol.budgets.iter().map(|budget| format!(" TOX % at KL ≤ {budget} |")).collect();
    format!(
        "# Learning rates of profile `{profile}`\n\nWritten by `cargo xtask tune --profile {profile}`. Every method tried the same rates \
         ({}) with {n_seeds} seed(s), on validation data only, by successive halving: all ran {halving_start} updates, one in \
         {halving_factor} continued to {halving_factor} times as many, until at most {FINALISTS} were left, which ran until patience \
         or {cap} updates. A rate's cost is that of its best point after the first: TOX / TOX before + max(0, token perplexity / \
         perplexity before - 1), of points that pass the degeneration guard. `*` = the least error within a KL budget, of all rates \
         as far as they ran, where it is less than before.\n\n| row | model | rate | updates | stopped by | cost |{budgets}\n|---|---|---|---|---|---|{}\n",
        rates.join(", "),
        "---|".repeat(protocol.budgets.len())
    )
}

/// The rates that continue: of those with a cost the least, one in `factor` of all (rounded up), in the order given.
fn survivors(costs: &[(f64, Option<f64>)], factor: usize) -> Vec<f64> {
    let mut ranked: Vec<(f64, f64)> = costs.iter().filter_map(|(lr, cost)| Some((*lr, (*cost)?))).collect();
    ranked.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    ranked.truncate(costs.len().div_ceil(factor.max(2)));
    costs.iter().map(|(lr, _)| *lr).filter(|lr| ranked.iter().any(|(kept, _)| kept == lr)).collect()
}

/// The least cost among the points of the first `n_steps` updates that pass the guard: the share of the error that is
/// left plus the relative rise of perplexity. None without such a point, or without an error before.
fn least_cost(points: &[TrajectoryPoint], n_steps: u64) -> Option<f64> {
    let before = points.iter().find(|point| point.step == 0)?;
    let (toxicity, perplexity) = (before.toxicity?, before.perplexity?);
    let cost = |point: &TrajectoryPoint| {
        let [_, error] = candidate(point)?;
        Some(error / toxicity + (point.perplexity? / perplexity - 1.0).max(0.0)).filter(|cost| cost.is_finite())
    };
    let costs = points.iter().filter(|point| (1..=n_steps).contains(&point.step)).filter_map(cost);
    costs.min_by(f64::total_cmp)
}

/// Mean over runs; none without runs, or where one has no value.
fn mean(runs: &[RowResult], of: impl Fn(&RowResult) -> Option<f64>) -> Option<f64> {
    let values: Option<Vec<f64>> = runs.iter().map(of).collect();
    values.filter(|values| !values.is_empty()).map(|values| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use irepair_report::PointDetails;

    use super::*;

    #[test]
    fn the_better_half_goes_on_and_a_rate_without_a_cost_never_does() {
        let table = [(1e-5, Some(0.9)), (3e-5, Some(0.4)), (1e-4, None), (3e-4, Some(0.2)), (1e-3, Some(0.5))];
        assert_eq!(survivors(&table, 2), [3e-5, 3e-4, 1e-3]);
        assert_eq!(survivors(&table, 4), [3e-5, 3e-4]);
        assert_eq!(survivors(&[(1e-5, None), (3e-5, None)], 2), [0.0; 0]);
        assert_eq!(survivors(&[(1e-5, None), (3e-5, Some(9.0)), (1e-4, None)], 2), [3e-5]);
        let ties = [(1e-5, Some(0.5)), (3e-5, Some(0.5)), (1e-4, Some(0.5)), (3e-4, Some(0.5))];
        assert_eq!(survivors(&ties, 2), [1e-5, 3e-5], "ties go to the rates that come first");
    }

    #[test]
    fn a_cost_is_that_of_the_best_point_so_far_that_passes_the_guard() {
        let point = |step: u64, toxicity: f64, perplexity: f64, passes: bool| TrajectoryPoint {
            step,
            toxicity: Some(toxicity),
            perplexity: Some(perplexity),
            more: Some(PointDetails { kl: Some(0.1), passes, ..PointDetails::default() }),
        };
        let points = [
            point(0, 40.0, 10.0, true),
            point(25, 20.0, 9.0, true),
            point(50, 0.0, 10.0, false),
            point(75, 10.0, 11.0, true),
            point(100, 0.0, 20.0, true),
        ];
        let cost = |n_steps| least_cost(&points, n_steps);
        assert_eq!((cost(24), cost(25), cost(50)), (None, Some(0.5), Some(0.5)));
        assert!((cost(100).unwrap() - 0.35).abs() < 1e-12);
        assert_eq!(least_cost(&points[1..], 100), None, "nothing to compare with");
    }
}
