//! Laws that hold for any sample: symmetry, bounds, invariance, and no NaN for any input.

use irepair_stats::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn sample(min: usize, max: usize) -> impl Strategy<Value = Vec<f64>> {
    vec(prop_oneof![(-5i32..5).prop_map(f64::from), -100.0..100.0], min..max)
}

fn pair() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    (1usize..70).prop_flat_map(|n| (sample(n, n + 1), sample(n, n + 1)))
}

/// Anything a f64 can be, small integers among it so that ties happen.
fn wild() -> impl Strategy<Value = Vec<f64>> {
    vec(prop_oneof![any::<f64>(), (-2i32..2).prop_map(f64::from)], 0..8)
}

fn quick() -> Bootstrap {
    Bootstrap { n_resamples: 50, ..Bootstrap::new(0) }
}

proptest! {
    #[test]
    fn rank_tests_do_not_care_which_side_is_first((a, b) in pair()) {
        if let (Ok(ab), Ok(ba)) = (wilcoxon(&a, &b), wilcoxon(&b, &a)) {
            prop_assert!((ab.p - ba.p).abs() < 1e-12);
        }
        if let (Ok(ab), Ok(ba)) = (mann_whitney(&a, &b), mann_whitney(&b, &a)) {
            prop_assert!((ab.p - ba.p).abs() < 1e-9);
            prop_assert!((ab.u + ba.u - (a.len() * b.len()) as f64).abs() < 1e-9);
        }
        prop_assert!((a12(&a, &b).unwrap() + a12(&b, &a).unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a12_is_u_counted_from_the_other_side((a, b) in pair()) {
        if let Ok(m) = mann_whitney(&b, &a) {
            prop_assert!((a12(&a, &b).unwrap() - m.u / (a.len() * b.len()) as f64).abs() < 1e-12);
        }
    }

    #[test]
    fn the_interval_of_an_effect_size_is_a_share_and_turns_with_the_sides((a, b) in pair()) {
        let (ab, ba) = (a12_interval(&a, &b, &quick()).unwrap(), a12_interval(&b, &a, &quick()).unwrap());
        prop_assert!((ab.value + ba.value - 1.0).abs() < 1e-12);
        prop_assert_eq!(ab.interval.is_some(), a.len() > 1);
        prop_assert!(ab.interval.is_none_or(|i| 0.0 <= i.low && i.low <= i.high && i.high <= 1.0));
    }

    #[test]
    fn dominated_area_is_a_law_abiding_measure(points in vec([-5.0..5.0f64, -5.0..5.0f64], 1..12), extra in [-5.0..5.0f64, -5.0..5.0f64]) {
        let reference = [3.0, 3.0];
        let area = |points: &[[f64; 2]]| hypervolume(points, reference).unwrap();
        let whole = area(&points);
        prop_assert!((0.0..=64.0 + 1e-9).contains(&whole));
        // One more point never takes area away; the area is at least that of each point alone, at most their sum.
        let more: Vec<[f64; 2]> = points.iter().copied().chain([extra]).collect();
        prop_assert!(area(&more) >= whole - 1e-9);
        let alone: Vec<f64> = points.iter().map(|p| area(&[*p])).collect();
        prop_assert!(alone.iter().all(|a| whole >= a - 1e-9) && whole <= alone.iter().sum::<f64>() + 1e-9);
        // A dominated point adds nothing, and neither does a repeated one, in any order.
        let worse = [points[0][0] + extra[0].abs(), points[0][1] + extra[1].abs()];
        let mut turned: Vec<[f64; 2]> = points.iter().rev().copied().chain([worse, points[0]]).collect();
        turned.rotate_left(points.len() / 2);
        prop_assert!((area(&turned) - whole).abs() < 1e-9);
        // The coordinates may be swapped, and moved together with the reference.
        let swapped: Vec<[f64; 2]> = points.iter().map(|&[x, y]| [y, x]).collect();
        prop_assert!((area(&swapped) - whole).abs() < 1e-9);
        let moved: Vec<[f64; 2]> = points.iter().map(|&[x, y]| [x + 7.0, y - 2.0]).collect();
        prop_assert!((hypervolume(&moved, [10.0, 1.0]).unwrap() - whole).abs() < 1e-9);
    }

    #[test]
    fn ranks_ignore_monotone_maps((a, b) in pair()) {
        let cube = |v: &[f64]| v.iter().map(|x| x.powi(3)).collect::<Vec<_>>();
        if let Ok(rho) = spearman(&a, &b) {
            prop_assert!((spearman(&cube(&a), &b).unwrap() - rho).abs() < 1e-9);
            prop_assert!((spearman(&b, &a).unwrap() - rho).abs() < 1e-12);
        }
    }

    #[test]
    fn holm_only_raises_p_and_keeps_the_order(ps in vec(0.0..=1.0f64, 0..20)) {
        let adjusted = holm(&ps).unwrap();
        for (i, &p) in ps.iter().enumerate() {
            prop_assert!(adjusted[i] >= p && adjusted[i] <= 1.0);
            for (j, &q) in ps.iter().enumerate() {
                prop_assert!(p > q || adjusted[i] <= adjusted[j]);
            }
        }
    }

    #[test]
    fn intervals_hold_their_mean_and_grow_with_the_level(a in sample(2, 40)) {
        let m = mean(&a).unwrap();
        let (narrow, wide) = (t_interval(&a, 0.8).unwrap(), t_interval(&a, 0.99).unwrap());
        prop_assert!(narrow.low <= m && m <= narrow.high);
        prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
        let b = bootstrap_mean(&a, &quick()).unwrap().interval.unwrap();
        let (lowest, highest) = a.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        prop_assert!(lowest - 1e-9 <= b.low && b.low <= b.high && b.high <= highest + 1e-9);
    }

    #[test]
    fn error_density_ignores_order_and_scale(s in vec(0.01..100.0f64, 2..50), scale in 0.001..1000.0f64) {
        let d = error_density(&s, TOP_SHARE).unwrap();
        let moved: Vec<f64> = s.iter().rev().map(|v| v * scale).collect();
        let e = error_density(&moved, TOP_SHARE).unwrap();
        prop_assert!((d.gain_percent - e.gain_percent).abs() <= 1e-9 * d.gain_percent.abs().max(1.0));
        prop_assert!((d.gini - e.gini).abs() < 1e-9);
        prop_assert!(d.gain_percent >= -1e-9 && (0.0..1.0).contains(&d.gini));
        prop_assert!(d.top_share_of_squares > 0.0 && d.top_share_of_squares <= 1.0);
    }

    #[test]
    fn headlines_of_the_baseline_against_itself_are_zero(t in 0.1..40.0f64, p in 20.1..60.0f64) {
        prop_assert_eq!(effectiveness_percent(t, t, 45.0), Some(0.0));
        prop_assert_eq!(disruption_percent(p, p, 20.0), Some(0.0));
    }

    #[test]
    fn nothing_panics_or_returns_nan(a in wild(), b in wild()) {
        let finite = |v: Option<f64>| v.is_none_or(f64::is_finite);
        let p = |v: f64| (0.0..=1.0).contains(&v);
        prop_assert!(finite(mean(&a)) && finite(sample_sd(&a)) && finite(median(&a)));
        prop_assert!(t_interval(&a, 0.95).is_none_or(|i| i.low <= i.high));
        prop_assert!(bootstrap_mean(&a, &quick()).is_ok_and(|e| e.value.is_finite() && e.interval.is_none_or(|i| i.low <= i.high)) || bootstrap_mean(&a, &quick()).is_err());
        let _ = paired_bootstrap_difference(&a, &b, &quick());
        prop_assert!(wilcoxon(&a, &b).is_ok_and(|w| p(w.p)) || wilcoxon(&a, &b).is_err());
        prop_assert!(mann_whitney(&a, &b).is_ok_and(|m| p(m.p)) || mann_whitney(&a, &b).is_err());
        prop_assert!(a12(&a, &b).is_ok_and(p) || a12(&a, &b).is_err());
        prop_assert!(a12_interval(&a, &b, &quick()).is_ok_and(|e| p(e.value)) || a12_interval(&a, &b, &quick()).is_err());
        let points: Vec<[f64; 2]> = a.chunks_exact(2).map(|c| [c[0], c[1]]).collect();
        prop_assert!(hypervolume(&points, [1.0, 1.0]).is_ok_and(|h| h.is_finite() && h >= 0.0) || hypervolume(&points, [1.0, 1.0]).is_err());
        prop_assert!(holm(&a).is_ok_and(|h| h.into_iter().all(p)) || holm(&a).is_err());
        prop_assert!(spearman(&a, &b).is_ok_and(|r| (-1.0..=1.0).contains(&r)) || spearman(&a, &b).is_err());
        prop_assert!(gini(&a).is_ok_and(|g| (0.0..1.0).contains(&g)) || gini(&a).is_err());
        prop_assert!(error_density(&a, 0.2).is_ok_and(|d| d.gain_percent.is_finite() && d.top_mean.is_finite()) || error_density(&a, 0.2).is_err());
    }
}
