//! `irepair export`: a repaired directory becomes a GGUF file again. No libtorch is needed.

use std::path::PathBuf;

use clap::Args;
use irepair_core::printable;
use irepair_gguf::{Conversion, Export, ExportSummary, GgufFile};
use serde::Serialize;

use crate::locate;
use crate::output::{print, print_json};
use crate::progress;

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The directory that `irepair import` made, after its repair.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The GGUF file that it was imported from: metadata, tokenizer and unchanged tensors are copied from it.
    #[arg(long, value_name = "FILE.gguf")]
    like: PathBuf,
    /// File to write: no other file may be there.
    #[arg(long, value_name = "FILE.gguf")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The output of `--json`.
#[derive(Serialize)]
struct Exported<'a> {
    file: &'a PathBuf,
    #[serde(flatten)]
    summary: ExportSummary,
}

/// Runs the command.
pub(crate) fn command(mut args: ExportArgs) -> anyhow::Result<()> {
    locate::models([&mut args.dir])?;
    let file = GgufFile::open(&args.like)?;
    let conversion = Conversion::plan(&file)?;
    let n_tensors = file.tensors().len() as u64;
    let bar = progress::bar("compare", n_tensors);
    let planned = Export::plan(&conversion, &args.dir, &mut |_| bar.inc(1));
    bar.finish_and_clear();
    let export = planned?;
    let summary = export.summary();
    let bar = progress::bar("export", n_tensors);
    let written = export.write(&args.out, &mut |_| bar.inc(1));
    bar.finish_and_clear();
    written?;
    if args.json {
        return print_json(&Exported { file: &args.out, summary });
    }
    print(&table(&summary, &args.out))
}

fn table(summary: &ExportSummary, out: &std::path::Path) -> String {
    let mut changed: Vec<String> = summary.changed.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    if changed.is_empty() {
        changed.push("none".to_owned());
    }
    let mut text = format!("tensors copied: {}\ntensors changed: {}\n", summary.n_copied, changed.join(", "));
    for name in &summary.too_large_for_f16 {
        text += &format!("F32, because values are too large for F16: {}\n", printable(name));
    }
    text + &format!("size: {:.1} million bytes\nwritten to: {}\n", summary.n_bytes as f64 / 1e6, out.display())
}
