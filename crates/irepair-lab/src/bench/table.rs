//! The table of a bench.

use std::collections::BTreeSet;

use super::plan::Program;
use super::run::{Bench, Measured, Sample, median};

pub(super) const GIB: f64 = (1u64 << 30) as f64;

/// Markdown: machine, a table with a row for each line, its columns explained, and the budgets.
pub(crate) fn table(bench: &Bench) -> String {
    let rates = bench.lines.iter().flat_map(|line| &line.rates).map(|rate| rate / 1e9);
    let rounds = bench.lines.iter().map(|line| line.rates.len()).max().unwrap_or(0);
    let mut text = format!(
        "{}; square matrix products in {}: {} GFLOP/s; {rounds} round(s)\n\n",
        bench.machine,
        bench.dtype,
        spread(rates, 0),
    );
    let columns =
        ["part", "s", "tokens/s", "peak GiB", "/ published", "/ tuned", "peak / tuned", "GFLOP", "/ floor", "blocks"];
    text += &row(columns.iter().map(|column| (*column).to_owned()));
    text += &row(columns.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" }.to_owned()));
    for line in &bench.lines {
        text += &row(cells(line).into_iter());
    }
    text += "\ns: median and range over rounds (a step; a pass over all texts; a load). / published, / tuned: our time over that of \
             `bench/peer.py` in the same round, median and range. peak: of the resident set; of the device's memory on a \
             GPU. / floor: time over counted matrix-product work at the rate of square products just before. blocks: those that sliced \
             steps updated.\n";
    text + &budgets(bench)
}

fn cells(line: &Measured) -> Vec<String> {
    let Some(ours) = line.of(Program::Ours) else { return vec![line.name.clone()] };
    let none = || "-".to_owned();
    let shown = |ratios: Option<Vec<f64>>| ratios.map_or_else(none, |ratios| spread(ratios.into_iter(), 2));
    let peaks = line.of(Program::Tuned).map(|peer| peak(ours) / peak(peer));
    vec![
        line.name.clone(),
        spread(ours.seconds.iter().copied(), 3),
        if ours.tokens > 0.0 { format!("{:.0}", ours.tokens / ours.median()) } else { none() },
        format!("{:.2}", peak(ours) / GIB),
        shown(line.ratios(Program::Published)),
        shown(line.ratios(Program::Tuned)),
        peaks.map_or_else(none, |ratio| format!("{ratio:.2}")),
        if ours.flops > 0.0 { format!("{:.0}", ours.flops / 1e9) } else { none() },
        shown(line.over_floor()),
        blocks(line),
    ]
}

fn peak(sample: &Sample) -> f64 {
    sample.peak_device_bytes.unwrap_or(sample.peak_rss_bytes)
}

/// Upper and lower limits that the project sets itself, and the measured values; lines that were not run are left out.
fn budgets(bench: &Bench) -> String {
    let line = |name: &str| bench.lines.iter().find(|line| line.name == name);
    let over = |name: &str, program: Program| line(name).and_then(|line| line.ratios(program));
    let repair = "IRepair k = 1, GPT-2 124M";
    let own_budget = "at most 1.0 (the authors' code: 1.93)";
    let mut rows: Vec<(String, Option<Vec<f64>>, &str)> = vec![
        ("IRepair step over the published peer's".into(), over(repair, Program::Published), "at most 0.6"),
        ("IRepair step over the tuned peer's".into(), over(repair, Program::Tuned), "at most 0.8"),
        ("IRepair step over our own DPO step".into(), over(repair, Program::OurDpo), own_budget),
        ("DPO step over TRL's trainer".into(), over("DPO, GPT-2 124M", Program::Trl), "at most 0.65"),
    ];
    for line in bench.lines.iter().filter(|line| line.name.ends_with("SmolLM2 135M")) {
        for (peer, program, budget) in
            [("published", Program::Published, "at most 0.6"), ("tuned", Program::Tuned, "at most 0.75")]
        {
            rows.push((format!("{}: step over the {peer} peer's", line.name), line.ratios(program), budget));
        }
    }
    for line in &bench.lines {
        let budget = if line.name.starts_with("IRepair") { "at most 1.35" } else { "at most 1.5" };
        rows.push((format!("{}: step over its floor", line.name), line.over_floor(), budget));
    }
    let of_large = |name: &str| line(&format!("{name}, GPT2-Large")).and_then(|line| line.of(Program::Ours)).map(peak);
    let peaks = of_large("IRepair k = 1").zip(of_large("DAPT")).map(|(ours, full)| vec![ours / full]);
    rows.push(("peak of IRepair over DAPT's, GPT2-Large".into(), peaks, "at most 0.6"));
    for line in bench.lines.iter().filter(|line| line.name.starts_with("Greedy")) {
        let speed = line.ratios(Program::Tuned).map(|ratios| ratios.into_iter().map(f64::recip).collect());
        rows.push(("greedy generation, tokens/s over transformers'".into(), speed, "at least 1.5"));
    }
    for line in bench.lines.iter().filter(|line| line.name.starts_with("Loading")) {
        rows.push((format!("{}: time over reading its bytes", line.name), line.ratios(Program::Read), "at most 1.2"));
        let peaks = line.of(Program::Ours).map(|ours| vec![peak(ours) / ours.weight_bytes]);
        rows.push((format!("{}: peak over the weights", line.name), peaks, "at most 1.15"));
    }
    let rows = rows.into_iter().filter_map(|(what, ratios, budget)| {
        Some(row([what, spread(ratios?.into_iter(), 2), budget.to_owned()].into_iter()))
    });
    let rows: String = rows.collect();
    if rows.is_empty() { rows } else { "\n| what | measured | budget |\n| --- | ---: | --- |\n".to_owned() + &rows }
}

/// The blocks that sliced steps updated, by program; the length of the backward pass depends on them.
fn blocks(line: &Measured) -> String {
    let of = |(program, sample): &(Program, Sample)| {
        let slices: BTreeSet<&str> = sample.slices.iter().map(String::as_str).collect();
        let slices = slices.into_iter().collect::<Vec<_>>().join(" ");
        (!slices.is_empty() && slices != "all").then(|| format!("{program:?}: {slices}").to_lowercase())
    };
    let found: Vec<String> = line.samples.iter().filter_map(of).collect();
    if found.is_empty() { "-".to_owned() } else { found.join("; ") }
}

fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// Median and, of more than one value, the range.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let values: Vec<f64> = values.collect();
    let middle = median(values.iter().copied());
    if values.len() < 2 {
        return format!("{middle:.digits$}");
    }
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
    format!("{middle:.digits$} ({low:.digits$}-{high:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: &[f64], flops: f64, peak: f64, slice: &str) -> Sample {
        let slices = if slice.is_empty() { Vec::new() } else { vec![slice.into()] };
        let seconds = seconds.to_vec();
        Sample { seconds, tokens: 10.0, flops, slices, peak_rss_bytes: peak * GIB, ..Sample::default() }
    }

    #[test]
    fn ratios_are_of_one_round_and_floors_of_its_rate() {
        // The machine is half as fast in the second round, which does not change ratios.
        let line = Measured {
            name: "IRepair k = 1, GPT-2 124M".into(),
            args: Vec::new(),
            samples: vec![
                (Program::Ours, sample(&[1.0, 2.0], 100.0, 2.0, "3")),
                (Program::Tuned, sample(&[2.0, 4.0], 0.0, 4.0, "")),
                (Program::OurDpo, sample(&[4.0, 8.0], 0.0, 4.0, "all")),
            ],
            rates: vec![200.0, 100.0],
        };
        let text = table(&Bench { machine: "m".into(), commit: None, dtype: "f32", lines: vec![line] });
        for want in [
            "| 1.500 (1.000-2.000) | 7 | 2.00 | - | 0.50 (0.50-0.50) | 0.50 | 0 | 2.00 (2.00-2.00) | ours: 3 |",
            "| IRepair step over our own DPO step | 0.25 (0.25-0.25) | at most 1.0",
            "step over its floor | 2.00 (2.00-2.00) | at most 1.35 |",
        ] {
            assert!(text.contains(want), "{text}");
        }
        assert!(!text.contains("published peer's |"), "what was not run is not reported");
    }
}
