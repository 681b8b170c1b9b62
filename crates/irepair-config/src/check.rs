//! Settings of `irepair check`.

use std::path::PathBuf;

use crate::Validate;

options! {
    /// Settings of a check: a model against the suite of a repair (docs/FILES.md).
    pub struct CheckOptions => CheckPlan(this) {
        /// Directory of the model to check. It is not written to.
        model: PathBuf as "DIR" [required],
        /// Directory of the suite, with `suite.toml`.
        suite: PathBuf as "DIR" [required],
        /// Fail when the weights are not those of the repaired model. Default false: a note says so.
        #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
        same_weights: bool = false,
        /// File for the result as JUnit XML, which CI systems show; a report of an earlier check is replaced.
        junit: PathBuf as "FILE",
        /// Texts computed at once; changes the speed, not the result (METHOD §17 [D,L]). Default 8.
        batch_size: usize as "N" = 8,
    }
    common: device threads json;
}

impl Validate for CheckOptions {}
