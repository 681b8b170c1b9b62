//! `train-in`, the operator of `irepair plant` that trains: the engine of every repair, on rejected text, and on the
//! faulty units alone (METHOD §13).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use irepair_config::{Dtype, PlantPlan, TRAIN_IN_RATE, UnitKind};
use irepair_core::spec::{Side, Term};
use irepair_core::{Scope, UnitList};
use irepair_data::{Counts, Limits, RecordFile, Sides, TokenPair, Tokenizer, read_token_pairs};
use irepair_fault::Fault;
use irepair_model::{BlockModel, UnitMap};
use irepair_train::{
    Engine, Identity, Localise, OptimizerKind, RepairData, Result as TrainResult, Settings, StepBatch,
};

use crate::model_dir::{ModelDir, use_threads};
use crate::prepare::say_forms;
use crate::{notes, progress};

/// Pairs of an update.
const BATCH: usize = 4;

/// The faulty units, at every step.
struct Faulty(Scope);

impl Faulty {
    fn new(units: &UnitList) -> Self {
        Self(match units.kind() {
            Some(UnitKind::Block) => Scope::Blocks(units.iter().map(|unit| unit.block).collect()),
            _ => Scope::Units(units.clone()),
        })
    }
}

impl Localise for Faulty {
    fn localise(&mut self, _model: &dyn BlockModel, _batch: &StepBatch, _step: u64) -> TrainResult<Scope> {
        Ok(self.0.clone())
    }

    fn identity(&self) -> Identity {
        Identity::default().with("the policy", "the faulty units")
    }
}

/// The tensors of the model that `fault` changes, by stored name, with all of their new bytes.
pub(crate) fn changed(plan: &PlantPlan, pairs: &Path, fault: &Fault) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    fault.check()?;
    use_threads(plan.threads);
    let dir = ModelDir::read(&plan.model)?;
    let map = UnitMap::new(&dir.config);
    fault.units.iter().try_for_each(|unit| map.check(unit))?;
    let pairs = read(pairs, &dir.tokenizer)?;
    let opened = dir.open(&plan.device, Dtype::F32)?;
    let data = Arc::new(RepairData { pairs, pad_id: opened.tokenizer.eos_id(), ..RepairData::default() });
    // A few updates have no warm-up, and without one RMSprop's first are ten times the learning rate.
    let settings = Settings {
        n_steps: fault.strength.unwrap_or_default() as u64,
        batch_size: BATCH,
        lr: TRAIN_IN_RATE,
        optimizer: OptimizerKind::adamw(0.0),
        warmup_steps: 0,
        seed: fault.seed,
        ..Settings::default()
    };
    let bar = progress::bar("train in", settings.n_steps);
    let faulty = Box::new(Faulty::new(&fault.units));
    let mut engine = Engine::new(&opened.model, Term::SequenceNll(Side::Rejected), faulty, &data, settings)?;
    while engine.unfinished() {
        let record = engine.step()?;
        bar.set_position(record.step + 1);
        bar.set_message(format!("loss {:.3}", record.loss));
    }
    engine.finish()?;
    Ok(opened.model.changed_tensors()?)
}

/// The pairs as token ids, by their rejected side alone.
fn read(path: &Path, tokenizer: &Tokenizer) -> anyhow::Result<Vec<TokenPair>> {
    let file = RecordFile { path, columns: &Default::default() };
    let records = file.pairs(Some(tokenizer), Sides::Rejected)?;
    let unread = notes::of_unread(path, records.unread_texts());
    let (pairs, counts) = read_token_pairs(records, tokenizer, Limits::default())?;
    say_forms(&counts, false);
    // No chosen text is learned here: whether it ends does not matter.
    let ended = Counts { n_chosen_ended: 1, ..counts };
    let of_pairs = notes::of_pairs(path, &ended, Sides::Rejected, false)?;
    unread.iter().chain(&of_pairs).for_each(|note| tracing::warn!("{note}"));
    Ok(pairs)
}
