//! Measurements during a repair on validation data, every few steps, and the weights that they decide to keep.

use std::path::{Path, PathBuf};

use irepair_config::{EvalPlan, Kept, RepairPlan};
use irepair_core::StepRecord;
use irepair_core::fs::{read_to_string, write_atomic};
use irepair_core::metric::MetricId;
use irepair_data::Tokenizer;
use irepair_eval::{Metrics, key};
use irepair_model::{BlockModel, CausalLm};
use irepair_report::{
    Compared, PointDetails, Purpose, Stopped, TrajectoryPoint, kl_without_error, points_since_advance,
};
use irepair_train::{Engine, Error, Outcome};

use crate::environment::{peak_rss_bytes, reset_peak_rss};
use crate::error::CliError;
use crate::kept::KeptWeights;
use crate::measure::{self, Extent, measure_model};
use crate::method::flops_of_step;
use crate::model_dir::LoadedModel;

/// The points so far, inside the output directory: a stopped run continues from them.
const POINTS: &str = "trajectory.jsonl";

/// What a point is about, and how it is measured.
pub(crate) trait Measures {
    /// The metric that counts as the point's error.
    fn error(&self) -> MetricId;

    /// Directory of the model as it was, where the point compares with it.
    fn reference(&self) -> Option<&Path>;

    /// Measures `model` as it is after `step` updates; `n_positions` are those that texts have at every point.
    fn metrics(
        &self,
        step: u64,
        model: &CausalLm,
        tokenizer: &Tokenizer,
        reference: Option<&CausalLm>,
        n_positions: usize,
    ) -> anyhow::Result<Metrics>;
}

/// A point measures what an evaluation does, toxicity first.
impl Measures for EvalPlan {
    fn error(&self) -> MetricId {
        key::TOX
    }

    fn reference(&self) -> Option<&Path> {
        self.reference.as_deref()
    }

    fn metrics(
        &self,
        _step: u64,
        model: &CausalLm,
        tokenizer: &Tokenizer,
        reference: Option<&CausalLm>,
        n_positions: usize,
    ) -> anyhow::Result<Metrics> {
        // What is in front of texts takes of their context: every point has the windows of the later ones.
        let plan = EvalPlan { window: self.window.or(Some(n_positions)), ..self.clone() };
        Ok(measure_model(model, tokenizer, reference, &plan, Extent::Brief)?.metrics)
    }
}

/// Measures a model during its repair and keeps the results.
pub(crate) struct Watcher<'a> {
    /// Steps from one measurement to the next.
    every: u64,
    what: Box<dyn Measures + 'a>,
    path: PathBuf,
    points: Vec<TrajectoryPoint>,
    last: Metrics,
    /// Largest resident memory of the run between measurements, in bytes: measuring is no cost of the method.
    peak_rss_bytes: Option<u64>,
    protocol: Option<Protocol>,
}

/// What a run under METHOD §20 has beyond its points.
struct Protocol {
    plan: RepairPlan,
    kept: KeptWeights,
    pause_at: Option<u64>,
    front_patience: Option<u64>,
    most_kl: Option<f64>,
    /// A point without error within this KL ends the run.
    enough_within: Option<f64>,
    /// Counted work so far.
    flops: f64,
    diverged: bool,
    paused: bool,
}

/// What a watched run leaves.
#[derive(Default)]
pub(crate) struct Watched {
    pub(crate) trajectory: Vec<TrajectoryPoint>,
    /// What the last point measured, under the keys of trajectories.
    pub(crate) metrics: Metrics,
    pub(crate) kept: Option<KeptWeights>,
}

impl<'a> Watcher<'a> {
    /// Measures `what` every so many steps of the repair of `plan`, and keeps what `kept` says.
    pub(crate) fn new(
        every: u64,
        kept: Option<&Kept>,
        what: Box<dyn Measures + 'a>,
        plan: &RepairPlan,
        out: &Path,
    ) -> Self {
        let protocol = |kept: &Kept| Protocol {
            plan: plan.clone(),
            kept: KeptWeights::new(kept.clone(), out),
            pause_at: kept.pause_at,
            front_patience: kept.front_patience,
            most_kl: kept.most_kl,
            enough_within: kept.budgets.iter().copied().reduce(f64::max).filter(|_| kept.until_no_error),
            flops: 0.0,
            diverged: false,
            paused: false,
        };
        Self {
            every,
            what,
            path: out.join(POINTS),
            points: Vec::new(),
            last: Metrics::default(),
            peak_rss_bytes: None,
            protocol: kept.map(protocol),
        }
    }

    /// Takes up a run that continues after the steps of `records`; later points will be measured again.
    pub(crate) fn resume(&mut self, records: &[StepRecord], model: &CausalLm) -> anyhow::Result<()> {
        let n_steps = records.len() as u64;
        if n_steps > 0 && self.path.exists() {
            self.points = read_points(&self.path)?;
            self.points.retain(|point| point.step <= n_steps);
        }
        // The last point of a run that ended here: its metrics are part of the result, and are measured again.
        if self.is_spent() {
            self.points.pop();
        }
        if let Some(protocol) = &mut self.protocol {
            protocol.kept.resume(n_steps)?;
        }
        records.iter().for_each(|record| self.count(record, model));
        Ok(())
    }

    /// Adds the counted work of a step.
    pub(crate) fn count(&mut self, record: &StepRecord, model: &CausalLm) {
        if let Some(protocol) = &mut self.protocol {
            protocol.flops += flops_of_step(model, &protocol.plan, record);
        }
    }

    /// Measures the model as it is now when that is due, and keeps its weights where a comparison wants them; `last` is
    /// always due.
    pub(crate) fn look(&mut self, engine: &Engine<&CausalLm>, last: bool, loaded: &LoadedModel) -> anyhow::Result<()> {
        let step = engine.next_step();
        if let Some(Protocol { kept, flops, .. }) = &mut self.protocol {
            kept.mark(engine, *flops)?;
        }
        let known = self.points.last().is_some_and(|point| point.step >= step);
        if known || !(last || step.is_multiple_of(self.every)) {
            return Ok(());
        }
        self.peak_rss_bytes = self.peak_rss_bytes();
        let base = self.what.reference();
        let reference =
            base.map(|base| CausalLm::load(base, loaded.model.device(), loaded.model.kind())).transpose()?;
        // Step 0 is the model as it was: without the soft prefix that a run has from then on.
        let as_it_was = step == 0 && loaded.model.n_soft_prefix() > 0;
        let before = if as_it_was { Some(loaded.model.without_soft_prefix()?) } else { None };
        let model = before.as_ref().unwrap_or(&loaded.model);
        let base = reference.as_ref().map(|(reference, _)| reference);
        let metrics = self.what.metrics(step, model, &loaded.tokenizer, base, loaded.model.n_positions())?;
        drop((reference, before));
        let more = match &self.protocol {
            // The loss is that of the prefix.
            Some(protocol) if as_it_was => Some(self.details(&metrics, None, protocol.flops)),
            Some(protocol) => Some(self.details(&metrics, engine.validation_loss()?, protocol.flops)),
            None => None,
        };
        reset_peak_rss();
        let (toxicity, perplexity) = (metrics.value(self.what.error()), metrics.value(key::TOKEN_PERPLEXITY));
        self.points.push(TrajectoryPoint { step, toxicity, perplexity, more });
        self.last = metrics;
        if let Some(protocol) = &self.protocol {
            protocol.kept.point(engine, &self.points)?;
        }
        let lines = self.points.iter().map(|point| Ok(serde_json::to_string(point)? + "\n"));
        write_atomic(&self.path, lines.collect::<anyhow::Result<String>>()?.as_bytes())?;
        Ok(())
    }

    fn details(&self, metrics: &Metrics, validation_loss: Option<f64>, flops: f64) -> PointDetails {
        let value = |key: MetricId| metrics.value(key);
        let form = measure::form(metrics);
        let before = self.points.iter().find(|point| point.step == 0).and_then(|point| point.more);
        let n = metrics.get(self.what.error()).map_or(0, |error| error.n);
        let passes = form.passes(&before.map_or(form, |before| before.form));
        PointDetails { flops, validation_loss, n, kl: value(key::KL_HELDOUT), form, passes }
    }

    /// True when the run ends here: so many points in a row did not advance the front, or the last one is too far, or
    /// has no error left.
    pub(crate) fn is_spent(&self) -> bool {
        let Some(Protocol { front_patience, most_kl, enough_within, .. }) = self.protocol else { return false };
        let last = self.points.last();
        let kl = last.and_then(|point| point.more?.kl);
        front_patience.is_some_and(|patience| points_since_advance(&self.points) as u64 >= patience)
            || most_kl.zip(kl).is_some_and(|(most, kl)| kl > most)
            || enough_within.zip(last).is_some_and(|(most, point)| kl_without_error(point, most).is_some())
    }

    /// True when the run stops here for now.
    pub(crate) fn pauses(&mut self, n_steps: u64) -> bool {
        let Some(protocol) = &mut self.protocol else { return false };
        protocol.paused = protocol.pause_at.is_some_and(|at| n_steps >= at);
        protocol.paused
    }

    /// True when a run that stops with this error ends there, with the best weights that it had.
    pub(crate) fn ends_with(&mut self, error: &Error) -> bool {
        let Some(protocol) = &mut self.protocol else { return false };
        protocol.diverged = matches!(error, Error::NotFinite { .. });
        protocol.diverged
    }

    pub(crate) fn diverged(&self) -> bool {
        self.protocol.as_ref().is_some_and(|protocol| protocol.diverged)
    }

    pub(crate) fn paused(&self) -> bool {
        self.protocol.as_ref().is_some_and(|protocol| protocol.paused)
    }

    /// Removes kept weights that no comparison wants any more; see [`KeptWeights::settle`].
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        self.protocol.as_ref().map_or(Ok(()), |protocol| protocol.kept.settle(&self.points))
    }

    /// Largest resident memory of the run so far, in bytes, without that of the measurements: of theirs only what the
    /// allocator kept, and the run did not use again, still counts.
    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        self.peak_rss_bytes.max(peak_rss_bytes())
    }

    /// Why a run that ended so stopped; none when its way is not kept.
    pub(crate) fn stopped(&self, outcome: &Outcome) -> Option<Stopped> {
        self.protocol.as_ref().map(|protocol| match protocol {
            Protocol { diverged: true, .. } => Stopped::Diverged,
            Protocol { paused: true, .. } => Stopped::Paused,
            _ if outcome.stopped_early => Stopped::Patience,
            _ if self.is_spent() => Stopped::Front,
            _ => Stopped::Cap,
        })
    }

    /// The comparisons of a run that ended so.
    pub(crate) fn compared(&self, outcome: &Outcome) -> Vec<Compared> {
        let Some(protocol) = &self.protocol else { return Vec::new() };
        let step = outcome.best_step.unwrap_or(outcome.n_steps);
        let stopped = Compared { purpose: Purpose::Stopped, n_steps: outcome.n_steps, flops: protocol.flops, step };
        protocol.kept.compared(&self.points, stopped)
    }

    /// The points and what belongs to them.
    pub(crate) fn finish(self) -> Watched {
        let keys = [(key::TOX, key::TRAJECTORY_TOX), (key::TOKEN_PERPLEXITY, key::TRAJECTORY_PERPLEXITY)];
        let last = keys.into_iter().filter_map(|(from, to)| Some((to, self.last.get(from)?.clone())));
        let metrics = last.collect();
        Watched { trajectory: self.points, metrics, kept: self.protocol.map(|protocol| protocol.kept) }
    }
}

/// The points of a stopped run. The last line may have been cut off by the kill.
fn read_points(path: &Path) -> anyhow::Result<Vec<TrajectoryPoint>> {
    let text = read_to_string(path)?;
    let (n, mut points) = (text.lines().count(), Vec::new());
    for (i, line) in text.lines().enumerate() {
        match serde_json::from_str(line) {
            Ok(point) => points.push(point),
            Err(_) if i + 1 == n => break,
            Err(_) => return Err(CliError::BadPoint { path: path.to_owned(), line: i + 1 }.into()),
        }
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_point_is_named_and_a_torn_last_one_is_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(POINTS);
        let line = |step| serde_json::to_string(&TrajectoryPoint { step, ..Default::default() }).unwrap();
        let read = |text: String| {
            std::fs::write(&path, text).unwrap();
            read_points(&path).map(|points| points.iter().map(|point| point.step).collect::<Vec<_>>())
        };
        assert_eq!(read(format!("{}\n{}\n", line(0), line(50))).unwrap(), [0, 50]);
        assert_eq!(read(format!("{}\n{{\"step\":5", line(0))).unwrap(), [0]);
        let error = read(format!("{}\nx\n{}\n", line(0), line(50))).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(CliError::BadPoint { line: 2, .. })), "{error:#}");
    }
}
