//! Resident memory of a process, where the system reports it.

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Now.
    pub now: u64,
    /// The most so far.
    pub peak: u64,
}

impl Resident {
    /// Of this process; none where the system does not report it (Linux does).
    pub fn own() -> Option<Self> {
        Self::read("self")
    }

    /// Of the process with this number; none when there is no such process, or the system does not report it.
    pub fn of(process: u32) -> Option<Self> {
        Self::read(&process.to_string())
    }

    fn read(process: &str) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Some(Self { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_this_process_takes_is_seen() {
        let before = Resident::own().unwrap();
        let taken = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = Resident::of(std::process::id()).unwrap();
        assert!(after.now >= before.now + (60 << 20) && after.peak >= after.now, "{before:?} {after:?}");
        drop(taken);
        assert_eq!(Resident::of(u32::MAX), None);
    }
}
