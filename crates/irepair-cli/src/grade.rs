//! `irepair grade`: how well a ranking of units finds a planted fault, next to a random ranking. No libtorch is needed.

use irepair_arch::{Architecture, UnitMap};
use irepair_config::GradePlan;
use irepair_core::weights::CONFIG;
use irepair_fault::{FAULT_FILE, Faults, Ranking};
use irepair_stats::Localisation;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::output::{print, print_json};

/// The output of `--json`.
#[derive(Serialize)]
struct Grade {
    unit: irepair_config::UnitKind,
    n_units: usize,
    faults: String,
    /// Ranks of the units that hold the fault, from 1.
    ranks: Vec<usize>,
    /// By score: its value, and its mean over all rankings.
    scores: Map<String, Value>,
}

/// What the scores are called in the table, in the order of [`Localisation::named`].
const NAMES: [&str; 5] = [
    "first unit is faulty",
    "faulty ones among the first",
    "1 over the first faulty rank",
    "average precision",
    "inspected before the first",
];

/// Runs the command.
pub(crate) fn command(plan: &GradePlan) -> anyhow::Result<()> {
    let architecture = Architecture::read(&plan.model.join(CONFIG))?;
    let faults = Faults::read(&plan.model.join(FAULT_FILE))?;
    let map = UnitMap::new(&architecture);
    faults.units().iter().try_for_each(|unit| map.check(unit))?;
    let ranking = Ranking::read(&plan.ranking, &map)?;
    if faults.model.is_some() {
        faults.check_model(&plan.model.join(FAULT_FILE), &irepair_patch::model_id(&plan.model)?)?;
    }
    let (n, ranks) = (ranking.order().len(), ranking.faulty_ranks(&faults)?);
    let left_out = ranking.unranked(&faults);
    if !left_out.is_empty() {
        tracing::warn!("not graded: {left_out}: no unit of kind {} holds it", ranking.kind());
    }
    let n_tied = ranking.n_tied(&ranks);
    if n_tied > 0 {
        tracing::warn!(
            "{n_tied} units without a fault have the score of a faulty one: the lower unit is taken first, and another \
             order would have other scores"
        );
    }
    let scores = Localisation::of_ranks(n, &ranks)?.named();
    let chance = Localisation::of_chance(n, ranks.len())?.named();
    let unit = ranking.kind();
    if plan.json {
        let scores = scores.iter().zip(&chance);
        let scores =
            scores.map(|((key, value), (_, random))| ((*key).to_owned(), json!({ "value": value, "random": random })));
        let faults = faults.units().to_string();
        return print_json(&Grade { unit, n_units: n, faults, ranks, scores: scores.collect() });
    }
    let mut text = format!(
        "fault: {}\nunits of kind {unit}: {n}, of which faulty: {}\nrank of the first faulty one: {}\n\n{:<30}{:>8}{:>8}\n",
        faults.units(),
        ranks.len(),
        ranks[0],
        "",
        "ranking",
        "random"
    );
    for (name, ((_, value), (_, random))) in NAMES.iter().zip(scores.iter().zip(&chance)) {
        text += &format!("{name:<30}{value:>8.3}{random:>8.3}\n");
    }
    print(&text)
}
