//! The files of a model directory that are not its weights.

use irepair_core::Checkpoint;
use irepair_core::fs::list;
use irepair_core::weights::CONFIG;

use crate::Result;

/// Files of our own that are no part of a model: states, marks, temporary files.
pub(crate) const OWN: &str = ".irepair-";

/// Endings of files that hold weights in a form no patch is applied to.
const OTHER_WEIGHTS: [&str; 11] =
    ["safetensors", "bin", "pt", "pth", "ckpt", "h5", "msgpack", "ot", "onnx", "gguf", "npz"];

/// The other files of a model directory.
#[derive(Debug, Default)]
pub(crate) struct Companions {
    /// Copied along, `config.json` last.
    pub(crate) files: Vec<String>,
    /// Not copied: weights in other forms, which a patch does not reach, and folders.
    pub(crate) left_out: Vec<String>,
}

/// Everything in the directory that is not its weights.
pub(crate) fn companions(model: &Checkpoint) -> Result<Companions> {
    let mut found = Companions::default();
    for path in list(&model.dir)? {
        let Some(name) = path.file_name() else { continue };
        let weights = model.files.iter().any(|file| file.path.file_name() == Some(name));
        let shown = name.to_string_lossy();
        if weights || shown.starts_with(OWN) || shown == CONFIG {
            continue;
        }
        let ending = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
        // Links to files count as files: that is how download caches keep them.
        match name.to_str() {
            Some(name) if path.is_file() && !OTHER_WEIGHTS.contains(&ending.as_str()) => {
                found.files.push(name.to_owned());
            }
            _ => found.left_out.push(shown.into_owned()),
        }
    }
    found.files.push(CONFIG.to_owned());
    Ok(found)
}
