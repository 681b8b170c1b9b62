//! Utility texts: given, or sampled from the model itself and cached for the next run.

use std::path::{Path, PathBuf};

use irepair_config::RepairPlan;
use irepair_core::NUMBERS_VERSION;
use irepair_core::fs::{read_to_string, sha256_file, sha256_hex};
use irepair_data::{Tokenizer, read_token_texts, write_jsonl};
use irepair_model::{Architecture, BlockModel, Decoding};

use crate::model_dir::LoadedModel;
use crate::progress;

/// Most texts sampled when the user gives none.
const MOST_SAMPLED: usize = 512;
/// Texts sampled at a time.
const SAMPLE_BATCH: usize = 32;

/// Positions of the context that a soft prefix leaves to texts.
pub(crate) fn room(plan: &RepairPlan, config: &Architecture) -> usize {
    config.n_positions.saturating_sub(plan.soft_prefix.unwrap_or(0))
}

/// Tokens of a utility text at most, its start token included.
pub(crate) fn max_utility(plan: &RepairPlan, config: &Architecture) -> usize {
    plan.max_utility.min(room(plan, config))
}

/// Tokens of the texts of a file: each chunk of a document after the start token, `max_tokens` in all (METHOD §2).
pub(crate) fn documents(path: &Path, tokenizer: &Tokenizer, max_tokens: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    let texts = read_token_texts(path, tokenizer)?;
    // The last chunk of a text is dropped where it is far shorter than the others.
    let chunks = |text: &Vec<u32>| -> Vec<Vec<u32>> {
        let whole = text.chunks(max_tokens.saturating_sub(1).max(1));
        let keep = |(i, chunk): &(usize, &[u32])| *i == 0 || chunk.len() * 4 >= max_tokens;
        whole.enumerate().filter(keep).map(|(_, chunk)| with_start(chunk, tokenizer)).collect()
    };
    Ok(texts.iter().filter(|text| !text.is_empty()).flat_map(chunks).collect())
}

/// Texts sampled from the model itself (METHOD §2 [F]), `n_asked` of them but at most 512: those cached by an earlier
/// run with the same weights, or new ones, which are then cached.
pub(crate) fn own_texts(opened: &LoadedModel, n_asked: usize, plan: &RepairPlan) -> anyhow::Result<Vec<Vec<u32>>> {
    let (seed, n_new) = (plan.seed, max_utility(plan, opened.model.config()).saturating_sub(1).max(1));
    let n = n_asked.min(MOST_SAMPLED);
    let cached = cache_path(&plan.model, opened, n, n_new, seed);
    if let Some(texts) = cached.as_deref().and_then(|path| read_cached(path, n, n_new, opened)) {
        tracing::info!(
            "utility: {n} texts sampled from the model by an earlier run, from {}",
            cached.unwrap_or_default().display()
        );
        return Ok(texts);
    }
    tracing::info!("utility: sampling {n} texts from the model; give --utility FILE to use your own");
    let texts = sample(opened, n, n_new, 0.9, 1.0, seed)?;
    let texts: Vec<Vec<u32>> = texts.iter().map(|text| with_start(text, &opened.tokenizer)).collect();
    if let Some(path) = cached {
        match write_jsonl(&path, &texts) {
            Ok(()) => tracing::info!("utility: cached in {}", path.display()),
            Err(e) => tracing::warn!("utility texts cannot be cached in {} for the next run: {e}", path.display()),
        }
    }
    Ok(texts)
}

/// The cache file for these weights and settings; none when there is no place, or a file cannot be read.
///
/// `IREPAIR_CACHE`, or else `irepair` under the user's cache directory.
fn cache_path(model: &Path, opened: &LoadedModel, n: usize, n_new: usize, seed: u64) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("IREPAIR_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("irepair")))
        .or_else(|| Some(set("HOME")?.join(".cache/irepair")))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(model).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "safetensors") || f.ends_with("config.json"));
    files.sort();
    let mut words = format!("utility 2: {n} {n_new} {seed} {:?} {:?}", opened.model.kind(), opened.model.device());
    // What the texts begin and end with.
    let (tokenizer, ends) = (&opened.tokenizer, opened.tokenizer.end_ids());
    words += &format!(" {NUMBERS_VERSION} {} {ends:?} {}", tokenizer.start_id(), tokenizer.sha256().ok()?);
    for file in files {
        words += &sha256_file(&file).ok()?;
    }
    Some(root.join("utility").join(format!("{}.jsonl", &sha256_hex(words.as_bytes())[..32])))
}

/// The texts of an earlier run; none unless the file is as such a run writes it.
fn read_cached(path: &Path, n: usize, n_new: usize, opened: &LoadedModel) -> Option<Vec<Vec<u32>>> {
    let parse = |line: &str| serde_json::from_str::<Vec<u32>>(line).ok();
    let texts: Vec<Vec<u32>> = read_to_string(path).ok()?.lines().map(parse).collect::<Option<_>>()?;
    let (n_vocab, start) = (opened.model.config().n_vocab, opened.tokenizer.start_id());
    let known = |text: &[u32]| text.iter().all(|&id| (id as usize) < n_vocab);
    let fits = |text: &Vec<u32>| text.first() == Some(&start) && text.len() <= n_new + 1 && known(text);
    (texts.len() == n && texts.iter().all(fits)).then_some(texts)
}

/// Texts sampled from the start token.
pub(crate) fn sample(
    opened: &LoadedModel,
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
        let prompts = vec![vec![opened.tokenizer.start_id()]; SAMPLE_BATCH.min(n - texts.len())];
        let decoding = Decoding::Nucleus {
            top_p,
            temperature,
            seed: seed.wrapping_mul(1_000_003).wrapping_add(texts.len() as u64),
        };
        texts.extend(opened.model.generate(&prompts, n_new, decoding, opened.tokenizer.end_ids())?);
        bar.set_position(texts.len() as u64);
    }
    Ok(texts)
}

fn with_start(text: &[u32], tokenizer: &Tokenizer) -> Vec<u32> {
    std::iter::once(tokenizer.start_id()).chain(text.iter().copied()).collect()
}
