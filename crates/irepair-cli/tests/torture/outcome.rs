//! What a command left in a directory, and how two such directories differ.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use irepair_core::fs::sha256_hex;
use serde_json::Value;

/// Measured on the machine while it ran: all that may differ between two runs of one command.
pub(crate) const MEASURED: [&str; 5] = ["seconds", "train_s", "median_step_s", "tokens_per_s", "peak_rss_bytes"];

/// Words for people, with times in them.
const LOGS: [&str; 3] = ["log", "log.txt", "report.html"];

/// Files by their path, each with the hash of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome(BTreeMap<String, String>);

impl Outcome {
    /// Everything under `dir`.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        visit(dir, "", &mut files);
        Self(files)
    }

    /// Says what differs from `want`: a file that is missing, one too many, or other content.
    pub(crate) fn check(&self, want: &Self) -> Result<(), String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(want.0.keys()).collect();
        let wrong: Vec<String> = names
            .into_iter()
            .filter_map(|name| match (self.0.get(name), want.0.get(name)) {
                (None, _) => Some(format!("{name} is missing")),
                (_, None) => Some(format!("{name} is left over")),
                (got, want) => (got != want).then(|| format!("{name} differs")),
            })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join(", ")) }
    }

    /// Temporary files of an unfinished write.
    pub(crate) fn litter(&self) -> Vec<&String> {
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        self.0.keys().filter(|path| irepair_core::is_temporary(&name(path))).collect()
    }
}

fn visit(dir: &Path, under: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let shown = format!("{under}{name}");
        if LOGS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            visit(&path, &format!("{shown}/"), files);
        } else if let Ok(bytes) = fs::read(&path) {
            files.insert(shown, sha256_hex(&comparable(&name, bytes)));
        }
    }
}

/// A file's content without what was measured.
fn comparable(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    let values: Vec<Value> = match name.rsplit('.').next() {
        Some("json") => serde_json::from_slice(&bytes).into_iter().collect(),
        Some("jsonl") => String::from_utf8_lossy(&bytes).lines().map_while(|l| serde_json::from_str(l).ok()).collect(),
        _ => Vec::new(),
    };
    // Text that is not JSON is compared as it is.
    if values.is_empty() {
        return bytes;
    }
    let settled = values.into_iter().map(|mut value| {
        settle(&mut value);
        value.to_string()
    });
    settled.collect::<Vec<_>>().join("\n").into_bytes()
}

/// Puts 1 in the place of every measured number.
pub(crate) fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if MEASURED.contains(&key.as_str()) && value.is_number() {
                    *value = 1.into();
                } else {
                    settle(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(settle),
        _ => {}
    }
}
