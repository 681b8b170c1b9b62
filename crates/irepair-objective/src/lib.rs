//! Training objectives as pure functions of tensors: logits and token masks in, one scalar out.
//!
//! ```no_run,standalone_crate
//! use irepair_core::spec::Method;
//! use irepair_objective::{Objective, Scores, TextLogits};
//! use tch::{Kind, Tensor};
//!
//! // One text of three tokens under a model that knows nothing: NLL = ln(vocabulary).
//! let ids = Tensor::from_slice(&[1i64, 2, 0]).view([1, 3]);
//! let real = Tensor::ones([1, 3], (Kind::Bool, tch::Device::Cpu));
//! let logits = Tensor::zeros([1, 3, 4], (Kind::Float, tch::Device::Cpu));
//! let log_probs = TextLogits::new(&ids, &real, &logits).log_probs()?;
//! let scores = Scores { chosen: Some(log_probs), ..Scores::default() };
//! let loss = Objective::from(Method::Dapt).loss(&scores)?;
//! assert!((loss.total.double_value(&[]) - 2.0 * 4f64.ln()).abs() < 1e-6);
//! # Ok::<(), irepair_objective::Error>(())
//! ```
//!
//! Reading order: `token` (log-probabilities of single tokens and the masks that say which count), `kl`, `scores`,
//! `objective` (METHOD §6 and §7: each term in a few lines, and the sum), `head` (the same scores from hidden states,
//! with less work).
//!
//! **Invariants.** Softmax, log-softmax and every sum are in float32 whatever the logits' type. A padded token changes
//! no value. An objective says what it needs ([`Objective::needs`]) and is given exactly that; it owns no loop and no
//! model.

mod error;
mod head;
mod kl;
mod objective;
mod scores;
mod token;

pub use error::{Error, Result};
pub use head::{HeadScores, head_divergences, head_greedy, head_log_probs, vjp};
pub use irepair_core::Counts;
pub use irepair_core::spec::Needs;
pub use objective::{Loss, Objective};
pub use scores::{Scores, TokenScores};
pub use token::{TextLogits, counted_targets, target_log_probs};
