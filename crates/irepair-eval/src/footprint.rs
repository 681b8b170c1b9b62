//! The change footprint: which weights a repair moved, and how far.

use irepair_core::BlockSlice;
use irepair_model::{BlockModel, Parameter};
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

use crate::Result;
use crate::kl::same;

/// Weights compared at once: the float copies of a chunk are small compared with the model.
const CHUNK: i64 = 1 << 22;

/// How one group of parameters changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// Weights in the group.
    pub n_weights: usize,
    /// Weights whose bits changed.
    pub n_changed: usize,
    /// Bytes of the tensors in which a weight changed, in the types of the model's files: what a patch of whole tensors
    /// stores.
    pub changed_bytes: usize,
    /// `‖θ − θ0‖ / ‖θ0‖`; 0 when nothing changed. Not finite when a weight is not, or when `θ0` was all zero.
    pub relative_change: f64,
}

/// How a model differs from its reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Footprint {
    /// By block, from the embedding up.
    pub by_block: Vec<Change>,
    /// Embeddings, final norm, untied head and soft prefix, which belong to no block.
    pub non_block: Change,
    /// Names of the tensors of no block in which a weight changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_non_block: Vec<String>,
}

impl Footprint {
    /// Blocks in which a weight changed.
    pub fn changed_blocks(&self) -> BlockSlice {
        BlockSlice::from_indices((0..self.by_block.len()).filter(|&b| self.by_block[b].n_changed > 0))
    }

    /// Weights whose bits changed, embeddings included.
    pub fn n_changed(&self) -> usize {
        self.groups().map(|c| c.n_changed).sum()
    }

    /// Bytes of the tensors in which a weight changed.
    pub fn changed_bytes(&self) -> usize {
        self.groups().map(|c| c.changed_bytes).sum()
    }

    /// Relative weight change of every block.
    pub fn weight_change(&self) -> Vec<f64> {
        self.by_block.iter().map(|c| c.relative_change).collect()
    }

    fn groups(&self) -> impl Iterator<Item = &Change> {
        self.by_block.iter().chain([&self.non_block])
    }
}

/// Compares every weight of `model` with that of `reference`.
///
/// Changed means other bits. A soft prefix that the model alone has is as many weights that were 0. Norms are
/// sums in float64 over float32 differences.
///
/// # Errors
/// [`crate::Error::ModelsDiffer`] when the two differ in a parameter's name, shape, type or device.
///
/// # Source
/// METHOD §10: change footprint.
pub fn footprint(reference: &dyn BlockModel, model: &dyn BlockModel) -> Result<Footprint> {
    same_parameters(reference, model)?;
    let mut sums = vec![Sums::default(); model.n_blocks() + 1];
    let mut changed_non_block = Vec::new();
    for (i, after) in model.parameters().iter().enumerate() {
        let group = after.block.map_or(model.n_blocks(), |b| b.0);
        // A soft prefix that the model alone has was nothing before.
        let before = reference.parameters().get(i).map(|before| before.tensor.shallow_clone());
        let before = before.unwrap_or_else(|| after.tensor.zeros_like());
        let n_changed = no_grad(|| sums[group].add(&before, &after.tensor, model.n_stored_bytes(i)));
        if n_changed > 0 && after.block.is_none() {
            changed_non_block.push(after.name.clone());
        }
    }
    let mut changes: Vec<Change> = sums.into_iter().map(Sums::change).collect();
    let non_block = changes.pop().unwrap_or_default();
    Ok(Footprint { by_block: changes, non_block, changed_non_block })
}

/// Running sums over one group.
#[derive(Clone, Copy, Default)]
struct Sums {
    change: Change,
    square_of_change: f64,
    square_of_base: f64,
}

impl Sums {
    /// Adds a tensor; the number of its weights that changed.
    fn add(&mut self, before: &Tensor, after: &Tensor, n_bytes: usize) -> usize {
        let (before, after) = (before.reshape([-1]), after.reshape([-1]));
        let n = after.size()[0];
        let mut n_changed = 0;
        for start in (0..n).step_by(CHUNK as usize) {
            let chunk = |t: &Tensor| t.narrow(0, start, CHUNK.min(n - start));
            let (before, after) = (chunk(&before), chunk(&after));
            n_changed += bits(&before).ne_tensor(&bits(&after)).sum(Kind::Int64).int64_value(&[]) as usize;
            let float = |t: &Tensor| t.to_kind(Kind::Float);
            self.square_of_change += square_sum(&(float(&after) - float(&before)));
            self.square_of_base += square_sum(&float(&before));
        }
        self.change.n_weights += n as usize;
        self.change.n_changed += n_changed;
        if n_changed > 0 {
            self.change.changed_bytes += n as usize * n_bytes;
        }
        n_changed
    }

    fn change(self) -> Change {
        let Self { change, square_of_change, square_of_base } = self;
        // -0 for 0 is another weight at no distance.
        let relative_change = if square_of_change == 0.0 { 0.0 } else { (square_of_change / square_of_base).sqrt() };
        Change { relative_change, ..change }
    }
}

/// The bits as whole numbers: unlike floats they compare equal exactly when they are the same.
fn bits(tensor: &Tensor) -> Tensor {
    tensor.view_dtype(match tensor.kind().elt_size_in_bytes() {
        2 => Kind::Int16,
        8 => Kind::Int64,
        _ => Kind::Int,
    })
}

fn square_sum(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[])
}

fn same_parameters(reference: &dyn BlockModel, model: &dyn BlockModel) -> Result<()> {
    let (before, after) = (reference.parameters(), model.parameters());
    let n_added = usize::from(reference.n_soft_prefix() == 0 && model.n_soft_prefix() > 0);
    same("number of tensors", (before.len() + n_added).to_string(), after.len().to_string())?;
    for (before, after) in before.iter().zip(after) {
        same("tensor names", before.name.clone(), after.name.clone())?;
        let form = |p: &Parameter| format!("{:?} {:?} {:?}", p.tensor.size(), p.tensor.kind(), p.tensor.device());
        same(&format!("tensor `{}`", after.name), form(before), form(after))?;
    }
    Ok(())
}
