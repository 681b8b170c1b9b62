//! Prompts of a file; those that a chat template rendered are read whole or refused.

use irepair_data::{RecordFile, TextKind, Tokenizer, Whole};

use crate::error::CliError;

/// The prompts, of which `prompt_tokens` tokens are kept.
///
/// # Errors
/// Those of the reader, and `PromptsCut` where a rendered prompt is longer: its end begins the answer.
pub(crate) fn read(file: RecordFile<'_>, tokenizer: &Tokenizer, prompt_tokens: usize) -> anyhow::Result<Whole<String>> {
    let prompts = file.read_prompts(Some(tokenizer))?;
    if prompts.kind == TextKind::Chat {
        let tokens = tokenizer.of_kind(prompts.kind).encode_batch(&prompts.items)?;
        let longest = tokens.iter().map(Vec::len).max().unwrap_or(0);
        if longest > prompt_tokens {
            return Err(CliError::PromptsCut { path: file.path.to_owned(), longest, prompt_tokens }.into());
        }
    }
    Ok(prompts)
}
