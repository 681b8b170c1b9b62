//! `cargo xtask reproduce`: everything from set-up to the tables and the report.

use std::collections::BTreeMap;

use anyhow::Result;
use irepair_config::{Precondition, TableKey};
use irepair_core::{Diagnostic, ExitKind};
use irepair_report::{Report, Results, RowResult, VANILLA, tables_markdown, write_report};

use crate::cell::Cell;
use crate::dry_run::{self, Rates};
use crate::error::diagnostic;
use crate::kept::Shared;
use crate::prepare::Prepared;
use crate::sources::Given;
use crate::{halving, kept, process, rehearse};

/// Settings of `reproduce`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to reproduce: a directory of experiments/
    #[arg(long, default_value = "planted", value_name = "NAME")]
    profile: String,
    /// Seeds per row instead of the profile's number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seeds: Option<u32>,
    /// Only rows whose `<row>-<model>` matches, such as 'irepair-*', with their rates of KL budgets, or one such rate,
    /// 'dpo@1e-5-*'; several with commas between them
    #[arg(long, value_name = "GLOB,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Repeat finished rows
    #[arg(long, conflicts_with = "shard")]
    fresh: bool,
    #[command(flatten)]
    pub(crate) given: Given,
    /// Print rows, needs, what is missing, and estimates of memory, disk and time; start nothing
    #[arg(long)]
    dry_run: bool,
    /// Matrix TFLOP/s for the dry run's times, instead of an assumption about the device
    #[arg(long, value_name = "N", requires = "dry_run")]
    tflops: Option<f64>,
    /// The profile's short form: the rows, seeds and steps of its [quick]
    #[arg(long, conflicts_with = "rehearse")]
    quick: bool,
    /// Two steps of every row on small generated models and data, for profiles that need published ones
    #[arg(long, conflicts_with = "dry_run")]
    rehearse: bool,
}

/// Runs it.
///
/// # Errors
/// Set-up, build, a base model that fails its precondition, or rows that fail; finished rows are kept.
pub(crate) fn run(args: &Args) -> Result<()> {
    let asked = |row: &str| args.only.is_empty() || args.only.iter().any(|glob| matches(glob, row));
    let wanted = |row: &str| row.starts_with(VANILLA) || asked(row);
    if args.dry_run {
        return plan(args, wanted);
    }
    let prepared = match args.rehearse {
        true => {
            let prepared = rehearse::prepare(&args.profile, &args.given)?;
            refuse_unmatched(&prepared, args)?;
            prepared
        }
        false => {
            let mut prepared = planned(&args.profile, &args.given, args.quick)?;
            refuse_unmatched(&prepared, args)?;
            let cells = prepared.cells(folders(args.quick).0, args.seeds, wanted);
            prepared.has_own_texts = cells.iter().any(|Cell { job, .. }| {
                job.repair.utility.as_ref().is_some_and(|texts| *texts == prepared.sampled_utility(&job.model))
            });
            prepared.make()?;
            prepared
        }
    };
    let (under, report) = folders(args.quick);
    // The base models come first: the repair of a model that did not learn, or makes no errors, would show nothing.
    let bases = prepared.cells(under, Some(1), |row| row.starts_with(VANILLA));
    let (base_results, failures) = prepared.results("base models", &bases, args.fresh)?;
    refuse_failures(failures)?;
    if base_results.len() < bases.len() {
        let what = format!("{} of {} base models have a result", base_results.len(), bases.len());
        let help = "another shard failed at the others, and said why: mend that and start the shards again";
        return Err(Diagnostic::new(ExitKind::Outcome, what).help(help).into());
    }
    check_bases(&base_results, &prepared.experiment.profile.preconditions)?;
    // Before the rows, which take nights: what is done by then can be shown.
    share(&prepared, report)?;

    let cells = prepared.rated(prepared.cells(under, args.seeds, |row| wanted(row) && !row.starts_with(VANILLA)));
    let (results, failures) = prepared.results("rows", &cells, args.fresh)?;
    publish(&prepared, base_results.into_iter().chain(results).collect(), report, None)?;
    refuse_failures(failures)
}

/// Refuses a glob of `--only` that is of no row: a mistyped one would leave the base models alone.
fn refuse_unmatched(prepared: &Prepared, args: &Args) -> Result<()> {
    let is_of_none = |glob: &&String| prepared.cells(folders(args.quick).0, None, |row| matches(glob, row)).is_empty();
    match args.only.iter().find(is_of_none) {
        Some(glob) => {
            let what = format!("--only: no row matches {glob}");
            let help = format!("cargo xtask reproduce --profile {} --dry-run names the rows", args.profile);
            Err(Diagnostic::new(ExitKind::Usage, what).help(help).into())
        }
        None => Ok(()),
    }
}

/// The folders of rows and of the report.
pub(crate) fn folders(quick: bool) -> (&'static str, &'static str) {
    if quick { ("quick", "report-quick") } else { ("", "report") }
}

/// The profile, or its short form; nothing is made yet.
///
/// # Errors
/// As [`Prepared::plan`], and a profile without a short form.
pub(crate) fn planned(profile: &str, given: &Given, quick: bool) -> Result<Prepared> {
    let mut prepared = Prepared::plan(profile, given)?;
    if quick {
        prepared.shorten()?;
    }
    Ok(prepared)
}

/// Prints what would run.
#[expect(clippy::print_stdout, reason = "the plan is the result")]
fn plan(args: &Args, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let prepared = planned(&args.profile, &args.given, args.quick)?;
    refuse_unmatched(&prepared, args)?;
    let profile = &prepared.experiment.profile;
    let cells = prepared.rated(prepared.cells(folders(args.quick).0, args.seeds, wanted));
    let rates = Rates::of(&prepared.device, profile.repair.dtype(), args.tflops);
    print!("{}", dry_run::text(&prepared, &cells, rates));
    Ok(())
}

/// Writes the report of a set of results, prints its tables, or one of them, and the path of the page.
///
/// # Errors
/// When results do not belong together or files cannot be written.
pub(crate) fn publish(
    prepared: &Prepared,
    results: Vec<RowResult>,
    folder: &str,
    only: Option<TableKey>,
) -> Result<()> {
    let shared = if only.is_none() { share(prepared, folder)? } else { shared(prepared)? };
    // What is shown is what is kept.
    let mask = prepared.mask()?;
    let keeps = prepared.experiment.profile.keep_models == Some(false);
    let results = results.into_iter().map(|result| if keeps { mask.of(&result) } else { result }).collect();
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let here = [
        format!("made on a machine with {machine} cores, device {}", prepared.device),
        format!("rows that ran here: {}", prepared.workers.describe()),
        format!("commit {}", process::commit().unwrap_or_else(|| "unknown".to_owned())),
    ];
    let notes = shared.notes.into_iter().chain(here).collect();
    show(prepared, results, Shared { notes, ..shared }, folder, only)
}

/// What tables and report need besides rows.
fn shared(prepared: &Prepared) -> Result<Shared> {
    let notes = std::iter::once(format!("profile {}", prepared.name));
    let notes = notes.chain(prepared.scorer_notes()?).chain(prepared.pair_notes()?).collect();
    let sensitivities_from = prepared.sensitivities_from()?;
    Ok(Shared { notes, sensitivities: prepared.sensitivities()?, sensitivities_from })
}

/// The same, kept next to the results.
fn share(prepared: &Prepared, folder: &str) -> Result<Shared> {
    let shared = shared(prepared)?;
    if prepared.warning.is_none() {
        kept::put(&prepared.kept_dir("").join(format!("{folder}.json")), &shared)?;
    }
    Ok(shared)
}

/// Writes the report, and prints tables and the path of the page.
///
/// # Errors
/// As [`publish`].
#[expect(clippy::print_stdout, reason = "results go to stdout")]
pub(crate) fn show(
    prepared: &Prepared,
    results: Vec<RowResult>,
    Shared { notes, sensitivities, .. }: Shared,
    folder: &str,
    only: Option<TableKey>,
) -> Result<()> {
    let report = Report {
        title: prepared.experiment.profile.title.clone(),
        warning: prepared.warning.clone(),
        notes: notes.into_iter().chain(devices(&results)).collect(),
        experiment: prepared.experiment.clone(),
        results: Results::new(results).map_err(diagnostic)?,
        sensitivities: if only.is_none() { sensitivities } else { Vec::new() },
        searched: halving::kept(prepared)?,
    };
    let page = write_report(&prepared.runs.join(folder), &report).map_err(diagnostic)?;
    let tables = only.map_or_else(|| report.tables(), |key| report.table(key).into_iter().collect());
    println!("{}\nreport: {}", tables_markdown(&tables), page.display());
    Ok(())
}

/// The devices that rows ran on, where there is one besides CPUs.
fn devices(results: &[RowResult]) -> Option<String> {
    let mut n_rows = BTreeMap::<&str, usize>::new();
    for result in results {
        *n_rows.entry(result.device.as_deref().unwrap_or("CPU")).or_default() += 1;
    }
    let counted = n_rows.iter().map(|(device, n)| format!("{device} ({n})")).collect::<Vec<_>>().join(", ");
    n_rows.keys().any(|device| *device != "CPU").then(|| format!("rows by device: {counted}"))
}

/// Returns the first failure as an error that counts the others.
///
/// # Errors
/// When there is any failure.
pub(crate) fn refuse_failures(failures: Vec<Diagnostic>) -> Result<()> {
    let n = failures.len();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) if n == 1 => Err(first.into()),
        Some(first) => {
            let what = format!("{} (and {} more rows)", first.what, n - 1);
            Err(Diagnostic { what, ..first }.into())
        }
    }
}

/// Checks the profile's preconditions on its base models.
fn check_bases(results: &[RowResult], preconditions: &[Precondition]) -> Result<()> {
    for result in results {
        let about = |p: &&Precondition| p.model.as_ref().is_none_or(|model| *model == result.model);
        for Precondition { metric, what, min, max, .. } in preconditions.iter().filter(about) {
            let value = metric.as_ref().and_then(|metric| result.value(metric));
            if !value.is_some_and(|v| (*min..=*max).contains(&v)) {
                let got = value.map_or("missing".to_owned(), |v| format!("{v:.2}"));
                let help = "no other row was run: check the model's [[models]] and the data it is measured on, or change \
                            [[preconditions]] in the profile";
                let failed = Diagnostic::new(ExitKind::Outcome, "a base model fails its precondition");
                let failed = failed.at(format!("{}, {what}", result.model));
                return Err(failed.want_got(format!("{min} to {max}"), got).help(help).into());
            }
        }
    }
    Ok(())
}

/// True when `text` matches `glob`, in which `*` stands for any run of characters.
pub(crate) fn matches(glob: &str, text: &str) -> bool {
    match glob.split_once('*') {
        None => glob == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).filter(|&i| rest.is_char_boundary(i)).any(|i| matches(tail, &rest[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use irepair_config::{Claim, Experiment, Paper};
    use irepair_core::metric::{MetricId, TOKEN_PERPLEXITY, TOX};
    use irepair_stats::{disruption_percent, effectiveness_percent, reduction_percent};

    use super::matches;

    fn experiment(profile: &str) -> Experiment {
        let dir = crate::paths::root().join("experiments").join(profile);
        Experiment::load(&dir).unwrap_or_else(|error| panic!("{error}"))
    }

    fn mean(paper: &Paper, method: &str, metric: MetricId) -> f64 {
        paper.method(method).unwrap().mean[&metric.into()]
    }

    #[test]
    fn the_papers_mean_row_is_the_mean_of_its_models() {
        let paper = experiment("paper").paper;
        let with_models: Vec<_> = paper.methods.iter().filter(|method| !method.models.is_empty()).collect();
        assert_eq!((paper.methods.len(), with_models.len()), (10, 6));
        for method in with_models {
            for metric in [TOX, TOKEN_PERPLEXITY] {
                let values: Vec<f64> = paper.models.iter().map(|m| method.models[&m.name][&metric.into()]).collect();
                let ours = values.iter().sum::<f64>() / 3.0;
                assert!((ours - mean(&paper, &method.name, metric)).abs() < 0.01, "{metric} of {}", method.name);
            }
        }
    }

    #[test]
    fn the_papers_headlines_recompute_from_its_mean_row() {
        let paper = experiment("paper").paper;
        assert_eq!(paper.headlines.len(), 8);
        for line in &paper.headlines {
            let means = |metric| [&line.method, "dpo", "vanilla"].map(|method| mean(&paper, method, metric));
            let ([t, t_dpo, t_0], [p, p_dpo, p_0]) = (means(TOX), means(TOKEN_PERPLEXITY));
            let ours = match line.claim {
                Claim::H1 => reduction_percent(t, t_0),
                Claim::H2 => effectiveness_percent(t, t_dpo, t_0),
                Claim::H3 => disruption_percent(p, p_dpo, p_0),
            };
            // Half of the sheet's last digit in each perplexity moves H3 by up to 0.3 points.
            assert!((ours.unwrap() - line.percent).abs() < 0.15, "{line:?}: {ours:?}");
        }
    }

    #[test]
    fn every_profile_shows_the_paper_next_to_its_rows_and_models() {
        for profile in ["planted", "paper", "real", "wild"] {
            let experiment = experiment(profile);
            let named = |key: &str, row| experiment.paper_method(row).is_none_or(|method| method.name == key);
            assert!(experiment.rows.iter().all(|(key, row)| named(key, row)), "{profile}");
            assert_eq!(experiment.rows.values().filter(|row| row.paper.is_some()).count(), 10, "{profile}");
            assert!(experiment.profile.models.iter().all(|model| experiment.paper_model(&model.name).is_some()));
        }
    }

    #[test]
    fn globs_match_whole_row_names() {
        assert!(matches("irepair-*", "irepair-gpt2"));
        assert!(matches("*neo", "dapt-kl-gpt-neo"));
        assert!(matches("d*-gpt2", "dpo-gpt2"));
        assert!(!matches("irepair", "irepair-gpt2"));
        assert!(!matches("irepair-*", "dapt-gpt2"));
    }
}
