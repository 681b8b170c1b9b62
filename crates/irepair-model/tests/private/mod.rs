//! Tests against files of `parity/` that look inside the crate.

mod casts;
mod rope_matrix;

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../../parity/support.rs"]
mod support;
