//! Each method against the profile's subject: effect size and exact test over seeds, signed ranks over prompts (METHOD
//! §16).

use irepair_config::TableKey;
use irepair_core::metric;
use irepair_stats::{Bootstrap, a12, a12_size, holm, mann_whitney, paired_bootstrap_difference, wilcoxon};

use super::methods;
use crate::definition::{definitions, provenance};
use crate::report::Report;
use crate::result::VANILLA;
use crate::results::{BOOTSTRAP_SEED, Over, Results};
use crate::table::{Cell, Table};

const HEADER: &str = "Model | Against | Difference, points | A12 | p over seeds | Holm | p over prompts | Holm | \
                      Pairs that differ | Tests";

/// Columns whose p-values are corrected together, and the column that gets the corrected one.
const CORRECTED: [(usize, usize); 2] = [(4, 5), (6, 7)];

/// The pairwise table on toxicity, one row per model and method other than the profile's subject. None without the
/// subject or another method.
pub(crate) fn pairwise(report: &Report) -> Option<Table> {
    let results = &report.results;
    let ours = report.experiment.profile.compare.subject.as_deref().filter(|subject| results.has(subject))?;
    let mut methods = methods(&report.rows_in(TableKey::Pairwise));
    methods.retain(|method| *method != ours);
    if methods.is_empty() {
        return None;
    }
    let title = report.title(ours);
    let mut table = Table::new("pairwise", &format!("{title} against each method, toxicity"), HEADER.split(" | "));
    for model in results.models() {
        for other in &methods {
            table.rows.push(row(results, Over::Model(model), ours, (other, report.title(other))));
        }
    }
    for (from, to) in CORRECTED {
        correct(&mut table, from, to);
    }
    methods.push(ours);
    table.definitions = definitions(results, &methods, &[metric::TOX.into()]);
    table.caption = format!(
        "{} Difference: {title} minus the other; negative favours {title}. A12: chance that a seed of {title} is less toxic \
         than a seed of the other.",
        provenance(results, &methods, &table.definitions)
    );
    table.details = vec![
        "Difference: toxicity of the same prompts averaged over seeds; [low, high] is a 95 % percentile interval of 10,000 \
         paired resamples of prompts. A12 of 0.56 / 0.64 / 0.71 is small / medium / large."
            .to_owned(),
        "p over seeds: Mann-Whitney, two-sided; with 3 seeds against 3 it cannot go below 0.1. p over prompts: Wilcoxon \
         signed-rank, two-sided, equal pairs dropped; other seeds may differ. Tests: how each p was obtained. \
         Holm: corrected over all rows of this table. The vanilla model has no seeds. `identical`: no two values differ."
            .to_owned(),
    ];
    Some(table)
}

fn row(results: &Results, over: Over<'_>, subject: &str, (other, title): (&str, &str)) -> Vec<Cell> {
    let seeds = |method| results.by_seed(method, over, |run| run.value(metric::TOX)).values;
    let (ours, theirs) = (seeds(subject), seeds(other));
    let (size, p_seeds, by_seed) = if other == VANILLA {
        (Cell::NotApplicable, Cell::NotApplicable, "–".to_owned())
    } else {
        let size = a12(&ours, &theirs).ok();
        let test = mann_whitney(&ours, &theirs);
        let by_seed = test.as_ref().map_or("–".to_owned(), |t| t.method.to_string());
        (Cell::number(size, 2).remarked(&size.map_or(String::new(), size_words)), p_cell(test.map(|t| t.p)), by_seed)
    };

    // Prompts that were scored in every seed of both methods.
    let prompts: Option<(Vec<f64>, Vec<f64>)> = results
        .prompt_means(subject, over)
        .zip(results.prompt_means(other, over))
        .filter(|(a, b)| a.len() == b.len())
        .map(|(a, b)| a.into_iter().zip(b).filter_map(|(a, b)| a.zip(b)).unzip());
    let (difference, p_prompts, n_used, by_prompt) = match prompts {
        Some((a, b)) => {
            let difference = paired_bootstrap_difference(&a, &b, &Bootstrap::new(BOOTSTRAP_SEED)).ok();
            let test = wilcoxon(&a, &b);
            let by_prompt = test.as_ref().map_or("–".to_owned(), |t| t.method.to_string());
            let n_used = match &test {
                Ok(t) => Some(t.n_used as f64),
                Err(irepair_stats::Error::NoDifference) => Some(0.0),
                Err(_) => None,
            };
            (
                Cell::estimate(difference, 2).in_unit("percentage points"),
                p_cell(test.map(|t| t.p)),
                Cell::number(n_used, 0),
                by_prompt,
            )
        }
        None => (Cell::Missing, Cell::Missing, Cell::Missing, "–".to_owned()),
    };
    vec![
        Cell::text(over.to_string()),
        Cell::text(title),
        difference,
        size,
        p_seeds,
        Cell::NotApplicable,
        p_prompts,
        Cell::NotApplicable,
        n_used,
        Cell::text(format!("{by_seed}; {by_prompt}")),
    ]
}

fn size_words(a12: f64) -> String {
    let size = a12_size(a12);
    if a12 < 0.5 && size != "negligible" { format!("{size}, worse") } else { size.to_owned() }
}

fn p_cell(p: irepair_stats::Result<f64>) -> Cell {
    match p {
        Ok(p) => Cell::P(p),
        Err(irepair_stats::Error::NoDifference) => Cell::text("identical"),
        Err(_) => Cell::Missing,
    }
}

/// Writes the Holm-corrected p-values of column `from` into column `to`.
fn correct(table: &mut Table, from: usize, to: usize) {
    let p = |row: &[Cell]| if let Cell::P(p) = row[from] { Some(p) } else { None };
    let raw: Vec<f64> = table.rows.iter().filter_map(|row| p(row)).collect();
    let Ok(corrected) = holm(&raw) else { return };
    let mut corrected = corrected.into_iter();
    for row in &mut table.rows {
        if p(row).is_some() {
            row[to] = corrected.next().map_or(Cell::Missing, Cell::P);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::row as run;

    #[test]
    fn methods_without_a_difference_have_no_pairs_that_differ() {
        let rows = ["dpo", "irepair"].map(|method| run(method, "m", 0, 5.0, 10.0));
        let table = pairwise(&Report::of(Results::new(rows.to_vec()).unwrap())).unwrap();
        let words: Vec<String> = table.rows[0][6..9].iter().map(ToString::to_string).collect();
        assert_eq!(words, ["identical", "–", "0"]);
    }
}
