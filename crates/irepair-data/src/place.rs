//! Where a record stands in its file, for messages about one that is understood but does not fit.

use std::path::Path;

use crate::Lines;
use crate::read::{Documents, END_OF_TEXT};
use crate::rows::{has_records, is_jsonl};

/// Where the record `index`, counted from 0, of a file of texts or prompts stands, for messages: `texts.jsonl, line 3`;
/// its number from 1 where the file has no lines of records, or cannot be read twice.
pub fn place_of(path: &Path, index: usize) -> String {
    let line = path.is_file().then(|| line_of_record(path, index)).flatten();
    let at = line.map_or_else(|| format!("record {}", index + 1), |line| format!("line {line}"));
    format!("{}, {at}", path.display())
}

fn line_of_record(path: &Path, index: usize) -> Option<usize> {
    if has_records(path) && !is_jsonl(path) {
        return None;
    }
    let mut lines = Lines::open(path).ok()?.map_while(Result::ok).peekable();
    if is_jsonl(path) {
        let is_object = lines.peek().is_some_and(|(_, line)| !line.trim_start().starts_with('['));
        return lines.filter(|(_, line)| !line.trim().is_empty()).nth(index).map(|(n, _)| n).filter(|_| is_object);
    }
    let (mut documents, mut begin, mut n) = (Documents::default(), None, 0);
    for (number, line) in lines {
        let blank = line.trim().is_empty();
        if line.trim_end() != END_OF_TEXT && !blank {
            begin.get_or_insert(number);
        }
        if documents.push(line).is_some() {
            if n == index {
                return begin;
            }
            n += 1;
            begin = None;
        }
    }
    begin.filter(|_| n == index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn a_record_has_a_place_in_its_file() {
        let (_dir, path) = file("t.jsonl", b"{\"text\":\"a\"}\n\n{\"text\":\"b\"}\n");
        let place = |index| place_of(&path, index).rsplit('/').next().unwrap().to_owned();
        assert_eq!(
            (place(0), place(1), place(2)),
            ("t.jsonl, line 1".into(), "t.jsonl, line 3".into(), "t.jsonl, record 3".into())
        );
        let (_dir, path) = file("t.txt", b"\none\ntwo\n<|endoftext|>\n\n<|endoftext|>\n\nthree\n");
        let place = |index| place_of(&path, index).rsplit('/').next().unwrap().to_owned();
        assert_eq!(
            (place(0), place(1), place(2)),
            ("t.txt, line 2".into(), "t.txt, line 8".into(), "t.txt, record 3".into())
        );
        assert_eq!(place_of(Path::new("nowhere.jsonl"), 4), "nowhere.jsonl, record 5");
        let (_dir, path) = file("list.json", b"[\n{\"text\":\"a\"}]\n");
        assert!(place_of(&path, 0).ends_with("list.json, record 1"));
    }
}
