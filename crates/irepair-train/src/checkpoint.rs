//! Stop anywhere, go on to the same bits: a run's state in one file.

use std::collections::HashMap;
use std::path::Path;

use irepair_core::fs::sha256_hex;
use irepair_model::{read_tensors, write_tensors};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use crate::{Engine, Error, RepairData, Result};

/// Everything of a run that is not a tensor.
#[derive(Serialize, Deserialize)]
struct Book {
    fingerprint: String,
    next_step: u64,
    best_step: Option<u64>,
    best_loss: Option<f64>,
    n_without_improvement: u64,
    optimizer: (u64, Vec<(usize, u64, u64)>),
    localiser: serde_json::Value,
}

impl Engine<'_> {
    /// What a checkpoint must agree with: settings, objective, data and parameter shapes.
    fn fingerprint(&self) -> String {
        let shapes: Vec<_> = self.model.parameters().iter().map(|p| (&p.name, p.tensor.size())).collect();
        let words = format!("{:?} {:?} {shapes:?}", self.settings, self.objective);
        sha256_hex((words + &self.data_hash()).as_bytes())
    }

    /// Hash of every token of the run's data.
    fn data_hash(&self) -> String {
        let RepairData { pairs, validation, utility, validation_utility, pad_id } = self.data;
        let mut bytes = pad_id.to_le_bytes().to_vec();
        let mut add = |tokens: &[u32]| {
            bytes.extend((tokens.len() as u32).to_le_bytes());
            bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
        };
        for pair in pairs.iter().chain(validation) {
            [&pair.prompt, &pair.chosen, &pair.rejected].into_iter().for_each(|t| add(t));
        }
        utility.iter().chain(validation_utility).for_each(|t| add(t));
        sha256_hex(&bytes)
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
        for (index, part, state) in self.optimizer.tensors() {
            tensors.push((format!("{part}/{}", parameters[index].name), state));
        }
        let book = Book {
            fingerprint: self.fingerprint(),
            next_step: self.next_step,
            best_step: self.best.step,
            best_loss: self.best.loss,
            n_without_improvement: self.best.n_without_improvement,
            optimizer: self.optimizer.counters(),
            localiser: self.localiser.memory(),
        };
        // Plain data with string keys always serialises.
        let book = serde_json::to_string(&book).unwrap_or_default();
        Ok(write_tensors(path, &tensors, HashMap::from([("run".to_owned(), book)]))?)
    }

    /// Takes up a run at the state in `path`. The model must hold the weights that the run started from.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when the file belongs to other settings, data or another model, or does not agree with
    /// itself; the run and its model are then what they were.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let (mut tensors, metadata) = read_tensors(path)?;
        let bad = |reason: &str| Error::BadCheckpoint { path: path.to_owned(), reason: reason.to_owned() };
        let book: Book = metadata
            .get("run")
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| bad("it holds no record of a run"))?;
        if book.fingerprint != self.fingerprint() {
            return Err(bad("settings, data or model have changed"));
        }
        // One call of the optimizer a step.
        let n = book.next_step;
        if book.optimizer.0 != n || n > self.settings.n_steps || book.n_without_improvement > n {
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
        let take = |index: usize, part: &'static str| {
            let parameter = parameters.get(index)?;
            let state = tensors.remove(&format!("{part}/{}", parameter.name))?;
            let fits = state.size() == parameter.tensor.size() && state.kind() == Kind::Float;
            fits.then(|| state.to_device(device))
        };
        let optimizer =
            self.optimizer.restored(book.optimizer, take).ok_or_else(|| bad("optimizer state is missing"))?;
        self.localiser.recall(book.localiser)?;

        // Whatever can be refused has been: from here on the run changes.
        self.optimizer = optimizer;
        // The reference keeps the weights the run started from.
        self.keep_before_first_change(kept.iter().map(|(index, ..)| *index));
        for (index, best, now) in kept {
            no_grad(|| self.model.parameters()[index].tensor.detach().copy_(&now));
            self.best.values.insert(index, best);
        }
        (self.best.step, self.best.loss) = (book.best_step, book.best_loss);
        self.best.n_without_improvement = book.n_without_improvement;
        self.next_step = book.next_step;
        Ok(())
    }
}
