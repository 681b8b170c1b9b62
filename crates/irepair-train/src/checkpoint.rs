//! The state of a run in one file, to stop anywhere and resume with the same bits.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use irepair_core::tensor_file::TensorFile;
use irepair_model::{BlockModel, Parameter, read_tensors, write_tensors};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::{Engine, Error, Identity, Localise, Result};

/// Everything of a run that is not a tensor.
#[derive(Serialize, Deserialize)]
struct RunState {
    identity: Identity,
    /// Device and threads. They decide the last bits of sums, and may still change: a run can move to another machine.
    computed_on: String,
    next_step: u64,
    best_step: Option<u64>,
    best_loss: Option<f64>,
    n_without_improvement: u64,
    #[serde(default)]
    best_kl: Option<f64>,
    #[serde(default)]
    is_over_budget: bool,
    optimizer: (u64, Vec<(usize, u64, u64)>),
    /// How many rows each of these is of; none where they are of whole parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    optimizer_rows: Vec<usize>,
    localiser: serde_json::Value,
}

/// Pairs of a micro-batch and micro-batches of a step of the run whose state is in `path`, where that can be read: a
/// division that was chosen by the memory there was, and that the run keeps.
pub fn division_of_state(path: &Path) -> Option<[usize; 2]> {
    let file = TensorFile::open(path).ok()?;
    let state: RunState = serde_json::from_str(file.metadata.get("run")?).ok()?;
    let setting = |key: &str| state.identity.value(&format!("setting `{key}`"))?.parse().ok();
    Some([setting("batch_size")?, setting("accumulation")?])
}

impl<M: Deref<Target: BlockModel + Sized>, L: DerefMut<Target: Localise>> Engine<M, L> {
    fn computed_on(&self) -> String {
        format!("{:?} with {} threads", self.model.device(), tch::get_num_threads())
    }

    /// What the optimizer works on: the parameters, or the factors of their adapters.
    fn optimized(&self) -> &[Parameter] {
        self.lora.as_ref().map_or_else(|| self.model.parameters(), |lora| &lora.factors)
    }

    /// Writes the state of the run to `path`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when a weight is not finite: the file then stays what it was. File errors.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check_weights()?;
        let parameters = self.model.parameters();
        let mut tensors: Vec<(String, &Tensor)> = Vec::new();
        for (&index, value) in &self.best.values {
            let parameter = &parameters[index];
            tensors.push((format!("best/{}", parameter.name), value));
            tensors.push((format!("now/{}", parameter.name), &parameter.tensor));
        }
        let optimized = self.optimized();
        for (index, part, tensor) in self.optimizer.tensors() {
            tensors.push((format!("{part}/{}", optimized[index].name), tensor));
        }
        if self.lora.is_some() {
            let updated = self.optimizer.updated().map(|index| &optimized[index]);
            tensors.extend(updated.map(|factor| (format!("factor/{}", factor.name), &factor.tensor)));
        }
        let state = RunState {
            identity: self.identity.clone(),
            computed_on: self.computed_on(),
            next_step: self.next_step,
            best_step: self.best.step,
            best_loss: self.best.loss,
            n_without_improvement: self.best.n_without_improvement,
            best_kl: self.best.kl,
            is_over_budget: self.best.is_over_budget,
            optimizer: self.optimizer.counters(),
            optimizer_rows: self.optimizer.row_counters(),
            localiser: self.localiser.state(),
        };
        // Plain data with string keys always serialises.
        let state = serde_json::to_string(&state).unwrap_or_default();
        Ok(write_tensors(path, &tensors, HashMap::from([("run".to_owned(), state)]))?)
    }

    /// Takes up a run at the state in `path`. The model must hold the weights that the run started from.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when the file belongs to a run of another [`Identity`], naming every part that changed,
    /// or does not agree with itself; the run and its model are then what they were.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let (mut tensors, metadata) = read_tensors(path)?;
        let bad = |reason: &str| Error::BadCheckpoint { path: path.to_owned(), reason: reason.to_owned() };
        let text = metadata.get("run").map(String::as_str).unwrap_or_default();
        let state: RunState = serde_json::from_str(text).map_err(|_| match text.contains("\"fingerprint\"") {
            true => bad("an older irepair wrote it, without the hashes that say which run it belongs to"),
            false => bad("it holds no record of a run"),
        })?;
        let changes = self.identity.changes_since(&state.identity);
        if !changes.is_empty() {
            return Err(bad(&format!("changed since it was written: {changes}")));
        }
        let now = self.computed_on();
        if state.computed_on != now {
            tracing::warn!(
                "the run began on {}, now {now}: its numbers may differ in their last digits",
                state.computed_on
            );
        }
        // One call of the optimizer a step.
        let n = state.next_step;
        if state.optimizer.0 != n || n > self.settings.n_steps || state.n_without_improvement > n {
            return Err(bad("its counters are wrong"));
        }
        let device = self.model.device();
        let parameters = self.model.parameters();
        let mut kept = Vec::new();
        for (index, parameter) in parameters.iter().enumerate() {
            if let Some(best) = tensors.remove(&format!("best/{}", parameter.name)) {
                let now =
                    tensors.remove(&format!("now/{}", parameter.name)).ok_or_else(|| bad("a tensor is missing"))?;
                if now.size() != parameter.tensor.size() || best.size() != now.size() {
                    return Err(bad("a tensor has another shape"));
                }
                if now.kind() != parameter.tensor.kind() || best.kind() != now.kind() {
                    return Err(bad("a tensor has another type"));
                }
                kept.push((index, best.to_device(device), now));
            }
        }
        let optimized = self.optimized();
        let mut take = |index: usize, part: &'static str| {
            let parameter = optimized.get(index)?;
            let state = tensors.remove(&format!("{part}/{}", parameter.name))?;
            let fits = state.size() == parameter.tensor.size() && state.kind() == Kind::Float;
            fits.then(|| state.to_device(device))
        };
        let optimizer = self.optimizer.restored(state.optimizer, &state.optimizer_rows, &mut take);
        let optimizer = optimizer.ok_or_else(|| bad("optimizer state is missing or wrong"))?;
        let mut factors = Vec::new();
        if self.lora.is_some() {
            for index in optimizer.updated() {
                factors.push((index, take(index, "factor").ok_or_else(|| bad("an adapter is missing"))?));
            }
        }
        self.localiser.load_state(state.localiser)?;

        // Whatever can be refused has been: from here on the run changes.
        self.optimizer = optimizer;
        // The reference keeps the weights the run started from.
        self.snapshot_before_first_update(kept.iter().map(|(index, ..)| *index));
        if let Some(lora) = &mut self.lora {
            kept.iter().for_each(|(index, ..)| lora.keep_start(self.model.parameters(), *index));
            for (index, factor) in factors {
                no_grad(|| lora.factors[index].tensor.copy_(&factor));
            }
        }
        for (index, best, now) in kept {
            no_grad(|| self.model.parameters()[index].tensor.detach().copy_(&now));
            self.best.values.insert(index, best);
        }
        (self.best.step, self.best.loss, self.best.kl) = (state.best_step, state.best_loss, state.best_kl);
        self.best.is_over_budget = state.is_over_budget;
        self.best.n_without_improvement = state.n_without_improvement;
        self.next_step = state.next_step;
        Ok(())
    }
}
