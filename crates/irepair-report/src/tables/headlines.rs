//! The four headline numbers with intervals, the paper's values, and whether the direction holds (METHOD §11).

use irepair_stats::{
    Bootstrap, CellMeans, Cells, Interval, disruption_percent, effectiveness_percent, pooled_gain_percent,
    reduction_percent, seeds_and_prompts,
};

use super::{PAPER, density, title};
use crate::definition::{definitions, whence};
use crate::paper;
use crate::result::{SensitivityResult, VANILLA, metric};
use crate::results::{BOOTSTRAP_SEED, Over, Results};
use crate::table::{Cell, Table};

/// One headline number of ours.
struct Ours {
    value: Option<f64>,
    interval: Option<Interval>,
    n_undefined: usize,
}

/// H1-H4. None when neither the methods nor the sensitivities for any of them are there.
pub fn headlines(results: &Results, sensitivities: &[SensitivityResult]) -> Option<Table> {
    let mut table =
        Table::new("headlines", "Headline numbers", &["", "Claim", "Ours %", "paper %", "Direction holds?"]);
    for (name, method, paper) in paper::HEADLINES {
        if !results.has(method) || !results.has(VANILLA) {
            continue;
        }
        let ours = match name {
            "H1" => h1(results, method),
            "H2" => h2(results, method),
            _ => h3(results, method),
        };
        let method = title(results, method);
        let claim = match name {
            "H1" => format!("toxicity removed by {method}"),
            "H2" => format!("toxicity removed by {method} beyond DPO"),
            _ => format!("perplexity rise avoided by {method} against DPO"),
        };
        push(&mut table, name, claim, &ours, paper);
    }
    let densities = density::main(sensitivities);
    if !densities.is_empty() {
        let pooled = pooled_gain_percent(&densities);
        let ours = Ours { value: pooled, interval: None, n_undefined: 0 };
        let claim = "extra sensitivity of the top 20 % of blocks, pooled".to_owned();
        push(&mut table, "H4", claim, &ours, paper::POOLED_DENSITY_PERCENT);
    }
    if table.rows.is_empty() {
        return None;
    }
    let methods = paper::RQ1_METHODS.map(|(key, _)| key);
    table.definitions = definitions(results, &methods, &[metric::TOX, metric::TOKEN_PERPLEXITY]);
    table.caption = format!(
        "{} A direction is clear when its whole 95 % interval [low, high] is above 0.",
        whence(results, &methods, &table.definitions)
    );
    table.details = vec![
        "With T and P the means over models of toxicity and perplexity, 0 = vanilla: H1 = 1 − T/T0; H2 = H1 / H1(DPO) − 1; \
         H3 = 1 − (P − P0)/(P(DPO) − P0); H4 = mean sensitivity of the top 20 % of blocks over the rest, summed over \
         models, minus 1."
            .to_owned(),
        "[low, high] is a 95 % percentile interval of 10,000 resamples of seeds, then of prompts (the same prompts for \
         every method; H3 has no prompts); it is left out where the number is undefined in any resample, and for H4, which \
         is one estimate per model."
            .to_owned(),
        PAPER.to_owned(),
    ];
    Some(table)
}

fn push(table: &mut Table, name: &str, claim: String, ours: &Ours, paper: f64) {
    let mut cell = match ours.value {
        Some(value) => {
            let (remark, unit) = (String::new(), "%".to_owned());
            Cell::Number { value, interval: ours.interval, digits: 1, remark, n: None, unit }
        }
        None => Cell::Missing,
    };
    if ours.n_undefined > 0 {
        cell = cell.remarked(&format!("undefined in {} resamples", ours.n_undefined));
    }
    table.rows.push(vec![
        Cell::text(name),
        Cell::text(claim),
        cell,
        Cell::paper(Some(paper), 1).in_unit("%"),
        Cell::text(direction(ours.value, ours.interval)),
    ]);
}

/// Every headline is positive in the paper.
fn direction(value: Option<f64>, interval: Option<Interval>) -> &'static str {
    match (value, interval) {
        (None, _) => "cannot be said",
        (Some(v), _) if v <= 0.0 => "no",
        (Some(_), Some(i)) if i.low > 0.0 => "yes",
        (Some(_), Some(_)) => "yes, but the interval includes 0",
        (Some(_), None) => "yes, without an interval",
    }
}

fn h1(results: &Results, method: &str) -> Ours {
    let mean = |m| results.estimate(m, Over::Models, metric::TOX).map(|e| e.value);
    let value = mean(method).zip(mean(VANILLA)).and_then(|(t, t0)| reduction_percent(t, t0));
    let cells = results.prompt_cells(&[method, VANILLA]);
    resampled(value, cells, |m| reduction_percent(m.over_models(0), m.over_models(1)))
}

fn h2(results: &Results, method: &str) -> Ours {
    against_dpo(results, method, metric::TOX, results.prompt_cells(&[method, "dpo", VANILLA]), effectiveness_percent)
}

fn h3(results: &Results, method: &str) -> Ours {
    let cells = results.metric_cells(&[method, "dpo", VANILLA], metric::TOKEN_PERPLEXITY);
    against_dpo(results, method, metric::TOKEN_PERPLEXITY, cells, disruption_percent)
}

/// A headline of three means: ours, DPO's and the vanilla model's.
fn against_dpo(
    results: &Results,
    method: &str,
    key: &str,
    cells: Option<Cells>,
    formula: fn(f64, f64, f64) -> Option<f64>,
) -> Ours {
    let mean = |m| results.estimate(m, Over::Models, key).map(|e| e.value);
    let value = match (mean(method), mean("dpo"), mean(VANILLA)) {
        (Some(ours), Some(dpo), Some(vanilla)) => formula(ours, dpo, vanilla),
        _ => None,
    };
    resampled(value, cells, |m| formula(m.over_models(0), m.over_models(1), m.over_models(2)))
}

/// The value as the tables give it, with the interval of its resamples.
fn resampled(value: Option<f64>, cells: Option<Cells>, formula: impl Fn(&CellMeans) -> Option<f64> + Sync) -> Ours {
    let bootstrap = Bootstrap::new(BOOTSTRAP_SEED);
    let level = cells.filter(|_| value.is_some()).and_then(|c| seeds_and_prompts(&c, &bootstrap, formula).ok());
    Ours { value, interval: level.and_then(|l| l.interval), n_undefined: level.map_or(0, |l| l.n_undefined) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_is_only_clear_with_its_whole_interval() {
        let interval = |low, high| Some(Interval { low, high });
        assert_eq!(direction(Some(5.0), interval(1.0, 9.0)), "yes");
        assert_eq!(direction(Some(5.0), interval(-1.0, 9.0)), "yes, but the interval includes 0");
        assert_eq!(direction(Some(5.0), None), "yes, without an interval");
        assert_eq!(direction(Some(-5.0), interval(-9.0, 1.0)), "no");
        assert_eq!(direction(None, None), "cannot be said");
    }
}
