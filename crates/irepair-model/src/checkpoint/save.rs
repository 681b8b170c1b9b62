//! A checkpoint directory out: what was loaded keeps its every byte until a weight changes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use irepair_core::fs::{replace, write_atomic};
use irepair_core::weights::WEIGHTS;
use tch::Tensor;

use super::file::{CHUNK, Parsed, bytes_of, chunks, dtype_of, map};
use super::{Shard, Source, Stored, write_tensors};
use crate::{BlockModel, CausalLm, Error, Result};

impl CausalLm {
    /// Writes the model as a checkpoint directory that `transformers` loads unchanged.
    ///
    /// A model that was loaded keeps its files' names and headers, so tensor names, order, types and metadata, and
    /// brings its `config.json`, tokenizer and other small files along. A tensor that was not changed keeps its stored
    /// bytes, whatever type the model computed in. Each file is written to a temporary one and renamed; weights come
    /// before `config.json`, so a directory with a config is whole.
    ///
    /// Of a model with a soft prefix the prefix alone is written, in the layout of `peft`: the rest is unchanged.
    ///
    /// # Errors
    /// File errors; [`irepair_core::Error::MissingFile`] when the directory it was loaded from is gone or holds another
    /// model by now.
    pub fn save(&self, dir: &Path) -> Result<()> {
        if let Some(prefix) = self.soft_prefix() {
            return self.save_soft_prefix(prefix, dir);
        }
        let config = match &self.source {
            Source::None => {
                self.save_fresh(dir)?;
                self.config().to_json().into_bytes()
            }
            Source::Directory { dir: from, config, shards } => {
                for shard in shards {
                    self.save_shard(from, shard, &dir.join(&shard.file))?;
                }
                copy_companions(from, dir)?;
                config.clone()
            }
        };
        Ok(write_atomic(&dir.join("config.json"), &config)?)
    }

    /// The stored tensors that [`CausalLm::save`] would write otherwise than they lie in the files that the model was
    /// loaded from, by stored name, with all of their new bytes; none for a model that was not loaded.
    ///
    /// # Errors
    /// As [`CausalLm::save`].
    pub fn changed_tensors(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut changed = BTreeMap::new();
        let Source::Directory { dir, shards, .. } = &self.source else { return Ok(changed) };
        for shard in shards {
            let path = dir.join(&shard.file);
            let map = map(&path)?;
            if !map.starts_with(&shard.header) {
                return Err(irepair_core::Error::MissingFile { path }.into());
            }
            let source = Parsed::new(&path, &map)?;
            for stored in shard.tensors.iter().filter(|stored| stored.parameter.is_some()) {
                let mut bytes = Vec::new();
                self.write_tensor(stored, Some(&source), &path, &mut |chunk| {
                    bytes.extend_from_slice(chunk);
                    Ok(())
                })?;
                if bytes != source.view(&stored.name)?.data() {
                    changed.insert(stored.name.clone(), bytes);
                }
            }
        }
        Ok(changed)
    }

    fn save_fresh(&self, dir: &Path) -> Result<()> {
        let tensors: Vec<(String, &Tensor)> = self
            .parameters()
            .iter()
            .map(|p| {
                let family = self.config().family;
                let prefix = if p.name == super::load::head(family) { "" } else { family.prefix };
                (format!("{prefix}{}", p.name), &p.tensor)
            })
            .collect();
        write_tensors(&dir.join(WEIGHTS), &tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))
    }

    fn save_shard(&self, from: &Path, shard: &Shard, to: &Path) -> Result<()> {
        let path = from.join(&shard.file);
        // The source is read only while it is the file that was loaded.
        let map = map(&path).ok().filter(|map| map.starts_with(&shard.header));
        let source = map.as_ref().map(|map| Parsed::new(&path, map)).transpose()?;
        let io = irepair_core::Error::io("write", to);
        replace(to, |temporary| {
            let mut file = BufWriter::new(File::create(temporary).map_err(io)?);
            file.write_all(&shard.header).map_err(io)?;
            for stored in &shard.tensors {
                self.write_tensor(stored, source.as_ref(), &path, &mut |bytes| file.write_all(bytes).map_err(io))?;
            }
            Ok::<(), Error>(file.flush().map_err(io)?)
        })
    }

    /// Writes one tensor: the bytes of the file it came from where nothing changed, so that neither a round trip
    /// through another type nor the payload of a NaN can move a bit.
    fn write_tensor(
        &self,
        stored: &Stored,
        source: Option<&Parsed<'_>>,
        path: &Path,
        write: &mut dyn FnMut(&[u8]) -> Result<(), irepair_core::Error>,
    ) -> Result<()> {
        let value = stored.parameter.map(|index| &self.parameters()[index].tensor);
        match (source, value) {
            // A type that the model does not compute in may say more than it: elements that did not change keep that.
            (Some(source), Some(value)) if dtype_of(value.kind()) != stored.dtype => {
                source.changed(&stored.name, value, write)?;
            }
            (Some(source), value) if value.map_or(Ok(true), |value| source.holds(&stored.name, value))? => {
                source.bytes(&source.view(&stored.name)?).try_for_each(write)?;
            }
            (_, Some(value)) => chunks(value, CHUNK).try_for_each(|chunk| write(&bytes_of(&chunk, stored.dtype)))?,
            (_, None) => return Err(irepair_core::Error::MissingFile { path: path.to_owned() }.into()),
        }
        Ok(())
    }
}

/// Ends of the names of a checkpoint's small files: settings, tokenizer, licence (which has no end), model card, code.
const COMPANIONS: [&str; 7] = [".json", ".txt", ".model", ".jinja", ".md", ".bpe", ".py"];
/// Further chat templates.
const TEMPLATES: &str = "additional_chat_templates";

/// Copies everything small that belongs to a checkpoint: tokenizer, generation settings, shard index.
fn copy_companions(from: &Path, to: &Path) -> Result<()> {
    let listing = irepair_core::Error::io("read", from);
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(from).map_err(listing)? {
        let path = entry.map_err(listing)?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if name == TEMPLATES && path.is_dir() {
            for path in irepair_core::fs::list(&path)? {
                let name = path.file_name().and_then(|name| name.to_str()).map(|name| format!("{TEMPLATES}/{name}"));
                files.extend(name.filter(|_| path.is_file()).map(|name| (name, path)));
            }
            continue;
        }
        let belongs = COMPANIONS.iter().any(|end| name.ends_with(end)) || !name.contains('.');
        if belongs && name != "config.json" && !name.starts_with('.') && path.is_file() {
            files.insert(name.to_owned(), path);
        }
    }
    for (name, path) in files {
        let bytes = std::fs::read(&path).map_err(irepair_core::Error::io("read", &path))?;
        write_atomic(&to.join(name), &bytes)?;
    }
    Ok(())
}
