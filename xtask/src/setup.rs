//! `cargo xtask setup`: installs libtorch in `.libtorch`, the directory that every build reads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_core::fs::list;
use irepair_core::{Diagnostic, ExitKind};

use crate::error::diagnostic;
use crate::libtorch::{self, Build, VERSION};
use crate::process::say;
use crate::{paths, process, python};

/// Name of its directory.
const LIBTORCH: &str = ".libtorch";

/// Provisions libtorch, or returns at once when it is there.
///
/// The user's own `LIBTORCH` wins: `.libtorch` becomes a link to it, so that programs find it when they run. A killed
/// set-up leaves `.libtorch` as it was, or missing, but never incomplete.
///
/// # Errors
/// When the user's libtorch has another version, or Python or the package index cannot be reached.
pub(crate) fn run() -> Result<()> {
    remove_leftovers(LIBTORCH)?;
    let place = paths::libtorch();
    if let Some(own) = paths::users_libtorch() {
        return link(&own, &place);
    }
    let wanted = Build::of_this_machine();
    match libtorch::inspect(&place) {
        // A link is the user's own choice of build.
        Some(found) if found.version == VERSION && (found.build == wanted || place.is_symlink()) => Ok(()),
        Some(found) if found.version == VERSION && found.build == Build::Cuda => Ok(()),
        _ => install(wanted, &place),
    }
}

/// Makes `place` a link to the user's own libtorch.
fn link(own: &Path, place: &Path) -> Result<()> {
    let refuse = |got: &str| {
        let what = Diagnostic::new(ExitKind::Device, "the libtorch that LIBTORCH names cannot be used");
        let what = what.at(own.display()).want_got(format!("libtorch {VERSION}, with include/ and lib/"), got);
        Err(what.help("unset LIBTORCH, and `cargo xtask setup` installs the right one").into())
    };
    let own = fs::canonicalize(own).unwrap_or_else(|_| own.to_owned());
    // tch reads this variable too.
    let any_version = std::env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some();
    match libtorch::inspect(&own) {
        None => return refuse("no libtorch"),
        Some(found) if found.version != VERSION && !any_version => return refuse(&found.version),
        Some(_) => {}
    }
    if fs::canonicalize(place).is_ok_and(|now| now == own) {
        return Ok(());
    }
    say(format!("setup: linking .libtorch to {}", own.display()));
    let scratch = Scratch::new(LIBTORCH)?;
    let link = scratch.0.join("link");
    symlink(&own, &link).context("linking .libtorch")?;
    replace(place, &link, &scratch)
}

#[cfg(unix)]
use std::os::unix::fs::symlink;

/// Not supported on this system.
#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Installs the pinned wheels in a temporary directory and moves headers and libraries to `place`.
fn install(build: Build, place: &Path) -> Result<()> {
    let (list, size) = match build {
        Build::Cpu => ("xtask/libtorch/cpu.txt", "a download of 0.5 GB, 0.5 GB on disk"),
        Build::Cuda => ("xtask/libtorch/cuda.txt", "a download of about 2.5 GB, 5 GB on disk"),
    };
    say(format!("setup: installing libtorch {VERSION} ({build} build: {size})"));
    let scratch = Scratch::new(LIBTORCH)?;
    let site = scratch.0.join("site");
    let pip = python::make_venv(&scratch.0.join("venv"))?;
    python::packages(&pip, &site, list).map_err(|_| {
        let help = "see pip's message above; pip needs a Python package index, CPython 3.10 to 3.14 and free disk space; or \
                    set LIBTORCH to a libtorch of your own";
        Diagnostic::new(ExitKind::Device, format!("libtorch {VERSION} could not be installed")).help(help)
    })?;

    let made = scratch.0.join("libtorch");
    fs::create_dir_all(made.join("lib"))?;
    fs::rename(site.join("torch/include"), made.join("include")).context("keeping the headers")?;
    for library in libraries(&site)?.iter().filter(|library| is_kept(&name_of(library), build)) {
        fs::rename(library, made.join("lib").join(name_of(library))).context("keeping the libraries")?;
    }
    if libtorch::inspect(&made).is_none_or(|found| found.version != VERSION) {
        return Err(
            Diagnostic::new(ExitKind::Bug, format!("the installed wheels do not contain libtorch {VERSION}")).into()
        );
    }
    replace(place, &made, &scratch)?;
    say(format!("setup: libtorch {VERSION} is in {}", place.display()));
    Ok(())
}

/// Every shared library of the installed wheels: torch's own and NVIDIA's.
fn libraries(site: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = vec![site.join("torch/lib")];
    dirs.extend(list(&site.join("nvidia")).unwrap_or_default().into_iter().map(|package| package.join("lib")));
    let mut found = Vec::new();
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        found.extend(list(dir).map_err(diagnostic)?);
    }
    let is_library = |name: &str| name.contains(".so") || name.ends_with(".dylib");
    found.retain(|path| path.is_file() && is_library(&name_of(path)));
    Ok(found)
}

/// Whether a library is kept. The CPU build needs none of those that compute with CUDA, except for the two NVIDIA
/// libraries that `libtorch_cpu.so` is linked to; no build needs Python's.
fn is_kept(name: &str, build: Build) -> bool {
    let linked_anyway = name.starts_with("libcudart.") || name.starts_with("libcupti.");
    let cuda = ["cuda", "nvrtc", "nvshmem", "libnv", "libcu", "nccl", "libcheckpoint", "libpcsamp", "libshm"];
    match build {
        _ if name.starts_with("libtorch_python.") => false,
        Build::Cuda => true,
        // Arm's BLAS is called libnvpl and computes on the CPU.
        Build::Cpu => linked_anyway || name.starts_with("libnvpl") || !cuda.iter().any(|word| name.contains(word)),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Moves `made` to `place`, and an earlier `place` into `scratch`, which is deleted at the end.
fn replace(place: &Path, made: &Path, scratch: &Scratch) -> Result<()> {
    if place.symlink_metadata().is_ok() {
        fs::rename(place, scratch.0.join("before")).context("moving the earlier .libtorch away")?;
    }
    fs::rename(made, place).with_context(|| format!("moving libtorch to {}", place.display()))
}

/// A temporary directory in the checkout, on the disk of what is made in it; removed when dropped.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// For the thing of that name, which begins with a dot. Removes those of killed processes.
    pub(crate) fn new(name: &str) -> Result<Self> {
        remove_leftovers(name)?;
        let dir = paths::root().join(format!("{name}.{}.tmp", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next set-up removes what remains.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes temporary directories of killed processes.
fn remove_leftovers(of: &str) -> Result<()> {
    for path in list(&paths::root()).map_err(diagnostic)? {
        let name = name_of(&path);
        let owner = name.strip_prefix(of).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".tmp"));
        if owner.is_some_and(|pid| !is_running(pid)) {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

fn is_running(pid: &str) -> bool {
    process::output(process::command("ps").args(["-p", pid, "-o", "pid="]))
        .map_or_else(|| Path::new("/proc").join(pid).exists(), |answer| !answer.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_build_keeps_what_computes_on_the_cpu() {
        let kept = [
            "libc10.so",
            "libtorch.so",
            "libtorch_cpu.so",
            "libgomp.so.1",
            "libtorch_global_deps.so",
            "libcudart.so.13",
            "libcupti.so.13",
            "libarm_compute.so",
            "libnvpl_blas_core.so.0",
            "libtorch_cpu.dylib",
            "libomp.dylib",
        ];
        let dropped = [
            "libtorch_cuda.so",
            "libtorch_cuda_linalg.so",
            "libc10_cuda.so",
            "libcaffe2_nvrtc.so",
            "libtorch_nvshmem.so",
            "libtorch_python.so",
            "libnvperf_host.so",
            "libcublas.so.13",
            "libcheckpoint.so",
            "libpcsamplingutil.so",
        ];
        assert!(kept.iter().all(|name| is_kept(name, Build::Cpu)));
        assert!(dropped.iter().all(|name| !is_kept(name, Build::Cpu)));
        assert!(is_kept("libcublas.so.13", Build::Cuda) && !is_kept("libtorch_python.so", Build::Cuda));
    }

    #[test]
    fn the_pins_name_no_host_and_every_wheel_has_a_hash() {
        let torch = [include_str!("../libtorch/cpu.txt"), include_str!("../libtorch/cuda.txt")];
        for list in torch.into_iter().chain([
            include_str!("../deny/requirements.txt"),
            include_str!("../../crates/irepair-lab/python/requirements.txt"),
        ]) {
            assert!(!list.contains("://") && !list.contains("--index"));
            let lines: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
            let pins = lines.iter().zip(lines.iter().skip(1)).filter(|(pin, _)| !pin.starts_with(' '));
            for (pin, next) in pins {
                assert!(pin.contains("==") && pin.ends_with('\\') && next.starts_with("    --hash=sha256:"), "{pin}");
            }
        }
        assert!(torch.iter().all(|list| list.contains(&format!("torch=={VERSION} "))));
    }
}
