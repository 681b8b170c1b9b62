//! `cargo xtask tune`: the learning-rate search. Every method gets the same rates and the same budget, and the choice
//! is made on validation data alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use irepair_config::{LearningRates, Method, RepairOptions, Row};
use irepair_core::fs::{read_to_string, write_atomic};
use irepair_core::metric::{self, MetricId};
use irepair_core::{Diagnostic, ExitKind};
use irepair_report::RowResult;

use crate::error::diagnostic;
use crate::prepare::{Prepared, Split};
use crate::reproduce::{matches, refuse_failures};
use crate::rows::Name;
use crate::sources::Given;
use crate::{halving, paths};

/// Settings of `tune`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A directory of experiments/
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
    /// Only rows whose name matches, such as 'dpo-*'; several with commas between them. The rates of others stay
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    pub(crate) given: Given,
}

/// Measured with one rate: means over seeds, on validation data.
struct Trial {
    lr: f64,
    toxicity: f64,
    perplexity: f64,
    /// Minimised; infinite when a run failed.
    cost: f64,
}

/// Runs it.
///
/// # Errors
/// Set-up and build; no prompts to choose on; a run that fails, after which the rates are those before. A run that
/// diverges is no error but the worst of its grid.
pub(crate) fn run(args: &Args) -> Result<()> {
    let searched = |row: &Row| row.repair.method().has_rate() && row.rates_of.is_none();
    let mut prepared = Prepared::plan(&args.profile, &args.given)?;
    let is_of_none = |glob: &&String| {
        let mut searches = prepared.experiment.rows.iter().filter(|(_, row)| searched(row));
        !searches.any(|(key, _)| matches(glob, key))
    };
    if let Some(glob) = args.only.iter().find(is_of_none) {
        let what = format!("--only: no row with a rate of its own matches {glob}");
        let help =
            format!("the files of experiments/{} name the rows; one with `rates_of` takes another's", args.profile);
        return Err(Diagnostic::new(ExitKind::Usage, what).help(help).into());
    }
    let wanted = |key: &str| args.only.is_empty() || args.only.iter().any(|glob| matches(glob, key));
    prepared.has_own_texts =
        prepared.experiment.rows.iter().any(|(key, row)| wanted(key) && searched(row) && row.own_utility);
    prepared.make()?;
    let prompts = prepared.data("prompts/error.valid.jsonl");
    if !prompts.is_file() {
        let what = Diagnostic::new(ExitKind::Data, "there are no prompts to choose rates on");
        let help = format!("cargo xtask reproduce --profile {} --dry-run says how to get them", args.profile);
        return Err(what.at(prompts.display()).help(help).into());
    }
    let (profile, rows) = (&prepared.experiment.profile, &prepared.experiment.rows);
    let trained = || rows.iter().filter(|(key, row)| wanted(key) && searched(row));
    let (mut chosen, old) = before(&prepared, &wanted)?;
    if let Some(protocol) = &profile.protocol {
        let rows: Vec<(&String, &Row)> = trained().collect();
        let (searches, failures) = halving::search(&prepared, protocol, &rows)?;
        // Without all runs there is no choice: the rates and the page stay as they are.
        refuse_failures(failures)?;
        let mut table = halving::header(&args.profile, protocol, &profile.grid.lr, profile.grid.seeds) + &old;
        for search in &searches {
            table += &search.lines(&protocol.budgets);
            if let Some(lr) = search.winner() {
                chosen.0.entry(search.key.to_owned()).or_default().insert(search.model.to_owned(), lr);
            }
            for &budget in &protocol.budgets {
                let key = LearningRates::key_within(search.key, budget);
                if let Some(lr) = search.winner_within(budget) {
                    chosen.0.entry(key).or_default().insert(search.model.to_owned(), lr);
                }
            }
        }
        return write(&args.profile, &chosen, &table);
    }
    let mut cells = Vec::new();
    for model in &profile.models {
        let vanilla = RepairOptions { method: Some(Method::Vanilla), ..profile.repair.clone() };
        cells.push(prepared.cell(&name("vanilla", "vanilla", &model.name, 0), None, vanilla));
    }
    for seed in 0..u64::from(profile.grid.seeds) {
        for (key, row) in trained() {
            for model in profile.models_of(row) {
                for lr in &profile.grid.lr {
                    let repair = RepairOptions { lr: Some(*lr), ..profile.repair_of(row) };
                    let method = format!("{key}@{lr:e}");
                    cells.push(prepared.cell(&name(&method, &row.title, &model.name, seed), None, repair));
                }
            }
        }
    }
    let (results, mut failures) = prepared.results("learning rates", &cells, false)?;
    // A rate at which a method diverges is the worst of its grid, not an error.
    failures.retain(|failure| failure.exit != ExitKind::Outcome);
    refuse_failures(failures)?;
    let mut table = header(&args.profile, &profile.grid.lr, profile.grid.seeds) + &old;
    for (key, row) in trained() {
        for model in profile.models_of(row) {
            let trials: Vec<Trial> = profile.grid.lr.iter().map(|lr| judge(&results, key, &model.name, *lr)).collect();
            let best = trials.iter().filter(|t| t.cost.is_finite()).min_by(|a, b| a.cost.total_cmp(&b.cost));
            for t in &trials {
                let mark = if best.is_some_and(|b| b.lr == t.lr) { " **chosen**" } else { "" };
                writeln!(
                    table,
                    "| {key} | {} | {:e} | {:.1} | {:.3} | {:.3}{mark} |",
                    model.name, t.lr, t.toxicity, t.perplexity, t.cost
                )?;
            }
            if let Some(best) = best {
                chosen.0.entry(key.clone()).or_insert_with(BTreeMap::new).insert(model.name.clone(), best.lr);
            }
        }
    }
    write(&args.profile, &chosen, &table)
}

/// Rates and lines of the page that an earlier search chose for rows which this one leaves out.
fn before(prepared: &Prepared, wanted: &impl Fn(&str) -> bool) -> Result<(LearningRates, String)> {
    let mut rates = prepared.experiment.learning_rates.clone();
    rates.0.retain(|key, _| !wanted(key.split('@').next().unwrap_or(key)));
    let page = paths::root().join("experiments").join(&prepared.name).join("learning-rates.md");
    let page = if page.exists() { read_to_string(&page).map_err(diagnostic)? } else { String::new() };
    let is_kept = |line: &&str| {
        let key = line.strip_prefix("| ").and_then(|rest| rest.split_once(" |")).map(|(key, _)| key);
        // A row of which no rate was any good has lines and no rate.
        key.is_some_and(|key| prepared.experiment.rows.contains_key(key) && !wanted(key))
    };
    let lines = page.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    Ok((rates, lines))
}

/// Writes the rates that were chosen, and the page of all that were tried.
fn write(profile: &str, chosen: &LearningRates, table: &str) -> Result<()> {
    let dir = paths::root().join("experiments").join(profile);
    let note = format!(
        "# Learning rates chosen on validation data; learning-rates.md has all rates.\n\
         # needs: as profile.toml says        run: cargo xtask tune --profile {profile}\n"
    );
    write_atomic(&dir.join("learning-rates.toml"), (note + &toml::to_string(chosen)?).as_bytes())
        .map_err(diagnostic)?;
    Ok(write_atomic(&dir.join("learning-rates.md"), table.as_bytes()).map_err(diagnostic)?)
}

/// A cell of the search: measured on validation data, in a folder of its own.
pub(crate) fn name<'a>(method: &'a str, title: &'a str, model: &'a str, seed: u64) -> Name<'a> {
    Name { method, title, model, seed, split: Split::Valid, under: "tune" }
}

fn header(profile: &str, rates: &[f64], n_seeds: u32) -> String {
    let rates: Vec<String> = rates.iter().map(|lr| format!("{lr:e}")).collect();
    format!(
        "# Learning rates of profile `{profile}`\n\nWritten by `cargo xtask tune --profile {profile}`. Every method tried the same rates ({}), \
         with the same steps and {n_seeds} seed(s), on validation data only: error prompts, general text and pairs that no table is \
         measured on. Chosen is the lowest cost = TOX / TOX of vanilla + max(0, token perplexity / that of vanilla - 1): the share of \
         the error that is left plus the relative disruption, with equal weight for every method. `NaN` = a run that diverged.\n\n\
         | row | model | rate | TOX, % | token perplexity | cost |\n|---|---|---|---|---|---|\n",
        rates.join(", ")
    )
}

/// The mean over seeds of one rate's runs.
fn judge(results: &[RowResult], key: &str, model: &str, lr: f64) -> Trial {
    let mean = |row: &str, metric: MetricId| {
        let name = format!("{row}-{model}");
        let values: Vec<Option<f64>> = results.iter().filter(|r| r.row == name).map(|r| r.value(metric)).collect();
        let n = values.len() as f64;
        values.into_iter().sum::<Option<f64>>().map_or(f64::NAN, |sum| sum / n)
    };
    let row = format!("{key}@{lr:e}");
    let (toxicity, perplexity) = (mean(&row, metric::TOX), mean(&row, metric::TOKEN_PERPLEXITY));
    let disruption = perplexity / mean("vanilla", metric::TOKEN_PERPLEXITY) - 1.0;
    let cost = toxicity / mean("vanilla", metric::TOX) + disruption.max(0.0);
    let cost = if toxicity.is_nan() || perplexity.is_nan() { f64::INFINITY } else { cost };
    Trial { lr, toxicity, perplexity, cost }
}
