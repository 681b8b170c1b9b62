//! Paths of the checkout, and those that the user sets by environment variables.

use std::path::{Path, PathBuf};

/// Root of the workspace: the nearest directory above the calling package that has `experiments/`.
pub fn root() -> PathBuf {
    // cargo says where the package is now; the path compiled in may be of a copy that has moved.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let found = Path::new(&package).ancestors().find(|dir| dir.join("experiments").is_dir());
    found.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where every build looks for libtorch: a directory `setup` filled, or a link to the user's own.
pub fn libtorch() -> PathBuf {
    root().join(".libtorch")
}

/// The user's own libtorch: `LIBTORCH` as it was before `.cargo/config.toml` filled it in.
pub fn users_libtorch() -> Option<PathBuf> {
    variable("LIBTORCH").filter(|dir| *dir != libtorch())
}

/// An environment variable that holds a path; none when it is not set or empty.
pub fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A path that other processes find, which run in the workspace root.
pub fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A built `irepair` that the user names instead of having one built, such as one made on another machine.
pub fn users_irepair() -> Option<PathBuf> {
    variable("IREPAIR_BIN").map(absolute)
}

/// The `irepair` that rows run: the user's own, or the release build.
pub fn irepair() -> PathBuf {
    users_irepair().unwrap_or_else(|| built("release", "irepair"))
}

/// A program of this workspace as cargo builds it into `debug` or `release`.
pub fn built(profile: &str, program: &str) -> PathBuf {
    target().join(profile).join(format!("{program}{}", std::env::consts::EXE_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_where_the_crates_are() {
        assert!(root().join("crates/irepair-workspace/src/paths.rs").is_file(), "{}", root().display());
    }
}
