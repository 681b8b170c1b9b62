//! Marks the steps whose loss stands out, and says so: the first time at once, all of them at the end.

use irepair_core::StepRecord;
use irepair_stats::Spikes;

/// Loss spikes of a run (METHOD §8). They change nothing but its log.
pub(crate) struct SpikeWatch {
    series: Spikes,
    n_spikes: usize,
}

impl SpikeWatch {
    /// Goes on after the steps already taken.
    pub(crate) fn after(records: &[StepRecord]) -> Self {
        let mut series = Spikes::default();
        for record in records {
            series.judge(record.loss);
        }
        Self { series, n_spikes: records.iter().filter(|record| record.spike).count() }
    }

    /// Marks the record of a step that stands out.
    pub(crate) fn look(&mut self, record: &mut StepRecord) {
        let Some(limit) = self.series.judge(record.loss) else { return };
        record.spike = true;
        self.n_spikes += 1;
        if self.n_spikes == 1 {
            tracing::warn!(
                "loss spike at step {}: {:.4}, and after the losses before it {limit:.4} is much; the run goes on",
                record.step,
                record.loss
            );
        }
    }

    /// Says how many there were, when more than one.
    pub(crate) fn finish(&self) {
        if self.n_spikes > 1 {
            tracing::warn!(
                "{} loss spikes, marked `spike` in the log of steps: lower --lr, or look at the texts of those steps",
                self.n_spikes
            );
        }
    }
}
