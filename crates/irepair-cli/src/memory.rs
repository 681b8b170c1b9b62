//! Memory: how much is free, and whether a run fits.

use std::path::Path;

use crate::error::CliError;

/// Bytes as GiB.
pub(crate) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Refuses a run that needs more than is free; `instead` says what to use, as in "use shorter texts".
pub(crate) fn fit(needed: u64, free: Option<u64>, instead: impl Into<String>) -> Result<(), CliError> {
    match free {
        Some(free) if needed > free => {
            let shown = [needed, free].map(gib);
            // Two numbers that differ in their last digits alone.
            let [needed, free] =
                if shown[0] == shown[1] { [needed, free].map(|n| format!("{n} bytes")) } else { shown };
            Err(CliError::Memory { needed, free, instead: instead.into() })
        }
        _ => Ok(()),
    }
}

/// Memory a run can take, in bytes: its budget, or on a CPU what the system has free or its control group leaves.
pub(crate) fn free(device: &str, budget_gib: Option<f64>) -> Option<u64> {
    if let Some(gib) = budget_gib {
        return Some((gib * f64::from(1 << 30)) as u64);
    }
    if device != "cpu" {
        return None;
    }
    irepair_model::return_freed_memory();
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let system = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:").map(str::to_owned))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let group = Path::new("/sys/fs/cgroup");
    let at = |name: &str| number(&group.join(name).to_string_lossy());
    let limited = at("memory.max").map(|max| max.saturating_sub(at("memory.current").unwrap_or(0)));
    system.into_iter().chain(limited).min()
}
