//! Logistic regression on sparse binary rows with weighted columns, fitted by L-BFGS.
//!
//! The crates at hand do not fit: linfa and smartcore want dense matrices (10^5 texts times 10^6 buckets), `liblinear`
//! wraps a C++ library of 2019 and has had no release since. So the loss and its gradient are written here, and the
//! minimiser is argmin's. One thread and sums in the order of the rows: the same rows give the same bits.

use std::cell::RefCell;

use argmin::core::{CostFunction, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;

use crate::{Error, Result};

/// Sparse rows, one after another.
pub(crate) struct Rows {
    /// Column and value.
    entries: Vec<(u32, f32)>,
    /// Row `i` is `starts[i]..starts[i + 1]`.
    starts: Vec<usize>,
}

impl Rows {
    /// No rows.
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), starts: vec![0] }
    }

    /// Appends a row of (column, value).
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        self.entries.extend(row);
        self.starts.push(self.entries.len());
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn row(&self, i: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.entries[self.starts[i]..self.starts[i + 1]].iter().map(|&(c, v)| (c as usize, f64::from(v)))
    }
}

/// A fitted model.
#[derive(Clone, Debug)]
pub(crate) struct Fitted {
    pub(crate) weights: Vec<f64>,
    pub(crate) bias: f64,
    pub(crate) n_iterations: u64,
}

/// Minimises `mean_i log(1 + exp(-y_i (w x_i + b))) + |w|^2 / (2 c n)`, y in {-1, 1}: scikit-learn's
/// `LogisticRegression` with `C = c`, divided by `c n`. The bias is not penalised.
///
/// # Errors
/// [`Error::Fit`] when the minimiser stops with an error.
pub(crate) fn fit(rows: &Rows, toxic: &[bool], n_columns: usize, c: f64, max_iterations: u64) -> Result<Fitted> {
    let failed = |why: argmin::core::Error| Error::Fit { why: why.to_string() };
    let penalty = 1.0 / (c * rows.len() as f64);
    let problem = Problem { rows, toxic, penalty, margins: RefCell::default() };
    // 10 pairs of vectors are L-BFGS's usual memory; a gradient of 1e-6 moves no probability in its fourth digit.
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 10).with_tolerance_grad(1e-6).map_err(failed)?;
    let solver = solver.with_tolerance_cost(1e-9).map_err(failed)?;
    let start = vec![0.0; n_columns + 1];
    let result = Executor::new(problem, solver)
        .configure(|state| state.param(start).max_iters(max_iterations))
        .run()
        .map_err(failed)?;
    let state = result.state();
    let mut weights =
        state.get_best_param().cloned().ok_or_else(|| Error::Fit { why: "no step was taken".to_owned() })?;
    let bias = weights.pop().unwrap_or_default();
    Ok(Fitted { weights, bias, n_iterations: state.get_iter() })
}

/// The last point with its margins: loss and gradient at one point use the same ones.
#[derive(Default)]
struct Margins {
    at: Vec<f64>,
    values: Vec<f64>,
}

struct Problem<'a> {
    rows: &'a Rows,
    toxic: &'a [bool],
    penalty: f64,
    margins: RefCell<Margins>,
}

impl Problem<'_> {
    /// Brings the stored margins to `at`; the last number of `at` is the bias.
    fn look(&self, at: &[f64]) {
        let mut margins = self.margins.borrow_mut();
        if margins.at == at {
            return;
        }
        let bias = at[at.len() - 1];
        margins.values.clear();
        for i in 0..self.rows.len() {
            let z = bias + self.rows.row(i).map(|(c, v)| at[c] * v).sum::<f64>();
            margins.values.push(if self.toxic[i] { z } else { -z });
        }
        margins.at.clear();
        margins.at.extend_from_slice(at);
    }
}

impl CostFunction for Problem<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, at: &Self::Param) -> Result<f64, argmin::core::Error> {
        self.look(at);
        let margins = self.margins.borrow();
        let loss: f64 = margins.values.iter().map(|&m| softplus(-m)).sum();
        let (weights, _) = at.split_at(at.len() - 1);
        let square: f64 = weights.iter().map(|w| w * w).sum();
        Ok(loss / self.rows.len() as f64 + 0.5 * self.penalty * square)
    }
}

impl Gradient for Problem<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, at: &Self::Param) -> Result<Vec<f64>, argmin::core::Error> {
        self.look(at);
        let margins = self.margins.borrow();
        let n = self.rows.len() as f64;
        let mut gradient: Vec<f64> = at.iter().map(|w| self.penalty * w).collect();
        let last = gradient.len() - 1;
        gradient[last] = 0.0;
        for (i, &m) in margins.values.iter().enumerate() {
            let residual = if self.toxic[i] { -sigmoid(-m) } else { sigmoid(-m) } / n;
            for (c, v) in self.rows.row(i) {
                gradient[c] += residual * v;
            }
            gradient[last] += residual;
        }
        Ok(gradient)
    }
}

/// `1 / (1 + exp(-z))`.
pub(crate) fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// `log(1 + exp(z))` without overflow.
pub(crate) fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(dense: &[[f32; 3]]) -> Rows {
        let mut rows = Rows::new();
        for row in dense {
            rows.push((0..).zip(*row).filter(|(_, v)| *v != 0.0));
        }
        rows
    }

    #[test]
    fn the_gradient_is_zero_at_the_fit_and_right_elsewhere() {
        let dense = [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0], [0.5, 0.0, 1.0], [0.0, 0.0, 1.5], [1.0, 1.0, 0.0]];
        let (rows, toxic) = (rows(&dense), [true, false, false, true, false]);
        let fitted = fit(&rows, &toxic, 3, 2.0, 500).unwrap();
        let problem = Problem { rows: &rows, toxic: &toxic, penalty: 1.0 / (2.0 * 5.0), margins: RefCell::default() };
        let at = [fitted.weights.clone(), vec![fitted.bias]].concat();
        let gradient = problem.gradient(&at).unwrap();
        assert!(gradient.iter().all(|g| g.abs() < 1e-4), "{gradient:?}");

        let at = vec![0.3, -0.2, 0.1, 0.4];
        let gradient = problem.gradient(&at).unwrap();
        for i in 0..4 {
            let moved = |by: f64| {
                let mut at = at.clone();
                at[i] += by;
                problem.cost(&at).unwrap()
            };
            // Central differences: an error of h^2, 1e-10, and of rounding over h, 1e-11.
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient[i] - slope).abs() < 1e-8, "{i}: {} {slope}", gradient[i]);
        }
    }

    #[test]
    fn large_margins_do_not_overflow() {
        assert_eq!((softplus(1e4), softplus(-1e4)), (1e4, 0.0));
        assert!((softplus(0.0) - std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!((sigmoid(1e4), sigmoid(-1e4)), (1.0, 0.0));
    }

    /// `logistic.golden.json`, made by `parity/scorer/make.py`: scikit-learn's Newton solver at a tolerance of 1e-12.
    /// Ours stops where the gradient of the mean loss is under 1e-6 or the loss moves by under 1e-9; the penalty is at
    /// least 1/(25 * 80) here, which bounds the weights' error by the root of 1e-9 over that, 1.4e-3.
    #[test]
    fn the_fit_is_that_of_scikit_learn() {
        let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("logistic.golden.json")).unwrap();
        assert_eq!(cases.len(), 3);
        for case in cases {
            let mut rows = Rows::new();
            for row in case["rows"].as_array().unwrap() {
                rows.push(serde_json::from_value::<Vec<(u32, f32)>>(row.clone()).unwrap());
            }
            let toxic: Vec<bool> = serde_json::from_value(case["toxic"].clone()).unwrap();
            let n_columns = case["n_columns"].as_u64().unwrap() as usize;
            let fitted = fit(&rows, &toxic, n_columns, case["c"].as_f64().unwrap(), 1000).unwrap();
            let want: Vec<f64> = serde_json::from_value(case["weights"].clone()).unwrap();
            let off = |got: f64, want: f64| (got - want).abs();
            let worst = fitted.weights.iter().zip(&want).map(|(g, w)| off(*g, *w)).fold(0.0, f64::max);
            assert!(worst < 1.4e-3, "weights differ by {worst:e}");
            assert!(off(fitted.bias, case["bias"].as_f64().unwrap()) < 1.4e-3);
        }
    }
}
