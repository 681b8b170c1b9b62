//! Equal to SciPy and NumPy on the samples of `parity/stats/` (made by the script there).

use std::path::Path;

use irepair_stats::*;
use serde_json::Value;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/stats/golden.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Both sides are f64 and differ by rounding alone; `inverse_cdf` and `cdf` of statrs are good to about 1e-9.
fn close(what: &str, got: f64, want: &Value) {
    let want = want.as_f64().unwrap();
    assert!((got - want).abs() <= 1e-8 * want.abs().max(1e-3), "{what}: got {got}, SciPy says {want}");
}

fn pairs() -> Vec<(String, Vec<f64>, Vec<f64>, Value)> {
    let cases = golden()["pairs"].as_array().unwrap().clone();
    cases.into_iter().map(|c| (c["name"].as_str().unwrap().to_owned(), numbers(&c["a"]), numbers(&c["b"]), c)).collect()
}

#[test]
fn mean_spread_and_t_interval() {
    for (name, a, _, want) in pairs() {
        close(&name, mean(&a).unwrap(), &want["mean"]);
        close(&name, sample_sd(&a).unwrap(), &want["sd"]);
        close(&name, median(&a).unwrap(), &want["median"]);
        let mut sorted = a.clone();
        sorted.sort_by(f64::total_cmp);
        close(&name, quantile_of_sorted(&sorted, 0.1).unwrap(), &want["quantile_10"]);
        let t = t_interval(&a, 0.95).unwrap();
        close(&name, t.low, &want["t_interval"][0]);
        close(&name, t.high, &want["t_interval"][1]);
    }
}

/// Two bootstraps with different random numbers agree up to Monte Carlo error. The end of a 95 % interval from 10,000
/// resamples has a standard error of about 0.027 of the interval's own standard error (sqrt(0.025 · 0.975 / 10000)
/// over the normal density there), so 0.15 of it is five and a half of them. A sample of three has only ten different
/// resample means: its quantiles are steps and are left out.
#[test]
fn bootstrap_intervals_agree_up_to_monte_carlo_error() {
    for (name, a, b, want) in pairs().into_iter().filter(|(_, a, ..)| a.len() >= 30) {
        let differences: Vec<f64> = a.iter().zip(&b).map(|(x, y)| x - y).collect();
        let settings = Bootstrap::new(1);
        for (key, sample, got) in [
            ("bootstrap_mean", &a, bootstrap_mean(&a, &settings)),
            ("bootstrap_difference", &differences, paired_bootstrap_difference(&a, &b, &settings)),
        ] {
            let tolerance = 0.15 * sample_sd(sample).unwrap() / (sample.len() as f64).sqrt();
            let interval = got.unwrap().interval.unwrap();
            for (end, i) in [(interval.low, 0), (interval.high, 1)] {
                let want = want[key][i].as_f64().unwrap();
                assert!((end - want).abs() < tolerance, "{name} {key}: got {end}, SciPy says {want} ± {tolerance}");
            }
        }
    }
}

#[test]
fn rank_tests() {
    let word = |m: PMethod| if m == PMethod::Exact { "exact" } else { "normal" };
    for (name, a, b, want) in pairs() {
        let w = wilcoxon(&a, &b).unwrap();
        let expected = &want["wilcoxon"];
        assert_eq!(
            (word(w.method), w.n_used),
            (expected["method"].as_str().unwrap(), expected["n_used"].as_u64().unwrap() as usize)
        );
        close(&format!("{name} W+"), w.w_plus, &expected["w_plus"]);
        close(&format!("{name} Wilcoxon p"), w.p, &expected["p"]);

        let m = mann_whitney(&a, &b).unwrap();
        let expected = &want["mann_whitney"];
        assert_eq!(word(m.method), expected["method"].as_str().unwrap(), "{name}");
        close(&format!("{name} U"), m.u, &expected["u"]);
        close(&format!("{name} Mann-Whitney p"), m.p, &expected["p"]);

        close(&format!("{name} Spearman"), spearman(&a, &b).unwrap(), &want["spearman"]);
        close(&format!("{name} A12"), a12(&a, &b).unwrap(), &want["a12"]);
    }
}

#[test]
fn mcnemar_is_the_binomial_test() {
    for case in golden()["mcnemar"].as_array().unwrap() {
        let count = |key: &str| case[key].as_u64().unwrap() as usize;
        let (l, r) = (count("n_only_left"), count("n_only_right"));
        let left: Vec<bool> = (0..l + r + 3).map(|i| i < l).collect();
        let right: Vec<bool> = (0..l + r + 3).map(|i| i >= l && i < l + r).collect();
        close(&format!("McNemar {l} {r}"), mcnemar(&left, &right).unwrap().p, &case["p"]);
    }
}

/// The tolerance is argued as for the bootstrap of a mean: 0.15 of the standard error SciPy gives.
#[test]
fn intervals_of_an_effect_size_agree_up_to_monte_carlo_error() {
    let pairs = pairs();
    for case in golden()["a12_interval"].as_array().unwrap() {
        let (name, a, b, _) = pairs.iter().find(|(name, ..)| case["name"].as_str() == Some(name.as_str())).unwrap();
        let got = a12_interval(a, b, &Bootstrap::new(1)).unwrap();
        assert_eq!(got.value, a12(a, b).unwrap());
        let (interval, tolerance) = (got.interval.unwrap(), 0.15 * case["sd"].as_f64().unwrap());
        for (end, want) in [interval.low, interval.high].into_iter().zip(numbers(&case["interval"])) {
            assert!((end - want).abs() < tolerance, "{name}: got {end}, SciPy says {want} ± {tolerance}");
        }
    }
}

#[test]
fn dominated_area() {
    let point = |value: &Value| <[f64; 2]>::try_from(numbers(value)).unwrap();
    for case in golden()["hypervolume"].as_array().unwrap() {
        let points: Vec<[f64; 2]> = case["points"].as_array().unwrap().iter().map(point).collect();
        close("hypervolume", hypervolume(&points, point(&case["reference"])).unwrap(), &case["area"]);
    }
}

#[test]
fn holm_correction() {
    let case = &golden()["holm"];
    for (i, got) in holm(&numbers(&case["p"])).unwrap().into_iter().enumerate() {
        close("Holm", got, &case["adjusted"][i]);
    }
}

#[test]
fn error_density_and_gini() {
    for case in golden()["density"].as_array().unwrap() {
        let d = error_density(&numbers(&case["values"]), case["share"].as_f64().unwrap()).unwrap();
        assert_eq!(d.n_top as u64, case["n_top"].as_u64().unwrap());
        close("top", d.top_mean, &case["top_mean"]);
        close("rest", d.rest_mean, &case["rest_mean"]);
        close("gain", d.gain_percent, &case["gain_percent"]);
        close("Gini", d.gini, &case["gini"]);
        close("squares", d.top_share_of_squares, &case["top_share_of_squares"]);
    }
}
