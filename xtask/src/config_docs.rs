//! `cargo xtask config-docs`: writes docs/CONFIG.md from the doc comments of the settings, and the crates' READMEs.

use std::fmt::Write as _;

use anyhow::Result;
use clap::{Args, Command, ValueEnum};
use irepair_config::{
    CheckOptions, EvalOptions, FigureKey, FixOptions, GenerateOptions, GradeOptions, PairsOptions, PlantOptions,
    PretrainOptions, RelearnOptions, RepairOptions, ScoreOptions, ScorerApplyOptions, ScorerEvalOptions,
    ScorerTrainOptions, SensitivityOptions, TableKey,
};
use irepair_core::spec::{Against, Entry, Evidence, Method, Metric, Policy};

use crate::{paths, readme};

const HEAD: &str = "\
# Settings

Written by `cargo xtask config-docs` from the doc comments in `crates/irepair-config` and the tables in
`crates/irepair-core/src/spec`; a test keeps it true.

Every flag is a key of the TOML read with `--config`: `--top-k` is `top_k`. The command line wins over the file. Unknown
keys, wrong types, values out of range and clashes are errors, all reported at once. Tags such as [D] are METHOD's: [D]
documented, [F] found in the authors' code, [L] from Lee et al. 2024, [S] standard, [O] our choice.
";

/// Files whose structs are the tables of experiments/.
const FILES: [(&str, &str); 8] = [
    ("profile.toml", include_str!("../../crates/irepair-config/src/profile.rs")),
    ("profile.toml", include_str!("../../crates/irepair-config/src/protocol.rs")),
    ("profile.toml", include_str!("../../crates/irepair-config/src/base_model.rs")),
    ("profile.toml", include_str!("../../crates/irepair-config/src/data_file.rs")),
    ("profile.toml", include_str!("../../crates/irepair-arch/src/shape.rs")),
    ("a row's file", include_str!("../../crates/irepair-config/src/experiment.rs")),
    ("data/<source>.toml", include_str!("../../crates/irepair-config/src/source.rs")),
    ("paper/paper.toml", include_str!("../../crates/irepair-config/src/paper.rs")),
];

/// Writes the page, and each library's README.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn run() -> Result<()> {
    irepair_core::fs::write_atomic(&paths::root().join("docs/CONFIG.md"), page().as_bytes())
        .map_err(crate::error::diagnostic)?;
    readme::write_all()
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    section::<RepairOptions>(&mut page, "repair");
    section::<EvalOptions>(&mut page, "eval");
    section::<SensitivityOptions>(&mut page, "sensitivity");
    section::<GenerateOptions>(&mut page, "generate");
    section::<ScoreOptions>(&mut page, "score");
    section::<PretrainOptions>(&mut page, "pretrain");
    section::<FixOptions>(&mut page, "fix");
    section::<PairsOptions>(&mut page, "pairs");
    section::<CheckOptions>(&mut page, "check");
    section::<PlantOptions>(&mut page, "plant");
    section::<GradeOptions>(&mut page, "grade");
    section::<RelearnOptions>(&mut page, "relearn");
    section::<ScorerTrainOptions>(&mut page, "scorer train");
    section::<ScorerEvalOptions>(&mut page, "scorer eval");
    section::<ScorerApplyOptions>(&mut page, "scorer apply");
    tables(&mut page);
    page.push_str("\n## Files under experiments/\n");
    for (file, source) in FILES {
        for (title, keys) in structs(source).into_iter().filter(|(title, _)| !title.is_empty()) {
            let _infallible =
                write!(page, "\n{} (in {file})\n\n| key | meaning |\n|---|---|\n", title.trim_end_matches('.'));
            for (key, meaning) in keys {
                let _infallible = writeln!(page, "| `{key}` | {} |", cell(&meaning));
            }
        }
    }
    places::<TableKey>(&mut page, "Tables", "tables");
    places::<FigureKey>(&mut page, "Figures", "figures");
    page
}

/// Values of a key of a row's file.
fn places<T: ValueEnum>(page: &mut String, title: &str, key: &str) {
    let _infallible = write!(page, "\n{title} (`{key}` of a row's file)\n\n| name | what it shows |\n|---|---|\n");
    for value in T::value_variants().iter().filter_map(ValueEnum::to_possible_value) {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        let _infallible = writeln!(page, "| `{}` | {}. |", value.get_name(), cell(&help));
    }
}

/// One table: the settings of a command.
fn section<T: Args>(page: &mut String, name: &'static str) {
    let _infallible = write!(page, "\n## irepair {name}\n\n| key | value | meaning |\n|---|---|---|\n");
    for arg in T::augment_args(Command::new(name)).get_arguments() {
        let words = arg.get_possible_values();
        let is_flag = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
        let value = match arg.get_value_names() {
            _ if is_flag => "`true`, `false`".to_owned(),
            _ if !words.is_empty() => {
                words.iter().map(|word| format!("`{}`", word.get_name())).collect::<Vec<_>>().join(", ")
            }
            names => names.unwrap_or_default().join(" "),
        };
        let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let full_stop = if help.ends_with('.') { "" } else { "." };
        let _infallible = writeln!(page, "| `{}` | {value} | {}{full_stop} |", arg.get_id(), cell(&help));
    }
}

/// Values of `method`, `policy` and `sensitivity`.
fn tables(page: &mut String) {
    page.push_str("\n## Methods\n\n| method | loss | policy | lr | what |\n|---|---|---|---|---|\n");
    for method in Method::ALL {
        let (row, loss, what) = (method.row(), method.formula(), cell(&method.doc()));
        let loss = if method.trains() { format!("`{loss}`") } else { "none".into() };
        let lr = if method.has_rate() { format!("{:e}", row.lr) } else { String::new() };
        let _infallible = writeln!(page, "| `{method}` | {loss} | `{}` | {lr} | {what} |", row.policy);
    }
    page.push_str("\n## Policies\n\n| policy | reads | what |\n|---|---|---|\n");
    for policy in Policy::ALL {
        let reads: Vec<String> = policy.row().reads.iter().map(|number| format!("`{number}`")).collect();
        let _infallible = writeln!(page, "| `{policy}` | {} | {} |", reads.join(", "), cell(&policy.doc()));
    }
    page.push_str("\n## Sensitivities\n\n| sensitivity | computed from | compared with | passes | what |\n|---|---|---|---|---|\n");
    for metric in Metric::ALL {
        let evidence = match metric.row().evidence {
            Evidence::GradientNorms => "gradient norms",
            Evidence::StoredGradients => "stored gradients",
            Evidence::GradientsAndFisher => "stored gradients, Fisher matrix",
            Evidence::Activations => "block outputs",
            Evidence::LayerInputs => "layer inputs",
            Evidence::Gates => "gates",
            Evidence::Nothing => "nothing",
        };
        let against = match metric.row().against {
            Against::Nothing => "",
            Against::Chosen => "chosen text",
            Against::Neutral => "neutral text",
        };
        let (passes, what) = (metric.row().passes, cell(&metric.doc()));
        let _infallible = writeln!(page, "| `{metric}` | {evidence} | {against} | {passes} | {what} |");
    }
}

/// Text that fits into a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Doc comment and public fields, with theirs, of every struct of a source file.
fn structs(source: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut doc = String::new();
    for line in source.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]") {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if line.starts_with("pub struct ") && line.ends_with('{') {
            found.push((std::mem::take(&mut doc).trim().to_owned(), Vec::new()));
        } else if let Some((key, _)) =
            line.strip_prefix("pub ").and_then(|field| field.split_once(": ")).filter(|(key, _)| !key.contains(' '))
        {
            if let (Some((_, keys)), false) = (found.last_mut(), doc.is_empty()) {
                keys.push((key.to_owned(), std::mem::take(&mut doc).trim().to_owned()));
            }
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    found.retain(|(_, keys)| !keys.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_doc_comments_say() {
        let written = std::fs::read_to_string(paths::root().join("docs/CONFIG.md")).unwrap_or_default();
        assert!(written == page(), "docs/CONFIG.md is out of date: run `cargo xtask config-docs`");
    }

    #[test]
    fn structs_are_read_with_their_fields() {
        let source =
            "/// A thing.\n#[derive(Debug)]\npub struct A {\n    /// One\n    /// and more.\n    pub one: u32,\n}\n";
        assert_eq!(structs(source), [("A thing.".to_owned(), vec![("one".to_owned(), "One and more.".to_owned())])]);
    }
}
