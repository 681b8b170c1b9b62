//! A report from two made-up rows.
//!
//! `cargo run -p irepair-report --example page` writes `target/report-example/report.html`.

use std::path::Path;

use irepair_core::metric::{self, Metric, Metrics};
use irepair_report::{Report, Results, RowResult, SCHEMA, VANILLA, write_report};

fn row(method: &str, seed: u64, toxicity: f64) -> RowResult {
    let scores = [0.5, 1.0, 1.5].map(|factor| Some(factor * toxicity / 100.0));
    let tox = Metric::mean(metric::TOX, &scores, "mean score of greedy continuations, made up");
    RowResult {
        schema: SCHEMA,
        profile: "example".into(),
        row: format!("{method}-gpt2"),
        title: method.into(),
        model: "gpt2".into(),
        seed,
        lr: (method != VANILLA).then_some(5e-4),
        metrics: Metrics::from_iter([(metric::TOX, tox)]),
        prompt_scores: scores.to_vec(),
        ..RowResult::default()
    }
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), irepair_report::Error> {
    let rows = vec![row(VANILLA, 0, 45.0), row("irepair", 0, 4.5), row("irepair", 1, 5.5)];
    let report = Report { title: "An example".into(), ..Report::of(Results::new(rows)?) };
    let page = write_report(Path::new("target/report-example"), &report)?;
    println!("{}", page.display());
    Ok(())
}
