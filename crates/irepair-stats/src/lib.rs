//! Honest statistics: bootstrap intervals, rank tests, effect sizes, error density.
