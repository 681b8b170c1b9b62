//! Targets that link libtorch; otherwise as in `files`.

pub mod checkpoint;
pub mod config;
pub mod state;

use crate::files::Target;

/// Every target here.
pub const TARGETS: [Target; 3] = [("checkpoint", checkpoint::run), ("config", config::run), ("state", state::run)];
