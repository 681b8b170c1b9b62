//! Slicing policies: per-block sensitivities in, the blocks to update out.
