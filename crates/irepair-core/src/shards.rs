//! Files of records that are stored in several parts, as data sets of the hub are: `train-00000-of-00003.parquet`. All
//! of them together are written `train-*-of-00003.parquet`.

use std::path::{Path, PathBuf};

/// Most parts of one file.
const MAX: usize = 100_000;

/// The number of a part, how many there are, and where both stand in a name: `NAME-00001-of-00003.END`.
fn parsed(name: &str) -> Option<(&str, &str, usize, &str)> {
    let (before, after) = name.rsplit_once("-of-")?;
    let (stem, part) = before.rsplit_once('-')?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let n: usize = after[..digits].parse().ok()?;
    let is_number = part == "*" || (part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()));
    let fits = is_number && (1..=MAX).contains(&n) && after[digits..].starts_with('.') && !stem.is_empty();
    fits.then_some((stem, part, n, after))
}

/// The name of all parts together, of the name of one: `train-*-of-00003.parquet`.
pub fn all_parts(name: &str) -> Option<String> {
    let (stem, part, _, after) = parsed(name)?;
    (part != "*").then(|| format!("{stem}-*-of-{after}"))
}

/// The parts of a path that stands for all of them, in order; none of any other path, and of a file that has this name.
pub fn parts_of(path: &Path) -> Option<Vec<PathBuf>> {
    let (stem, part, n, after) = parsed(path.file_name()?.to_str()?)?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let name = |i: usize| path.with_file_name(format!("{stem}-{i:0digits$}-of-{after}"));
    (part == "*" && !path.exists()).then(|| (0..n).map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_names_all_and_they_name_each() {
        let all = all_parts("data/train-00001-of-00003.parquet").unwrap();
        assert_eq!(all, "data/train-*-of-00003.parquet");
        let parts = parts_of(Path::new(&all)).unwrap();
        let want = ["00000", "00001", "00002"].map(|i| PathBuf::from(format!("data/train-{i}-of-00003.parquet")));
        assert_eq!(parts, want);
        assert_eq!(all_parts("a-b-0-of-1.jsonl.gz").unwrap(), "a-b-*-of-1.jsonl.gz");
        assert_eq!(parts_of(Path::new("a-*-of-1.csv")).unwrap(), [PathBuf::from("a-0-of-1.csv")]);
    }

    #[test]
    fn the_hash_of_parts_is_that_of_their_bytes_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("a-0-of-2.csv", "x\n"), ("a-1-of-2.csv", "y\n"), ("whole.csv", "x\ny\n")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let hash = |name: &str| crate::fs::sha256_file(&dir.path().join(name)).unwrap();
        assert_eq!(hash("a-*-of-2.csv"), hash("whole.csv"));
        assert_ne!(hash("a-0-of-2.csv"), hash("whole.csv"));
    }

    #[test]
    fn other_names_are_none() {
        for name in [
            "train.parquet",
            "train-00000-of-00000.parquet",
            "train-0-of-00003.parquet",
            "train-x-of-00003.parquet",
            "train-00000-of-00003",
            "-00000-of-00003.parquet",
            "train-00000-of-x.parquet",
            "best-of-3.csv",
            "train-000000-of-999999.parquet",
            "train-1-of-99999999999999999999.csv",
        ] {
            assert_eq!((all_parts(name), parts_of(Path::new(&name.replace("0000", "*")))), (None, None), "{name}");
        }
    }
}
