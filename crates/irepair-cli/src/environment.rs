//! What a result was made with: `env.json`.

use std::path::Path;

use irepair_core::Resident;
use irepair_core::fs::sha256_file;
use serde::Serialize;

/// Program, machine and inputs of a run.
#[derive(Serialize)]
pub(crate) struct Environment {
    irepair: &'static str,
    /// Commit of the workspace and whether it had uncommitted changes, as told by the caller.
    commit: Option<String>,
    libtorch: &'static str,
    device: String,
    threads: i32,
    weights_sha256: Option<String>,
    pairs_sha256: Option<String>,
}

impl Environment {
    /// Looks around; `model` and `pairs` are hashed.
    pub(crate) fn of(device: &str, model: Option<&Path>, pairs: Option<&Path>) -> Self {
        Self {
            irepair: env!("CARGO_PKG_VERSION"),
            commit: std::env::var("IREPAIR_COMMIT").ok(),
            libtorch: "2.11.0",
            device: device.to_owned(),
            threads: tch::get_num_threads(),
            weights_sha256: model.and_then(|m| sha256_file(&m.join("model.safetensors")).ok()),
            pairs_sha256: pairs.and_then(|p| sha256_file(p).ok()),
        }
    }
}

/// Largest resident memory of this process so far, in bytes; none where the system does not say.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    Resident::own().map(|resident| resident.peak)
}

/// Makes [`peak_rss_bytes`] begin anew at what is resident now; where the system does not let it, it goes on.
pub(crate) fn forget_peak_rss() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
