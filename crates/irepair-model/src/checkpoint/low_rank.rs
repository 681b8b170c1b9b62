//! A repair of low rank out, as the Python package `peft` stores adapters of projections (LoRA).

use std::path::Path;

use irepair_core::printable;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use safetensors::Dtype;
use serde_json::json;
use tch::{Kind, Tensor, no_grad};

use super::Source;
use super::adapter::save_adapter;
use crate::{BlockModel, CausalLm, Error, Parameter, Result, normal};

/// Columns drawn beyond the rank to find the space that a change maps to.
const MORE: i64 = 8;
const SEED: u64 = 0x6164_6170;

/// What an adapter holds.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Projections that it changes.
    pub n_modules: usize,
    /// Weights in it.
    pub n_weights: usize,
    /// Largest difference of a weight of the sum of base and adapter from the repaired one.
    pub largest_difference: f64,
}

/// Writes the difference of two models as an adapter of rank `rank` of the first: `adapter_model.safetensors`, then
/// `adapter_config.json`, which names the directory that `base` was loaded from.
///
/// The change of every projection is split by its singular values: `D = U S V = (U sqrt(S)) (sqrt(S) V)`. With the
/// rank of the repair (`--lora-rank`) nothing but the rounding of the stored weights is left over.
///
/// # Errors
/// [`Error::NotLowRank`] for models that differ in shape, in anything but projections of blocks, or by more than the
/// rounding of the stored weights once `rank` directions are taken out; [`Error::RankTooLarge`] for a rank that no
/// projection can have; file errors.
///
/// # Source
/// `save_and_load.py` and `tuners/lora/config.py` of peft: `lora_A` is `[rank, inputs]`, `lora_B` `[outputs, rank]`,
/// the change is `lora_alpha / r` times their product, here with `lora_alpha = r`.
pub fn save_low_rank(base: &CausalLm, repaired: &CausalLm, rank: usize, dir: &Path) -> Result<LowRank> {
    let (inputs_first, prefix) = (base.stores_inputs_first(), base.config().family.prefix);
    if base.parameters().len() != repaired.parameters().len() {
        return Err(refused(place(repaired), "the models have other parameters"));
    }
    // Beyond it there are only zeros, of which a large rank has many.
    let projections = base.parameters().iter().filter(|p| p.block.is_some() && p.tensor.dim() == 2);
    let most = projections.filter_map(|p| p.tensor.size().into_iter().min()).max().unwrap_or(0) as usize;
    if rank > most {
        return Err(Error::RankTooLarge { most, got: rank });
    }
    let mut tensors = Vec::new();
    let mut modules = Vec::new();
    let mut found = LowRank { n_modules: 0, n_weights: 0, largest_difference: 0.0 };
    for (index, (before, after)) in base.parameters().iter().zip(repaired.parameters()).enumerate() {
        let Some(change) = change(before, after, repaired)? else { continue };
        let [left, right] = no_grad(|| split(&change, rank as i64))?;
        let difference = (&change - left.matmul(&right)).abs().max().double_value(&[]);
        let largest = after.tensor.detach().abs().max().double_value(&[]);
        if difference.is_nan() || difference > largest * step(repaired.stored_dtype(index)) {
            let why = format!("its change is not of rank {rank}: {difference:.1e} of up to {:.1e} are left over", {
                change.abs().max().double_value(&[])
            });
            return Err(refused(tensor_of(repaired, after), why));
        }
        // Of a projection that is stored with its inputs first, the first factor is the one of the inputs.
        let (a, b) = if inputs_first { (left.tr(), right.tr()) } else { (right, left) };
        let module = format!("{prefix}{}", before.name.trim_end_matches(".weight"));
        for (factor, name) in [(a, "lora_A"), (b, "lora_B")] {
            let factor = factor.to_kind(Kind::Float).contiguous();
            found.n_weights += factor.numel();
            tensors.push((format!("base_model.model.{module}.{name}.weight"), factor));
        }
        found.n_modules += 1;
        found.largest_difference = found.largest_difference.max(difference);
        modules.push(module);
    }
    if modules.is_empty() {
        return Err(refused(place(repaired), "the models do not differ"));
    }
    let of_base = match &base.source {
        Source::Directory { dir, .. } => Some(dir.display().to_string()),
        Source::None => None,
    };
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": of_base,
        "inference_mode": true,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": inputs_first,
        "target_modules": modules,
    });
    let tensors: Vec<(String, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    save_adapter(dir, &tensors, &config)?;
    Ok(found)
}

fn refused(place: String, why: impl Into<String>) -> Error {
    Error::NotLowRank { place, why: why.into() }
}

/// Where a model comes from.
fn place(model: &CausalLm) -> String {
    match &model.source {
        Source::Directory { dir, .. } => dir.display().to_string(),
        Source::None => "the repaired model".to_owned(),
    }
}

fn tensor_of(model: &CausalLm, parameter: &Parameter) -> String {
    format!("{}, tensor `{}`", place(model), printable(&parameter.name))
}

/// How a projection of `repaired` changed, in float64; none when it did not.
fn change(before: &Parameter, after: &Parameter, repaired: &CausalLm) -> Result<Option<Tensor>> {
    if before.name != after.name || before.tensor.size() != after.tensor.size() {
        return Err(refused(tensor_of(repaired, after), "the models have other parameters"));
    }
    let [before_values, after_values] = [before, after].map(|p| p.tensor.detach().to_kind(Kind::Double));
    if before_values.f_equal(&after_values)? {
        return Ok(None);
    }
    if before.block.is_none() || before.tensor.dim() != 2 {
        return Err(refused(tensor_of(repaired, after), "it changed and is no projection of a block"));
    }
    Ok(Some(after_values - before_values))
}

/// Two factors of `rank`, filled with zeros where the matrix is narrower: their product is as near to `change`,
/// `[rows, columns]`, as one of that rank comes, up to the error of finding its space by random columns.
fn split(change: &Tensor, rank: i64) -> Result<[Tensor; 2]> {
    let (rows, columns) = change.size2()?;
    let n = (rank + MORE).min(rows).min(columns);
    let drawn = normal(&mut ChaCha8Rng::seed_from_u64(SEED), &[columns, n], 1.0).to_kind(Kind::Double);
    let space = |columns: &Tensor| Ok::<_, Error>(Tensor::f_linalg_qr(columns, "reduced")?.0);
    // One more pass through the matrix takes away what random columns have of its smaller directions.
    let rough = space(&change.matmul(&drawn.to_device(change.device())))?;
    let space = space(&change.matmul(&change.tr().matmul(&rough)))?;
    let (u, s, v) = space.tr().matmul(change).f_svd(true, true)?;
    let kept = rank.min(n);
    let root = s.narrow(0, 0, kept).sqrt();
    let left = space.matmul(&u.narrow(1, 0, kept)) * &root;
    let right = (v.narrow(1, 0, kept) * &root).tr();
    Ok([left.constant_pad_nd([0, rank - kept]), right.constant_pad_nd([0, 0, 0, rank - kept])])
}

/// Relative distance of neighbouring numbers of a type.
fn step(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2f64.powi(-10),
        Dtype::BF16 => 2f64.powi(-7),
        _ => 2f64.powi(-23),
    }
}

impl CausalLm {
    /// Type that the files of the model store parameter `index` in.
    fn stored_dtype(&self, index: usize) -> Dtype {
        let Source::Directory { shards, .. } = &self.source else { return Dtype::F32 };
        let mut stored = shards.iter().flat_map(|shard| &shard.tensors);
        stored.find(|stored| stored.parameter == Some(index)).map_or(Dtype::F32, |stored| stored.dtype)
    }
}
