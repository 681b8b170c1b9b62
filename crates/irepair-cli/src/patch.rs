//! `irepair patch`: makes, applies, reverts, checks, composes and shows patch files. No weights are loaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use irepair_arch::Architecture;
use irepair_core::fs::{read_to_string, sha256_file};
use irepair_core::printable;
use irepair_core::weights::CONFIG;
use irepair_patch::{Kind, Lossy, Patch, Provenance, Rewritten, Side, Verdict, model_id};

use crate::locate;
use crate::output::{print, print_json};
use crate::progress;

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
    /// Check whether a model is the base of a patch or its result; exit code 5 for neither.
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
    /// Print the contents of a patch.
    Show {
        /// The patch.
        #[arg(long, value_name = "FILE")]
        patch: PathBuf,
        /// Print JSON, with every changed tensor.
        #[arg(long)]
        json: bool,
    },
}

impl Action {
    /// The places that hold a model.
    fn models(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Create(args) => vec![&mut args.base, &mut args.repaired],
            Self::Apply { base, .. } => vec![base],
            Self::Revert { model, base, .. } => std::iter::once(model).chain(base).collect(),
            Self::Verify { model, .. } => vec![model],
            Self::Compose { base, .. } => base.iter_mut().collect(),
            Self::Show { .. } => Vec::new(),
        }
    }
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
    /// How changes are stored: replace, xor or delta (METHOD §14).
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
    /// Write a patch of kind delta that does not give the bits of the repaired model back, but rounded ones.
    #[arg(long)]
    allow_lossy: bool,
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
    /// Write the model even where a patch of kind delta does not give the recorded bits.
    #[arg(long)]
    allow_lossy: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn command(mut action: Action) -> anyhow::Result<()> {
    locate::models(action.models())?;
    match action {
        Action::Create(args) => {
            let patch = irepair_patch::create(&args.base, &args.repaired, args.kind, provenance(&args)?, &args.out)?;
            // What its own `apply` would refuse is not kept.
            if args.kind == Kind::Delta
                && !args.allow_lossy
                && let Err(error) = irepair_patch::check_apply(&args.base, &patch)
            {
                irepair_core::fs::remove(&args.out)?;
                return Err(error.into());
            }
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

/// The provenance that the flags give.
fn provenance(args: &CreateArgs) -> anyhow::Result<Provenance> {
    let json = |path: &Option<PathBuf>| -> anyhow::Result<Option<serde_json::Value>> {
        let Some(path) = path else { return Ok(None) };
        let not_json = |e| irepair_core::Error::unreadable(path, format!("not JSON: {e}"));
        Ok(Some(serde_json::from_str(&read_to_string(path)?).map_err(not_json)?))
    };
    let n_blocks = Architecture::read(&args.base.join(CONFIG)).ok().map(|model| model.n_block);
    let largest = args.blocks.iter().flatten().max();
    if let Some((n, block)) = n_blocks.zip(largest).filter(|(n, block)| *block >= n) {
        let want = format!("blocks 0 to {}", n.saturating_sub(1));
        return Err(irepair_core::Error::NoSuchUnit { unit: block.to_string(), want }.into());
    }
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
        units: None,
        metrics_before: json(&args.metrics_before)?,
        metrics_after: json(&args.metrics_after)?,
        parent: parent.map(|parent| parent.id()).transpose()?,
        composed_of: None,
    })
}

/// Applies or reverts, with a progress bar, and prints the outcome.
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
        tracing::warn!("not copied, because the patch does not cover it: {}", names.join(", "));
    }
    if args.json {
        return print_json(&report);
    }
    let rounded = match report.inexact.len() {
        0 => String::new(),
        n => format!("not exact: {n} tensors were rounded, so the model is neither the base nor the result\n"),
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
        print_json(&verdict)?;
    }
    let side = verdict.side(model)?;
    if json {
        return Ok(());
    }
    print(&format!("{} is the {side} of {}\n", model.display(), patch.display()))
}

/// Prints the contents of a patch.
fn print_patch(patch: &Patch, json: bool) -> anyhow::Result<()> {
    let manifest = patch.manifest();
    let (id, kind) = (patch.id()?, manifest.kind.name());
    let [base, result] = [Side::Base, Side::Result].map(|side| manifest.model_id(side));
    let changed: Vec<&String> = manifest.changed().map(|(name, _)| name).collect();
    let (n_tensors, n_weights, n_bytes) = (manifest.tensors.len(), manifest.n_weights(), patch.n_bytes());
    let recorded = serde_json::to_value(&manifest.provenance)?;
    if json {
        return print_json(&serde_json::json!({
            "patch": patch.path(), "id": id, "kind": kind, "base_id": base, "result_id": result, "n_bytes": n_bytes,
            "n_weights": n_weights, "n_tensors": n_tensors, "changed": changed, "provenance": recorded,
        }));
    }
    let mut text = format!(
        "patch: {}\nid: {id}\nkind: {kind}\nbase: {base}\nresult: {result}\nchanged: {} of {n_tensors} tensors, {n_weights} weights, {:.1} MiB\n",
        patch.path().display(),
        changed.len(),
        n_bytes as f64 / f64::from(1 << 20)
    );
    let held = |name: &&String| match &manifest.tensors[*name].rows {
        Some(rows) => {
            format!("  {}, {} {}\n", printable(name), rows.n(), if rows.dim == 0 { "rows" } else { "columns" })
        }
        None => format!("  {}\n", printable(name)),
    };
    text.extend(changed.iter().take(N_SHOWN).map(held));
    if changed.len() > N_SHOWN {
        text += &format!("  and {} more\n", changed.len() - N_SHOWN);
    }
    for (key, value) in recorded.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text += &format!("{}: {}\n", key.replace('_', " "), printable(&value));
    }
    print(&text)
}
