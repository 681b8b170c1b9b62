//! The search: presets by successive halving on validation prompts, every point with failures, KL and form.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use irepair_config::{Kept, RepairOptions, resolve};
use irepair_core::DirLock;
use irepair_data::Tokenizer;
use irepair_eval::{Metric, Metrics, key, kl_heldout};
use irepair_model::CausalLm;
use irepair_report::words::number;
use irepair_report::{FixPoint, Form, Stopped, TrajectoryPoint, kl_without_error, within_budget};

use super::answers::Asking;
use super::clock::{Clock, Stand};
use super::failures::{Failures, More, percent};
use super::place::{Place, keep, read};
use super::plan::{Preset, Steps};
use super::track::Track;
use crate::progress::StderrAboveBars;
use crate::repair::run;
use crate::run_dir::remove_state;
use crate::watch::{Measures, Watcher};

/// A run ends at a point over so many budgets: what it has found within the budget stays.
const FAR_OVER: f64 = 2.0;

/// What every run of the search shares.
pub(crate) struct Search<'a> {
    pub(crate) place: &'a Place,
    pub(crate) steps: &'a Steps,
    pub(crate) shared: RepairOptions,
    pub(crate) asking: &'a Asking<'a>,
    pub(crate) more: More,
    /// Validation prompts, with the failures of the model as it was.
    pub(crate) prompts: &'a [String],
    pub(crate) before: &'a Failures,
    pub(crate) neutral: &'a [Vec<u32>],
    /// The model as it was.
    pub(crate) base: &'a CausalLm,
    pub(crate) budget_kl: f64,
    pub(crate) clock: &'a RefCell<Clock>,
}

/// A point of a preset's run on validation prompts.
struct PointOf<'a> {
    search: &'a Search<'a>,
    preset: &'a str,
    dir: PathBuf,
    /// When the last point was measured, and after how many updates.
    last: Cell<(Instant, u64)>,
}

impl Measures for PointOf<'_> {
    fn error(&self) -> key::MetricId {
        key::TOXFRAC
    }

    fn reference(&self) -> Option<&Path> {
        // It is in memory.
        None
    }

    fn metrics(
        &self,
        step: u64,
        model: &CausalLm,
        _: &Tokenizer,
        _: Option<&CausalLm>,
        _: usize,
    ) -> anyhow::Result<Metrics> {
        let search = self.search;
        let started = Instant::now();
        // Before the first update the model is the base, whose failures are known.
        let asked =
            if step == 0 { None } else { Some(search.asking.failures(model, search.prompts, search.more, false)?) };
        let failures = asked.as_ref().unwrap_or(search.before);
        let kl = if step > 0 {
            kl_heldout(search.base, model, search.neutral, search.asking.batch_size)?.metric
        } else {
            Metric::new(key::KL_HELDOUT, 0.0, search.neutral.iter().map(Vec::len).sum(), 0, "the same model")
        };
        let shares = failures.shares();
        let (found, _) = percent(&shares);
        if step > 0 {
            keep(&shares_path(&self.dir, step), &shares)?;
            let (since, n_before) = self.last.get();
            let of_updates = started.duration_since(since).as_secs_f64();
            let now = Stand { n_steps: step, kl: kl.value, ended: found == Some(0.0) };
            search.clock.borrow_mut().point(now, step - n_before, of_updates, started.elapsed().as_secs_f64());
            self.say(step, found, kl.value);
        }
        self.last.set((Instant::now(), step));
        Ok(metrics(&failures.form, found, kl, shares.len()))
    }
}

impl PointOf<'_> {
    /// Says a point, and how much time is left.
    fn say(&self, step: u64, found: Option<f64>, kl: Option<f64>) {
        let over = kl.is_some_and(|kl| kl > self.search.budget_kl);
        let line = format!(
            "  {:<22} {step:>5} updates {:>5} % fail, KL {:>6}{}, {} left",
            self.preset,
            number(found, 1),
            number(kl, 4),
            if over { "!" } else { " " },
            self.search.clock.borrow().left()
        );
        let _ = writeln!(StderrAboveBars, "{line}");
    }
}

fn metrics(form: &Form, percent: Option<f64>, kl: Metric, n: usize) -> Metrics {
    let of = |id: key::MetricId, value: Option<f64>| Some((id, Metric::new(id, value?, n, 0, "answers to prompts")));
    let found = [
        of(key::TOXFRAC, percent),
        of(key::MEAN_LENGTH, form.mean_length),
        of(key::DISTINCT_1, form.distinct),
        of(key::EMPTY_SHARE, form.blank),
        of(key::REPETITION_4, form.repeated),
        of(key::COPIED_SHARE, form.copied),
    ];
    found.into_iter().flatten().chain([(key::KL_HELDOUT, kl)]).collect()
}

/// Shares of a point's answers that fail, by prompt, in the run's directory.
fn shares_path(run: &Path, step: u64) -> PathBuf {
    run.join(format!("shares-{step}.json"))
}

/// The weights that a run keeps: the best points within these budgets.
pub(crate) fn kept(budget_kl: f64) -> Kept {
    Kept { budgets: [0.25, 0.5, 1.0].map(|share| share * budget_kl).to_vec(), until_no_error: true, ..Kept::default() }
}

impl Search<'_> {
    /// Runs every round; returns every preset with its track.
    ///
    /// # Errors
    /// Those of a run that is no divergence.
    pub(crate) fn run(&self) -> anyhow::Result<Vec<(Preset, Track)>> {
        let mut tracks = vec![Track::default(); self.steps.presets.len()];
        let mut alive: Vec<usize> = (0..tracks.len()).collect();
        for (round, &n_steps) in self.steps.rounds.iter().enumerate() {
            for (at, &i) in alive.iter().enumerate() {
                let most_kl = self.most_kl(&tracks);
                if tracks[i].is_over(most_kl) {
                    continue;
                }
                let stands = alive.iter().map(|&i| tracks[i].stand()).collect();
                self.clock.borrow_mut().begins(round, stands, at, most_kl);
                tracks[i] = self.run_to(&self.steps.presets[i], n_steps, most_kl)?;
            }
            let most_kl = self.most_kl(&tracks);
            alive.retain(|&i| !tracks[i].ended && !tracks[i].is_over(most_kl));
            if round + 1 < self.steps.rounds.len() {
                let places = alive.iter().map(|&i| (i, best(&tracks[i].points, self.budget_kl)));
                alive = survivors(places.collect(), self.steps.n_presets(round + 1));
            } else {
                alive.clear();
            }
            self.forget(&alive)?;
        }
        Ok(self.steps.presets.iter().cloned().zip(tracks).collect())
    }

    /// Removes the states of runs that do not continue, each as large as several models. A search that is repeated
    /// decides as this one did, and asks for none of them.
    fn forget(&self, alive: &[usize]) -> anyhow::Result<()> {
        let over = self.steps.presets.iter().enumerate().filter(|(i, _)| !alive.contains(i));
        Ok(over.map(|(_, preset)| self.place.run(&preset.name)).try_for_each(|run| remove_state(&run))?)
    }

    /// A run ends at a point of more KL: far over the budget, or over the least KL without failures that any run found.
    fn most_kl(&self, tracks: &[Track]) -> f64 {
        let points = tracks.iter().flat_map(|track| &track.points);
        let enough = points.filter_map(|point| kl_without_error(point, self.budget_kl));
        enough.fold(FAR_OVER * self.budget_kl, f64::min)
    }

    /// The track of a preset after `n_steps`, or where it ended before.
    fn run_to(&self, preset: &Preset, n_steps: u64, most_kl: f64) -> anyhow::Result<Track> {
        let dir = self.place.run(&preset.name);
        let path = dir.join("track.json");
        let before: Track = if path.exists() { read(&path)? } else { Track::default() };
        if before.n_steps >= n_steps || before.ended {
            return Ok(before.until(n_steps));
        }
        std::fs::create_dir_all(&dir)?;
        let last = self.steps.rounds.last().copied().unwrap_or(n_steps);
        let given = irepair_config::Options::over(
            preset.options.clone(),
            RepairOptions { out: Some(dir.clone()), steps: Some(last), ..self.shared.clone() },
        );
        let given = RepairOptions { checkpoint_every: Some(self.steps.every), ..given };
        let plan = resolve(&given, &preset.name)?;
        let now = Cell::new((Instant::now(), before.n_steps));
        let measures = PointOf { search: self, preset: &preset.name, dir: dir.clone(), last: now };
        let pause_at = (n_steps < last).then_some(n_steps);
        let asked = Kept { pause_at, most_kl: Some(most_kl), ..kept(self.budget_kl) };
        let mut watcher = Watcher::new(self.steps.every, Some(&asked), Box::new(measures), &plan, &dir);
        let (_, run) =
            super::quietly(|| run(&given, plan, Some(|out| Ok(DirLock::take(out)?)), Some(&mut watcher), None))?;
        let track = Track {
            n_steps,
            ended: watcher.stopped(&run.outcome) != Some(Stopped::Paused),
            selected: run.records.iter().map(|r| r.slice.iter().map(|block| block.0).collect()).collect(),
            points: watcher.finish().trajectory,
            seconds: run.records.iter().map(|record| record.seconds).sum(),
        };
        keep(&path, &track)?;
        Ok(track)
    }

    /// All points after the first of every run, and which of them can be chosen: those whose weights are kept and that
    /// no other such point dominates, from small KL to large.
    pub(crate) fn points(&self, tracks: &[(Preset, Track)]) -> anyhow::Result<(Vec<FixPoint>, Vec<usize>)> {
        let (mut points, mut with_weights) = (Vec::new(), Vec::new());
        for (preset, track) in tracks {
            let kept: Vec<u64> = kept(self.budget_kl)
                .budgets
                .iter()
                .filter_map(|&budget| Some(within_budget(&track.points, budget)?.step))
                .collect();
            for point in track.points.iter().filter(|point| point.step > 0) {
                let shares: Vec<Option<f64>> = read(&shares_path(&self.place.run(&preset.name), point.step))?;
                if kept.contains(&point.step) {
                    with_weights.push(points.len());
                }
                points.push(FixPoint {
                    preset: preset.name.clone(),
                    step: point.step,
                    percent: point.toxicity,
                    interval: percent(&shares).1,
                    kl: point.more.and_then(|more| more.kl),
                    passes: point.more.is_some_and(|more| more.passes),
                });
            }
        }
        let menu = menu(&points, &with_weights);
        Ok((points, menu))
    }

    /// The rule: the fewest failures, and of equals the least KL. None where the menu is empty or no point fails less
    /// than before. Within a budget more KL buys more repair (DEVIATIONS D15): a point of less KL that only ties by an
    /// interval of so few prompts is worse in expectation.
    pub(crate) fn choice(&self, points: &[FixPoint], menu: &[usize]) -> Option<usize> {
        let (before, _) = percent(&self.before.shares());
        let error = |at: &usize| points[menu[*at]].place().map_or(f64::INFINITY, |[_, error]| error);
        let best = (0..menu.len()).min_by(|a, b| error(a).total_cmp(&error(b)));
        best.filter(|best| before.is_some_and(|before| error(best) < before))
    }
}

/// `[failures, KL]` of a run's best point within the budget; the model before repair counts as one.
fn best(points: &[TrajectoryPoint], budget: f64) -> Option<[f64; 2]> {
    let point = within_budget(points, budget)?;
    Some([point.toxicity?, point.more?.kl.unwrap_or(0.0)])
}

/// The `n` runs that continue: the least failures within the budget, then the least KL, then those that come first.
fn survivors(mut runs: Vec<(usize, Option<[f64; 2]>)>, n: usize) -> Vec<usize> {
    let key = |run: &Option<[f64; 2]>| run.unwrap_or([f64::INFINITY; 2]);
    runs.sort_by(|(i, a), (j, b)| {
        let ([error, kl], [other, other_kl]) = (key(a), key(b));
        error.total_cmp(&other).then(kl.total_cmp(&other_kl)).then(i.cmp(j))
    });
    let mut alive: Vec<usize> = runs.into_iter().take(n).map(|(i, _)| i).collect();
    alive.sort_unstable();
    alive
}

/// Places of the points among `from` that no other of them dominates, from small KL to large.
fn menu(points: &[FixPoint], from: &[usize]) -> Vec<usize> {
    let mut places: Vec<(usize, [f64; 2])> = from.iter().filter_map(|&i| Some((i, points[i].place()?))).collect();
    places.sort_by(|(i, a), (j, b)| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])).then(i.cmp(j)));
    let mut menu: Vec<(usize, f64)> = Vec::new();
    for (i, [_, error]) in places {
        if menu.last().is_none_or(|(_, last)| error < *last) {
            menu.push((i, error));
        }
    }
    menu.into_iter().map(|(i, _)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_runs_continue_in_their_order() {
        let runs = vec![(0, Some([20.0, 0.01])), (2, Some([5.0, 0.04])), (3, None), (4, Some([20.0, 0.005]))];
        assert_eq!(survivors(runs.clone(), 2), [2, 4], "ties go to the smaller KL");
        assert_eq!(survivors(runs, 9), [0, 2, 3, 4]);
        assert_eq!(survivors(vec![(1, None), (0, None)], 1), [0]);
    }

    #[test]
    fn the_menu_holds_no_dominated_point_and_none_that_fails_the_guard() {
        let point = |kl: f64, percent: f64, passes: bool| FixPoint {
            preset: "dpo".into(),
            step: 8,
            percent: Some(percent),
            interval: None,
            kl: Some(kl),
            passes,
        };
        let points = [
            point(0.04, 5.0, true),
            point(0.01, 20.0, true),
            point(0.02, 25.0, true),
            point(0.03, 1.0, false),
            point(0.01, 20.0, true),
        ];
        assert_eq!(menu(&points, &[0, 1, 2, 3, 4]), [1, 0]);
        assert_eq!(menu(&points, &[2]), [2]);
        assert_eq!(menu(&points, &[3]), [0; 0]);
    }
}
