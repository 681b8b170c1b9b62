//! Adapters out, as the Python package `peft` stores them; a soft prefix is one.

use std::collections::HashMap;
use std::path::Path;

use irepair_core::fs::write_atomic;
use serde_json::{Value, json};
use tch::Tensor;

use super::{Source, write_tensors};
use crate::{CausalLm, Result};

/// The file of an adapter's weights.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// The file of an adapter's settings.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Writes the weights of an adapter, then its settings.
pub(super) fn save_adapter(dir: &Path, tensors: &[(String, &Tensor)], config: &Value) -> Result<()> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&dir.join(ADAPTER_WEIGHTS), tensors, metadata)?;
    Ok(write_atomic(&dir.join(ADAPTER_CONFIG), format!("{config:#}\n").as_bytes())?)
}

impl CausalLm {
    /// Writes the adapter, whose settings name the directory that the model was loaded from: there is no `config.json`,
    /// because the model itself has not changed.
    ///
    /// # Source
    /// `save_and_load.py` and `tuners/prompt_tuning/config.py` of peft: tensor `prompt_embeddings`.
    pub(super) fn save_soft_prefix(&self, prefix: &Tensor, dir: &Path) -> Result<()> {
        let of = self.config();
        let base = match &self.source {
            Source::Directory { dir, .. } => Some(dir.display().to_string()),
            Source::None => None,
        };
        let config = json!({
            "peft_type": "PROMPT_TUNING",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "inference_mode": true,
            "num_virtual_tokens": prefix.size()[0],
            "token_dim": prefix.size()[1],
            "num_transformer_submodules": 1,
            "num_attention_heads": of.n_head,
            "num_layers": of.n_block,
            "prompt_tuning_init": "RANDOM",
        });
        let tensors = [("prompt_embeddings".to_owned(), prefix)];
        save_adapter(dir, &tensors, &config)
    }
}
