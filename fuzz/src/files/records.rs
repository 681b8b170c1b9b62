//! JSONL data files; the first byte selects the reader.

use std::path::Path;

use irepair_data::{
    Error, Sides, read_acceptability, read_cloze, read_continuations, read_labels, read_minimal_pairs,
    read_multiple_endings, read_pairs, read_prompts, read_running_text, read_texts, write_cloze, write_jsonl,
    write_prompts,
};

use super::shared::{put, said};

/// Pairs, prompts and last-word items read back equal after writing; the other readers do not panic.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let Some((reader, data)) = data.split_first() else { return };
    let (path, again) = (put(dir, "fuzzed.jsonl", data), dir.join("again.jsonl"));
    let done = match reader % 10 {
        0 => read_pairs(&path, Sides::Both).map(|pairs| {
            write_jsonl(&again, &pairs).expect("the target's own directory");
            assert_eq!(read_pairs(&again, Sides::Both).expect("just written"), pairs);
        }),
        1 => read_prompts(&path).map(|prompts| {
            write_prompts(&again, &prompts).expect("the target's own directory");
            assert_eq!(read_prompts(&again).expect("just written"), prompts);
        }),
        2 => read_cloze(&path).map(|items| {
            write_cloze(&again, &items).expect("the target's own directory");
            assert_eq!(read_cloze(&again).expect("just written"), items);
        }),
        3 => read_pairs(&path, Sides::Rejected).map(drop),
        4 => read_texts(&path).map(drop),
        5 => read_labels(&path).map(drop),
        6 => read_minimal_pairs(&path).map(drop),
        7 => read_acceptability(&path).map(drop),
        8 => read_continuations(&path).map(drop),
        _ => read_multiple_endings(&path).map(drop).and_then(|()| read_running_text(&path).map(drop)),
    };
    if let Err(error) = done {
        assert!(!matches!(error, Error::Tokenize { .. }));
        said(&error);
    }
}
