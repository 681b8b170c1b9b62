//! Flags and files: every setting defined once, every key checked, every error reported at once.
//!
//! ```
//! use irepair_config::{Method, Options, RepairOptions, from_str};
//!
//! // A file gives some settings, the command line wins over it, METHOD §17 fills the rest.
//! let file: RepairOptions = from_str("method = 'dapt-kl'\nbatch_size = 8", "run.toml")?;
//! let flags = RepairOptions { batch_size: Some(2), ..Default::default() };
//! let options = flags.over(file);
//! assert_eq!((options.method(), options.batch_size(), options.warmup_steps()), (Method::DaptKl, 2, 150));
//!
//! let error = from_str::<RepairOptions>("batch_sise = 8\nlr = 'fast'", "run.toml").unwrap_err();
//! assert_eq!(error.to_string(), "2 problems in run.toml");
//! # Ok::<(), irepair_config::Error>(())
//! ```
//!
//! Invariants: a key is a field with a doc comment, and that comment is its only documentation; flag `--top-k` is key
//! `top_k`; nothing rewrites a value the user gave: what clashes is refused, and both keys are named.

#[macro_use]
mod names;
#[macro_use]
mod options;
mod base_model;
mod check;
mod data_file;
mod error;
mod estimate;
mod eval;
mod experiment;
mod family;
mod fix;
mod inspect;
mod job;
mod judge;
mod layout;
mod load;
mod pairs;
mod paper;
mod passes;
mod plant;
mod preset;
mod pretrain;
mod problem;
mod profile;
mod protocol;
mod reached;
mod relearn;
mod repair;
mod scorer;
mod source;
mod texts;
mod work;

pub use base_model::{BaseModel, Precondition};
pub use check::{CheckOptions, CheckPlan};
pub use data_file::{Cut, DataFile, PartName, PartOf, stored};
pub use error::{Error, Result};
pub use estimate::Memory;
pub use eval::{EvalOptions, EvalPlan, GenerateOptions, GeneratePlan};
pub use experiment::{Experiment, LearningRates, Row};
pub use family::Family;
pub use fix::{FixOptions, FixPlan};
pub use inspect::{ScoreOptions, ScorePlan, SensitivityOptions, SensitivityPlan};
pub use irepair_arch::{Architecture, Shape};
pub use irepair_core::spec::{Method, Metric, Operator, Policy, PromptSide, Reduction, UnitKind};
pub use job::{Job, Kept, SOME_NUMBERS_CHANGED, Watch};
pub use judge::Judge;
pub use layout::{FigureKey, TableKey};
pub use load::{from_str, from_toml};
pub use names::{Dtype, Localising, Long, Optimizer, OptimizerState, Preset, ScorerKind};
pub use options::{Options, Validate, resolve, to_toml};
pub use pairs::{PairsOptions, PairsPlan};
pub use paper::{Claim, Headline, Paper, PaperMethod, PaperModel};
pub use plant::{GradeOptions, GradePlan, PlantOptions, PlantPlan, TRAIN_IN_RATE, TRAIN_IN_UPDATES};
pub use pretrain::{PretrainOptions, PretrainPlan};
pub use problem::{Checks, Problem, number_out_of_range};
pub use profile::{
    CORPUS, Comparison, Grid, Language, OwnPairs, Profile, ProfileScorer, Quick, SCORER_LABELS, Trajectory, Utility,
};
pub use protocol::Protocol;
pub use relearn::{RelearnOptions, RelearnPlan, text_counts};
pub use repair::{RepairOptions, RepairPlan, slice_size};
pub use scorer::{
    ScorerApplyOptions, ScorerApplyPlan, ScorerEvalOptions, ScorerEvalPlan, ScorerTrainOptions, ScorerTrainPlan,
};
pub use source::{Convert, Source, Take, Wheel};
pub use texts::{EVAL_BATCH, Texts};
pub use work::Work;
