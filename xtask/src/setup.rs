//! `cargo xtask setup`: libtorch into `.libtorch`, where every build looks for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use irepair_core::{Diagnostic, ExitKind};

use crate::libtorch::{self, Build, VERSION};
use crate::stop::Stop;
use crate::{paths, process, python};

/// Provisions libtorch, or returns at once when it is there.
///
/// The user's own `LIBTORCH` wins: `.libtorch` becomes a link to it, so that what is built finds it when it runs. A
/// killed set-up leaves `.libtorch` as it was, or not there; never a part of it.
///
/// # Errors
/// When the user's libtorch has another version, or Python or the package index cannot be reached.
pub(crate) fn run() -> Result<()> {
    remove_litter()?;
    let place = paths::libtorch();
    if let Some(own) = paths::users_libtorch() {
        return link(&own, &place);
    }
    let wanted = Build::of_this_machine();
    match libtorch::inspect(&place) {
        // A link is somebody's own choice of build; a directory is ours.
        Some(found) if found.version == VERSION && (found.build == wanted || place.is_symlink()) => Ok(()),
        Some(found) if found.version == VERSION && found.build == Build::Cuda => Ok(()),
        _ => install(wanted, &place),
    }
}

/// Makes `place` a link to the user's own libtorch.
fn link(own: &Path, place: &Path) -> Result<()> {
    let refuse = |got: &str| {
        let diagnostic = Diagnostic::new(ExitKind::Device, "the libtorch that LIBTORCH names cannot be used")
            .at(own.display())
            .want_got(format!("libtorch {VERSION}, with include/ and lib/"), got)
            .help("unset LIBTORCH, and `cargo xtask setup` installs the right one");
        Err(Stop(diagnostic).into())
    };
    let own = fs::canonicalize(own).unwrap_or_else(|_| own.to_owned());
    // The variable tch itself reads: its owner knows what they do.
    let any_version = std::env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some();
    match libtorch::inspect(&own) {
        None => return refuse("no libtorch"),
        Some(found) if found.version != VERSION && !any_version => return refuse(&found.version),
        Some(_) => {}
    }
    if fs::canonicalize(place).is_ok_and(|now| now == own) {
        return Ok(());
    }
    say(&format!("linking .libtorch to {}", own.display()));
    let scratch = Scratch::new()?;
    let aside = scratch.0.join("link");
    symlink(&own, &aside).context("linking .libtorch")?;
    replace(place, &aside, &scratch)
}

#[cfg(unix)]
use std::os::unix::fs::symlink;

/// A link, where the system has none.
#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Installs the pinned wheels aside and moves what a build needs to `place`.
fn install(build: Build, place: &Path) -> Result<()> {
    let size = match build {
        Build::Cpu => "a download of 0.5 GB, 0.5 GB kept",
        Build::Cuda => "a download of about 2.5 GB, 5 GB kept",
    };
    say(&format!("installing libtorch {VERSION} ({build} build: {size})"));
    let scratch = Scratch::new()?;
    let site = scratch.0.join("site");
    let list = match build {
        Build::Cpu => "xtask/libtorch/cpu.txt",
        Build::Cuda => "xtask/libtorch/cuda.txt",
    };
    let pip = python::make_venv(&scratch.0.join("venv"))?;
    python::packages(&pip, &site, list)
    .map_err(|_| {
        let diagnostic = Diagnostic::new(ExitKind::Device, format!("libtorch {VERSION} could not be installed"))
            .help("see pip's message above; it wants a Python package index, CPython 3.10 to 3.14 and free disk space; or set LIBTORCH to a libtorch of your own");
        Stop(diagnostic)
    })?;

    let made = scratch.0.join("libtorch");
    fs::create_dir_all(made.join("lib"))?;
    fs::rename(site.join("torch/include"), made.join("include")).context("keeping the headers")?;
    for library in libraries(&site)?.iter().filter(|library| is_kept(&name_of(library), build)) {
        fs::rename(library, made.join("lib").join(name_of(library))).context("keeping the libraries")?;
    }
    if libtorch::inspect(&made).is_none_or(|found| found.version != VERSION) {
        return Err(Stop(Diagnostic::new(ExitKind::Bug, "the wheels do not hold what was expected")).into());
    }
    replace(place, &made, &scratch)?;
    say(&format!("libtorch {VERSION} is in {}", place.display()));
    Ok(())
}

/// Every shared library of the installed wheels: torch's own and NVIDIA's.
fn libraries(site: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = vec![site.join("torch/lib")];
    if let Ok(packages) = fs::read_dir(site.join("nvidia")) {
        for package in packages {
            dirs.push(package?.path().join("lib"));
        }
    }
    let mut found = Vec::new();
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = name_of(&path);
            if path.is_file() && (name.contains(".so") || name.ends_with(".dylib")) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Whether a library is kept. The CPU build needs none of those that compute with CUDA, only the two NVIDIA libraries
/// `libtorch_cpu.so` is linked to; no build needs Python's.
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

/// Moves `made` to `place`, what was there before into `scratch`, which is deleted at the end.
fn replace(place: &Path, made: &Path, scratch: &Scratch) -> Result<()> {
    if place.symlink_metadata().is_ok() {
        fs::rename(place, scratch.0.join("before")).context("laying the earlier .libtorch aside")?;
    }
    fs::rename(made, place).with_context(|| format!("moving libtorch to {}", place.display()))
}

/// A directory beside `.libtorch`, on the same disk, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let dir = paths::root().join(format!(".libtorch.{}.tmp", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left here is litter, not harm: the next set-up removes it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what killed set-ups left behind.
fn remove_litter() -> Result<()> {
    for entry in fs::read_dir(paths::root())? {
        let path = entry?.path();
        let name = name_of(&path);
        let owner = name.strip_prefix(".libtorch.").and_then(|rest| rest.strip_suffix(".tmp"));
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

#[expect(clippy::print_stderr, reason = "progress goes to stderr")]
fn say(what: &str) {
    eprintln!("setup: {what}");
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
        let left = [
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
        assert!(left.iter().all(|name| !is_kept(name, Build::Cpu)));
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
