//! What a family file provides.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Architecture, Layout, Parameter, Result, Shape};

/// One model family: everything about it that is not arithmetic.
pub struct Family {
    /// Its name on the command line and in settings.
    pub name: &'static str,
    /// `model_type` of its `config.json`.
    pub model_type: &'static str,
    /// `model_type` of models of several parts whose text model, described by `text_config`, is of this family.
    pub wrapper: Option<&'static str>,
    /// Prefix of tensor names in whole models; bare models lack it. The head has none.
    pub prefix: &'static str,
    /// The head's name.
    pub head: &'static str,
    /// What the names of a block's tensors begin with, before the block's number.
    pub block_prefix: &'static str,
    /// How the matrices of its projections are stored.
    pub layout: Layout,
    /// Names, below a block, of buffers that old files store with the weights and that follow from the settings.
    pub buffers: &'static [&'static str],
    /// Reads a `config.json`; the path is for errors.
    pub read: fn(Map<String, Value>, &Path) -> Result<Architecture>,
    /// Lists the parameters in the order of the forward pass.
    pub parameters: fn(&Architecture) -> Vec<Parameter>,
    /// The `config.json` of a new model of these sizes, with the family's standard settings.
    pub fresh: fn(&Shape) -> Value,
}

/// What a program that wraps a model puts before the names of its tensors: data parallelism (`DataParallel`,
/// `DistributedDataParallel`), `torch.compile`, and peft. They may be nested.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "base_model.model."];

impl Family {
    /// A parameter's name without the prefix that whole models have and bare ones lack, nor those of models that have a
    /// language model as one of their parts, nor those of programs that wrap a model.
    pub fn plain<'a>(&self, mut stored: &'a str) -> &'a str {
        while let Some(inner) = WRAPPERS.iter().find_map(|wrapper| stored.strip_prefix(wrapper)) {
            stored = inner;
        }
        let inner = ["model.language_model.", "language_model."].iter().find_map(|part| stored.strip_prefix(part));
        let stored = inner.unwrap_or(stored);
        stored.strip_prefix(self.prefix).unwrap_or(stored)
    }

    /// True for a stored buffer that follows from the settings, such as a causal mask.
    pub fn is_buffer(&self, plain: &str) -> bool {
        let rest = plain.strip_prefix(self.block_prefix).and_then(|rest| rest.strip_prefix('.'));
        let Some((block, rest)) = rest.and_then(|rest| rest.split_once('.')) else { return false };
        block.parse::<usize>().is_ok() && self.buffers.contains(&rest)
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Family {}

#[cfg(test)]
mod tests {
    use crate::FAMILIES;

    #[test]
    fn wrappers_in_any_order_come_off_a_name() {
        for family in FAMILIES {
            let plain = format!("{}.0.x.weight", family.block_prefix);
            let whole = format!("{}{plain}", family.prefix);
            for wrapper in [
                "",
                "module.",
                "_orig_mod.",
                "base_model.model.",
                "module._orig_mod.",
                "_orig_mod.module.",
                "module.base_model.model.",
                "_orig_mod.base_model.model.module.",
            ] {
                for name in [&plain, &whole] {
                    assert_eq!(family.plain(&format!("{wrapper}{name}")), plain, "{family:?}, {wrapper}{name}");
                }
            }
            assert_eq!(family.plain("modules.x"), "modules.x");
        }
    }
}
