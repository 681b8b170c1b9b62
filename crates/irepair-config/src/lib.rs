//! Experiment files: one TOML per row, every key checked, every error reported at once.
