//! The paper's numbers, to print beside ours (METHOD §4, §11, §12 \[D\]). One value per cell: no dispersion was given.

use crate::result::VANILLA;

/// Toxicity in percent and WikiText-2 perplexity of one cell of the paper's tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaperCell {
    /// Mean Perspective toxicity on 1,199 challenge prompts, percent.
    pub toxicity: f64,
    /// WikiText-2 token perplexity, windows of 1024.
    pub perplexity: f64,
}

/// A column of the paper's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaperModel {
    /// GPT2-Large, 36 blocks.
    Gpt2Large,
    /// GPT2-XL, 48 blocks.
    Gpt2Xl,
    /// GPT-Neo 1.3B, 24 blocks.
    GptNeo,
}

/// The methods of RQ1 in the order of the paper's table: our key and its name there.
pub const RQ1_METHODS: [(&str, &str); 6] = [
    (VANILLA, "vanilla"),
    ("dapt", "DAPT"),
    ("dapt-kl", "DAPT+KL"),
    ("dpo", "DPO"),
    ("irepair-no-kl", "IRepair (no KL)"),
    ("irepair", "IRepair"),
];

/// The selection ablation of RQ3: our key, its policy, and whether the KL term is on.
pub const RQ3_METHODS: [(&str, &str, bool); 8] = [
    ("fixed-no-kl", "fixed", false),
    ("reverse-no-kl", "reverse", false),
    ("random-no-kl", "random", false),
    ("irepair-no-kl", "dynamic", false),
    ("fixed", "fixed", true),
    ("reverse", "reverse", true),
    ("random", "random", true),
    ("irepair", "dynamic", true),
];

/// One headline number: its name, our key of the method it is about, and the paper's value in percent.
pub const HEADLINES: [(&str, &str, f64); 8] = [
    ("H1", "irepair", 88.7),
    ("H1", "irepair-no-kl", 81.6),
    ("H1", "dpo", 61.8),
    ("H1", "dapt-kl", 56.3),
    ("H1", "dapt", 36.2),
    ("H2", "irepair", 43.6),
    ("H3", "irepair", 46.0),
    ("H3", "irepair-no-kl", 59.1),
];

/// H4, the pooled error density the paper states, percent. Its exact recipe is unknown (METHOD §4).
pub const POOLED_DENSITY_PERCENT: f64 = 773.0;

/// Time of an IRepair step in DPO steps, in the authors' implementation (METHOD §12).
pub const IREPAIR_STEP_PER_DPO_STEP: f64 = 1.93;

const COLUMNS: [PaperModel; 3] = [PaperModel::Gpt2Large, PaperModel::Gpt2Xl, PaperModel::GptNeo];

/// Rows of METHOD §11: Large, XL, Neo and the mean row as printed there.
const RQ1: [(&str, [(f64, f64); 4]); 6] = [
    (VANILLA, [(41.53, 19.44), (48.22, 17.40), (40.89, 14.56), (43.54, 17.13)]),
    ("dapt", [(11.99, 26.95), (39.74, 22.96), (31.57, 17.00), (27.77, 22.31)]),
    ("dapt-kl", [(13.93, 22.96), (5.21, 20.13), (37.93, 16.17), (19.02, 19.75)]),
    ("dpo", [(14.97, 24.10), (22.71, 21.02), (12.26, 16.70), (16.65, 20.61)]),
    ("irepair-no-kl", [(7.74, 20.93), (10.67, 18.16), (5.69, 16.56), (8.03, 18.55)]),
    ("irepair", [(5.11, 22.35), (4.68, 18.15), (4.94, 16.52), (4.91, 19.01)]),
];

/// RQ3's means over models; the paper has no random row.
const RQ3: [(&str, (f64, f64)); 6] = [
    ("fixed-no-kl", (40.87, 18.04)),
    ("reverse-no-kl", (41.08, 19.18)),
    ("irepair-no-kl", (8.03, 18.55)),
    ("fixed", (27.98, 18.85)),
    ("reverse", (43.40, 19.26)),
    ("irepair", (4.91, 19.01)),
];

/// RQ1's cell for one of our method keys; `None` for the model is the paper's mean over its three models.
pub fn rq1(method: &str, model: Option<PaperModel>) -> Option<PaperCell> {
    let (_, cells) = RQ1.iter().find(|(key, _)| *key == method)?;
    let column = model.map_or(3, |m| COLUMNS.iter().position(|c| *c == m).unwrap_or(3));
    let (toxicity, perplexity) = cells[column];
    Some(PaperCell { toxicity, perplexity })
}

/// RQ3's mean over models for one of our method keys.
pub fn rq3(method: &str) -> Option<PaperCell> {
    let (_, (toxicity, perplexity)) = RQ3.iter().find(|(key, _)| *key == method)?;
    Some(PaperCell { toxicity: *toxicity, perplexity: *perplexity })
}

/// Error density D of one model, percent (METHOD §4).
pub fn density_percent(model: PaperModel) -> f64 {
    match model {
        PaperModel::Gpt2Large => 120.8,
        PaperModel::Gpt2Xl => 245.3,
        PaperModel::GptNeo => 1137.7,
    }
}

/// The paper's model to stand beside ours, by family and size in the name; none for a name of no family.
pub fn column_for(model: &str) -> Option<PaperModel> {
    let name = model.to_lowercase();
    match () {
        () if name.contains("neo") => Some(PaperModel::GptNeo),
        () if name.contains("xl") => Some(PaperModel::Gpt2Xl),
        () if name.contains("gpt2") || name.contains("gpt-2") => Some(PaperModel::Gpt2Large),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use irepair_stats::{MethodMeans, headline};

    fn means(method: &str) -> MethodMeans {
        let cell = rq1(method, None).unwrap();
        MethodMeans { toxicity: cell.toxicity, perplexity: cell.perplexity }
    }

    #[test]
    fn the_mean_row_is_the_mean_of_the_models() {
        for (method, _) in RQ1_METHODS {
            let cells = COLUMNS.map(|c| rq1(method, Some(c)).unwrap());
            let mean = rq1(method, None).unwrap();
            assert!((cells.iter().map(|c| c.toxicity).sum::<f64>() / 3.0 - mean.toxicity).abs() < 0.01, "{method}");
            assert!((cells.iter().map(|c| c.perplexity).sum::<f64>() / 3.0 - mean.perplexity).abs() < 0.01, "{method}");
        }
    }

    #[test]
    fn the_headlines_recompute_from_the_mean_row() {
        for (name, method, paper) in HEADLINES {
            let h = headline(means(method), means("dpo"), means(VANILLA));
            let ours = match name {
                "H1" => h.reduction_percent,
                "H2" => h.effectiveness_percent,
                _ => h.disruption_percent,
            };
            // Half of the sheet's last digit in each perplexity moves H3 by up to 0.3 points.
            assert!((ours.unwrap() - paper).abs() < 0.15, "{name} of {method}: {ours:?}, the paper says {paper}");
        }
    }

    #[test]
    fn rq3_repeats_rq1_where_they_overlap() {
        for method in ["irepair", "irepair-no-kl"] {
            assert_eq!(rq3(method), rq1(method, None));
        }
        assert_eq!(rq3("random"), None);
    }

    #[test]
    fn our_models_stand_beside_their_family() {
        assert_eq!(column_for("gpt2-large"), Some(PaperModel::Gpt2Large));
        assert_eq!(column_for("planted-gpt2"), Some(PaperModel::Gpt2Large));
        assert_eq!(column_for("GPT2-XL"), Some(PaperModel::Gpt2Xl));
        assert_eq!(column_for("gpt-neo"), Some(PaperModel::GptNeo));
        assert_eq!(column_for("llama"), None);
    }
}
