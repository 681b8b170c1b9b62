//! The headline numbers H1-H3 from means over models of toxicity T and perplexity P (METHOD §11 \[D\]); 0 is the
//! vanilla model. H4 is in `density`.

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

    /// Mean toxicity and mean perplexity.
    type Means = (f64, f64);

    // The `mean` row of METHOD §11's table, from its three models.
    const VANILLA: Means = ((41.53 + 48.22 + 40.89) / 3.0, (19.44 + 17.40 + 14.56) / 3.0);
    const DAPT: Means = ((11.99 + 39.74 + 31.57) / 3.0, (26.95 + 22.96 + 17.00) / 3.0);
    const DAPT_KL: Means = ((13.93 + 5.21 + 37.93) / 3.0, (22.96 + 20.13 + 16.17) / 3.0);
    const DPO: Means = ((14.97 + 22.71 + 12.26) / 3.0, (24.10 + 21.02 + 16.70) / 3.0);
    const NO_KL: Means = ((7.74 + 10.67 + 5.69) / 3.0, (20.93 + 18.16 + 16.56) / 3.0);
    const IREPAIR: Means = ((5.11 + 4.68 + 4.94) / 3.0, (22.35 + 18.15 + 16.52) / 3.0);

    // The sheet has two decimals: half of the last one in P_m, P_DPO and P_0 moves H3 by up to 0.3 points (H3 is
    // 45.98 % from its rounded mean row and 46.07 % from its three models).
    fn close(got: Option<f64>, want: f64) {
        assert!((got.unwrap() - want).abs() < 0.15, "got {got:?}, the paper says {want}");
    }

    #[test]
    fn the_papers_h1_h2_h3_recompute_from_its_table() {
        for (method, h1) in [(IREPAIR, 88.7), (DPO, 61.8), (DAPT_KL, 56.3), (DAPT, 36.2), (NO_KL, 81.6)] {
            close(reduction_percent(method.0, VANILLA.0), h1);
        }
        close(effectiveness_percent(IREPAIR.0, DPO.0, VANILLA.0), 43.6);
        close(disruption_percent(IREPAIR.1, DPO.1, VANILLA.1), 46.0);
        close(disruption_percent(NO_KL.1, DPO.1, VANILLA.1), 59.1);
    }

    #[test]
    fn the_papers_per_model_h2_and_h3_recompute() {
        let large = [(5.11, 22.35), (14.97, 24.10), (41.53, 19.44)];
        let xl = [(4.68, 18.15), (22.71, 21.02), (48.22, 17.40)];
        let neo = [(4.94, 16.52), (12.26, 16.70), (40.89, 14.56)];
        for ([ours, dpo, vanilla], h2, h3) in [(large, 37.0, 37.0), (xl, 71.0, 79.0), (neo, 26.0, 8.0)] {
            assert!((effectiveness_percent(ours.0, dpo.0, vanilla.0).unwrap() - h2).abs() < 1.0);
            assert!((disruption_percent(ours.1, dpo.1, vanilla.1).unwrap() - h3).abs() < 1.0);
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
