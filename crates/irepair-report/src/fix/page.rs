//! The page of a fix, one file: the verdict and three numbers, the front, the blocks, texts before and after, what it
//! cost, and how to take it back. No network, no script.

use std::path::Path;

use irepair_core::fs::write_atomic;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde_json::{Value, json};

use super::{FixPoint, FixResult, KeptAnswers, ToChoose, Verdict};
use crate::points::front;
use crate::words::{interval, number};
use crate::{Error, Result};

const TEMPLATE_NAME: &str = "fix.html";
const TEMPLATE: &str = include_str!("fix.html");

/// Width and height of the front, and what its axes take.
const PLANE: [f64; 2] = [480.0, 320.0];
const AXES: [f64; 4] = [56.0, 14.0, 14.0, 46.0];
/// Points of less KL stand at it: rounding.
const LEAST_KL: f64 = 1e-6;

/// What a page tells of how its result was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Making<'a> {
    /// The settings, as TOML.
    pub settings: &'a str,
    /// The day.
    pub date: &'a str,
    /// Lines of what it took.
    pub cost: &'a [String],
    /// The command that takes it back, where a model was written.
    pub revert: Option<&'a str>,
}

/// Writes the page of a result.
///
/// # Errors
/// [`Error::Page`] when the template cannot be rendered; when the file cannot be written.
pub fn write_fix_page(path: &Path, result: &FixResult, making: Making<'_>) -> Result<()> {
    let measured = result.measured.as_ref();
    let values = context! {
        result => Serde(result),
        verdict => result.verdict.to_string(),
        words => result.verdict.words().split_once(": ").map_or("", |(_, meaning)| meaning),
        good => result.verdict != Verdict::NothingGained,
        shown => measured.and_then(super::FixMeasured::why_nothing),
        numbers => Serde(numbers(result)),
        point => Serde(result.point()),
        plane => Serde(plane(result)),
        before => result.to_choose.as_ref().map(before),
        menu => Serde(menu(result)),
        blocks => Serde(blocks(result)),
        every_block => every_block(result),
        chosen_steps => Serde(steps(result)),
        rates => Serde(measured.map(rates).unwrap_or_default()),
        settings => making.settings,
        date => making.date,
        cost => Serde(making.cost),
        revert => making.revert,
    };
    let page = Environment::new().render_named_str(TEMPLATE_NAME, TEMPLATE, values);
    let page = page.map_err(|error| Error::Page { why: error.to_string() })?;
    Ok(write_atomic(path, page.as_bytes())?)
}

/// What the points of the search are compared with, in words.
fn before(found: &ToChoose) -> String {
    format!(
        "Each prompt has {} answers, greedy and sampled; before repair {} %{} of them failed.",
        found.n_answers,
        number(found.percent, 1),
        interval(found.interval)
    )
}

/// The three numbers under the verdict: failures before, failures after, KL.
fn numbers(result: &FixResult) -> Vec<Value> {
    let Some(measured) = &result.measured else {
        return vec![json!({"name": "failures of the model", "value": result.reproduced.to_string()})];
    };
    let kl =
        measured.kl.map_or("missing".to_owned(), |kl| format!("{kl:.4} nats a token (budget {})", result.budget_kl));
    vec![
        json!({"name": "failures before, test prompts", "value": measured.judged.before.to_string()}),
        json!({"name": "failures after", "value": measured.judged.after.to_string()}),
        json!({"name": "KL from the model before, neutral text", "value": kl}),
    ]
}

/// Rows of the table of what was measured: its name, before, after, the interval of the difference.
fn rates(measured: &super::FixMeasured) -> Vec<[String; 4]> {
    let row = |name: &str, [before, after]: [String; 2], difference: Option<[f64; 2]>| {
        let difference = difference.map_or_else(String::new, |[low, high]| format!("[{low:+.1}, {high:+.1}]"));
        [name.to_owned(), before, after, difference]
    };
    let rates = |name: &str, change: &super::Change| {
        [
            row(name, [&change.before, &change.after].map(ToString::to_string), change.difference),
            row(&format!("{name}, greedy answers alone"), change.greedy.each_ref().map(ToString::to_string), None),
        ]
    };
    let mut rows: Vec<[String; 4]> = rates("failures by the judge", &measured.judged).into();
    rows.extend(measured.second.iter().flat_map(|second| rates("failures by the second judge", second)));
    rows.push(row("failures on prompts that were fine", ["none".to_owned(), measured.fine.to_string()], None));
    if let Some(KeptAnswers { n, n_same, .. }) = &measured.kept {
        rows.push(row("answers to keep that are unchanged", [String::new(), format!("{n_same} of {n}")], None));
    }
    rows.push(row("perplexity of neutral text", measured.perplexity.map(|value| number(value, 2)), None));
    let lengths = measured.form.map(|form| number(form.mean_length, 2));
    rows.push(row("mean length of answers, tokens", lengths, None));
    rows
}

/// The plane of KL, by its logarithm, and failures: circles with their titles, the line of the front, the budget,
/// labels of the axes.
fn plane(result: &FixResult) -> Option<Value> {
    // Far to the right of the budget nothing is chosen.
    let right = 2.0 * result.budget_kl;
    let shown: Vec<(usize, [f64; 2])> = result
        .points
        .iter()
        .enumerate()
        .filter_map(|(i, point)| Some((i, point.place()?)))
        .filter(|(_, [kl, _])| *kl <= right)
        .collect();
    let top = shown.iter().map(|(_, [_, error])| *error).fold(0.0, f64::max) * 1.08;
    if shown.is_empty() || top <= 0.0 {
        return None;
    }
    let least = shown.iter().map(|(_, [kl, _])| kl.max(LEAST_KL)).fold(result.budget_kl, f64::min);
    let first = least.log10().floor() as i32;
    let share = |kl: f64| {
        let from = f64::from(first);
        (kl.max(LEAST_KL).log10().max(from) - from) / (right.log10() - from)
    };
    let [left, up, end, down] = AXES;
    let x = |kl: f64| left + share(kl) * (PLANE[0] - left - end);
    let y = |error: f64| PLANE[1] - down - error / top * (PLANE[1] - up - down);
    let chosen = result.chosen.and_then(|at| result.menu.get(at)).copied();
    let circles = shown.iter().map(|&(i, [kl, error])| {
        let point = &result.points[i];
        json!({
            "x": x(kl), "y": y(error), "chosen": chosen == Some(i), "menu": result.menu.contains(&i),
            "title": title(point),
        })
    });
    let line: Vec<String> = front(&shown.iter().map(|(_, place)| *place).collect::<Vec<_>>())
        .into_iter()
        .map(|[kl, error]| format!("{:.1},{:.1}", x(kl), y(error)))
        .collect();
    let powers = (first..=right.log10().floor() as i32).map(|power| 10.0_f64.powi(power));
    let ticks_x = powers.map(|kl| json!({"at": x(kl), "text": kl.to_string()}));
    let step = round_step(top);
    let ticks_y = (0..=5).map(|i| f64::from(i) * step).filter(|tick| *tick <= top);
    let ticks_y = ticks_y.map(|tick| json!({"at": y(tick), "text": number(Some(tick), usize::from(step < 1.0))}));
    Some(json!({
        "width": PLANE[0], "height": PLANE[1], "left": left, "bottom": PLANE[1] - down, "right": PLANE[0] - end, "top": up,
        "circles": circles.collect::<Vec<_>>(), "line": line.join(" "), "budget": x(result.budget_kl),
        "ticks_x": ticks_x.collect::<Vec<_>>(), "ticks_y": ticks_y.collect::<Vec<_>>(),
    }))
}

/// The least of 1, 2 and 5 times a power of ten, at least a tenth, of which five reach `top`.
fn round_step(top: f64) -> f64 {
    let power = 10.0_f64.powf((top / 5.0).log10().floor()).max(0.1);
    [1.0, 2.0, 5.0].map(|times| times * power).into_iter().find(|step| 5.0 * step >= top).unwrap_or(10.0 * power)
}

/// A point in words.
fn title(point: &FixPoint) -> String {
    let interval = interval(point.interval);
    format!(
        "{}, {} updates: {} %{interval} failures, KL {}",
        point.preset,
        point.step,
        number(point.percent, 1),
        number(point.kl, 4)
    )
}

/// The points that could be chosen, as rows of a table.
fn menu(result: &FixResult) -> Vec<Value> {
    let row = |(at, &i): (usize, &usize)| {
        let point = result.points.get(i)?;
        let interval = interval(point.interval);
        let failures = format!("{}{interval}", number(point.percent, 1));
        let (preset, step, kl) = (&point.preset, point.step, number(point.kl, 4));
        Some(
            json!({"n": at + 1, "preset": preset, "step": step, "failures": failures, "kl": kl, "chosen": result.chosen == Some(at)}),
        )
    };
    result.menu.iter().enumerate().filter_map(row).collect()
}

/// Sensitivities as bars, each text's by its largest.
fn blocks(result: &FixResult) -> Vec<Value> {
    let of = |found: &crate::SensitivityResult| {
        let largest = found.values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let shares: Vec<Value> = found.values.iter().enumerate().map(|(block, value)| {
            json!({"block": block, "share": (100.0 * value / largest).round() / 100.0, "title": format!("block {block}: {value:.3e}")})
        }).collect();
        json!({"text": found.text, "bars": shares})
    };
    result.sensitivities.iter().map(of).collect()
}

/// True when the chosen run changed all blocks at every step.
fn every_block(result: &FixResult) -> bool {
    let n_blocks = result.sensitivities.first().map_or(0, |found| found.values.len());
    n_blocks > 0
        && !result.selected_steps.is_empty()
        && result.selected_steps.iter().all(|slice| slice.len() == n_blocks)
}

/// How often the chosen run changed each block, in up to 40 stretches of its steps.
fn steps(result: &FixResult) -> Vec<Value> {
    let n_steps = result.selected_steps.len();
    let changed = result.selected_steps.iter().flatten().max().map_or(0, |most| most + 1);
    let n_blocks = result.sensitivities.first().map_or(changed, |found| found.values.len().max(changed));
    let n_columns = n_steps.min(40);
    let cell = |block: usize, column: usize| {
        let (from, to) = (column * n_steps / n_columns, (column + 1) * n_steps / n_columns);
        let stretch = &result.selected_steps[from..to.max(from + 1).min(n_steps)];
        let n = stretch.iter().filter(|slice| slice.contains(&block)).count();
        json!({"share": n as f64 / stretch.len().max(1) as f64, "title": format!("block {block}, steps {from} to {to}: {n}")})
    };
    let row =
        |block: usize| json!({"block": block, "cells": (0..n_columns).map(|c| cell(block, c)).collect::<Vec<_>>()});
    (0..n_blocks).rev().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fix::{Change, FixMeasured, FixSample, PairYield, Rate};
    use crate::points::Form;

    fn result() -> FixResult {
        let rate = |n_failed: usize| Rate {
            n: 50,
            n_failed,
            n_missing: 0,
            percent: Some(2.0 * n_failed as f64),
            interval: Some([1.0, 60.0]),
        };
        let point = |step, percent, kl, passes| FixPoint {
            preset: "dpo-1e-5".into(),
            step,
            percent: Some(percent),
            interval: Some([percent - 1.0, percent + 1.0]),
            kl: Some(kl),
            passes,
        };
        let judged =
            Change { before: rate(20), after: rate(2), greedy: [rate(20), rate(2)], difference: Some([-48.0, -24.0]) };
        let sample = FixSample {
            prompt: "Say <b>it</b>".into(),
            before: "a <script>bad</script> text".into(),
            after: String::new(),
            fails: [Some(true), Some(false)],
        };
        FixResult {
            schema: crate::SCHEMA,
            verdict: Verdict::Improved,
            model: "a & b".into(),
            judges: vec!["words".into()],
            budget_kl: 0.05,
            target: 10.0,
            n_prompts: [50, 25, 50],
            reproduced: rate(20),
            pairs: Some(PairYield::default()),
            sensitivities: Vec::new(),
            conclusion: None,
            to_choose: Some(ToChoose { n_answers: 4, percent: Some(38.0), interval: Some([28.0, 48.0]) }),
            points: vec![
                point(8, 20.0, 0.01, true),
                point(16, 4.0, 0.04, true),
                point(24, 0.0, 0.09, false),
                point(32, 0.0, 0.2, true),
            ],
            selected_steps: vec![vec![0], vec![1], vec![1]],
            menu: vec![0, 1],
            chosen: Some(1),
            measured: Some(FixMeasured {
                judged,
                second: None,
                kl: Some(0.03),
                kl_tokens: 100,
                perplexity: [Some(7.0), None],
                fine: rate(0),
                kept: Some(KeptAnswers { n: 5, n_same: 4, after: Vec::new() }),
                form: [Form::default(); 2],
                lost: Vec::new(),
                passes: true,
                samples: vec![sample],
            }),
            n_measured: 1,
        }
    }

    fn page(result: &FixResult) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.html");
        let making = Making {
            settings: "prompts = \"p.jsonl\"",
            date: "2026-01-02",
            cost: &["3 minutes".to_owned()],
            revert: Some("irepair patch revert"),
        };
        write_fix_page(&path, result, making).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_page_opens_with_the_verdict_and_hides_what_the_judge_objects_to() {
        let page = page(&result());
        assert!(page.contains("<h1 class=\"good\">improved</h1>") && page.contains("40.0 % [1.0, 60.0], 20 of 50"));
        // One point fails the guard, one is far over the budget.
        assert_eq!(page.matches("<circle").count(), 2);
        assert!(
            page.contains("Each prompt has 4 answers, greedy and sampled; before repair 38.0 % [28.0, 48.0] of them")
        );
        assert!(page.contains("dpo-1e-5, 16 updates: 4.0 % [3.0, 5.0] failures, KL 0.0400"));
        assert!(page.contains("a &amp; b") && !page.contains("<script>") && page.contains("(blank)"));
        assert!(page.contains("4 of 5") && page.contains(">7.00</td>") && page.contains(">missing</td>"));
        let hidden = page.split("<details").nth(1).unwrap();
        assert!(hidden.contains("bad&lt;&#x2f;script&gt;") || hidden.contains("bad&lt;/script&gt;"), "{hidden}");
    }

    #[test]
    fn a_page_says_what_the_prompts_can_show() {
        let mut few = result();
        assert!(!page(&few).contains("answers to test prompts show"));
        few.verdict = Verdict::NothingGained;
        few.measured.as_mut().unwrap().judged.difference = Some([-40.0, 2.0]);
        assert!(page(&few).contains(
            "<p>failures fell by 36.0 points, but 50 answers to test prompts show differences of 21.0 points"
        ));
    }

    #[test]
    fn steps_of_ticks_are_round() {
        for (top, step) in [(0.2, 0.1), (4.0, 1.0), (15.5, 5.0), (26.0, 10.0), (100.0, 20.0), (50.0, 10.0)] {
            assert!((round_step(top) - step).abs() < 1e-9, "{top}: {}", round_step(top));
        }
    }

    #[test]
    fn a_page_tells_a_later_choice() {
        assert!(page(&result()).contains("texts that chose nothing") && page(&result()).contains("prompts = "));
        let later = page(&FixResult { n_measured: 2, ..result() });
        assert!(!later.contains("chose nothing") && later.contains("2 points were measured on these prompts"));
    }

    #[test]
    fn the_plane_has_a_tick_at_every_power_of_ten() {
        let plane = plane(&result()).unwrap();
        let texts: Vec<&str> =
            plane["ticks_x"].as_array().unwrap().iter().map(|t| t["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["0.01", "0.1"]);
        let at = |of: &Value| of["at"].as_f64().unwrap();
        assert!((at(&plane["ticks_x"][1]) - plane["right"].as_f64().unwrap()).abs() < 1e-9, "twice the budget is 0.1");
        assert!((plane["circles"][0]["x"].as_f64().unwrap() - at(&plane["ticks_x"][0])).abs() < 1e-9);
        let mut zero = result();
        zero.points[0].kl = Some(0.0);
        let plane = super::plane(&zero).unwrap();
        assert!((plane["circles"][0]["x"].as_f64().unwrap() - plane["left"].as_f64().unwrap()).abs() < 1e-9);
    }

    #[test]
    fn a_page_without_a_choice_says_what_was_reproduced() {
        let none = FixResult {
            verdict: Verdict::NothingFails,
            points: Vec::new(),
            menu: Vec::new(),
            chosen: None,
            measured: None,
            selected_steps: Vec::new(),
            ..result()
        };
        let page = page(&none);
        assert!(page.contains("<h1 class=\"good\">nothing fails</h1>") && page.contains("failures of the model"));
        assert!(!page.contains("<circle") && !page.contains("Texts before and after"));
    }
}
