//! Points of writing at which a test cuts the process short or fails it: nothing without the feature `fault-injection`,
//! which no release is built with.
//!
//! With it, `IREPAIR_FAULT=kill@N` kills the process at its N-th point, in the middle of a file where that point writes one;
//! `enospc@N`, `edquot@N`, `erofs@N` and `eio@N` fail that point and all later ones. `IREPAIR_FAULT_LOG=FILE` gets a line a point.
//! With `IREPAIR_FAULT_IN=NAME` too, only the program of that name has points: those that it starts have none.

use std::io::Result;
use std::path::Path;

#[cfg(not(feature = "fault-injection"))]
pub(crate) fn point(_what: &str, _path: &Path) -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "fault-injection"))]
pub(crate) fn written(_path: &Path, _aside: &Path) -> Result<()> {
    Ok(())
}

#[cfg(feature = "fault-injection")]
pub(crate) use on::{point, written};

#[cfg(feature = "fault-injection")]
mod on {
    use std::fs::File;
    use std::io::{Error, Write};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nix::errno::Errno;
    use nix::sys::signal::{Signal, raise};

    use super::{Path, Result};

    /// What happens, and from which point on.
    struct Plan {
        fault: Fault,
        at: usize,
    }

    #[derive(Clone, Copy)]
    enum Fault {
        Kill,
        Fail(Errno),
    }

    /// Before something is made, flushed, renamed or removed.
    pub(crate) fn point(what: &str, path: &Path) -> Result<()> {
        pass(what, path, None)
    }

    /// After the bytes of `path` were written to `aside`, and before they are flushed.
    pub(crate) fn written(path: &Path, aside: &Path) -> Result<()> {
        pass("write", path, Some(aside))
    }

    fn pass(what: &str, path: &Path, half_written: Option<&Path>) -> Result<()> {
        static PASSED: AtomicUsize = AtomicUsize::new(0);
        if !is_meant() {
            return Ok(());
        }
        let n = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(log) = std::env::var_os("IREPAIR_FAULT_LOG") {
            writeln!(File::options().create(true).append(true).open(log)?, "{what} {}", path.display())?;
        }
        match plan() {
            Some(Plan { fault: Fault::Kill, at }) if n == *at => {
                if let Some(file) = half_written {
                    let file = File::options().write(true).open(file)?;
                    file.set_len(file.metadata()?.len() / 2)?;
                }
                raise(Signal::SIGKILL)?;
                loop {
                    std::thread::park();
                }
            }
            Some(Plan { fault: Fault::Fail(errno), at }) if n >= *at => Err(Error::from(*errno)),
            _ => Ok(()),
        }
    }

    fn is_meant() -> bool {
        static MEANT: OnceLock<bool> = OnceLock::new();
        let here = || Some(std::env::current_exe().ok()?.file_stem()?.to_owned());
        *MEANT.get_or_init(|| std::env::var_os("IREPAIR_FAULT_IN").is_none_or(|name| here() == Some(name)))
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(|| parse(&std::env::var("IREPAIR_FAULT").ok()?)).as_ref()
    }

    fn parse(text: &str) -> Option<Plan> {
        let (fault, at) = text.split_once('@')?;
        let fault = match fault {
            "kill" => Fault::Kill,
            "enospc" => Fault::Fail(Errno::ENOSPC),
            "edquot" => Fault::Fail(Errno::EDQUOT),
            "erofs" => Fault::Fail(Errno::EROFS),
            "eio" => Fault::Fail(Errno::EIO),
            _ => return None,
        };
        Some(Plan { fault, at: at.parse().ok()? })
    }
}
