//! Small odd files of pairs (`parity/formats/odd.json`, its script next to it): each is read as Python or `datasets`
//! reads it, or refused. The snapshot has what is refused, and the few that are neither; docs/FILES.md has their rules.

use std::path::Path;

use irepair_core::Diagnose;
use irepair_data::{Sides, read_pairs};
use serde_json::Value;

/// The bytes of a text in base 64.
fn bytes(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut made, mut bits, mut n) = (Vec::new(), 0_u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        bits = bits << 6 | DIGITS.iter().position(|digit| *digit == c).unwrap() as u32;
        n += 6;
        if n >= 8 {
            n -= 8;
            made.push((bits >> n) as u8);
            bits &= (1 << n) - 1;
        }
    }
    made
}

#[test]
fn every_odd_file_is_read_as_python_reads_it_or_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/formats/odd.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut n_equal, mut refused, mut other) = (0, Vec::new(), Vec::new());
    let dir = tempfile::tempdir().unwrap();
    for file in golden["files"].as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes(file["bytes"].as_str().unwrap())).unwrap();
        match read_pairs(&path, Sides::Both) {
            Ok(pairs) => {
                let read: Vec<[&str; 3]> = pairs.iter().map(|p| [&*p.prompt, &*p.chosen, &*p.rejected]).collect();
                let read = serde_json::to_value(read).unwrap();
                match read == file["python"] || read == file["datasets"] {
                    true => n_equal += 1,
                    false => other.push(format!("{name}   {read} for {} and {}", file["python"], file["datasets"])),
                }
            }
            Err(error) => {
                let said = error.diagnostic().to_string().replace(&format!("{}/", dir.path().display()), "");
                let word = if file["python"].is_null() && file["datasets"].is_null() { " (as there)" } else { "" };
                refused.push(format!("{name}{word}   {}", said.replace('\n', " |")));
            }
        }
    }
    assert!(n_equal > 40, "{n_equal}");
    insta::assert_snapshot!(format!("refused:\n{}\n\nother:\n{}", refused.join("\n"), other.join("\n")));
}
