//! A copy of a model in which some tensors have other values: what applying a patch writes, without a patch.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_core::fs::write_atomic;
use irepair_core::weights::CONFIG;
use irepair_core::{Checkpoint, Error as CoreError, printable, refuse_used};

use crate::companions::companions;
use crate::output::Output;
use crate::{Result, Step};

/// What the mark of a directory says that a copy of the model in `dir` is written to, with `added` files: only the same
/// copy may finish it, since others may have other files.
pub fn maker_of_copy<'a>(dir: &Path, added: impl IntoIterator<Item = &'a str>) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let added: Vec<&str> = added.into_iter().collect();
    let with = if added.is_empty() { String::new() } else { format!(" with {}", added.join(", ")) };
    format!("a copy of {}{with}", dir.display())
}

/// Writes a copy of `model` to the directory `out`, in which the tensors that `changed` names have those bytes.
///
/// Every file is copied and only those tensors are overwritten, so that all else stays byte for byte. `files` are
/// added, each a name and its text, and stand in the place of files of the same name. A run that is killed leaves a
/// directory without `config.json`, which the same command finishes. Returns the names that were not copied: folders,
/// and weights in other forms.
///
/// # Errors
/// `OutExists`; `Unreadable` for a tensor that the model does not have with as many bytes; those of reading and
/// writing.
pub fn write_changed(
    model: &Checkpoint,
    changed: &BTreeMap<String, Vec<u8>>,
    files: &[(&str, &str)],
    out: &Path,
    on_step: &mut dyn FnMut(Step<'_>),
) -> Result<Vec<String>> {
    let maker = maker_of_copy(&model.dir, files.iter().map(|(name, _)| *name));
    refuse_used(out, &maker)?;
    for (name, bytes) in changed {
        let got = model.get(name).map(|(_, stored)| stored.n_bytes);
        if got != Some(bytes.len() as u64) {
            let reason =
                format!("tensor `{}` has not the {} bytes that are to replace it", printable(name), bytes.len());
            return Err(CoreError::unreadable(&model.dir, reason).into());
        }
    }
    let mut output = Output::begin(out, &maker, on_step)?;
    for file in &model.files {
        output.weights(file, |out| {
            for (name, stored) in &file.tensors {
                let Some(bytes) = changed.get(name) else { continue };
                out.go_to(stored.offset)?;
                out.write(bytes)?;
                out.changed(name);
            }
            Ok(())
        })?;
    }
    let companions = companions(model)?;
    for (name, text) in files {
        write_atomic(&out.join(name), text.as_bytes())?;
        output.placed(name);
    }
    let added = |name: &String| files.iter().any(|(added, _)| added == name) && name != CONFIG;
    for name in companions.files.iter().filter(|name| !added(name)) {
        output.copy(&model.dir.join(name), name)?;
    }
    output.finish()?;
    Ok(companions.left_out)
}
