//! Files that are whole or not there: written to a temporary file, flushed to disk, renamed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result, fault, private, temporary};

/// Replaces `path` with the file that `fill` makes at the path it is given, or leaves it as it was.
///
/// The new file is made in the same directory, flushed to disk and renamed over `path`; then the directory is flushed.
/// It has the mode of the file that was there, or that of an ordinary new file, but no reader whom
/// [`open_weights`] leaves out.
/// Missing parent directories are made, and temporary files that killed processes left in this one are removed.
///
/// # Errors
/// [`Error::Io`] with the step that failed and the path; any error of `fill`, converted.
pub fn replace<E: From<Error>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let io = |action| Error::io(action, path);
    if is_stream(path) {
        // Other programs use the device or pipe: it is not replaced by a file.
        return Err(E::from(io("write")(std::io::Error::other("a device or a pipe is there, not a file"))));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fault::point("create directory", dir).and_then(|()| fs::create_dir_all(dir)).map_err(io("create directory"))?;
    temporary::sweep(dir);
    fault::point("create", path).map_err(io("write"))?;
    let (_lock, new) = temporary::create(dir).map_err(io("write"))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Before anything is in it: the mode of the file that is replaced, or of an ordinary new one; or fewer readers.
        let mode = fs::metadata(path).or_else(|_| fs::metadata(&new)).map_err(io("write"))?.permissions().mode();
        let mode = fs::Permissions::from_mode(private::allowed(mode));
        fs::set_permissions(&new, mode).map_err(io("write"))?;
    }
    fill(&new)?;
    fault::written(path, &new).map_err(io("write"))?;
    let written = File::options().write(true).open(&new).map_err(io("write"))?;
    fault::point("flush", path).and_then(|()| written.sync_all()).map_err(io("write"))?;
    fault::point("rename", path).map_err(io("rename"))?;
    new.persist(path).map_err(|e| io("rename")(e.error))?;
    flush_directory(dir);
    Ok(())
}

/// Some file systems cannot flush a directory; renaming and removing work there all the same.
fn flush_directory(dir: &Path) {
    let _ = fault::point("flush directory", dir).and_then(|()| File::open(dir)?.sync_all());
}

/// Refuses a place where no file could be made, before the work whose result goes there. Nothing is written: the
/// nearest directory that exists must take a file.
///
/// # Errors
/// [`Error::Io`] with the place.
pub fn check_place(path: &Path) -> Result<()> {
    let io = Error::io("write", path);
    let whole = std::path::absolute(path).map_err(io)?;
    let Some(dir) = whole.ancestors().skip(1).find(|dir| dir.exists()) else { return Ok(()) };
    if !dir.is_dir() {
        return Err(io(std::io::Error::other(format!("{} is not a directory", dir.display()))));
    }
    tempfile::tempfile_in(dir).map(drop).map_err(io)
}

/// True for a pipe, a device or a socket: what gives or takes its bytes once, and is no file to replace.
pub fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn remove(path: &Path) -> Result<()> {
    match fault::point("remove", path).and_then(|()| fs::remove_file(path)) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(source)),
        _ => Ok(()),
    }
}

/// [`replace`] for a file written through one handle.
///
/// # Errors
/// [`Error::Io`] with the step that failed and the path.
pub fn write_atomic_with(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let io = Error::io("write", path);
    replace(path, |new| fill(&mut File::create(new).map_err(io)?).map_err(io))
}

/// [`write_atomic_with`] for bytes already in memory.
///
/// # Errors
/// [`Error::Io`] with the step that failed and the path.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// The most that is read as one text, in bytes.
const MOST_TEXT: u64 = 1 << 30;

/// Opens an ordinary file for reading; opening a pipe would wait, and a device may have no end.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn open(path: &Path) -> Result<File> {
    let io = Error::io("read", path);
    let found = fs::metadata(path).map_err(io)?;
    if found.is_dir() {
        return Err(io(std::io::Error::other("it is a directory, not a file")));
    }
    if !found.is_file() {
        return Err(io(std::io::Error::other("not an ordinary file")));
    }
    File::open(path).map_err(io)
}

/// Opens a file of weights for reading, as [`open`] does. From now on, files that this process writes have no more
/// readers than it has: the group, or others, where they may read the file and enter its directory.
///
/// # Errors
/// Those of [`open`].
pub fn open_weights(path: &Path) -> Result<File> {
    let file = open(path)?;
    private::no_more_readable_than(path);
    Ok(file)
}

/// Reads a whole ordinary file ([`open`]) as UTF-8, of no more than 1 GiB.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn read_to_string(path: &Path) -> Result<String> {
    read_text(path, open(path)?)
}

/// [`read_to_string`] of a file or of a pipe, such as a shell's `<(...)`.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn read_stream_to_string(path: &Path) -> Result<String> {
    read_text(path, File::open(path).map_err(Error::io("read", path))?)
}

fn read_text(path: &Path, file: File) -> Result<String> {
    let io = Error::io("read", path);
    let mut text = String::new();
    let known = file.metadata().map_or(0, |found| found.len());
    if known <= MOST_TEXT {
        text.reserve(known as usize);
        file.take(MOST_TEXT + 1).read_to_string(&mut text).map_err(io)?;
    }
    if known.max(text.len() as u64) > MOST_TEXT {
        return Err(io(std::io::Error::other("more than 1 GiB of text")));
    }
    Ok(text)
}

/// The entries of a directory, sorted.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let io = Error::io("read", dir);
    let entries = fs::read_dir(dir).map_err(io)?;
    let mut paths = entries.map(|entry| Ok(entry.map_err(io)?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Size of a file.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn n_bytes(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(Error::io("read", path))?.len())
}

/// SHA-256 of `bytes`, in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// SHA-256 of the bytes of a file, or of its parts one after the other ([`crate::shards`]), read in chunks.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for part in crate::shards::parts_of(path).unwrap_or_else(|| vec![path.to_owned()]) {
        std::io::copy(&mut open(&part)?, &mut hasher).map_err(Error::io("read", &part))?;
    }
    Ok(hex(hasher))
}

/// A finished SHA-256 in lower-case hexadecimal.
pub fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/result.json");
        write_atomic(&path, b"old").unwrap();
        let error = write_atomic_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(std::io::Error::other("disk full"))
        });
        assert_eq!(error.unwrap_err().to_string(), "write failed");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_is_looked_at_without_leaving_anything() {
        let dir = tempfile::tempdir().unwrap();
        check_place(&dir.path().join("not/yet/there.json")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(dir.path().join("file"), "").unwrap();
        let error = check_place(&dir.path().join("file/result.json")).unwrap_err();
        assert!(matches!(&error, Error::Io { source, .. } if source.to_string().ends_with("file is not a directory")));
        #[cfg(target_os = "linux")]
        assert!(check_place(Path::new("/proc/result.json")).is_err());
    }

    #[test]
    fn a_directory_in_the_place_of_a_file_is_called_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(&error, Error::Io { source, .. } if source.to_string() == "it is a directory, not a file"));
    }

    #[test]
    #[cfg(unix)]
    fn a_new_file_has_the_mode_of_any_new_file_and_an_old_one_keeps_its_own() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("ours"), dir.path().join("theirs"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write_atomic(&path, b"1").unwrap();
        fs::write(&other, b"1").unwrap();
        assert_eq!(mode(&path), mode(&other));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_atomic(&path, b"2").unwrap();
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_ordinary_file_stays() {
        let error = write_atomic(Path::new("/dev/null"), b"x").unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.to_string() == "a device or a pipe is there, not a file")
        );
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn sha256_of_abc_is_the_published_one() {
        assert!(sha256_hex(b"abc").starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }
}
