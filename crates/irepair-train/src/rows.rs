//! The rows of parameters that a step updates, where its slice is of units below the block (METHOD §23).

use std::collections::BTreeMap;

use irepair_core::Scope;
use irepair_model::{BlockModel, Gradients, UnitMap};
use tch::{Device, Tensor, no_grad};

use crate::{Error, Result};

/// Rows or columns of a parameter.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The dimension that they are counted along.
    dim: i64,
    /// How many the parameter has.
    n_all: usize,
    /// Those that are meant, in order.
    numbers: Vec<usize>,
    /// The same, `[n]` int64 on the device.
    index: Tensor,
}

impl Rows {
    /// Rows `numbers` of the `n_all` along `dim`.
    pub(crate) fn new(dim: usize, n_all: usize, numbers: Vec<usize>, device: Device) -> Self {
        let index: Vec<i64> = numbers.iter().map(|&row| row as i64).collect();
        Self { dim: dim as i64, n_all, numbers, index: Tensor::from_slice(&index).to_device(device) }
    }

    /// Other rows of the same parameter.
    pub(crate) fn some(&self, numbers: Vec<usize>) -> Self {
        Self::new(self.dim as usize, self.n_all, numbers, self.index.device())
    }

    /// How many rows the parameter has.
    pub(crate) fn n_all(&self) -> usize {
        self.n_all
    }

    /// The rows that are meant, in order.
    pub(crate) fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// These rows of a tensor shaped as the parameter, in memory of their own.
    pub(crate) fn take(&self, tensor: &Tensor) -> Tensor {
        tensor.index_select(self.dim, &self.index)
    }

    /// Writes `rows` to where [`Rows::take`] took them from, and nowhere else.
    pub(crate) fn put(&self, tensor: &Tensor, rows: &Tensor) {
        let _ = tensor.shallow_clone().index_copy_(self.dim, &self.index, rows);
    }

    /// One number for each row, float32, shaped so that it multiplies what [`Rows::take`] gave.
    pub(crate) fn each(&self, taken: &Tensor, number: impl Fn(usize) -> f64) -> Tensor {
        let numbers: Vec<f32> = self.numbers.iter().map(|&row| number(row) as f32).collect();
        let mut shape = vec![1; taken.dim()];
        shape[self.dim as usize] = -1;
        Tensor::from_slice(&numbers).view(shape.as_slice()).to_device(taken.device())
    }
}

/// What a step updates of each parameter, by index: these rows, or, where units cut no parameter, all of it.
#[derive(Debug)]
pub(crate) struct SliceRows(BTreeMap<usize, Option<Rows>>);

impl SliceRows {
    /// The rows of a scope; none where it is of whole parameters: every one, or those of some blocks.
    ///
    /// # Errors
    /// [`Error::NoUnits`] for a model that knows none; [`Error::MixedUnits`]; a unit that the model lacks.
    pub(crate) fn of(model: &dyn BlockModel, scope: &Scope) -> Result<Option<Self>> {
        let Scope::Units(units) = scope else { return Ok(None) };
        let map: UnitMap = model.unit_map().ok_or(Error::NoUnits)?;
        let kind = units.kind().ok_or_else(|| Error::MixedUnits { got: units.to_string() })?;
        let mut numbers: BTreeMap<usize, (usize, Vec<usize>)> = BTreeMap::new();
        for rows in map.slice(units.iter())? {
            numbers.entry(rows.parameter).or_insert_with(|| (rows.dim, Vec::new())).1.extend(rows.range);
        }
        let of = |(parameter, (dim, numbers)): (usize, (usize, Vec<usize>))| {
            let n_all = map.parameters()[parameter].shape[dim];
            let rows = || Rows::new(dim, n_all, numbers, model.device());
            // Blocks and halves are whole parameters at every step. Heads and neurons may be all of one at this step
            // alone: their rows are counted apart.
            (parameter, (!kind.row().covers_blocks).then(rows))
        };
        Ok(Some(Self(numbers.into_iter().map(of).collect())))
    }

    /// Rows of one parameter.
    #[cfg(test)]
    pub(crate) fn one(parameter: usize, rows: Rows) -> Self {
        Self(BTreeMap::from([(parameter, Some(rows))]))
    }

    /// Marks the parameters with such rows as requiring gradients and all others as constants.
    pub(crate) fn train_only(&self, model: &dyn BlockModel) {
        for (index, parameter) in model.parameters().iter().enumerate() {
            let _ = parameter.tensor.set_requires_grad(self.0.contains_key(&index));
        }
    }

    /// Leaves these rows alone of every gradient: what follows sees no other.
    pub(crate) fn cut(&self, gradients: Gradients) -> Gradients {
        let cut = |(index, gradient): (usize, Tensor)| match self.rows(index) {
            Some(rows) => (index, no_grad(|| rows.take(&gradient))),
            None => (index, gradient),
        };
        gradients.into_iter().map(cut).collect()
    }

    /// The rows of a parameter; none where all of it is updated.
    pub(crate) fn rows(&self, parameter: usize) -> Option<&Rows> {
        self.0.get(&parameter).and_then(Option::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn rows_are_taken_and_put_back_and_nothing_else_moves() {
        let tensor = || Tensor::arange(12, (Kind::Float, Device::Cpu)).view([3, 4]);
        let values = |t: &Tensor| Vec::<f32>::try_from(t.contiguous().view(-1)).unwrap();
        let columns = Rows::new(1, 4, vec![0, 3], Device::Cpu);
        let (changed, taken) = (tensor(), columns.take(&tensor()));
        assert_eq!((values(&taken), columns.n_all()), (vec![0.0, 3.0, 4.0, 7.0, 8.0, 11.0], 4));
        columns.put(&changed, &(&taken * -1.0));
        assert_eq!(values(&changed), [0.0, 1.0, 2.0, -3.0, -4.0, 5.0, 6.0, -7.0, -8.0, 9.0, 10.0, -11.0]);
        let each = columns.each(&taken, |row| row as f64 + 1.0);
        assert_eq!(values(&(&taken * each)), [0.0, 12.0, 4.0, 28.0, 8.0, 44.0]);
        let rows = Rows::new(0, 3, vec![1], Device::Cpu);
        assert_eq!(values(&rows.take(&tensor())), [4.0, 5.0, 6.0, 7.0]);
    }
}
