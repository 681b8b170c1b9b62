//! Before and after: the metrics of two models side by side, with the interval of each difference.

use std::collections::BTreeMap;

use irepair_core::metric::{Better, MetricKey};
use irepair_eval::{Metric, Metrics};
use irepair_stats::{Bootstrap, Interval, LEVEL, bootstrap_mean, paired_bootstrap_difference};
use serde::Serialize;

/// Draws of all resamples together: what a bootstrap may cost on a file of many texts.
const MOST_DRAWS: usize = 50_000_000;

/// A metric before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// `after - before`.
    pub(crate) difference: f64,
    /// 95 % interval of the difference, over what was measured on both models, resampled in pairs; none where the
    /// metric is no mean of such values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<[f64; 2]>,
    /// Texts, prompts or pairs that were measured on both models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n_paired: Option<usize>,
}

/// The metrics that both models have a value of.
pub(crate) fn changes(before: &Metrics, after: &Metrics) -> BTreeMap<MetricKey, Change> {
    after.iter().filter_map(|(key, after)| Some((key.clone(), change(before.get(key)?, after)?))).collect()
}

fn change(before: &Metric, after: &Metric) -> Option<Change> {
    let (was, is) = (before.value?, after.value?);
    let pairs = before.values.iter().zip(&after.values).filter_map(|(before, after)| Some(((*before)?, (*after)?)));
    let (left, right): (Vec<f64>, Vec<f64>) = pairs.map(|(before, after)| (after, before)).unzip();
    let differences: Vec<f64> = left.iter().zip(&right).map(|(after, before)| after - before).collect();
    // Where all pairs differ by the same, resampling shows nothing of what others would do.
    let varies = !are_equal(&differences);
    let found = paired_bootstrap_difference(&left, &right, &bootstrap(left.len())).ok().filter(|_| varies);
    let interval = found.and_then(|found| found.interval).map(|Interval { low, high }| [low, high]);
    let n_paired = Some(left.len()).filter(|&n| n > 0);
    Some(Change { before: was, after: is, difference: is - was, interval, n_paired })
}

/// 95 % interval of a metric that is a mean, and how it was made: by resampling its values; where these are all 0 or
/// all 100 percent, the exact bound of Clopper and Pearson; none where they are all another number.
pub(crate) fn interval(metric: &Metric) -> Option<([f64; 2], &'static str)> {
    let values: Vec<f64> = metric.values.iter().flatten().copied().collect();
    if are_equal(&values) {
        let of_one = (1.0 - LEVEL) / 2.0;
        let share = of_one.powf(1.0 / values.len() as f64);
        let exact = match values.first() {
            Some(0.0) if metric.unit == "%" => [0.0, 100.0 * (1.0 - share)],
            Some(100.0) if metric.unit == "%" => [100.0 * share, 100.0],
            _ => return None,
        };
        return Some((exact, "exact, as all values are the same"));
    }
    let found = bootstrap_mean(&values, &bootstrap(values.len())).ok()?;
    found.interval.map(|Interval { low, high }| ([low, high], "by resampling the values"))
}

fn are_equal(values: &[f64]) -> bool {
    values.windows(2).all(|two| two[0] == two[1])
}

fn bootstrap(n: usize) -> Bootstrap {
    let usual = Bootstrap::new(0);
    Bootstrap { n_resamples: usual.n_resamples.min(MOST_DRAWS / n.max(1)).max(200), ..usual }
}

/// A table of the changes; every line is indented.
pub(crate) fn table(changes: &BTreeMap<MetricKey, Change>) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let mut text =
        format!("  {:<24} {:>12} {:>12} {:>12}   95 % of the difference\n", "", "before", "after", "difference");
    for (key, Change { before, after, difference, interval, n_paired }) in changes {
        let interval = match (interval, n_paired) {
            (Some([low, high]), Some(n)) => {
                format!("[{low:+.4}, {high:+.4}], {n} pairs: {}", verdict(key, *low, *high))
            }
            (None, Some(n)) => format!("none: all {n} pairs differ by the same"),
            _ => "none: it is no mean of values measured one by one".to_owned(),
        };
        text += &format!("  {key:<24} {before:>12.4} {after:>12.4} {difference:>+12.4}   {interval}\n");
    }
    text
}

/// What an interval of a difference says.
fn verdict(key: &MetricKey, low: f64, high: f64) -> &'static str {
    let falls = match key.metric.definition().better {
        Better::Lower => ["better", "worse"],
        Better::Higher => ["worse", "better"],
        Better::Near => ["lower", "higher"],
    };
    if high < 0.0 {
        falls[0]
    } else if low > 0.0 {
        falls[1]
    } else {
        "no difference shown"
    }
}

#[cfg(test)]
mod tests {
    use irepair_core::metric::{BLIMP_ACCURACY, STEREOTYPE_SHARE, TOKEN_PERPLEXITY, TOX, TOXFRAC};

    use super::*;

    fn mean(id: irepair_core::metric::MetricId, values: &[f64]) -> Metric {
        Metric::mean(id, &values.iter().map(|&v| Some(v)).collect::<Vec<_>>(), "mean")
    }

    #[test]
    fn differences_are_paired_and_say_which_way_is_good() {
        // The values spread over 80 points, the differences over 2.
        let low: Vec<f64> = (0..40).map(|i| f64::from(i % 5) / 5.0).collect();
        let high: Vec<f64> = low.iter().enumerate().map(|(i, v)| v + 0.09 + 0.02 * (i % 2) as f64).collect();
        let ppl = |value| Metric::new(TOKEN_PERPLEXITY, value, 9, 0, "exp");
        let before = Metrics::from_iter([
            (TOX, mean(TOX, &high)),
            (BLIMP_ACCURACY, mean(BLIMP_ACCURACY, &high)),
            (STEREOTYPE_SHARE, mean(STEREOTYPE_SHARE, &high)),
            (TOKEN_PERPLEXITY, ppl(3.5)),
        ]);
        let after = Metrics::from_iter([
            (TOX, mean(TOX, &low)),
            (BLIMP_ACCURACY, mean(BLIMP_ACCURACY, &low)),
            (STEREOTYPE_SHARE, mean(STEREOTYPE_SHARE, &low)),
            (TOKEN_PERPLEXITY, ppl(4.0)),
            (TOXFRAC, mean(TOXFRAC, &low)),
        ]);
        let found = changes(&before, &after);
        assert_eq!(found.len(), 4, "what one of them alone has is no change");
        let tox = &found[&TOX.into()];
        assert!((tox.difference + 10.0).abs() < 1e-9 && tox.n_paired == Some(40), "{tox:?}");
        // Unpaired, the interval would be some 25 points wide.
        assert!(tox.interval.unwrap().iter().all(|edge| (edge + 10.0).abs() < 0.5), "{tox:?}");
        let text = table(&found);
        let line = |key: &str| text.lines().find(|line| line.trim_start().starts_with(key)).unwrap().to_owned();
        assert!(line("tox").ends_with(", 40 pairs: better"), "{text}");
        assert!(line("blimp_accuracy").ends_with("worse") && line("stereotype_share").ends_with("lower"), "{text}");
        assert!(line("token_perplexity").ends_with("none: it is no mean of values measured one by one"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("  ")));
        assert_eq!(table(&changes(&Metrics::default(), &after)), "");
    }

    #[test]
    fn a_failed_text_pairs_with_nothing() {
        let of = |values: &[Option<f64>]| Metrics::from_iter([(TOX, Metric::mean(TOX, values, "mean"))]);
        let before = of(&[Some(1.0), None, Some(0.0), Some(0.5)]);
        let after = of(&[Some(0.0), Some(0.0), None, Some(0.5)]);
        let found = &changes(&before, &after)[&TOX.into()];
        assert_eq!((found.before, found.n_paired), (50.0, Some(2)));
    }

    #[test]
    fn values_that_are_all_the_same_have_no_false_certainty() {
        assert_eq!(interval(&mean(TOX, &[0.5])), None, "one value has no interval");
        assert_eq!(interval(&mean(TOX, &[0.5, 0.5])), None);
        let ([low, high], how) = interval(&mean(TOX, &[0.0, 1.0, 1.0, 0.0])).unwrap();
        assert!(low < 50.0 && high > 50.0 && how.starts_with("by resampling"));
        // 0 of 200: at most 1.83 %, by the exact binomial test.
        let ([low, high], how) = interval(&mean(TOX, &[0.0; 200])).unwrap();
        assert!(low == 0.0 && (high - 1.8275).abs() < 1e-3 && how.starts_with("exact"), "{high}");
        let ([low, high], _) = interval(&mean(TOX, &[1.0; 6])).unwrap();
        assert!((low - 54.0742).abs() < 1e-3 && high == 100.0, "{low}");
        let same = Metrics::from_iter([(TOX, mean(TOX, &[0.0, 1.0, 0.0]))]);
        let found = changes(&same, &same);
        assert_eq!((found[&TOX.into()].interval, found[&TOX.into()].n_paired), (None, Some(3)));
        assert!(table(&found).ends_with("none: all 3 pairs differ by the same\n"));
    }
}
