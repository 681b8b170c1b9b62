//! Where things are in the workspace.

use std::path::{Path, PathBuf};

/// Root of the workspace.
pub(crate) fn root() -> PathBuf {
    // cargo tells where the package is now; the path compiled in may be of a copy that has moved.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where every build looks for libtorch: a directory `setup` filled, or a link to the user's own.
pub(crate) fn libtorch() -> PathBuf {
    root().join(".libtorch")
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A built `irepair` the user names instead of having one built, such as one made on another machine.
pub(crate) fn users_irepair() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("IREPAIR_BIN").filter(|path| !path.is_empty())?);
    // Processes run in the workspace root, wherever this one does.
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// The program that does the work: the user's own, or the release binary.
pub(crate) fn irepair() -> PathBuf {
    let built = || target().join("release").join(format!("irepair{}", std::env::consts::EXE_SUFFIX));
    users_irepair().unwrap_or_else(built)
}
