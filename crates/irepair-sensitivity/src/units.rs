//! Sensitivities of units (METHOD §23): the sums that a block's sensitivity is made of, taken row by row of every
//! tensor, so that all units of a kind come out of one pass.

use std::collections::BTreeMap;
use std::ops::Range;

use irepair_core::Unit;
use irepair_core::spec::{Metric, UnitKind};
use irepair_model::{BlockModel, Fisher, Rows, TextBatch, UnitMap, host};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor, no_grad};

use crate::gradient::{error_gradients, weights};
use crate::metric::{Measure, Route, given, quotient};
use crate::reduce::MeanGradient;
use crate::top_share::Members;
use crate::{Error, Result, Texts, ghost, mask};

/// One value per unit of a kind, in the order of [`UnitMap::units`]: finite, at least 0.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitSensitivities {
    kind: UnitKind,
    units: Vec<Unit>,
    values: Vec<f64>,
}

impl UnitSensitivities {
    fn new(kind: UnitKind, units: Vec<Unit>, values: Vec<f64>) -> Result<Self> {
        match values.iter().position(|v| !v.is_finite() || *v < 0.0) {
            Some(i) => Err(Error::BadUnit { unit: units[i], value: values[i] }),
            None => Ok(Self { kind, units, values }),
        }
    }

    /// The kind of the units.
    pub fn kind(&self) -> UnitKind {
        self.kind
    }

    /// Each unit and its value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Unit, f64)> + '_ {
        self.units.iter().copied().zip(self.values.iter().copied())
    }

    /// Values by unit.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The mean over batches of each unit's value (`mean_of_norm`).
    ///
    /// # Errors
    /// When there is no batch.
    pub fn mean(batches: &[Self]) -> Result<Self> {
        let first = batches.first().ok_or(Error::Missing { metric: "mean_of_norm", what: "at least one batch" })?;
        let mean = |i: usize| batches.iter().map(|s| s.values[i]).sum::<f64>() / batches.len() as f64;
        Ok(Self { values: (0..first.values.len()).map(mean).collect(), ..first.clone() })
    }
}

/// How the parameters of a model are cut into the units of a kind.
pub(crate) struct Cut {
    pub(crate) map: UnitMap,
    kind: UnitKind,
    units: Vec<Unit>,
    n_weights: Vec<u64>,
    /// By parameter: the dimension that units cut, and the rows or columns of each unit, by its place.
    rows: BTreeMap<usize, (usize, Vec<UnitRows>)>,
}

/// Rows or columns of a parameter, and the place of the unit that they are of.
type UnitRows = (Range<usize>, usize);

/// Sums along a dimension of some parameters, by index; still on the device.
pub(crate) type RowSums = Vec<(usize, Tensor)>;

impl Cut {
    /// # Errors
    /// [`Error::NoUnits`] for a model that does not know the units.
    pub(crate) fn new(model: &dyn BlockModel, kind: UnitKind) -> Result<Self> {
        let map = model.unit_map().ok_or(Error::NoUnits { kind })?;
        let units: Vec<Unit> = map.units(kind).collect();
        let (mut n_weights, mut rows) = (Vec::new(), BTreeMap::new());
        for (i, unit) in units.iter().enumerate() {
            let slice = map.slice([*unit])?;
            n_weights.push(map.n_weights(&slice));
            for Rows { parameter, dim, range } in slice {
                rows.entry(parameter).or_insert_with(|| (dim, Vec::new())).1.push((range, i));
            }
        }
        Ok(Self { map, kind, units, n_weights, rows })
    }

    /// The dimension along which units cut a parameter; none where no unit has a part of it.
    pub(crate) fn dim(&self, parameter: usize) -> Option<usize> {
        self.rows.get(&parameter).map(|(dim, _)| *dim)
    }

    /// Of each parameter given by index, the sums of `of` along the dimension that units cut, in float32.
    fn sums<'a>(
        &self,
        indexed: impl IntoIterator<Item = (usize, &'a Tensor)>,
        of: impl Fn(usize, &Tensor) -> Tensor,
    ) -> RowSums {
        let sum = |(parameter, tensor): (usize, &Tensor)| {
            let dim = self.dim(parameter)?;
            let entries = no_grad(|| of(parameter, &tensor.detach().to_kind(Kind::Float)));
            let others: Vec<i64> = (0..entries.dim() as i64).filter(|d| *d != dim as i64).collect();
            let sum = if others.is_empty() {
                entries
            } else {
                entries.sum_dim_intlist(others.as_slice(), false, Kind::Float)
            };
            Some((parameter, sum))
        };
        indexed.into_iter().filter_map(sum).collect()
    }

    /// The sums per unit, for each element of `all`. The host waits for the device once.
    fn by_unit(&self, all: &[RowSums]) -> Result<Vec<Vec<f64>>> {
        let vectors: Vec<Tensor> = all.iter().flatten().map(|(_, vector)| vector.shallow_clone()).collect();
        let mut values = host::vectors(&vectors)?.into_iter();
        let read = |sums: &RowSums| {
            let mut by_unit = vec![0.0; self.units.len()];
            for ((parameter, _), values) in sums.iter().zip(&mut values) {
                for (range, unit) in self.rows.get(parameter).map_or(&[][..], |(_, rows)| rows) {
                    by_unit[*unit] += values[range.clone()].iter().sum::<f64>();
                }
            }
            by_unit
        };
        Ok(all.iter().map(read).collect())
    }

    /// Squared gradients.
    fn squares(&self, gradients: &[(usize, Tensor)]) -> RowSums {
        self.sums(by_index(gradients), |_, g| g.square())
    }

    /// `|w g|` per unit.
    fn snip(&self, weights: &[&Tensor], gradients: &[(usize, Tensor)]) -> Result<Vec<f64>> {
        let products = self.sums(by_index(gradients), |i, g| (weights[i].detach() * g).abs());
        Ok(self.by_unit(&[products])?.remove(0))
    }

    /// A metric of gradient norms at the mean of `n_batches`, as `metric::of_squares` has it for blocks.
    fn of_squares(
        &self,
        metric: Metric,
        weights: &[&Tensor],
        rejected: RowSums,
        neutral: RowSums,
        n_batches: usize,
    ) -> Result<Vec<f64>> {
        let compared = match metric {
            Metric::Relative => self.sums(weights.iter().copied().enumerate(), |_, w| w.square()),
            _ => neutral,
        };
        let mut read = self.by_unit(&[rejected, compared])?.into_iter();
        let (rejected, compared) = (read.next().unwrap_or_default(), read.next().unwrap_or_default());
        let mean = |square: f64| square.sqrt() / n_batches as f64;
        let value = |(i, square): (usize, f64)| match metric {
            Metric::Density => quotient(mean(square), (self.n_weights[i] as f64).sqrt()),
            Metric::Relative => quotient(mean(square), compared[i].sqrt()),
            Metric::Contrast => mean(square) / (mean(compared[i]) + 1e-12),
            _ => mean(square),
        };
        Ok(rejected.into_iter().enumerate().map(value).collect())
    }

    fn efficiency(&self, fisher: &Fisher, gradients: &[(usize, Tensor)]) -> Result<Vec<f64>> {
        let sums = self.sums(by_index(gradients), |i, g| g.square() / fisher.damped(i));
        Ok(self.by_unit(&[sums])?.remove(0).into_iter().map(f64::sqrt).collect())
    }

    fn fisher(&self, model: &dyn BlockModel, texts: &[&TextBatch]) -> Result<Vec<f64>> {
        let mut by_text = Vec::new();
        for text in texts {
            for row in 0..text.dims().0 {
                by_text.push(self.squares(&error_gradients(model, &[&text.row(row as usize)])?));
            }
        }
        let mut sums = vec![0.0; self.units.len()];
        for squares in self.by_unit(&by_text)? {
            sums.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
        }
        Ok(sums.into_iter().map(|sum| sum / by_text.len() as f64).collect())
    }

    /// The share of each unit's scored weights that belong; NaN where a score is not finite.
    fn shares(&self, members: &Members) -> Result<Vec<f64>> {
        let mut shares =
            self.by_unit(&[self.sums(by_index(&members.masks), |_, mask| mask.shallow_clone())])?.remove(0);
        let mut n_scored = vec![0; shares.len()];
        for (parameter, mask) in &members.masks {
            let Some((dim, rows)) = self.rows.get(parameter) else { continue };
            let n_each = mask.numel() / mask.size()[*dim].max(1) as usize;
            for (range, unit) in rows {
                n_scored[*unit] += range.len() * n_each;
                if members.broken.contains(parameter) {
                    shares[*unit] = f64::NAN;
                }
            }
        }
        Ok(shares.into_iter().zip(n_scored).map(|(n, scored)| n / scored.max(1) as f64).collect())
    }

    fn named(self, values: Vec<f64>) -> Result<UnitSensitivities> {
        UnitSensitivities::new(self.kind, self.units, values)
    }
}

fn by_index(gradients: &[(usize, Tensor)]) -> impl Iterator<Item = (usize, &Tensor)> {
    gradients.iter().map(|(index, gradient)| (*index, gradient))
}

impl Measure {
    /// One value per unit of `kind`, from the passes that [`Measure::of`] makes and no other. The value of a head or a
    /// neuron is that of the weights that it has alone (METHOD §23), under `mask` that of what it writes.
    ///
    /// # Errors
    /// As [`Measure::of`]; [`Error::NoUnits`]; [`Error::BlocksAlone`] for a metric of block outputs.
    ///
    /// # Source
    /// METHOD §3, §23 [O].
    pub fn of_units(&self, model: &dyn BlockModel, texts: &Texts<'_>, kind: UnitKind) -> Result<UnitSensitivities> {
        let given = |texts, what| given(self.metric, texts, what);
        let rejected = given(texts.rejected, "rejected text")?;
        let _flags = irepair_model::GradFlags::of(model);
        let (cut, weights) = (Cut::new(model, kind)?, weights(model));
        let values = match self.metric {
            Metric::GradL2 | Metric::Density | Metric::Relative | Metric::Contrast => {
                let neutral = match self.metric {
                    Metric::Contrast => self.rows(model, given(texts.neutral, "neutral text")?, &cut)?,
                    _ => RowSums::new(),
                };
                cut.of_squares(self.metric, &weights, self.rows(model, rejected, &cut)?, neutral, 1)?
            }
            Metric::Snip => cut.snip(&weights, &self.gradients(model, rejected)?)?,
            Metric::Fisher => cut.fisher(model, rejected)?,
            Metric::Efficiency => {
                let missing =
                    Error::Missing { metric: self.metric.name(), what: "a Fisher matrix, made of neutral text" };
                cut.efficiency(self.fisher.as_ref().ok_or(missing)?, &self.gradients(model, rejected)?)?
            }
            Metric::SnipDiff | Metric::WandaDiff => cut.shares(&self.left(model, texts)?)?,
            Metric::Mask => mask::closed(model, rejected, given(texts.chosen, "chosen text")?, kind)?,
            Metric::ActDist | Metric::Atp | Metric::EapIg | Metric::Patching if kind == UnitKind::Block => {
                self.of(model, texts)?.values().to_vec()
            }
            Metric::ActDist | Metric::Atp | Metric::EapIg | Metric::Patching => {
                return Err(Error::BlocksAlone { metric: self.metric.name() });
            }
            Metric::Random => {
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
                cut.units.iter().map(|_| rng.random()).collect()
            }
        };
        cut.named(values)
    }

    /// Squared gradients, by rows.
    fn rows(&self, model: &dyn BlockModel, texts: &[&TextBatch], cut: &Cut) -> Result<RowSums> {
        if let (Route::Ghost, [text]) = (self.route, texts)
            && let Some(rows) = ghost::rows(model, text, cut)?
        {
            return Ok(rows);
        }
        Ok(cut.squares(&self.gradients(model, texts)?))
    }
}

impl MeanGradient {
    /// The metric per unit of `kind` at the mean so far, as [`MeanGradient::sensitivities`] gives it per block.
    ///
    /// # Errors
    /// When nothing was added, or a value is not finite; [`Error::NoUnits`].
    pub fn of_units(&self, model: &dyn BlockModel, kind: UnitKind) -> Result<UnitSensitivities> {
        let (metric, n_batches) = self.counted()?;
        let (cut, weights) = (Cut::new(model, kind)?, weights(model));
        let values = match metric {
            Metric::Snip => cut.snip(&weights, self.rejected())?.into_iter().map(|s| s / n_batches as f64).collect(),
            Metric::SnipDiff => cut.shares(&self.left(&weights)?)?,
            metric => {
                let (rejected, neutral) = (cut.squares(self.rejected()), cut.squares(self.neutral()));
                cut.of_squares(metric, &weights, rejected, neutral, n_batches)?
            }
        };
        cut.named(values)
    }
}
