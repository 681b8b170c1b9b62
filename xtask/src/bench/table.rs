//! The table of a bench.

use std::collections::BTreeSet;

use super::plan::Who;
use super::run::{Bench, Measured, Sample, median};

const GIB: f64 = (1u64 << 30) as f64;

/// Everything as Markdown: machine, one row a line, what the columns are.
pub(crate) fn table(bench: &Bench) -> String {
    let rate = |sample: &Sample| sample.flops / sample.median();
    let rates: Vec<f64> = bench.gemm.iter().map(rate).collect();
    let mut text = format!(
        "{}; square matrix products in {}: {} GFLOP/s; {} round(s)\n\n",
        bench.machine,
        bench.dtype,
        spread(rates.iter().map(|r| r / 1e9), 0),
        rates.len()
    );
    let columns =
        ["part", "s", "tokens/s", "peak GiB", "/ published", "/ tuned", "peak / tuned", "GFLOP", "/ floor", "blocks"];
    text += &row(columns.iter().map(|column| (*column).to_owned()));
    text += &row(columns.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" }.to_owned()));
    for line in &bench.lines {
        text += &row(cells(line, &rates).into_iter());
    }
    text += "\ns: median and range over rounds of the median repetition (a step; a pass over all texts; a load). / published, / tuned: our time \
             over the peer's of the same round (`bench/peer.py`); for loading, / published is over reading the file's bytes. peak: of \
             the resident set; of the device's memory where the peer has one. / floor: time over counted matrix-product work at \
             the rate of products in the same round. blocks: those that sliced steps updated.\n";
    text
}

fn cells(line: &Measured, rates: &[f64]) -> Vec<String> {
    let of = |who: Who| line.samples.iter().find(|(w, _)| *w == who).map(|(_, samples)| samples.as_slice());
    let Some(ours) = of(Who::Ours) else { return vec![line.name.clone()] };
    let ratio = |who: Who| {
        let peers = of(who)?;
        Some(spread(ours.iter().zip(peers).map(|(a, b)| a.median() / b.median()), 2))
    };
    let none = || "-".to_owned();
    let first = ours.first();
    let tokens = first.map_or(0.0, |sample| sample.tokens);
    let flops = median(ours.iter().map(|sample| sample.flops));
    let floors = ours.iter().zip(rates).map(|(sample, rate)| sample.median() / (sample.flops / rate));
    let peak = |sample: &Sample| sample.peak_device_bytes.unwrap_or(sample.peak_rss_bytes);
    let peaks = of(Who::Tuned).map(|peers| median(ours.iter().zip(peers).map(|(a, b)| peak(a) / peak(b))));
    vec![
        line.name.clone(),
        spread(ours.iter().map(Sample::median), 3),
        if tokens > 0.0 { format!("{:.0}", tokens / median(ours.iter().map(Sample::median))) } else { none() },
        format!("{:.2}", median(ours.iter().map(peak)) / GIB),
        ratio(Who::Published).or_else(|| ratio(Who::Read)).unwrap_or_else(none),
        ratio(Who::Tuned).unwrap_or_else(none),
        peaks.map_or_else(none, |ratio| format!("{ratio:.2}")),
        if flops > 0.0 { format!("{:.0}", flops / 1e9) } else { none() },
        if flops > 0.0 { spread(floors, 2) } else { none() },
        blocks(line),
    ]
}

/// The blocks that sliced steps updated, by whom; how deep a step goes backward depends on them.
fn blocks(line: &Measured) -> String {
    let of = |(who, samples): &(Who, Vec<Sample>)| {
        let slices: BTreeSet<&str> = samples.iter().flat_map(|sample| &sample.slices).map(String::as_str).collect();
        let slices = slices.into_iter().collect::<Vec<_>>().join(" ");
        (!slices.is_empty() && slices != "all").then(|| format!("{who:?}: {slices}").to_lowercase())
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

    fn sample(seconds: f64, flops: f64, peak: f64) -> Sample {
        Sample {
            seconds: vec![seconds; 3],
            tokens: 10.0,
            flops,
            slices: if peak < 3.0 { vec!["3".into()] } else { Vec::new() },
            peak_rss_bytes: peak * GIB,
            peak_device_bytes: None,
            weight_bytes: 0.0,
        }
    }

    #[test]
    fn ratios_are_of_one_round_and_floors_of_its_rate() {
        // The machine is half as fast in the second round: ratios do not see it.
        let line = Measured {
            name: "step".into(),
            args: Vec::new(),
            samples: vec![
                (Who::Ours, vec![sample(1.0, 100.0, 2.0), sample(2.0, 100.0, 2.0)]),
                (Who::Tuned, vec![sample(2.0, 0.0, 4.0), sample(4.0, 0.0, 4.0)]),
            ],
        };
        let gemm = vec![sample(1.0, 200.0, 0.0), sample(2.0, 200.0, 0.0)];
        let bench = Bench { machine: "m".into(), commit: None, dtype: "f32", gemm, lines: vec![line] };
        let text = table(&bench);
        let want =
            "| step | 1.500 (1.000-2.000) | 7 | 2.00 | - | 0.50 (0.50-0.50) | 0.50 | 0 | 2.00 (2.00-2.00) | ours: 3 |";
        assert!(text.contains(want), "{text}");
    }
}
