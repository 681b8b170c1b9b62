//! How far the run of a preset went: kept, so that a search that is repeated decides as the first one did.

use irepair_report::TrajectoryPoint;
use serde::{Deserialize, Serialize};

use super::clock::Stand;

/// How far a preset's run went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Track {
    /// Updates after which it was to pause.
    pub(crate) n_steps: u64,
    pub(crate) points: Vec<TrajectoryPoint>,
    /// No more steps follow.
    pub(crate) ended: bool,
    /// Blocks changed at every step.
    pub(crate) selected: Vec<Vec<usize>>,
    /// Seconds of its updates.
    pub(crate) seconds: f64,
}

impl Track {
    /// The track as it was after `n_steps`: a search that is repeated decides as the first one did.
    pub(crate) fn until(self, n_steps: u64) -> Self {
        if self.n_steps <= n_steps {
            return self;
        }
        // It continued, so it had not ended.
        let Self { mut points, mut selected, .. } = self;
        points.retain(|point| point.step <= n_steps);
        selected.truncate(n_steps as usize);
        Self { n_steps, points, ended: false, selected, ..self }
    }

    /// Where it stands.
    pub(crate) fn stand(&self) -> Stand {
        let kl = self.points.last().and_then(|point| point.more?.kl);
        Stand { n_steps: self.n_steps, kl, ended: self.ended }
    }

    /// Its last point has more KL: no later one can be chosen.
    pub(crate) fn is_over(&self, most_kl: f64) -> bool {
        self.stand().kl.is_some_and(|kl| kl > most_kl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_track_is_seen_as_it_was() {
        let point = |step| TrajectoryPoint { step, toxicity: Some(1.0), perplexity: None, more: None };
        let track = Track {
            n_steps: 64,
            points: [0, 8, 16, 24, 64].map(point).to_vec(),
            ended: true,
            selected: vec![vec![0]; 64],
            seconds: 1.0,
        };
        let then = track.clone().until(16);
        assert_eq!((then.points.len(), then.selected.len(), then.ended), (3, 16, false));
        assert_eq!(track.clone().until(64), track);
        let over = Track { n_steps: 16, ..track };
        assert_eq!(over.clone().until(32), over, "it ended before");
        assert!(!over.is_over(0.0), "no KL is known");
    }
}
