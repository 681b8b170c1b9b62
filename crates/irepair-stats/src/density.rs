//! Error density: how much the sensitivity is concentrated in a few blocks (METHOD §4).

use irepair_core::SliceSize;

use crate::error::check;
use crate::{Error, Result};

/// The paper's "top 20 %" (METHOD §4 \[D\]).
pub const TOP_SHARE: f64 = 0.2;

/// The spread of sensitivity over the blocks of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorDensity {
    /// Mean sensitivity of the most sensitive blocks.
    pub top_mean: f64,
    /// Mean sensitivity of the others.
    pub rest_mean: f64,
    /// `D = 100 (top / rest − 1)`, percent; 0 when sensitivity is spread evenly.
    pub gain_percent: f64,
    /// Blocks in the top.
    pub n_top: usize,
    /// Gini coefficient of the sensitivities, 0 (even) to almost 1 (one block has everything).
    pub gini: f64,
    /// Share of the sum of squared sensitivities held by the top, 0 to 1.
    pub top_share_of_squares: f64,
}

/// Error density of one model: the top `share` of its blocks against the rest.
///
/// `n_top = max(1, floor(share · L))`.
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`], [`Error::Negative`] for the sensitivities; [`Error::NotAShare`] for a share
/// outside (0, 1); [`Error::NoRest`] for a single block; [`Error::SilentRest`] when the rest is 0 (or too small to
/// divide by).
///
/// # Source
/// METHOD §4 \[D\]; the maximum with 1 is \[O\], for models with fewer than five blocks.
pub fn error_density(sensitivities: &[f64], share: f64) -> Result<ErrorDensity> {
    let gini = gini(sensitivities)?;
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::NotAShare { what: "share of blocks", value: share });
    }
    let n_blocks = sensitivities.len();
    let n_top = SliceSize::Percent(100.0 * share).resolve(n_blocks);
    if n_top >= n_blocks {
        return Err(Error::NoRest { n_blocks, n_top });
    }
    let mut sorted = sensitivities.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    // Divided by the largest, so that no square can overflow.
    let largest = sorted[0];
    let (top, rest) = sorted.split_at(n_top);
    let mean = |values: &[f64]| values.iter().map(|v| v / largest).sum::<f64>() / values.len() as f64;
    let squares = |values: &[f64]| values.iter().map(|v| (v / largest).powi(2)).sum::<f64>();
    let (top_mean, rest_mean) = (mean(top), mean(rest));
    let gain_percent = 100.0 * (top_mean / rest_mean - 1.0);
    if !gain_percent.is_finite() {
        return Err(Error::SilentRest);
    }
    Ok(ErrorDensity {
        top_mean: largest * top_mean,
        rest_mean: largest * rest_mean,
        gain_percent,
        n_top,
        gini,
        top_share_of_squares: squares(top) / squares(&sorted),
    })
}

/// Pooled gain over models, `100 (Σ top / Σ rest − 1)` percent: the nearest natural reading of the paper's 773 %.
///
/// The model with the largest raw gradients dominates it (METHOD §4); none for no models.
pub fn pooled_gain_percent(models: &[ErrorDensity]) -> Option<f64> {
    let top: f64 = models.iter().map(|d| d.top_mean).sum();
    let rest: f64 = models.iter().map(|d| d.rest_mean).sum();
    let gain = 100.0 * (top / rest - 1.0);
    gain.is_finite().then_some(gain)
}

/// Geometric mean over models of `top / rest`, a pure number; no model dominates it. None for no models.
pub fn geometric_mean_ratio(models: &[ErrorDensity]) -> Option<f64> {
    let logs: Vec<f64> = models.iter().map(|d| (d.gain_percent / 100.0 + 1.0).ln()).collect();
    crate::mean(&logs).map(f64::exp)
}

/// Gini coefficient of sizes: 0 when all are equal, `1 − 1/n` when one has everything.
///
/// # Errors
/// [`Error::Empty`], [`Error::NotFinite`], [`Error::Negative`]; [`Error::NoDifference`] when all are 0.
pub fn gini(sizes: &[f64]) -> Result<f64> {
    check(sizes, "a Gini coefficient")?;
    if let Some(idx) = sizes.iter().position(|&v| v < 0.0) {
        return Err(Error::Negative { idx, value: sizes[idx] });
    }
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return Err(Error::NoDifference);
    }
    let mut sorted: Vec<f64> = sizes.iter().map(|v| v / largest).collect();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let weighted: f64 = sorted.iter().enumerate().map(|(i, v)| (2.0 * (i + 1) as f64 - n - 1.0) * v).sum();
    Ok((weighted / (n * sorted.iter().sum::<f64>())).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn density_of(gain_percent: f64) -> ErrorDensity {
        let rest_mean = 1.0;
        let top_mean = gain_percent / 100.0 + 1.0;
        ErrorDensity { top_mean, rest_mean, gain_percent, n_top: 1, gini: 0.0, top_share_of_squares: 0.5 }
    }

    #[test]
    fn ten_blocks_by_hand() {
        let d = error_density(&[1.0, 1.0, 5.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0], TOP_SHARE).unwrap();
        assert_eq!(d.n_top, 2);
        assert!((d.top_mean - 4.0).abs() < 1e-12 && (d.rest_mean - 1.0).abs() < 1e-12);
        assert!((d.gain_percent - 300.0).abs() < 1e-9);
        assert!((d.top_share_of_squares - 34.0 / 42.0).abs() < 1e-12);
    }

    #[test]
    fn the_top_20_percent_of_the_papers_models_is_7_9_and_4_blocks() {
        let n_top = |n_blocks: usize| {
            let s: Vec<f64> = (1..=n_blocks).map(|i| i as f64).collect();
            error_density(&s, TOP_SHARE).unwrap().n_top
        };
        assert_eq!([36, 48, 24].map(n_top), [7, 9, 4]);
    }

    #[test]
    fn the_papers_gains_average_to_501_percent() {
        // METHOD §4: D of GPT2-Large, GPT2-XL and GPT-Neo, and their mean.
        let gains = [120.8, 245.3, 1137.7];
        assert!((crate::mean(&gains).unwrap() - 501.0).abs() < 0.5);
        let models = gains.map(density_of);
        let ratio = geometric_mean_ratio(&models).unwrap();
        assert!((ratio - (2.208f64 * 3.453 * 12.377).cbrt()).abs() < 1e-9);
        // With equal raw gradients, pooling is the plain mean; the sheet's 774.7 % shows that Neo's are larger.
        assert!((pooled_gain_percent(&models).unwrap() - 501.27).abs() < 0.01);
    }

    #[test]
    fn an_even_spread_has_no_density() {
        let d = error_density(&[2.0; 5], TOP_SHARE).unwrap();
        assert_eq!((d.gain_percent, d.gini), (0.0, 0.0));
        assert!((d.top_share_of_squares - 0.2).abs() < 1e-12);
    }

    #[test]
    fn degenerate_input_is_a_typed_error() {
        assert!(matches!(error_density(&[], 0.2), Err(Error::Empty { .. })));
        assert_eq!(error_density(&[1.0], 0.2), Err(Error::NoRest { n_blocks: 1, n_top: 1 }));
        assert_eq!(error_density(&[1.0, 0.0], 0.2), Err(Error::SilentRest));
        assert_eq!(error_density(&[0.0, 0.0], 0.2), Err(Error::NoDifference));
        assert!(matches!(error_density(&[1.0, f64::NAN], 0.2), Err(Error::NotFinite { idx: 1, .. })));
        assert!(matches!(error_density(&[1.0, -1.0], 0.2), Err(Error::Negative { idx: 1, .. })));
        assert!(matches!(error_density(&[1.0, 2.0], 1.0), Err(Error::NotAShare { .. })));
        assert_eq!((pooled_gain_percent(&[]), geometric_mean_ratio(&[])), (None, None));
    }
}
