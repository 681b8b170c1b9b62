//! From a GGUF file to a Hugging Face directory: everything is checked before it is written, and `config.json` comes
//! last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use irepair_core::fs::{remove, replace, write_atomic};
use irepair_core::weights::{CONFIG, WEIGHTS, write_header};
use irepair_core::{DirLock, Error, mark_finished, mark_unfinished, refuse_used};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::Result;
use crate::architectures::{Model, Target};
use crate::compare::Original;
use crate::file::GgufFile;
use crate::tokenizer::Tokenizer;

/// What the mark of an unfinished directory says.
const MAKER: &str = "irepair import";

/// A GGUF file that can be written as a Hugging Face directory.
#[derive(Debug)]
pub struct Conversion<'a> {
    pub(crate) file: &'a GgufFile,
    pub(crate) model: Model,
    pub(crate) tokenizer: Tokenizer<'a>,
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
        let model = Model::of(file)?;
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
            architecture: self.model.architecture.name,
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
        refuse_used(out, MAKER)?;
        let _lock = DirLock::take(out)?;
        // Another process may have filled it before it was locked.
        refuse_used(out, MAKER)?;
        mark_unfinished(out, MAKER)?;
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
        let mut values = Original::open(self.file, target)?;
        let mut bytes = Vec::new();
        while let Some(values) = values.next()? {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            out.write_all(&bytes).map_err(Error::io("write", path))?;
        }
        Ok(())
    }
}
