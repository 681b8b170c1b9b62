//! Points of writing at which a test kills the process or makes a write fail: nothing without the feature
//! `fault-injection`, with which no release is built.
//!
//! With it, `IREPAIR_FAULT=kill@N` kills the process at its N-th point, in the middle of a file where that point writes
//! one; `enospc@N`, `edquot@N`, `erofs@N` and `eio@N` fail that point and all later ones. `IREPAIR_FAULT_LOG=FILE` gets
//! a line for each point. With `IREPAIR_FAULT_IN=NAME` too, only the program of that name has points: those that it
//! starts have none.

use std::io::Result;
use std::path::Path;

#[cfg(not(feature = "fault-injection"))]
pub(crate) fn point(_what: &str, _path: &Path) -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "fault-injection"))]
pub(crate) fn written(_path: &Path, _temporary: &Path) -> Result<()> {
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

    /// Before something is made, flushed, renamed or removed.
    pub(crate) fn point(what: &str, path: &Path) -> Result<()> {
        pass(what, path, None)
    }

    /// After the bytes of `path` were written to `temporary`, and before they are flushed.
    pub(crate) fn written(path: &Path, temporary: &Path) -> Result<()> {
        pass("write", path, Some(temporary))
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
        let Some((fault, at)) = plan() else { return Ok(()) };
        match fault {
            None if n == at => {
                if let Some(file) = half_written {
                    let file = File::options().write(true).open(file)?;
                    file.set_len(file.metadata()?.len() / 2)?;
                }
                raise(Signal::SIGKILL)?;
                loop {
                    std::thread::park();
                }
            }
            Some(errno) if n >= at => Err(Error::from(errno)),
            _ => Ok(()),
        }
    }

    fn is_meant() -> bool {
        static MEANT: OnceLock<bool> = OnceLock::new();
        let here = || Some(std::env::current_exe().ok()?.file_stem()?.to_owned());
        *MEANT.get_or_init(|| std::env::var_os("IREPAIR_FAULT_IN").is_none_or(|name| here() == Some(name)))
    }

    /// The error of every point from a number on; without an error the process is killed at that number.
    fn plan() -> Option<(Option<Errno>, usize)> {
        static PLAN: OnceLock<Option<(Option<Errno>, usize)>> = OnceLock::new();
        *PLAN.get_or_init(|| {
            let text = std::env::var("IREPAIR_FAULT").ok()?;
            let (fault, at) = text.split_once('@')?;
            let errno = match fault {
                "kill" => None,
                "enospc" => Some(Errno::ENOSPC),
                "edquot" => Some(Errno::EDQUOT),
                "erofs" => Some(Errno::EROFS),
                "eio" => Some(Errno::EIO),
                _ => return None,
            };
            Some((errno, at.parse().ok()?))
        })
    }
}
