//! What the steps of a run updated: blocks, and where units below the block were chosen, these and their weights.

use std::collections::{BTreeMap, BTreeSet};

use irepair_core::{BlockSlice, StepRecord, Unit, UnitList};
use irepair_model::UnitMap;
use serde::Serialize;

/// Units in a table; JSON has all of them.
const N_SHOWN: usize = 20;

/// Times each block was updated, or a part of it.
pub(crate) fn selection(records: &[StepRecord], n_blocks: usize) -> Vec<u64> {
    let mut counts = vec![0; n_blocks];
    records.iter().flat_map(|r| r.slice.iter()).for_each(|block| counts[block.0] += 1);
    counts
}

/// Blocks that were ever updated, or a part of them.
pub(crate) fn blocks(records: &[StepRecord]) -> BlockSlice {
    records.iter().flat_map(|r| r.slice.iter()).collect()
}

/// The units that a run updated.
#[derive(Serialize)]
pub(crate) struct UnitsUpdated {
    /// Times each unit was updated.
    times: BTreeMap<Unit, u64>,
    /// Rows and columns of stored tensors that were ever updated.
    n_rows: u64,
    /// Weights in them.
    n_weights: u64,
}

impl UnitsUpdated {
    /// The units of the steps; none where whole blocks, or all parameters, were updated.
    pub(crate) fn of(records: &[StepRecord], map: Option<&UnitMap>) -> Option<Self> {
        let slices: Vec<&UnitList> = records.iter().filter_map(|record| record.units.as_ref()).collect();
        let map = map.filter(|_| !slices.is_empty())?;
        let mut times = BTreeMap::new();
        slices.iter().flat_map(|units| units.iter()).for_each(|unit| *times.entry(unit).or_default() += 1);
        // Rows that heads share are updated in the steps that update all of those heads.
        let different: BTreeSet<Vec<Unit>> = slices.iter().map(|units| units.iter().collect()).collect();
        let mut updated: BTreeMap<(usize, usize), BTreeSet<usize>> = BTreeMap::new();
        for rows in different.into_iter().flat_map(|units| map.slice(units).unwrap_or_default()) {
            updated.entry((rows.parameter, rows.dim)).or_default().extend(rows.range);
        }
        let of_row = |(parameter, dim): &(usize, usize)| {
            let parameter = &map.parameters()[*parameter];
            parameter.n_weights() / parameter.shape[*dim] as u64
        };
        Some(Self {
            times,
            n_rows: updated.values().map(|rows| rows.len() as u64).sum(),
            n_weights: updated.iter().map(|(place, rows)| rows.len() as u64 * of_row(place)).sum(),
        })
    }

    /// The units, as settings write them.
    pub(crate) fn list(&self) -> UnitList {
        self.times.keys().copied().collect()
    }

    /// Those that were updated most often, and how much that is of the model.
    pub(crate) fn table(&self) -> String {
        let mut all: Vec<(&Unit, &u64)> = self.times.iter().collect();
        all.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let shown = all.iter().take(N_SHOWN).map(|(unit, n)| format!("{unit}: {n}")).collect::<Vec<_>>().join("  ");
        let more = if all.len() > N_SHOWN { format!("  and {} more", all.len() - N_SHOWN) } else { String::new() };
        format!(
            "units updated (unit: times): {shown}{more}\nrows and columns updated: {}, {} weights\n",
            self.n_rows, self.n_weights
        )
    }
}

#[cfg(test)]
mod tests {
    use irepair_model::Architecture;

    use super::*;

    #[test]
    fn rows_that_heads_share_count_when_a_step_updates_all_of_them() {
        let shape = irepair_model::Shape::new("llama", [2, 16, 4], 8, 7);
        let llama: Architecture =
            irepair_model::Shape { n_kv_head: Some(2), n_inner: Some(6), ..shape }.architecture().unwrap();
        let record = |units: &str| StepRecord {
            step: 0,
            loss: 0.0,
            nll: None,
            kl: None,
            grad_norm: 0.0,
            lr: 0.0,
            slice: BlockSlice::from_indices([0]),
            units: units.parse().ok(),
            tokens: 0,
            seconds: 0.0,
            validation_loss_before: None,
            validation_loss: None,
            spike: false,
        };
        let map = UnitMap::new(&llama);
        let of = |slices: &[&str]| {
            let records: Vec<StepRecord> = slices.iter().map(|units| record(units)).collect();
            let found = UnitsUpdated::of(&records, Some(&map)).unwrap();
            (found.n_rows, found.n_weights, found.list().to_string())
        };
        // A head has four rows of queries and four columns of the output, each of 16 weights.
        assert_eq!(of(&["0.head.0"]), (8, 128, "0.head.0".to_owned()));
        assert_eq!(of(&["0.head.0", "0.head.1", "0.head.0"]), (16, 256, "0.head.0,0.head.1".to_owned()));
        // Both heads of a group at once bring its keys and values.
        assert_eq!(of(&["0.head.0-1", "0.head.0"]), (24, 384, "0.head.0,0.head.1".to_owned()));
        let blocks_alone = StepRecord { units: None, ..record("0") };
        assert!(UnitsUpdated::of(&[blocks_alone], Some(&map)).is_none());
    }
}
