//! `irepair data`: cuts the data files of a profile from its source files.

use std::path::{Path, PathBuf};

use irepair_config::{Cut, Profile, from_toml, stored};
use irepair_data::{Selection, cut};

use crate::progress;

/// Runs the command.
pub(crate) fn command(profile: &Path, data: &Path, out: &Path, skip: &[String]) -> anyhow::Result<()> {
    let profile: Profile = from_toml(profile)?;
    let kept = profile.data.iter().filter(|file| !skip.contains(&file.file));
    let cuts: Vec<_> = kept.filter_map(|file| Some((file, file.cut.as_ref()?))).collect();
    let bar = progress::bar("data", cuts.len() as u64);
    for (file, how) in cuts {
        let sources: Vec<PathBuf> = how.from.iter().map(|name| stored(data, name)).collect();
        if file.optional && sources.iter().any(|source| !source.is_file()) {
            continue;
        }
        let n = cut(&sources, &out.join(&file.file), &selection(how)?)?;
        tracing::info!("{}: {n} records of {}", file.file, how.from.join(", "));
        bar.inc(1);
    }
    Ok(())
}

fn selection(how: &Cut) -> anyhow::Result<Selection> {
    let only = how.only.iter().map(|(field, value)| Ok((field.clone(), serde_json::to_value(value)?)));
    Ok(Selection {
        only: only.collect::<anyhow::Result<_>>()?,
        shuffle: how.shuffle,
        skip: how.skip,
        take: how.take,
        fields: how.fields.iter().map(|(name, field)| (name.clone(), field.clone())).collect(),
    })
}
