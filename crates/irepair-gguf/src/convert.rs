//! From a GGUF file to a Hugging Face directory: everything is checked before it is written, and `config.json` comes
//! last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use irepair_core::fs::{remove, replace, write_atomic};
use irepair_core::weights::{WEIGHTS, write_header};
use irepair_core::{DirLock, Error, mark_finished, mark_unfinished, refuse_used};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::Result;
use crate::file::GgufFile;
use crate::llama::{Llama, Target};
use crate::tokenizer::Tokenizer;

const CONFIG: &str = "config.json";
/// Values that are dequantised at once: whole blocks of every type.
const CHUNK: usize = 1 << 16;

/// A GGUF file that can be written as a Hugging Face directory.
#[derive(Debug)]
pub struct Conversion<'a> {
    file: &'a GgufFile,
    model: Llama,
    tokenizer: Tokenizer<'a>,
}

/// What a conversion makes of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Architecture.
    pub architecture: &'static str,
    /// The model's name, where the file has one.
    pub name: Option<String>,
    /// The licence it states, where the file has one.
    pub license: Option<String>,
    /// Blocks.
    pub n_block: usize,
    /// Tensors written.
    pub n_tensors: usize,
    /// Weights in them.
    pub n_weights: u64,
    /// Tensors by their type in the file.
    pub types: BTreeMap<String, usize>,
    /// True when the output head is the embedding.
    pub tied_head: bool,
    /// Tokens in use.
    pub n_tokens: usize,
    /// The rule that cuts texts into words.
    pub pre_tokenizer: &'static str,
    /// True when the tokenizer adds a begin-of-text token.
    pub adds_bos: bool,
    /// True when there is a chat template.
    pub chat_template: bool,
}

impl<'a> Conversion<'a> {
    /// Checks that the file holds a model and a tokenizer that can be written.
    ///
    /// # Errors
    /// `Metadata` and `Tensor`, naming what is missing, contradictory or not supported.
    pub fn plan(file: &'a GgufFile) -> Result<Self> {
        let model = Llama::of(file)?;
        let tokenizer = Tokenizer::of(file, model.n_vocab, model.n_positions)?;
        Ok(Self { file, model, tokenizer })
    }

    /// What will be written.
    pub fn summary(&self) -> Summary {
        let text = |key| self.file.optional_text(key).ok().flatten().map(str::to_owned);
        let mut types = BTreeMap::new();
        for target in &self.model.targets {
            *types.entry(self.file.tensors()[&target.source].kind.to_string()).or_default() += 1;
        }
        Summary {
            architecture: "llama",
            name: text("general.name"),
            license: text("general.license"),
            n_block: self.model.n_block,
            n_tensors: self.model.targets.len(),
            n_weights: self.model.targets.iter().map(|target| self.file.tensors()[&target.source].n_values()).sum(),
            types,
            tied_head: self.model.tied,
            n_tokens: self.tokenizer.n_tokens(),
            pre_tokenizer: self.tokenizer.pre_name(),
            adds_bos: self.tokenizer.adds_bos,
            chat_template: self.tokenizer.template.is_some(),
        }
    }

    /// Writes the directory `out`, which is new, empty, or was left by a conversion that was cut short. `on_tensor`
    /// gets the name of every tensor that is written. One process at a time writes there.
    ///
    /// # Errors
    /// `OutExists`, `NotFinite`, `File`. The directory then stays marked as unfinished and has no `config.json`.
    pub fn write(&self, out: &Path, on_tensor: &mut dyn FnMut(&str)) -> Result<()> {
        refuse_used(out)?;
        let _lock = DirLock::take(out)?;
        // Another process may have filled it before it was locked.
        refuse_used(out)?;
        mark_unfinished(out)?;
        remove(&out.join(CONFIG))?;
        replace(&out.join(WEIGHTS), |path| self.write_weights(path, on_tensor))?;
        write_atomic(&out.join("tokenizer.json"), self.tokenizer.json().to_string().as_bytes())?;
        let put = |name: &str, json: &Json| write_atomic(&out.join(name), format!("{json:#}\n").as_bytes());
        put("tokenizer_config.json", &self.tokenizer.config())?;
        let ids = self.tokenizer.ids();
        put("generation_config.json", &Json::Object(ids.clone()))?;
        let mut config = self.model.config.clone();
        for (key, id) in ids {
            config[key] = id;
        }
        put(CONFIG, &config)?;
        Ok(mark_finished(out)?)
    }

    /// Writes `model.safetensors`: the header, then the tensors in its order.
    fn write_weights(&self, path: &Path, on_tensor: &mut dyn FnMut(&str)) -> Result<()> {
        let io = Error::io("write", path);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?);
        let tensors = self.model.targets.iter().map(|target| {
            let info = &self.file.tensors()[&target.source];
            (target.name.as_str(), "F32".to_owned(), info.shape.as_slice(), info.n_values() * 4)
        });
        write_header(&mut out, json!({"format": "pt"}), tensors).map_err(io)?;
        for target in &self.model.targets {
            self.write_tensor(target, &mut out, path)?;
            on_tensor(&target.name);
        }
        Ok(out.flush().map_err(io)?)
    }

    fn write_tensor(&self, target: &Target, out: &mut impl Write, path: &Path) -> Result<()> {
        let info = &self.file.tensors()[&target.source];
        let (n, io) = (info.n_values() as usize, Error::io("write", path));
        let mut values = self.file.values()?;
        // Rows that change places are read one by one.
        let n_row = if target.n_head.is_some() { n / info.shape[0] } else { CHUNK.min(n) };
        let mut row = vec![0.0; n_row];
        let mut bytes = Vec::with_capacity(n_row * 4);
        for i in 0..n.div_ceil(n_row) {
            let start = match target.n_head {
                Some(n_head) => interleaved(i, info.shape[0] / n_head) * n_row,
                None => i * n_row,
            };
            let row = &mut row[..n_row.min(n - i * n_row)];
            values.read(info, start, row)?;
            if !row.iter().all(|value| value.is_finite()) {
                return Err(crate::Error::NotFinite {
                    path: self.file.path().to_owned(),
                    tensor: target.source.clone(),
                });
            }
            bytes.clear();
            bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&bytes).map_err(io)?;
        }
        Ok(())
    }
}

/// The row of a GGUF file that holds row `row` of a query or key projection: rotation pairs value `i` of a head with
/// value `head_dim / 2 + i`, and the file has the two rows of a pair next to each other.
fn interleaved(row: usize, head_dim: usize) -> usize {
    let (head, row) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim + row % half * 2 + row / half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_rows_move_to_the_halves_of_their_head() {
        let rows: Vec<usize> = (0..8).map(|row| interleaved(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
