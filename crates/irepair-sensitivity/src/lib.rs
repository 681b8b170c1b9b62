//! Which block carries the error: per-block gradient norms and their relatives.
