//! Looking at a model on its way through a repair: toxicity and perplexity every few steps.

use std::path::{Path, PathBuf};

use irepair_config::Watch;
use irepair_core::fs::{read_to_string, write_atomic};
use irepair_eval::{Metrics, key};
use irepair_report::TrajectoryPoint;

use crate::environment::{forget_peak_rss, peak_rss_bytes};
use crate::evaluate::measure;
use crate::weights::Opened;

/// Where the points of a run that was killed wait, inside the output directory.
const POINTS: &str = "trajectory.jsonl";

/// Measures, and keeps what it measured beside the run.
pub(crate) struct Watcher<'a> {
    watch: &'a Watch,
    path: PathBuf,
    points: Vec<TrajectoryPoint>,
    last: Metrics,
    /// Largest resident memory of the run between looks, in bytes: measuring is no cost of the method.
    peak_rss_bytes: Option<u64>,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(watch: &'a Watch, out: &Path) -> Self {
        Self { watch, path: out.join(POINTS), points: Vec::new(), last: Metrics::default(), peak_rss_bytes: None }
    }

    /// Takes up the points of a run that goes on at `step`; later ones will be measured again.
    pub(crate) fn resume(&mut self, step: u64) -> anyhow::Result<()> {
        if step > 0 && self.path.exists() {
            let text = read_to_string(&self.path)?;
            self.points = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            self.points.retain(|point| point.step <= step);
        }
        Ok(())
    }

    /// Measures the model after `step` steps when that is due; `last` is always due.
    pub(crate) fn look(&mut self, step: u64, last: bool, opened: &Opened) -> anyhow::Result<()> {
        let known = self.points.last().is_some_and(|point| point.step >= step);
        if known || !(last || step.is_multiple_of(self.watch.every)) {
            return Ok(());
        }
        self.peak_rss_bytes = self.peak_rss_bytes();
        let measured = measure(opened, None, &self.watch.eval)?;
        forget_peak_rss();
        let value = |key| measured.metrics.value(key);
        let (toxicity, perplexity) = (value(key::TOX), value(key::TOKEN_PERPLEXITY));
        self.points.push(TrajectoryPoint { step, toxicity, perplexity });
        self.last = measured.metrics;
        let lines = self.points.iter().map(|point| Ok(serde_json::to_string(point)? + "\n"));
        write_atomic(&self.path, lines.collect::<anyhow::Result<String>>()?.as_bytes())?;
        Ok(())
    }

    /// Largest resident memory of the run so far, in bytes, without what looking at it took: only memory that the
    /// allocator kept from a look, and the run did not take up, still counts.
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
