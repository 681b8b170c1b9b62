//! `irepair language`: writes the generated language of a profile.

use std::path::Path;

use irepair_config::{Profile, from_toml};
use irepair_core::mark_finished;
use irepair_data::{Planted, Sizes};

use crate::error::CliError;
use crate::run_dir::claim;

/// What the mark of an unfinished directory says.
const MAKER: &str = "irepair language";

/// Runs the command.
pub(crate) fn command(profile: &Path, out: &Path) -> anyhow::Result<()> {
    let profile: Profile = from_toml(profile)?;
    let Some(language) = profile.language else {
        return Err(CliError::Missing { what: "the profile".to_owned(), want: "a [language] table".to_owned() }.into());
    };
    let sizes = Sizes {
        train_docs: language.train_docs,
        pairs: language.pairs,
        error_test: language.error_test,
        error_valid: language.error_valid,
        clean_test: language.clean_test,
        general_test: language.general_test,
        general_valid: language.general_valid,
        cloze_test: language.last_word_test,
        cloze_valid: language.last_word_valid,
    };
    let _held = claim(out, MAKER)?;
    Planted::generate(language.seed, &sizes)?.write(out)?;
    Ok(mark_finished(out)?)
}
