//! Platt scaling: from a margin to a probability, fitted on texts that the weights have not seen.

use serde::{Deserialize, Serialize};

use crate::logistic::{sigmoid, softplus};
use crate::{Error, Result};

/// `p = sigmoid(slope * margin + offset)`.
///
/// # Source
/// Platt 1999 with the targets and the Newton steps of Lin, Lin and Weng 2007; scikit-learn's `sigmoid` calibration is
/// the same function with the signs turned round. [S]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platt {
    /// Factor on the margin.
    pub slope: f64,
    /// Added to it.
    pub offset: f64,
}

impl Platt {
    /// The probability of a margin.
    pub fn probability(&self, margin: f64) -> f64 {
        sigmoid(self.slope * margin + self.offset)
    }

    /// Fits both numbers by maximum likelihood. Targets are `(n₊+1)/(n₊+2)` and `1/(n₋+2)` instead of 1 and 0, so that
    /// margins that separate the two sides completely still give a finite slope.
    ///
    /// # Errors
    /// [`Error::OneClass`] unless both classes are there.
    pub fn fit(margins: &[f64], toxic: &[bool]) -> Result<Self> {
        let n_toxic = toxic.iter().filter(|&&t| t).count();
        let n_clean = toxic.len() - n_toxic;
        if n_toxic == 0 || n_clean == 0 {
            return Err(Error::OneClass { what: "the part held out for calibration", n: toxic.len() });
        }
        let (high, low) = ((n_toxic as f64 + 1.0) / (n_toxic as f64 + 2.0), 1.0 / (n_clean as f64 + 2.0));
        let target = |i: usize| if toxic[i] { high } else { low };
        let loss = |slope: f64, offset: f64| -> f64 {
            let one = |(i, m): (usize, &f64)| softplus(slope * m + offset) - target(i) * (slope * m + offset);
            margins.iter().enumerate().map(one).sum()
        };
        let (mut slope, mut offset) = (0.0, (n_toxic as f64 / n_clean as f64).ln());
        let mut now = loss(slope, offset);
        for _ in 0..100 {
            // Gradient and Hessian; the small ridge keeps the latter invertible.
            let (mut g1, mut g2, mut h11, mut h22, mut h12) = (0.0, 0.0, 1e-12, 1e-12, 0.0);
            for (i, &m) in margins.iter().enumerate() {
                let p = sigmoid(slope * m + offset);
                let (d, w) = (p - target(i), p * (1.0 - p));
                g1 += d * m;
                g2 += d;
                h11 += w * m * m;
                h12 += w * m;
                h22 += w;
            }
            if g1.abs() < 1e-9 && g2.abs() < 1e-9 {
                break;
            }
            let det = h11 * h22 - h12 * h12;
            let (d1, d2) = (-(h22 * g1 - h12 * g2) / det, -(h11 * g2 - h12 * g1) / det);
            let down = g1 * d1 + g2 * d2;
            let mut step = 1.0;
            loop {
                let next = loss(slope + step * d1, offset + step * d2);
                if next < now + 1e-4 * step * down {
                    (slope, offset, now) = (slope + step * d1, offset + step * d2, next);
                    break;
                }
                step /= 2.0;
                if step < 1e-10 {
                    return Ok(Self { slope, offset });
                }
            }
        }
        Ok(Self { slope, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_sigmoid_is_found_again() {
        // Margins with as many toxic texts as sigmoid(2 m - 1) says, 10,000 of each: the fit can only be that.
        let (mut margins, mut toxic) = (Vec::new(), Vec::new());
        for m in [-1.0, -0.25, 0.0, 0.5, 1.5] {
            let n = (10_000.0 * sigmoid(2.0 * m - 1.0)).round() as usize;
            margins.extend([m; 10_000]);
            toxic.extend((0..10_000).map(|i| i < n));
        }
        let platt = Platt::fit(&margins, &toxic).unwrap();
        assert!((platt.slope - 2.0).abs() < 1e-2 && (platt.offset + 1.0).abs() < 1e-2, "{platt:?}");
    }

    #[test]
    fn separated_margins_give_finite_numbers_and_one_class_an_error() {
        let platt = Platt::fit(&[-1.0, -2.0, 1.0, 2.0], &[false, false, true, true]).unwrap();
        assert!(platt.slope.is_finite() && platt.probability(1.0) > 0.5 && platt.probability(-1.0) < 0.5);
        let error = Platt::fit(&[1.0, 2.0], &[true, true]).unwrap_err();
        assert_eq!(error.to_string(), "the part held out for calibration has texts of one label only");
    }
}
