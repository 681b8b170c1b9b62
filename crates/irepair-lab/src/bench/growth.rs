//! How the cost of a step grows: one size at a time from one base shape, and the exponent of a log-log fit.

use std::path::Path;

use anyhow::Result;
use irepair_core::fs::write_atomic;
use irepair_report::{GrowthLine, growth};
use irepair_workspace::process;

use super::plan::{Program, words};
use super::print;
use super::run::{Runner, Sample};
use super::table::GIB;

/// Sizes that grow: name, flag and values; the others are those of [`BASE`].
const AXES: [(&str, &str, &[usize]); 5] = [
    ("pairs a step", "--batch", &[2, 4, 8, 16]),
    ("tokens a text", "--tokens", &[32, 64, 128, 256, 512]),
    ("width", "--n-embd", &[128, 256, 512, 1024]),
    ("blocks", "--n-layer", &[4, 8, 16, 32]),
    ("blocks in the slice", "--top-k", &[1, 2, 4, 8]),
];

/// A small GPT-2 on which every part of a step takes a visible share of the time.
const BASE: [(&str, usize); 5] =
    [("--batch", 4), ("--tokens", 128), ("--n-embd", 256), ("--n-layer", 8), ("--top-k", 1)];

/// Measures, prints the table, writes `growth.md`, `growth.json` and the plots.
///
/// # Errors
/// A process that fails.
pub(crate) fn run(runner: &Runner, rehearse: bool, home: &Path) -> Result<()> {
    let (mut table, mut json) = (String::new(), Vec::new());
    table += "IRepair, GPT-2 of 8 blocks, width 256, 4 heads, vocabulary 16,384, 4 pairs of 128 tokens, k = 1, unless said otherwise.\n\n";
    table += "| what grows | values | seconds a step | exponent | last doubling | peak GiB | exponent |\n|---|---|---|---:|---:|---|---:|\n";
    let (mut seconds, mut peaks) = (Vec::new(), Vec::new());
    for (name, flag, values) in AXES {
        let values = if rehearse { &values[..2] } else { values };
        let mut samples = Vec::new();
        for &value in values {
            samples.push(runner.sample(Program::Ours, &arguments(flag, value, rehearse))?);
            process::say(format!("{name} {value}: {:.3} s", samples.last().map_or(f64::NAN, Sample::median)));
        }
        let points = |of: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
            values.iter().map(|&value| value as f64).zip(samples.iter().map(of)).collect()
        };
        let (time, peak) = (points(Sample::median), points(|sample| sample.peak_rss_bytes / GIB));
        let list = |points: &[(f64, f64)], digits: usize| {
            points.iter().map(|(_, y)| format!("{y:.digits$}")).collect::<Vec<_>>().join(", ")
        };
        let shown = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        table += &format!(
            "| {name} | {shown} | {} | {:.2} | {:.2} | {} | {:.2} |\n",
            list(&time, 3),
            exponent(&time),
            exponent(&time[time.len() - 2..]),
            list(&peak, 2),
            exponent(&peak)
        );
        json.push(serde_json::json!({ "what": name, "seconds": time, "peak_gib": peak }));
        seconds.push(GrowthLine { name: name.to_owned(), points: time });
        peaks.push(GrowthLine { name: name.to_owned(), points: peak });
    }
    table += "\nExponent: slope of the least-squares line through the logarithms; 1 is linear. Last doubling: the slope between the two largest values.\n";
    write_atomic(&home.join("growth.md"), table.as_bytes())?;
    write_atomic(&home.join("growth.json"), (serde_json::to_string_pretty(&json)? + "\n").as_bytes())?;
    for (file, lines, what) in
        [("growth-time.svg", &seconds, "seconds a step"), ("growth-memory.svg", &peaks, "peak memory")]
    {
        write_atomic(&home.join(file), growth(lines, what).map_err(|e| anyhow::anyhow!("{e}"))?.as_bytes())?;
    }
    print(&table);
    Ok(())
}

fn arguments(flag: &str, value: usize, rehearse: bool) -> Vec<String> {
    let mut args =
        format!("--what irepair --shape gpt2 --n-head 4 --vocab-size {}", if rehearse { 300 } else { 16384 });
    for (name, base) in BASE {
        let (value, unit) = (if name == flag { value } else { base }, if name == "--top-k" { "b" } else { "" });
        args += &format!(" {name} {value}{unit}");
    }
    words(&args)
}

/// Slope of the least-squares line through `(ln x, ln y)`.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let (mx, my) = (logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n);
    let along: f64 = logs.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    along / logs.iter().map(|(x, _)| (x - mx).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_of_a_power_is_that_power() {
        let points: Vec<(f64, f64)> = [1.0, 2.0, 4.0, 8.0].iter().map(|&x: &f64| (x, 3.0 * x.powf(1.5))).collect();
        assert!((exponent(&points) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn one_thing_grows_at_a_time() {
        let args = arguments("--top-k", 4, false).join(" ");
        assert!(args.ends_with("--batch 4 --tokens 128 --n-embd 256 --n-layer 8 --top-k 4b"), "{args}");
    }
}
