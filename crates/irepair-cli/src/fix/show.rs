//! What a fix says: a line a stage, the menu, the result. Lines fit 80 columns.

use std::io::{BufRead, IsTerminal, Write as _, stderr, stdin};
use std::time::Instant;

use irepair_config::FixPlan;
use irepair_report::words::{interval, number};
use irepair_report::{Change, FixMeasured, FixPoint, FixResult, KeptAnswers, PairYield, Rate, Verdict};

use super::clock::Clock;
use super::place::Place;
use super::plan::{Preset, Speed, Steps};
use super::track::Track;
use super::{MODEL, PAGE, PATCH};
use crate::environment::peak_rss_bytes;
use crate::error::CliError;
use crate::output::{print, print_json};
use crate::progress::StderrAboveBars;

/// Stages of a fix.
const N_STAGES: usize = 7;

/// Columns of a line, without the head of a stage.
const COLUMNS: usize = 74;

/// Says what came of a stage.
pub(crate) fn stage(n: usize, what: &str) {
    for (i, line) in what.lines().flat_map(wrapped).enumerate() {
        let head = if i == 0 { format!("[{n}/{N_STAGES}] ") } else { "      ".to_owned() };
        let _ = writeln!(StderrAboveBars, "{head}{line}");
    }
}

/// Says what is done now, where nothing else is said for a while.
pub(crate) fn now(what: &str) {
    for line in wrapped(what) {
        let _ = writeln!(StderrAboveBars, "      {line}");
    }
}

/// About how long something takes, in words.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 { format!("{:.0} s", seconds.max(1.0)) } else { format!("{:.0} min", seconds / 60.0) }
}

/// A line in lines of [`COLUMNS`], broken between words.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // What is laid out in columns is short.
    if line.chars().count() <= COLUMNS {
        return vec![line.to_owned()];
    }
    for word in line.split(' ') {
        let last = lines.last_mut().filter(|last| last.chars().count() + word.chars().count() < COLUMNS);
        match last {
            Some(last) => *last += &format!(" {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

pub(crate) fn reproduced(found: &Rate) -> String {
    format!("the model fails on {found}")
}

pub(crate) fn planned(steps: &Steps, [own, valid, test]: [usize; 3], speed: &Speed) -> String {
    let minutes = (steps.seconds([own, valid, test], speed) / 60.0).ceil().max(1.0);
    let [updates, points] = steps.work();
    format!(
        "prompts: {own} for pairs, {valid} to choose on, {test} to measure on\n\
         plan: {updates} updates, {points} points; at most about {minutes} min in all"
    )
}

/// The search that begins; `before` is how often the model as it was fails on the prompts to choose on.
pub(crate) fn searching(steps: &Steps, plan: &FixPlan, before: Option<f64>, clock: &Clock) -> String {
    let (n, budget, n_answers) = (steps.presets.len(), plan.budget_kl, 1 + steps.more_answers);
    format!(
        "search: {n} presets, the budget is {budget} nats a token, {} left\n\
         {n_answers} answers a prompt, greedy and sampled: {} % fail before repair",
        clock.left(),
        number(before, 1)
    )
}

pub(crate) fn pairs(found: &PairYield) -> String {
    let [first, greedy, more, steered] = found.n_made;
    let [good, bad, unfit] = found.n_without;
    let given = if found.n_given > 0 { format!(", {} given", found.n_given) } else { String::new() };
    format!(
        "{} pairs: {first} of samples, {greedy} of greedy answers, {more} of more, {steered} steered{given}\n\
         no pair: {good} prompts only good, {bad} only bad, {unfit} without a fit one",
        found.n_pairs
    )
}

/// Why there is no pair.
pub(crate) fn why_none(found: &PairYield) -> String {
    let [good, bad, unfit] = found.n_without;
    format!("{good} prompts with good answers alone, {bad} with bad ones alone, {unfit} without a good one that is fit")
}

pub(crate) fn choice(point: &FixPoint) -> String {
    let (percent, kl, interval) = (number(point.percent, 1), number(point.kl, 4), interval(point.interval));
    format!("chosen: {}, {} updates\n{percent} %{interval} fail, KL {kl}", point.preset, point.step)
}

pub(crate) fn measured(found: &FixMeasured) -> String {
    let Change { before, after, .. } = &found.judged;
    format!("test prompts: {before} before\n              {after} after")
}

/// The place in the menu that is asked for by flag, on a terminal, or by the rule.
pub(crate) fn chosen(result: &FixResult, plan: &FixPlan, by_rule: Option<usize>) -> anyhow::Result<Option<usize>> {
    let n_points = result.menu.len();
    if let Some(n) = plan.choose {
        return if n <= n_points { Ok(Some(n - 1)) } else { Err(CliError::NotOnMenu { n, n_points }.into()) };
    }
    let asks = !plan.json && stdin().is_terminal() && stderr().is_terminal();
    let Some(rule) = by_rule.filter(|_| asks && n_points > 1) else { return Ok(by_rule) };
    let _ = write!(StderrAboveBars, "{}", menu(result));
    loop {
        let _ = write!(StderrAboveBars, "which one, 1 to {n_points}? Enter takes {}: ", rule + 1);
        let mut answer = String::new();
        if stdin().lock().read_line(&mut answer)? == 0 || answer.trim().is_empty() {
            return Ok(Some(rule));
        }
        if let Some(n) = answer.trim().parse().ok().filter(|n| (1..=n_points).contains(n)) {
            return Ok(Some(n - 1));
        }
    }
}

/// The points that can be chosen, as a table.
pub(crate) fn menu(result: &FixResult) -> String {
    let mut text =
        format!("{:>3}  {:<22} {:>7} {:>10} {:>13} {:>8}\n", "", "preset", "updates", "failures %", "", "KL");
    for (at, point) in result.menu.iter().filter_map(|&i| result.points.get(i)).enumerate() {
        let mark = if result.chosen == Some(at) { "*" } else { " " };
        let interval = interval(point.interval);
        text += &format!(
            "{:>2}{mark}  {:<22} {:>7} {:>10}{interval:>14} {:>8}\n",
            at + 1,
            point.preset,
            point.step,
            number(point.percent, 1),
            number(point.kl, 4)
        );
    }
    text
}

/// What a fix cost so far.
pub(crate) fn cost(started: Instant, tracks: Option<&[(Preset, Track)]>) -> Vec<String> {
    let mut lines = vec![format!("{:.1} minutes, this run", started.elapsed().as_secs_f64() / 60.0)];
    if let Some(tracks) = tracks {
        let updates: usize = tracks.iter().map(|(_, track)| track.selected.len()).sum();
        let seconds: f64 = tracks.iter().map(|(_, track)| track.seconds).sum();
        lines.push(format!("{updates} updates of all presets, {seconds:.0} s"));
    }
    lines.extend(
        peak_rss_bytes().map(|bytes| format!("at most {:.2} GiB of memory", bytes as f64 / f64::from(1 << 30))),
    );
    lines
}

/// The result: verdict, three numbers, where things are.
pub(crate) fn result(result: &FixResult, place: &Place, plan: &FixPlan) -> anyhow::Result<()> {
    if plan.json {
        return print_json(result);
    }
    let mut text = format!("\n{}\n", wrapped(result.verdict.words()).join("\n"));
    if let Some(found) = &result.measured {
        for line in found.why_nothing().iter().flat_map(|shown| wrapped(shown)) {
            text += &format!("  {line}\n");
        }
        let Change { before, after, difference, .. } = &found.judged;
        text += &format!("  failures before  {before}\n  failures after   {after}\n");
        if let Some([low, high]) = difference {
            text += &format!("  difference       [{low:+.1}, {high:+.1}], paired by prompt\n");
        }
        let [was, is] = &found.judged.greedy;
        text += &format!("  greedy alone     {was}\n                -> {is}\n");
        if let Some(second) = &found.second {
            text += &format!("  second judge     {}\n                -> {}\n", second.before, second.after);
        }
        text += &format!("  KL               {} nats a token, {} tokens\n", number(found.kl, 4), found.kl_tokens);
        text += &format!("  fine before      {} fail now\n", found.fine);
        if let Some(KeptAnswers { n, n_same, .. }) = &found.kept {
            text += &format!("  answers to keep  {n_same} of {n} unchanged\n");
        }
        if result.n_measured > 1 {
            let n = result.n_measured;
            text += &format!("  {n} points were measured on these prompts: see the report\n");
        }
    }
    if !result.menu.is_empty() {
        text += &format!("\n{}* chosen; another one: the same command with --choose N\n", menu(result));
    }
    if matches!(result.verdict, Verdict::Repaired | Verdict::Improved) || place.result(MODEL).exists() {
        let [model, patch] = [MODEL, PATCH].map(|name| place.result(name));
        text += &format!("\nmodel   {}\npatch   {}\n", model.display(), patch.display());
    }
    text += &format!("report  {}\n", place.result(PAGE).display());
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = "word ".repeat(40);
        let lines = wrapped(text.trim());
        assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:?}");
        assert_eq!(lines.join(" "), text.trim());
        assert_eq!(wrapped(&"x".repeat(90)), ["x".repeat(90)]);
    }
}
