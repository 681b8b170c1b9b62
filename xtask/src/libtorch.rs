//! Reads version and build of a libtorch directory, and chooses the build for this machine.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::process;

/// The version that `tch` in Cargo.toml is made for.
pub(crate) const VERSION: &str = "2.11.0";

/// With or without the CUDA libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    Cpu,
    Cuda,
}

impl Build {
    /// The build for this machine: CUDA where an NVIDIA driver is.
    pub(crate) fn of_this_machine() -> Self {
        if driver().is_some() { Self::Cuda } else { Self::Cpu }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Cuda => "CUDA",
        })
    }
}

/// A libtorch that is complete enough to build with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `major.minor.patch` of its headers.
    pub(crate) version: String,
    /// CUDA if it has the CUDA libraries.
    pub(crate) build: Build,
}

/// Looks into a directory; `None` when headers or libraries are missing.
pub(crate) fn inspect(dir: &Path) -> Option<Found> {
    let library = |name: &str| {
        let file = format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        dir.join("lib").join(file).is_file()
    };
    let header = ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"].iter().find_map(|name| {
        fs::read_to_string(dir.join("include").join(name)).ok().filter(|text| version(text).is_some())
    });
    if !library("c10") || !library("torch_cpu") {
        return None;
    }
    let build = if library("torch_cuda") { Build::Cuda } else { Build::Cpu };
    Some(Found { version: version(&header?)?, build })
}

/// `major.minor.patch` from the text of a `version.h`.
fn version(header: &str) -> Option<String> {
    let part = |name: &str| {
        let define = format!("#define TORCH_VERSION_{name} ");
        let number = header.lines().find_map(|line| line.strip_prefix(&define))?.trim();
        number.parse::<u32>().ok()
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}

/// Version of the NVIDIA driver, when one is loaded.
pub(crate) fn driver() -> Option<String> {
    let version = queried("driver_version");
    version.or_else(|| Path::new("/proc/driver/nvidia/version").exists().then(|| "version unknown".to_owned()))
}

/// Name of the first GPU, as its driver says it.
pub(crate) fn gpu() -> Option<String> {
    queried("name")
}

fn queried(field: &str) -> Option<String> {
    let query = [&format!("--query-gpu={field}"), "--format=csv,noheader"];
    let answer = process::output(process::command("nvidia-smi").args(query))?;
    answer.lines().next().map(str::to_owned).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n#define TORCH_VERSION_PATCH 0\n";

    #[test]
    fn the_version_is_read_from_the_header() {
        assert_eq!(version(HEADER).as_deref(), Some(VERSION));
        assert_eq!(version("#define TORCH_VERSION_MAJOR 2\n"), None);
    }

    #[test]
    fn a_directory_without_its_libraries_is_not_libtorch() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("include/torch/headeronly")).unwrap();
        fs::write(dir.path().join("include/torch/headeronly/version.h"), HEADER).unwrap();
        assert_eq!(inspect(dir.path()), None);
        fs::create_dir_all(dir.path().join("lib")).unwrap();
        for name in ["c10", "torch_cpu"] {
            let file = format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
            fs::write(dir.path().join("lib").join(file), "").unwrap();
        }
        assert_eq!(inspect(dir.path()), Some(Found { version: VERSION.to_owned(), build: Build::Cpu }));
    }
}
