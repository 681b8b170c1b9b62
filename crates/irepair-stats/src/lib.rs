//! Statistics on plain numbers: intervals, paired tests, effect sizes, error density, the paper's headline
//! numbers, and scores of a localiser.
//!
//! ```
//! use irepair_stats::{Bootstrap, Estimate, a12, bootstrap_mean, reduction_percent};
//!
//! let toxicity_by_seed = [4.1, 5.0, 4.4];
//! let ours = Estimate::over_seeds(&toxicity_by_seed).ok_or("no seeds")?;
//! assert!(ours.interval.is_some_and(|i| i.contains(4.5)));
//! assert_eq!(a12(&toxicity_by_seed, &[14.0, 15.2, 13.9])?, 1.0);
//! assert!(reduction_percent(ours.value, 45.0).is_some_and(|r| r > 89.0));
//!
//! let vanilla = bootstrap_mean(&[0.0, 1.0, 1.0, 0.0], &Bootstrap::new(7))?;
//! assert_eq!((vanilla.value, vanilla.n), (0.5, 4));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants: nothing here returns NaN or panics, whatever the input: an undefined statistic is `None` or a typed
//! [`Error`]. A resampled number depends on its seed alone, not on the number of threads. Every p-value says how it was
//! obtained ([`PMethod`]).

mod bootstrap;
mod density;
mod describe;
mod error;
mod headline;
mod holm;
mod hypervolume;
mod localisation;
mod mann_whitney;
mod mcnemar;
mod ranks;
mod spikes;
mod two_level;
mod wilcoxon;
mod wilson;

pub use bootstrap::{Bootstrap, bootstrap_mean, paired_bootstrap_difference};
pub use density::{ErrorDensity, TOP_SHARE, error_density, geometric_mean_ratio, gini, pooled_gain_percent};
pub use describe::{Estimate, Interval, LEVEL, mean, median, quantile_of_sorted, sample_sd, t_interval};
pub use error::{Error, Result};
pub use headline::{disruption_percent, effectiveness_percent, reduction_percent};
pub use holm::holm;
pub use hypervolume::hypervolume;
pub use localisation::Localisation;
pub use mann_whitney::{MannWhitney, a12, a12_interval, a12_size, mann_whitney};
pub use mcnemar::{McNemar, mcnemar};
pub use ranks::{PMethod, spearman};
pub use spikes::Spikes;
pub use two_level::{CellMeans, Cells, TwoLevel, seeds_and_prompts};
pub use wilcoxon::{Wilcoxon, wilcoxon};
pub use wilson::{wilson, wilson_of_shares};
