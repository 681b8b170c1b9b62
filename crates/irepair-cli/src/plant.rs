//! `irepair plant`: a model with a known fault in chosen units. Only `train-in` computes with libtorch.

use std::path::Path;

use irepair_arch::Architecture;
use irepair_config::{PlantPlan, TRAIN_IN_UPDATES};
use irepair_core::fs::{is_stream, sha256_file};
use irepair_core::weights::CONFIG;
use irepair_core::{Checkpoint, printable, refuse_used};
use irepair_fault::{Error, FAULT_FILE, Fault, Faults, plant};
use serde::Serialize;

use crate::error::CliError;
use crate::output::{print, print_json};
use crate::{progress, train_in};

/// The output of `--json`.
#[derive(Serialize)]
struct Planted<'a> {
    model: &'a Path,
    #[serde(flatten)]
    fault: &'a Fault,
    /// Tensors that the fault changes, by name.
    tensors: Vec<&'a str>,
    n_faults: usize,
}

/// The SHA-256 of the pairs, which are read again for their text.
fn hash_of(pairs: &Path) -> anyhow::Result<String> {
    if is_stream(pairs) {
        return Err(CliError::ReadTwice { path: pairs.to_owned() }.into());
    }
    Ok(sha256_file(pairs)?)
}

/// Runs the command.
pub(crate) fn command(plan: &PlantPlan) -> anyhow::Result<()> {
    refuse_used(&plan.out, &irepair_patch::maker_of_copy(&plan.model, [FAULT_FILE]))?;
    let model = Checkpoint::open(&plan.model)?;
    let architecture = Architecture::read(&plan.model.join(CONFIG))?;
    let strength = plan.strength.or_else(|| plan.operator.trains().then_some(TRAIN_IN_UPDATES));
    let fault = Fault::new(plan.units.clone(), plan.operator, strength, plan.seed);
    let data = plan.data.as_deref().map(hash_of).transpose()?;
    let fault = Fault { data, ..fault };
    let changed = match &plan.data {
        Some(pairs) => train_in::changed(plan, pairs, &fault)?,
        None => plant(&model, &architecture, &fault)?,
    };
    if changed.is_empty() {
        return Err(Error::NoEffect { operator: fault.operator, units: fault.units.to_string() }.into());
    }
    let [base, id] = irepair_patch::changed_ids(&model, &changed)?;
    let before = plan.model.join(FAULT_FILE);
    let mut faults = if before.exists() { Faults::read(&before)? } else { Faults::new(Vec::new()) };
    faults.check_model(&before, &base)?;
    faults.check_again(&fault)?;
    let fault = Fault { base: Some(base), ..fault };
    faults.faults.push(fault.clone());
    faults.check_new(&id)?;
    faults.model = Some(id);
    let truth = faults.to_toml()?;
    let bar = progress::bar("plant", changed.len() as u64);
    let on_step = &mut |step: irepair_patch::Step<'_>| {
        if let irepair_patch::Step::Changed { .. } = step {
            bar.inc(1);
        }
    };
    let written = irepair_patch::write_changed(&model, &changed, &[(FAULT_FILE, &truth)], &plan.out, on_step);
    bar.finish_and_clear();
    let left_out = written?;
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(|name| printable(name)).collect();
        tracing::warn!("not copied: {}", names.join(", "));
    }
    let tensors: Vec<&str> = changed.keys().map(String::as_str).collect();
    let n_faults = faults.faults.len();
    if plan.json {
        return print_json(&Planted { model: &plan.out, fault: &fault, tensors, n_faults });
    }
    let strength = fault.strength.map_or_else(String::new, |strength| format!(" of strength {strength}"));
    let names: Vec<String> = tensors.iter().map(|name| printable(name)).collect();
    print(&format!(
        "planted: {}{strength} in {}\nfaults in the model: {n_faults}\ntensors changed: {}\nwritten to: {}\n",
        fault.operator,
        fault.units,
        names.join(" "),
        plan.out.display()
    ))
}
