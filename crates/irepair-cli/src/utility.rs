//! Utility texts: given, or sampled from the model itself and kept for the next run.

use std::path::{Path, PathBuf};

use irepair_config::RepairOptions;
use irepair_core::fs::{read_to_string, sha256_file, sha256_hex};
use irepair_data::{Tokenizer, read_token_texts, write_jsonl};
use irepair_model::{Architecture, BlockModel, Decoding};

use crate::progress;
use crate::weights::Opened;

/// Most texts sampled when the user gives none.
const MOST_SAMPLED: usize = 512;
/// Texts sampled at a time.
const SAMPLE_BATCH: usize = 32;

/// Tokens of a utility text at most, its start token included.
pub(crate) fn max_utility(options: &RepairOptions, config: &Architecture) -> usize {
    options.max_general().min(config.n_positions)
}

/// Tokens of the texts of a file: each piece of a document after the start token, `max_tokens` in all (METHOD §2).
pub(crate) fn documents(
    path: &Path,
    tokenizer: &Tokenizer,
    eos_id: u32,
    max_tokens: usize,
) -> anyhow::Result<Vec<Vec<u32>>> {
    let texts = read_token_texts(path, tokenizer)?;
    // A last piece of a word or two would hold nothing still.
    let pieces = |text: &Vec<u32>| -> Vec<Vec<u32>> {
        let whole = text.chunks(max_tokens.saturating_sub(1).max(1));
        let keep = |(i, piece): &(usize, &[u32])| *i == 0 || piece.len() * 4 >= max_tokens;
        whole.enumerate().filter(keep).map(|(_, piece)| with_start(piece, eos_id)).collect()
    };
    Ok(texts.iter().filter(|text| !text.is_empty()).flat_map(pieces).collect())
}

/// Texts the model writes itself (METHOD §2 [F]), `wanted` of them but at most 512: those kept by an earlier run with
/// the same weights, or new ones, which are then kept.
pub(crate) fn own_texts(
    model: &Path,
    opened: &Opened,
    wanted: usize,
    options: &RepairOptions,
) -> anyhow::Result<Vec<Vec<u32>>> {
    let (seed, n_new) = (options.seed(), max_utility(options, opened.model.config()).saturating_sub(1).max(1));
    let n = wanted.min(MOST_SAMPLED);
    let kept = kept_at(model, opened, n, n_new, seed);
    if let Some(texts) = kept.as_deref().and_then(|path| recall(path, n, n_new, opened)) {
        tracing::info!("utility: {n} texts of the model's own, from {}", kept.unwrap_or_default().display());
        return Ok(texts);
    }
    tracing::info!("utility: sampling {n} texts from the model; give --general FILE to use your own");
    let texts = sample(opened, n, n_new, 0.9, 1.0, seed)?;
    let texts: Vec<Vec<u32>> = texts.iter().map(|text| with_start(text, opened.eos_id)).collect();
    if let Some(path) = kept {
        match write_jsonl(&path, &texts) {
            Ok(()) => tracing::info!("utility: kept in {}", path.display()),
            Err(e) => tracing::warn!("utility texts are not kept for the next run: {e}"),
        }
    }
    Ok(texts)
}

/// Where texts of these weights and settings are kept; none when there is no place, or the weights cannot be told.
///
/// `IREPAIR_CACHE`, or else `irepair` under the user's cache directory.
fn kept_at(model: &Path, opened: &Opened, n: usize, n_new: usize, seed: u64) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("IREPAIR_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("irepair")))
        .or_else(|| Some(set("HOME")?.join(".cache/irepair")))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(model).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors") || f.ends_with("config.json"));
    files.sort();
    let mut words = format!("utility 1: {n} {n_new} {seed} {:?} {:?}", opened.model.kind(), opened.model.device());
    for file in files {
        words += &sha256_file(&file).ok()?;
    }
    Some(root.join("utility").join(format!("{}.jsonl", &sha256_hex(words.as_bytes())[..32])))
}

/// The texts of an earlier run; none unless the file is just what such a run writes.
fn recall(path: &Path, n: usize, n_new: usize, opened: &Opened) -> Option<Vec<Vec<u32>>> {
    let parse = |line: &str| serde_json::from_str::<Vec<u32>>(line).ok();
    let texts: Vec<Vec<u32>> = read_to_string(path).ok()?.lines().map(parse).collect::<Option<_>>()?;
    let (n_vocab, start) = (opened.model.config().n_vocab, Some(&opened.eos_id));
    let known = |text: &[u32]| text.iter().all(|&id| (id as usize) < n_vocab);
    let fits = |text: &Vec<u32>| text.first() == start && text.len() <= n_new + 1 && known(text);
    (texts.len() == n && texts.iter().all(fits)).then_some(texts)
}

/// Texts sampled from the start token.
pub(crate) fn sample(
    opened: &Opened,
    n: usize,
    n_new: usize,
    top_p: f64,
    temperature: f64,
    seed: u64,
) -> anyhow::Result<Vec<Vec<u32>>> {
    let bar = progress::bar("sampling", n as u64);
    let n_new = n_new.min(opened.model.config().n_positions - 1);
    let mut texts = Vec::with_capacity(n);
    while texts.len() < n {
        let prompts = vec![vec![opened.eos_id]; SAMPLE_BATCH.min(n - texts.len())];
        let decoding =
            Decoding::Nucleus { top_p, temperature, seed: seed.wrapping_mul(1_000_003) + texts.len() as u64 };
        let rows = opened.model.generate(&prompts, n_new, decoding, opened.tokenizer.end_ids())?;
        texts.extend(rows);
        bar.set_position(texts.len() as u64);
    }
    bar.finish_and_clear();
    Ok(texts)
}

fn with_start(text: &[u32], eos_id: u32) -> Vec<u32> {
    std::iter::once(eos_id).chain(text.iter().copied()).collect()
}
