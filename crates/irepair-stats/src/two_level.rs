//! Bootstrap over seeds and prompts at once, for figures built from whole tables (METHOD §11, §16).

use ndarray::Array2;
use rand::Rng;

use crate::error::check;
use crate::{Bootstrap, Error, Interval, Result};

/// Scores of methods × models × seeds × prompts.
///
/// Every cell has the same prompts in the same order. Every model of one method has the same number of seeds; methods
/// may differ in it (the vanilla model has one). A figure that has no prompts, such as perplexity, has one per seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Cells(Vec<Vec<Array2<f64>>>);

impl Cells {
    /// Takes `scores[method][model]`, each seeds × prompts.
    ///
    /// # Errors
    /// [`Error::Empty`] when a level is empty, [`Error::Ragged`] naming the first cell that does not line up,
    /// [`Error::NotFinite`] for a NaN or an infinity.
    pub fn new(scores: Vec<Vec<Array2<f64>>>) -> Result<Self> {
        let Some(first) = scores.first().and_then(|models| models.first()) else {
            return Err(Error::Empty { what: TABLE });
        };
        let (n_models, n_prompts) = (scores[0].len(), first.ncols());
        for (method, models) in scores.iter().enumerate() {
            let ragged = |model, what, want, got| Err(Error::Ragged { method, model, what, want, got });
            if models.len() != n_models {
                return ragged(0, "models", n_models, models.len());
            }
            let n_seeds = models[0].nrows();
            for (model, cell) in models.iter().enumerate() {
                if cell.nrows() != n_seeds {
                    return ragged(model, "seeds", n_seeds, cell.nrows());
                }
                if cell.ncols() != n_prompts {
                    return ragged(model, "prompts", n_prompts, cell.ncols());
                }
                check(&cell.iter().copied().collect::<Vec<_>>(), TABLE)?;
            }
        }
        Ok(Self(scores))
    }

    fn n_prompts(&self) -> usize {
        self.0[0][0].ncols()
    }

    fn means(&self, seeds: &[Vec<usize>], prompts: &[usize]) -> CellMeans {
        CellMeans(Array2::from_shape_fn((self.0.len(), self.0[0].len()), |(method, model)| {
            let (cell, seeds) = (&self.0[method][model], &seeds[method]);
            let sum: f64 = seeds.iter().map(|&s| prompts.iter().map(|&p| cell[[s, p]]).sum::<f64>()).sum();
            sum / (seeds.len() * prompts.len()) as f64
        }))
    }
}

const TABLE: &str = "a resampled table";

/// Mean score over (resampled) seeds and prompts, methods × models: a statistic is computed from it.
#[derive(Clone, Debug, PartialEq)]
pub struct CellMeans(Array2<f64>);

impl CellMeans {
    /// Mean of one method on one model.
    pub fn of(&self, method: usize, model: usize) -> f64 {
        self.0[[method, model]]
    }

    /// Mean of one method over models.
    pub fn over_models(&self, method: usize) -> f64 {
        self.0.row(method).iter().sum::<f64>() / self.0.ncols() as f64
    }
}

/// A statistic of a table with its two-level interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TwoLevel {
    /// The statistic on the table as it is; none when it is not defined there.
    pub value: Option<f64>,
    /// Its percentile interval; none when the statistic is undefined in any resample, or with one seed and one prompt.
    pub interval: Option<Interval>,
    /// Resamples in which the statistic is undefined (a zero denominator).
    pub n_undefined: usize,
}

/// Percentile interval of `statistic` by resampling seeds, then prompts.
///
/// Each resample draws, for each method, seeds with replacement (the same draw for all models, because means over
/// models are taken within a seed), then one set of prompts with replacement, shared by all methods, models and seeds,
/// because prompts are paired. `statistic` returns none where it is undefined.
///
/// # Errors
/// [`Error::NoResamples`], [`Error::NotAShare`] for the settings.
///
/// # Source
/// METHOD §16: "H1-H4 get bootstrap intervals by resampling prompts and seeds".
pub fn seeds_and_prompts(
    cells: &Cells,
    bootstrap: &Bootstrap,
    statistic: impl Fn(&CellMeans) -> Option<f64> + Sync,
) -> Result<TwoLevel> {
    let statistic = |means: &CellMeans| statistic(means).filter(|v| v.is_finite());
    let n_seeds: Vec<usize> = cells.0.iter().map(|models| models[0].nrows()).collect();
    let every_seed: Vec<Vec<usize>> = n_seeds.iter().map(|&n| (0..n).collect()).collect();
    let every_prompt: Vec<usize> = (0..cells.n_prompts()).collect();
    let value = statistic(&cells.means(&every_seed, &every_prompt));

    let replicates = bootstrap.replicate(|rng| {
        let mut draw = |n: usize| -> Vec<usize> { (0..n).map(|_| rng.random_range(0..n)).collect() };
        let seeds: Vec<Vec<usize>> = n_seeds.iter().map(|&n| draw(n)).collect();
        let prompts = draw(cells.n_prompts());
        statistic(&cells.means(&seeds, &prompts))
    })?;
    let n_undefined = replicates.iter().filter(|r| r.is_none()).count();
    let can_vary = cells.n_prompts() > 1 || n_seeds.iter().any(|&n| n > 1);
    let interval = match value {
        Some(_) if can_vary && n_undefined == 0 => {
            bootstrap.percentile_interval(replicates.into_iter().flatten().collect())
        }
        _ => None,
    };
    Ok(TwoLevel { value, interval, n_undefined })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn quick() -> Bootstrap {
        Bootstrap { n_resamples: 500, ..Bootstrap::new(1) }
    }

    #[test]
    fn prompts_are_paired_between_methods() {
        // Method 1 is method 0 minus 3 on every prompt, so the difference cannot vary however prompts are drawn.
        let seeds = |n, shift| vec![Array2::from_shape_fn((n, 30), |(_, prompt)| prompt as f64 - shift)];
        let cells = Cells::new(vec![seeds(2, 0.0), seeds(3, 3.0)]).unwrap();
        let d = seeds_and_prompts(&cells, &quick(), |m| Some(m.over_models(0) - m.over_models(1))).unwrap();
        let interval = d.interval.unwrap();
        assert!((interval.low - 3.0).abs() < 1e-9 && (interval.high - 3.0).abs() < 1e-9, "{interval:?}");
    }

    #[test]
    fn seeds_widen_the_interval() {
        let cells = Cells::new(vec![vec![array![[1.0], [2.0], [6.0]]]]).unwrap();
        let mean = seeds_and_prompts(&cells, &quick(), |m| Some(m.of(0, 0))).unwrap();
        assert_eq!(mean.value, Some(3.0));
        assert!(mean.interval.unwrap().low < 2.0 && mean.interval.unwrap().high > 4.0);
    }

    #[test]
    fn an_undefined_statistic_has_no_interval_and_is_counted() {
        let cells = Cells::new(vec![vec![array![[0.0], [1.0]]]]).unwrap();
        let inverse = |m: &CellMeans| (m.of(0, 0) > 0.0).then(|| 1.0 / m.of(0, 0));
        let r = seeds_and_prompts(&cells, &quick(), inverse).unwrap();
        assert_eq!((r.value, r.interval), (Some(2.0), None));
        assert!(r.n_undefined > 50 && r.n_undefined < 250, "{}", r.n_undefined);
    }

    #[test]
    fn one_seed_and_one_prompt_give_no_interval() {
        let cells = Cells::new(vec![vec![array![[5.0]]]]).unwrap();
        let r = seeds_and_prompts(&cells, &quick(), |m| Some(m.of(0, 0))).unwrap();
        assert_eq!(r, TwoLevel { value: Some(5.0), interval: None, n_undefined: 0 });
    }

    #[test]
    fn cells_of_another_size_are_named() {
        let error = Cells::new(vec![vec![array![[1.0, 2.0]]], vec![array![[1.0]]]]).unwrap_err();
        assert_eq!(error, Error::Ragged { method: 1, model: 0, what: "prompts", want: 2, got: 1 });
        assert!(Cells::new(vec![]).is_err());
        assert!(Cells::new(vec![vec![array![[f64::NAN]]]]).is_err());
        assert!(Cells::new(vec![vec![array![[1.0]]], vec![Array2::zeros((0, 1))]]).is_err());
    }
}
