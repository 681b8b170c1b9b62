//! Hypervolume: the area of a plane that a set of models dominates (METHOD §16).

use crate::error::check;
use crate::{Error, Result};

/// Area of the points of a plane that some point of the set dominates, up to a reference point; both coordinates are to
/// be small, as toxicity and perplexity are.
///
/// - `points`: `[toxicity, perplexity]` of each model
/// - `reference`: the worst that counts, such as the model before repair; areas of different references do not compare
///
/// A point that is not below the reference in both coordinates dominates nothing. The area is in the product of the two
/// units, and 0 when no point beats the reference.
///
/// # Errors
/// [`Error::Empty`] without points; [`Error::NotFinite`]; [`Error::Overflow`] when the area is not a finite number.
///
/// # Source
/// METHOD §16 \[S\]: Zitzler and Thiele 1999, in two dimensions.
pub fn hypervolume(points: &[[f64; 2]], reference: [f64; 2]) -> Result<f64> {
    check(points.as_flattened(), "a hypervolume")?;
    check(&reference, "a hypervolume")?;
    let mut inside: Vec<[f64; 2]> =
        points.iter().filter(|p| p[0] < reference[0] && p[1] < reference[1]).copied().collect();
    inside.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    // From left to right, each point below all before it adds a rectangle.
    let (mut area, mut floor) = (0.0, reference[1]);
    for [x, y] in inside {
        if y < floor {
            area += (reference[0] - x) * (floor - y);
            floor = y;
        }
    }
    if f64::is_finite(area) { Ok(area) } else { Err(Error::Overflow) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let reference = [4.0, 5.0];
        assert_eq!(hypervolume(&[[1.0, 2.0]], reference), Ok(9.0));
        // Rectangles [1,4]x[3,5], [2,4]x[1,3]; the third is dominated, the fourth outside, the fifth on the edge.
        let front = [[2.0, 1.0], [1.0, 3.0], [3.0, 3.0], [0.0, 6.0], [4.0, 0.0]];
        assert_eq!(hypervolume(&front, reference), Ok(6.0 + 4.0));
        assert_eq!(hypervolume(&[[4.0, 5.0], [9.0, 9.0]], reference), Ok(0.0));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(matches!(hypervolume(&[], [1.0, 1.0]), Err(Error::Empty { .. })));
        assert!(matches!(hypervolume(&[[f64::NAN, 0.0]], [1.0, 1.0]), Err(Error::NotFinite { .. })));
        assert!(matches!(hypervolume(&[[0.0, 0.0]], [f64::INFINITY, 1.0]), Err(Error::NotFinite { .. })));
        assert_eq!(hypervolume(&[[-1e308, -1e308]], [1e308, 1e308]), Err(Error::Overflow));
    }
}
