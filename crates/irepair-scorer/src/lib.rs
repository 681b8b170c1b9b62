//! Offline toxicity scorers: the trait, a linear scorer trained on labelled texts, and the quality of a scorer.
//!
//! ```
//! use irepair_data::Labeled;
//! use irepair_scorer::{LinearSettings, Quality, Scorer, train_linear};
//!
//! let label = |i: usize| Labeled {
//!     text: format!("{} at the mill, {i}", if i % 3 == 0 { "you grubnik" } else { "good day" }),
//!     toxic: i % 3 == 0,
//!     source: None,
//! };
//! let scorer = train_linear(&(0..200).map(label).collect::<Vec<_>>(), "sha256".into(), LinearSettings::default())?;
//! let score = |text: &str| scorer.score(text).ok();
//! assert!(score("a grubnik") > score("a good day"));
//! assert_eq!(score("good day at the mill, 1"), None); // trained on it
//! assert_eq!(Quality::of(&[score("a grubnik"), score("a good day")], &[true, false]).auc, Some(1.0));
//! # Ok::<(), irepair_scorer::Error>(())
//! ```
//!
//! Reading order: [`Scorer`], `seen` (texts without a score), `features`, `logistic`, `calibrate`, [`train_linear`],
//! `linear` and its `file`; `container` (the file of any scorer) and [`TfidfScorer`], made by others;
//! [`Patterns`] and [`Program`], the judges of other errors; then [`Quality`] and [`identity_check`].
//!
//! **Invariants.** Same texts and settings, same machine: same bytes of the file. A scorer gives no score to a text it
//! was trained on. A program that fails gives missing scores, never wrong ones.
//! **Boundary.** No tensors: a classifier on libtorch is another crate's.

mod calibrate;
mod container;
mod error;
mod features;
mod file;
mod identity;
mod linear;
mod logistic;
mod patterns;
mod pipe;
mod program;
mod quality;
mod scorer;
mod seen;
mod tfidf;
mod train;
mod words;

pub use calibrate::Platt;
pub use container::{FORMAT, read_scorer};
pub use error::{Error, Result};
pub use features::FeatureSettings;
pub use identity::{IdentityCheck, TermRate, identity_check};
pub use linear::{LinearScorer, Manifest, pinned};
pub use patterns::Patterns;
pub use program::{LIMIT, Program};
pub use quality::{Bin, Quality, THRESHOLD};
pub use scorer::{Answer, Scorer};
pub use seen::{SEEN, SeenTexts, text_hash};
pub use tfidf::TfidfScorer;
pub use train::{HOLD_OUT, LinearSettings, Training, train_linear};
pub use words::{WordSettings, toxic_words};
