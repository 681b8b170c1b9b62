//! `irepair import`: a GGUF file becomes a Hugging Face directory. No libtorch is needed.

use std::path::PathBuf;

use clap::Args;
use irepair_core::printable;
use irepair_gguf::{Conversion, GgufFile, Summary};
use serde::Serialize;

use crate::output::{print, print_json};
use crate::progress;

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The GGUF file: docs/FILES.md has the architectures and tokenizers.
    #[arg(value_name = "FILE.gguf")]
    file: PathBuf,
    /// Directory to write to: new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The output of `--json`.
#[derive(Serialize)]
struct Imported<'a> {
    model: &'a PathBuf,
    #[serde(flatten)]
    summary: Summary,
}

/// Runs the command.
pub(crate) fn command(args: &ImportArgs) -> anyhow::Result<()> {
    let file = GgufFile::open(&args.file)?;
    let conversion = Conversion::plan(&file)?;
    let summary = conversion.summary();
    let bar = progress::bar("import", summary.n_tensors as u64);
    let written = conversion.write(&args.out, &mut |_| bar.inc(1));
    bar.finish_and_clear();
    written?;
    if args.json {
        return print_json(&Imported { model: &args.out, summary });
    }
    print(&table(&summary, &args.out))
}

fn table(summary: &Summary, out: &std::path::Path) -> String {
    let stated = |value: &Option<String>| value.as_deref().map_or_else(|| "not stated".to_owned(), printable);
    let types: Vec<String> = summary.types.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    format!(
        "name: {}\nlicence: {}\nmodel: {}, {} blocks, {:.1} million weights{}\ntensors: {}, written as F32\n\
         tokenizer: {} tokens, pre-tokenizer {}\nadds a begin-of-text token: {}\nchat template: {}\nwritten to: {}\n",
        stated(&summary.name),
        stated(&summary.license),
        summary.architecture,
        summary.n_block,
        summary.n_weights as f64 / 1e6,
        if summary.tied_head { ", tied head" } else { "" },
        types.join(", "),
        summary.n_tokens,
        summary.pre_tokenizer,
        yes(summary.adds_bos),
        yes(summary.chat_template),
        out.display()
    )
}
