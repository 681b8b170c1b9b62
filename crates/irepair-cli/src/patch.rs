//! `irepair patch`: patch files made, applied, reverted, checked, composed and shown. No weights are loaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use irepair_core::fs::{read_to_string, sha256_file};
use irepair_core::printable;
use irepair_patch::{Kind, Lossy, Patch, Provenance, Rewritten, Side, Verdict, model_id};
use serde::Serialize;

use crate::progress;
use crate::repair::{Repaired, print};

/// Tensors `show` lists before it counts the rest; `--json` lists all.
const N_SHOWN: usize = 20;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Write the patch that leads from one model to another.
    Create(Box<CreateArgs>),
    /// Write the patched model to a new directory.
    Apply {
        /// Directory of the model the patch was made for.
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
        #[command(flatten)]
        rewrite: RewriteArgs,
    },
    /// Write the model as it was before a patch to a new directory.
    Revert {
        /// Directory of the patched model.
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// Directory of the model the patch was made for: needed for kind replace, makes kind delta exact.
        #[arg(long, value_name = "DIR")]
        base: Option<PathBuf>,
        #[command(flatten)]
        rewrite: RewriteArgs,
    },
    /// Say whether a model is the base of a patch, its result, or neither (exit code 5).
    Verify {
        /// Directory of the model.
        #[arg(long, value_name = "DIR")]
        model: PathBuf,
        /// The patch.
        #[arg(long, value_name = "FILE")]
        patch: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write two patches as one.
    Compose {
        /// The patch that comes first.
        #[arg(long, value_name = "FILE")]
        first: PathBuf,
        /// The patch that comes second: made for the result of the first, or for the same base.
        #[arg(long, value_name = "FILE")]
        second: PathBuf,
        /// Directory of the model the first was made for: needed for two kinds, and for two of kind delta.
        #[arg(long, value_name = "DIR")]
        base: Option<PathBuf>,
        /// File to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what a patch says about itself.
    Show {
        /// The patch.
        #[arg(long, value_name = "FILE")]
        patch: PathBuf,
        /// Print JSON, with every changed tensor.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// Directory of the model before.
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// Directory of the model after: the same tensors, types and shapes.
    #[arg(long, value_name = "DIR")]
    repaired: PathBuf,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What is stored: replace, xor or delta (METHOD §14).
    #[arg(long, default_value = "xor")]
    kind: Kind,
    /// Method to record.
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Slicing policy to record.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Seed to record.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Blocks to record.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    blocks: Option<Vec<usize>>,
    /// Settings file whose SHA-256 is recorded.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// JSON with metrics of the base to record, such as `irepair eval --json` prints.
    #[arg(long, value_name = "FILE")]
    metrics_before: Option<PathBuf>,
    /// JSON with metrics of the repaired model to record.
    #[arg(long, value_name = "FILE")]
    metrics_after: Option<PathBuf>,
    /// The patch that led to the base.
    #[arg(long, value_name = "FILE")]
    parent: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RewriteArgs {
    /// The patch.
    #[arg(long, value_name = "FILE")]
    patch: PathBuf,
    /// Directory to write to: new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write a model even where a patch of kind delta rounds to other bits than recorded.
    #[arg(long)]
    allow_lossy: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn command(action: Action) -> anyhow::Result<()> {
    match action {
        Action::Create(args) => {
            let patch = irepair_patch::create(&args.base, &args.repaired, args.kind, provenance(&args)?, &args.out)?;
            print_patch(&patch, args.json)
        }
        Action::Apply { base, rewrite } => {
            run(&rewrite, |patch, lossy, on_step| irepair_patch::apply(&base, patch, &rewrite.out, lossy, on_step))
        }
        Action::Revert { model, base, rewrite } => run(&rewrite, |patch, lossy, on_step| {
            irepair_patch::revert(&model, patch, base.as_deref(), &rewrite.out, lossy, on_step)
        }),
        Action::Verify { model, patch, json } => verify(&model, &patch, json),
        Action::Compose { first, second, base, out, json } => {
            let (first, second) = (Patch::open(&first)?, Patch::open(&second)?);
            print_patch(&irepair_patch::compose(&first, &second, base.as_deref(), &out)?, json)
        }
        Action::Show { patch, json } => print_patch(&Patch::open(&patch)?, json),
    }
}

/// Writes the patch of a repair, where its settings ask for one.
pub(crate) fn of_repair(model: &Path, out: &Path, repaired: &Repaired) -> anyhow::Result<()> {
    let options = &repaired.options;
    let Some(path) = &options.patch else { return Ok(()) };
    if path.exists() {
        // It was not there at the start: a run that was killed since then made it, or somebody else a patch of their own.
        let patch = Patch::open(path)?;
        let leads = |side, dir| Ok::<_, irepair_patch::Error>(patch.manifest().model_id(side) == model_id(dir)?);
        let leads_here = leads(Side::Base, model)? && leads(Side::Result, out)?;
        return if leads_here { Ok(()) } else { Ok(irepair_patch::refuse_existing(path)?) };
    }
    let blocks: BTreeSet<usize> = repaired.records.iter().flat_map(|r| r.slice.iter()).map(|block| block.0).collect();
    let provenance = Provenance {
        method: Some(options.method().to_string()),
        policy: Some(options.policy().to_string()),
        config_sha256: Some(sha256_file(&out.join("repair.toml"))?),
        seed: Some(options.seed()),
        blocks: Some(blocks.into_iter().collect()),
        ..Default::default()
    };
    let patch = irepair_patch::create(model, out, Kind::Xor, provenance, path)?;
    tracing::info!("patch: {}, {} tensors changed", path.display(), patch.manifest().changed().count());
    Ok(())
}

/// What the flags say of the making of a patch.
fn provenance(args: &CreateArgs) -> anyhow::Result<Provenance> {
    let json = |path: &Option<PathBuf>| -> anyhow::Result<Option<serde_json::Value>> {
        let Some(path) = path else { return Ok(None) };
        let not_json = |e| irepair_core::Error::unreadable(path, format!("not JSON: {e}"));
        Ok(Some(serde_json::from_str(&read_to_string(path)?).map_err(not_json)?))
    };
    let parent = args.parent.as_deref().map(Patch::open).transpose()?;
    if let Some(parent) = &parent {
        let (want, got) = (parent.manifest().model_id(Side::Result), model_id(&args.base)?);
        if want != got {
            return Err(irepair_patch::Error::NotParent { path: parent.path().to_owned(), want, got }.into());
        }
    }
    Ok(Provenance {
        method: args.method.clone(),
        policy: args.policy.clone(),
        config_sha256: args.settings.as_deref().map(sha256_file).transpose()?,
        seed: args.seed,
        blocks: args.blocks.as_ref().map(|blocks| BTreeSet::from_iter(blocks.iter().copied()).into_iter().collect()),
        metrics_before: json(&args.metrics_before)?,
        metrics_after: json(&args.metrics_after)?,
        parent: parent.map(|parent| parent.id()).transpose()?,
        composed_of: None,
    })
}

/// Applies or reverts, with a bar, and says what came out.
fn run(
    args: &RewriteArgs,
    rewrite: impl FnOnce(&Patch, Lossy, &mut dyn FnMut(irepair_patch::Step<'_>)) -> irepair_patch::Result<Rewritten>,
) -> anyhow::Result<()> {
    let patch = Patch::open(&args.patch)?;
    let lossy = if args.allow_lossy { Lossy::Allow } else { Lossy::Refuse };
    let bar = progress::bar("patch", patch.manifest().changed().count() as u64);
    let report = rewrite(&patch, lossy, &mut |step| {
        if let irepair_patch::Step::Changed { .. } = step {
            bar.inc(1);
        }
    });
    bar.finish_and_clear();
    let report = report?;
    if !report.left_out.is_empty() {
        let names: Vec<String> = report.left_out.iter().map(|name| printable(name)).collect();
        tracing::warn!("not copied, for the patch does not reach it: {}", names.join(", "));
    }
    if args.json {
        return print(&(serde_json::to_string_pretty(&report)? + "\n"));
    }
    let rounded = match report.inexact.len() {
        0 => String::new(),
        n => format!("not bit for bit: {n} tensors came out rounded, so the model is neither base nor result\n"),
    };
    print(&format!(
        "the {} of {}: {} tensors changed\n{rounded}model: {}\n",
        report.model,
        args.patch.display(),
        report.n_tensors,
        args.out.display()
    ))
}

fn verify(model: &Path, patch: &Path, json: bool) -> anyhow::Result<()> {
    let verdict: Verdict = irepair_patch::verify(model, &Patch::open(patch)?)?;
    if json {
        print(&(serde_json::to_string_pretty(&verdict)? + "\n"))?;
    }
    let side = verdict.side(model)?;
    if json {
        return Ok(());
    }
    print(&format!("{} is the {side} of {}\n", model.display(), patch.display()))
}

/// A patch as `--json` prints it.
#[derive(Serialize)]
struct Summary<'a> {
    patch: &'a Path,
    id: String,
    kind: &'static str,
    base_id: String,
    result_id: String,
    /// Bytes of the stored tensors.
    n_bytes: u64,
    n_tensors: usize,
    changed: Vec<&'a String>,
    provenance: &'a Provenance,
}

fn print_patch(patch: &Patch, json: bool) -> anyhow::Result<()> {
    let manifest = patch.manifest();
    let summary = Summary {
        patch: patch.path(),
        id: patch.id()?,
        kind: manifest.kind.name(),
        base_id: manifest.model_id(Side::Base),
        result_id: manifest.model_id(Side::Result),
        n_bytes: patch.n_bytes(),
        n_tensors: manifest.tensors.len(),
        changed: manifest.changed().map(|(name, _)| name).collect(),
        provenance: &manifest.provenance,
    };
    if json {
        return print(&(serde_json::to_string_pretty(&summary)? + "\n"));
    }
    let mut text = format!(
        "patch: {}\nid: {}\nkind: {}\nbase: {}\nresult: {}\nchanged: {} of {} tensors, {:.1} MiB\n",
        summary.patch.display(),
        summary.id,
        summary.kind,
        summary.base_id,
        summary.result_id,
        summary.changed.len(),
        summary.n_tensors,
        summary.n_bytes as f64 / f64::from(1 << 20)
    );
    for name in summary.changed.iter().take(N_SHOWN) {
        text += &format!("  {}\n", printable(name));
    }
    if summary.changed.len() > N_SHOWN {
        text += &format!("  and {} more\n", summary.changed.len() - N_SHOWN);
    }
    for (key, value) in recorded(summary.provenance) {
        text += &format!("{key}: {}\n", printable(&value));
    }
    print(&text)
}

/// What is recorded of the making of a patch, in words.
fn recorded(p: &Provenance) -> Vec<(&'static str, String)> {
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    let pairs = [
        ("method", p.method.clone()),
        ("policy", p.policy.clone()),
        ("seed", p.seed.map(|seed| seed.to_string())),
        ("blocks", p.blocks.as_ref().map(|blocks| format!("{blocks:?}"))),
        ("settings sha256", p.config_sha256.clone()),
        ("metrics before", json(&p.metrics_before)),
        ("metrics after", json(&p.metrics_after)),
        ("parent", p.parent.clone()),
        ("composed of", p.composed_of.as_ref().map(|ids| ids.join(", "))),
    ];
    pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}
