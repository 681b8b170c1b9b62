//! Measurements during a repair: toxicity and perplexity every few steps.

use std::path::{Path, PathBuf};

use irepair_config::EvalPlan;
use irepair_core::fs::{read_to_string, write_atomic};
use irepair_eval::{Metrics, key};
use irepair_report::TrajectoryPoint;

use crate::environment::{peak_rss_bytes, reset_peak_rss};
use crate::measure::measure;
use crate::model_dir::LoadedModel;

/// The points so far, inside the output directory: a stopped run continues from them.
const POINTS: &str = "trajectory.jsonl";

/// Measures a model during its repair and keeps the results.
pub(crate) struct Watcher {
    /// Steps from one measurement to the next.
    every: u64,
    eval: EvalPlan,
    path: PathBuf,
    points: Vec<TrajectoryPoint>,
    last: Metrics,
    /// Largest resident memory of the run between measurements, in bytes: measuring is no cost of the method.
    peak_rss_bytes: Option<u64>,
}

impl Watcher {
    pub(crate) fn new(every: u64, eval: EvalPlan, out: &Path) -> Self {
        Self { every, eval, path: out.join(POINTS), points: Vec::new(), last: Metrics::default(), peak_rss_bytes: None }
    }

    /// Reads the points of a run that continues at `step`; later ones will be measured again.
    pub(crate) fn resume(&mut self, step: u64) -> anyhow::Result<()> {
        if step > 0 && self.path.exists() {
            let text = read_to_string(&self.path)?;
            self.points = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            self.points.retain(|point| point.step <= step);
        }
        Ok(())
    }

    /// Measures the model after `step` steps when that is due; `last` is always due.
    pub(crate) fn measure_if_due(&mut self, step: u64, last: bool, loaded: &LoadedModel) -> anyhow::Result<()> {
        let known = self.points.last().is_some_and(|point| point.step >= step);
        if known || !(last || step.is_multiple_of(self.every)) {
            return Ok(());
        }
        self.peak_rss_bytes = self.peak_rss_bytes();
        let measured = measure(loaded, None, &self.eval)?;
        reset_peak_rss();
        let value = |key| measured.metrics.value(key);
        let (toxicity, perplexity) = (value(key::TOX), value(key::TOKEN_PERPLEXITY));
        self.points.push(TrajectoryPoint { step, toxicity, perplexity });
        self.last = measured.metrics;
        let lines = self.points.iter().map(|point| Ok(serde_json::to_string(point)? + "\n"));
        write_atomic(&self.path, lines.collect::<anyhow::Result<String>>()?.as_bytes())?;
        Ok(())
    }

    /// Largest resident memory of the run so far, in bytes, without that of the measurements: of theirs only what the
    /// allocator kept, and the run did not use again, still counts.
    pub(crate) fn peak_rss_bytes(&self) -> Option<u64> {
        self.peak_rss_bytes.max(peak_rss_bytes())
    }

    /// The points, and what the last one measured, under the keys of trajectories.
    pub(crate) fn finish(self) -> (Vec<TrajectoryPoint>, Metrics) {
        let keys = [(key::TOX, key::TRAJECTORY_TOX), (key::TOKEN_PERPLEXITY, key::TRAJECTORY_PERPLEXITY)];
        let last = keys.into_iter().filter_map(|(from, to)| Some((to, self.last.get(from)?.clone())));
        (self.points, last.collect())
    }
}
