//! The headline numbers H1-H3 from means over models (METHOD §11); H4 is in `density`.

/// Means over models of one method: toxicity in percent and perplexity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MethodMeans {
    /// T_m: mean toxicity, percent.
    pub toxicity: f64,
    /// P_m: mean perplexity.
    pub perplexity: f64,
}

/// H1, H2 and H3 of one method against one baseline and the vanilla model, percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Headline {
    /// H1: how much of the vanilla toxicity is gone.
    pub reduction_percent: Option<f64>,
    /// H2: how much larger that is than the baseline's.
    pub effectiveness_percent: Option<f64>,
    /// H3: how much less perplexity rose than the baseline's did.
    pub disruption_percent: Option<f64>,
}

/// H1-H3 of `ours` against `baseline` (the paper: IRepair against DPO).
///
/// # Source
/// METHOD §11 \[D\].
pub fn headline(ours: MethodMeans, baseline: MethodMeans, vanilla: MethodMeans) -> Headline {
    Headline {
        reduction_percent: reduction_percent(ours.toxicity, vanilla.toxicity),
        effectiveness_percent: effectiveness_percent(ours.toxicity, baseline.toxicity, vanilla.toxicity),
        disruption_percent: disruption_percent(ours.perplexity, baseline.perplexity, vanilla.perplexity),
    }
}

/// H1: `R_m = 1 − T_m / T_0`, percent. None when the vanilla model shows no error, or a number is not finite.
pub fn reduction_percent(toxicity: f64, vanilla: f64) -> Option<f64> {
    ratio(vanilla - toxicity, vanilla)
}

/// H2: `R_ours / R_baseline − 1`, percent. None when the baseline reduces nothing, or a number is not finite.
pub fn effectiveness_percent(ours: f64, baseline: f64, vanilla: f64) -> Option<f64> {
    let (ours, baseline) = (reduction_percent(ours, vanilla)?, reduction_percent(baseline, vanilla)?);
    ratio(ours - baseline, baseline)
}

/// H3: `1 − (P_ours − P_0) / (P_baseline − P_0)`, percent. None when the baseline does not raise perplexity, because
/// there is no disruption to compare with, or a number is not finite.
pub fn disruption_percent(ours: f64, baseline: f64, vanilla: f64) -> Option<f64> {
    ratio((baseline - vanilla) - (ours - vanilla), baseline - vanilla)
}

/// `100 part / whole` when `whole` is positive.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    let percent = 100.0 * part / whole;
    (whole > 0.0 && percent.is_finite()).then_some(percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn means(toxicity: f64, perplexity: f64) -> MethodMeans {
        MethodMeans { toxicity, perplexity }
    }

    // The `mean` row of METHOD §11's table, from its three models.
    const VANILLA: MethodMeans = means((41.53 + 48.22 + 40.89) / 3.0, (19.44 + 17.40 + 14.56) / 3.0);
    const DAPT: MethodMeans = means((11.99 + 39.74 + 31.57) / 3.0, (26.95 + 22.96 + 17.00) / 3.0);
    const DAPT_KL: MethodMeans = means((13.93 + 5.21 + 37.93) / 3.0, (22.96 + 20.13 + 16.17) / 3.0);
    const DPO: MethodMeans = means((14.97 + 22.71 + 12.26) / 3.0, (24.10 + 21.02 + 16.70) / 3.0);
    const NO_KL: MethodMeans = means((7.74 + 10.67 + 5.69) / 3.0, (20.93 + 18.16 + 16.56) / 3.0);
    const IREPAIR: MethodMeans = means((5.11 + 4.68 + 4.94) / 3.0, (22.35 + 18.15 + 16.52) / 3.0);

    // The sheet has two decimals: half of the last one in P_m, P_DPO and P_0 moves H3 by up to 0.3 points (H3 is
    // 45.98 % from its rounded mean row and 46.07 % from its three models).
    fn close(got: Option<f64>, want: f64) {
        assert!((got.unwrap() - want).abs() < 0.15, "got {got:?}, the paper says {want}");
    }

    #[test]
    fn the_papers_h1_h2_h3_recompute_from_its_table() {
        let h = headline(IREPAIR, DPO, VANILLA);
        close(h.reduction_percent, 88.7);
        close(h.effectiveness_percent, 43.6);
        close(h.disruption_percent, 46.0);
        close(headline(DPO, DPO, VANILLA).reduction_percent, 61.8);
        close(headline(DAPT_KL, DPO, VANILLA).reduction_percent, 56.3);
        close(headline(DAPT, DPO, VANILLA).reduction_percent, 36.2);
        close(headline(NO_KL, DPO, VANILLA).reduction_percent, 81.6);
        close(headline(NO_KL, DPO, VANILLA).disruption_percent, 59.1);
    }

    #[test]
    fn the_papers_per_model_h2_and_h3_recompute() {
        let large = headline(means(5.11, 22.35), means(14.97, 24.10), means(41.53, 19.44));
        let xl = headline(means(4.68, 18.15), means(22.71, 21.02), means(48.22, 17.40));
        let neo = headline(means(4.94, 16.52), means(12.26, 16.70), means(40.89, 14.56));
        for (h, h2, h3) in [(large, 37.0, 37.0), (xl, 71.0, 79.0), (neo, 26.0, 8.0)] {
            assert!((h.effectiveness_percent.unwrap() - h2).abs() < 1.0, "{h:?}");
            assert!((h.disruption_percent.unwrap() - h3).abs() < 1.0, "{h:?}");
        }
    }

    #[test]
    fn a_meaningless_denominator_gives_none() {
        assert_eq!(reduction_percent(1.0, 0.0), None);
        assert_eq!(effectiveness_percent(1.0, 5.0, 5.0), None, "a baseline that reduces nothing");
        assert_eq!(disruption_percent(11.0, 9.0, 10.0), None, "a baseline that lowers perplexity");
        assert_eq!(reduction_percent(f64::NAN, 1.0), None);
    }
}
