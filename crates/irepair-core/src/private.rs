//! Who may read what is written: after weights that others may not read, nothing that they may.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bits of a mode that files of this process may have, besides what the umask takes away.
static ALLOWED: AtomicU32 = AtomicU32::new(0o777);

/// From now on, files that this process writes are no more readable than `path`.
pub(crate) fn no_more_readable_than(path: &Path) {
    ALLOWED.fetch_and(readers(path), Ordering::Relaxed);
}

/// The mode of a new file or of one that is replaced, whose mode is `mode` so far.
pub(crate) fn allowed(mode: u32) -> u32 {
    mode & ALLOWED.load(Ordering::Relaxed)
}

/// The owner's bits, and all bits of those that may read a file in its directory.
#[cfg(unix)]
fn readers(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).map_or(0o777, |found| found.permissions().mode());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (file, dir) = (mode(path), mode(dir));
    let class = |read: u32, enter: u32, all: u32| if file & read != 0 && dir & enter != 0 { all } else { 0 };
    0o700 | class(0o040, 0o010, 0o070) | class(0o004, 0o001, 0o007)
}

#[cfg(not(unix))]
fn readers(_: &Path) -> u32 {
    0o777
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn those_may_read_who_may_read_the_file_and_enter_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.safetensors");
        fs::write(&file, "").unwrap();
        for (of_dir, of_file, want) in [
            (0o755, 0o644, 0o777),
            (0o755, 0o640, 0o770),
            (0o755, 0o604, 0o707),
            (0o755, 0o600, 0o700),
            (0o700, 0o644, 0o700),
            (0o750, 0o644, 0o770),
            (0o744, 0o644, 0o700),
        ] {
            fs::set_permissions(&file, Permissions::from_mode(of_file)).unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(of_dir)).unwrap();
            assert_eq!(readers(&file), want, "{of_dir:o} {of_file:o}");
        }
    }
}
