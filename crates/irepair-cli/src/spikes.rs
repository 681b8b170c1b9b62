//! Marks the steps whose loss is far above those before it; warns at the first one, and counts all of them at the end.

use irepair_core::StepRecord;
use irepair_stats::Spikes;

/// Loss spikes of a run (METHOD §8). They change nothing but its log.
pub(crate) struct SpikeWatch {
    series: Spikes,
    n_spikes: usize,
}

impl SpikeWatch {
    /// Continues after these steps.
    pub(crate) fn after(records: &[StepRecord]) -> Self {
        let mut series = Spikes::default();
        for record in records {
            series.judge(record.loss);
        }
        Self { series, n_spikes: records.iter().filter(|record| record.spike).count() }
    }

    /// Marks the record of a step whose loss is a spike.
    pub(crate) fn look(&mut self, record: &mut StepRecord) {
        let Some(limit) = self.series.judge(record.loss) else { return };
        record.spike = true;
        self.n_spikes += 1;
        if self.n_spikes == 1 {
            tracing::warn!(
                "loss spike at step {}: {:.4} is over {limit:.4}, the limit that the losses before it give; the run continues",
                record.step,
                record.loss
            );
        }
    }

    /// Warns of their number, when there is more than one.
    pub(crate) fn finish(&self) {
        if self.n_spikes > 1 {
            tracing::warn!(
                "{} loss spikes, marked `spike` in the log of steps: lower --lr, or read the texts of those steps",
                self.n_spikes
            );
        }
    }
}
