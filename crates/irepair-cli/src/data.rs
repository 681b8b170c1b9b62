//! `irepair data`: cuts the data files of a profile from its source files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use irepair_config::{Cut, PartName, Profile, from_toml, stored};
use irepair_core::mark_finished;
use irepair_data::{Part, Selection, cut};

use crate::error::CliError;
use crate::progress;
use crate::run_dir::claim;

/// What the mark of an unfinished directory says.
const MAKER: &str = "irepair data";

/// Runs the command.
pub(crate) fn command(profile: &Path, data: &[PathBuf], out: &Path, skip: &[String]) -> anyhow::Result<()> {
    let profile: Profile = from_toml(profile)?;
    let kept = profile.data.iter().filter(|file| !skip.contains(&file.file));
    let cuts: Vec<_> = kept.filter_map(|file| Some((file, file.cut.as_ref()?))).collect();
    let names: Vec<&String> = profile.data.iter().map(|file| &file.file).collect();
    if let Some(unknown) = skip.iter().find(|name| !names.contains(name)) {
        return Err(CliError::NotInProfile { file: unknown.clone() }.into());
    }
    if cuts.is_empty() {
        let (what, want) = ("the profile".to_owned(), "a file of its data with `cut`".to_owned());
        return Err(CliError::Missing { what, want }.into());
    }
    let _held = claim(out, MAKER)?;
    let bar = progress::bar("data", cuts.len() as u64);
    let mut written = BTreeSet::new();
    for (file, how) in cuts {
        let sources: Vec<PathBuf> = how.from.iter().map(|name| stored(data, name)).collect();
        let is_missing = file.optional && sources.iter().any(|source| !source.is_file());
        if is_missing || !written.insert(&file.file) {
            continue;
        }
        let n = cut(&sources, &out.join(&file.file), &selection(how)?)?;
        tracing::info!("{}: {n} records of {}", file.file, how.from.join(", "));
        bar.inc(1);
    }
    Ok(mark_finished(out)?)
}

fn selection(how: &Cut) -> anyhow::Result<Selection> {
    let only = how.only.iter().map(|(field, value)| Ok((field.clone(), serde_json::to_value(value)?)));
    let part = |keep| match keep {
        PartName::Repair => Part::Repair,
        PartName::Valid => Part::Valid,
        PartName::Test => Part::Test,
    };
    Ok(Selection {
        only: only.collect::<anyhow::Result<_>>()?,
        words: how.words,
        part: how.part.as_ref().map(|of| (part(of.keep), of.valid_share, of.test_share)),
        distinct: how.distinct,
        shuffle: how.shuffle,
        skip: how.skip,
        take: how.take,
        fields: how.fields.iter().map(|(name, field)| (name.clone(), field.clone())).collect(),
        documents: how.documents,
    })
}
