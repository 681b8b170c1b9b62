//! Before and after: the metrics of two models side by side, with the interval of each difference.

use std::collections::BTreeMap;

use irepair_core::metric::{Better, MetricKey};
use irepair_eval::{Metric, Metrics};
use irepair_stats::{Bootstrap, Interval, bootstrap_mean, paired_bootstrap_difference};
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
    /// Pairs of values that the interval is over.
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
    let found = paired_bootstrap_difference(&left, &right, &bootstrap(left.len())).ok();
    let interval = found.and_then(|found| found.interval).map(|Interval { low, high }| [low, high]);
    Some(Change {
        before: was,
        after: is,
        difference: is - was,
        n_paired: interval.is_some().then_some(left.len()),
        interval,
    })
}

/// 95 % interval of a metric that is a mean, by resampling its values.
pub(crate) fn interval(metric: &Metric) -> Option<[f64; 2]> {
    let values: Vec<f64> = metric.values.iter().flatten().copied().collect();
    let found = bootstrap_mean(&values, &bootstrap(values.len())).ok()?;
    found.interval.map(|Interval { low, high }| [low, high])
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
        format!("\n  {:<24} {:>12} {:>12} {:>12}   95 % of the difference\n", "", "before", "after", "difference");
    for (key, Change { before, after, difference, interval, n_paired }) in changes {
        let interval = match (interval, n_paired) {
            (Some([low, high]), Some(n)) => {
                format!("[{low:+.4}, {high:+.4}], {n} pairs: {}", verdict(key, *low, *high))
            }
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
        let (high, low): (Vec<f64>, Vec<f64>) =
            (0..40).map(|i| (f64::from(i % 5) / 5.0 + 0.1, f64::from(i % 5) / 5.0)).unzip();
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
        // Every pair differs by the same, however far the values spread: the interval of the pairs has no width.
        assert!((tox.difference + 10.0).abs() < 1e-9 && tox.n_paired == Some(40), "{tox:?}");
        assert!(tox.interval.unwrap().iter().all(|edge| (edge + 10.0).abs() < 1e-9), "{tox:?}");
        let text = table(&found);
        let line = |key: &str| text.lines().find(|line| line.trim_start().starts_with(key)).unwrap().to_owned();
        assert!(line("tox").ends_with("[-10.0000, -10.0000], 40 pairs: better"), "{text}");
        assert!(line("blimp_accuracy").ends_with("worse") && line("stereotype_share").ends_with("lower"), "{text}");
        assert!(line("token_perplexity").ends_with("none: it is no mean of values measured one by one"), "{text}");
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with("  ")));
        assert_eq!(table(&changes(&Metrics::default(), &after)), "");
    }

    #[test]
    fn a_failed_text_pairs_with_nothing() {
        let of = |values: &[Option<f64>]| Metrics::from_iter([(TOX, Metric::mean(TOX, values, "mean"))]);
        let before = of(&[Some(1.0), None, Some(0.0), Some(0.5)]);
        let after = of(&[Some(0.0), Some(0.0), None, Some(0.5)]);
        let found = &changes(&before, &after)[&TOX.into()];
        assert_eq!((found.before, found.n_paired), (50.0, Some(2)));
        assert_eq!(interval(&mean(TOX, &[0.5])), None, "one value has no interval");
        let [low, high] = interval(&mean(TOX, &[0.0, 1.0, 1.0, 0.0])).unwrap();
        assert!(low < 50.0 && high > 50.0);
    }
}
