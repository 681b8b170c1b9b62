//! The packed corpus, `fuzz/corpus.tar.gz`, and the files that cargo-fuzz reads and writes, `fuzz/corpus/<target>/`.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use irepair_core::fs::{list, write_atomic};

/// Adds the files of the archive to those of a directory.
///
/// # Errors
/// An archive that cannot be read, or a file that cannot be written.
pub(super) fn unpack(archive: &Path, dir: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| format!("reading {}", archive.display()))?;
    tar::Archive::new(GzDecoder::new(file)).unpack(dir).with_context(|| format!("unpacking {}", archive.display()))
}

/// Writes all files `<target>/<name>` of a directory as an archive: sorted and without times, so that the same files
/// make the same bytes.
///
/// # Errors
/// A file that cannot be read or written.
pub(super) fn pack(dir: &Path, archive: &Path) -> Result<()> {
    let gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut packed = tar::Builder::new(gzip);
    for target in sorted(dir)? {
        for name in sorted(&dir.join(&target))? {
            let bytes = fs::read(dir.join(&target).join(&name))?;
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            packed.append_data(&mut header, format!("{target}/{name}"), &bytes[..])?;
        }
    }
    Ok(write_atomic(archive, &packed.into_inner()?.finish()?)?)
}

/// Names in a directory, hidden files left out.
fn sorted(dir: &Path) -> Result<Vec<String>> {
    let paths = list(dir)?.into_iter();
    let names = paths.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_archive_and_come_back() {
        let home = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| home.path().join(name));
        for (name, bytes) in [("patch/b", &b"\0\xff"[..]), ("patch/a", b""), ("texts/seed-x", b"text")] {
            fs::create_dir_all(from.join(name).parent().unwrap()).unwrap();
            fs::write(from.join(name), bytes).unwrap();
        }
        let [one, two] = ["one.tar.gz", "two.tar.gz"].map(|name| home.path().join(name));
        pack(&from, &one).unwrap();
        unpack(&one, &to).unwrap();
        assert_eq!(fs::read(to.join("patch/b")).unwrap(), b"\0\xff");
        assert_eq!(sorted(&to.join("patch")).unwrap(), ["a", "b"]);
        pack(&to, &two).unwrap();
        assert!(fs::read(one).unwrap() == fs::read(two).unwrap());
    }
}
