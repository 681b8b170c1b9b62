//! The sensitivity metrics of METHOD §3; `irepair-sensitivity` measures them.

/// One metric of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricRow {
    /// The values that it is computed from.
    pub evidence: Evidence,
    /// What the rejected text is compared with.
    pub against: Against,
    /// Whether it is a function of one gradient per block, so that it has a value at the mean gradient of many batches.
    pub mean_gradient: bool,
    /// What it costs: passes over the texts of one batch, `L` being the number of blocks.
    pub passes: &'static str,
    /// How many texts go forward and how many backward where a repair measures it at its steps: rejected text, and what
    /// it is compared with. None for what `irepair sensitivity` alone measures.
    pub at_steps: Option<[u32; 2]>,
}

table! {
    /// How the sensitivity of a block is measured (METHOD §3).
    pub enum Metric("sensitivity metric"): MetricRow {
        /// L2 norm of the block's gradient on rejected text: the paper's [D].
        GradL2 = "grad-l2" {
            evidence: Evidence::GradientNorms, against: Against::Nothing, mean_gradient: true,
            passes: "1 forward, 1 backward", at_steps: Some([1, 1])
        }
        /// `grad-l2` over the square root of the block's number of parameters [O].
        Density = "density" {
            evidence: Evidence::GradientNorms, against: Against::Nothing, mean_gradient: true,
            passes: "1 forward, 1 backward", at_steps: Some([1, 1])
        }
        /// `grad-l2` over the L2 norm of the block's weights (surgical fine-tuning) [O].
        Relative = "relative" {
            evidence: Evidence::GradientNorms, against: Against::Nothing, mean_gradient: true,
            passes: "1 forward, 1 backward", at_steps: Some([1, 1])
        }
        /// Sum of |weight times gradient| (SNIP) [O].
        Snip = "snip" {
            evidence: Evidence::StoredGradients, against: Against::Nothing, mean_gradient: true,
            passes: "1 forward, 1 backward", at_steps: Some([1, 1])
        }
        /// Sum of squared per-example gradients: diagonal empirical Fisher [S].
        Fisher = "fisher" {
            evidence: Evidence::StoredGradients, against: Against::Nothing, mean_gradient: false,
            passes: "1 forward, 1 backward", at_steps: Some([1, 1])
        }
        /// `grad-l2` on rejected text over `grad-l2` on neutral text [O].
        Contrast = "contrast" {
            evidence: Evidence::GradientNorms, against: Against::Neutral, mean_gradient: true,
            passes: "2 forward, 2 backward", at_steps: Some([2, 2])
        }
        /// What a KL budget spent in the block buys: root of the gradient's square over the Fisher matrix on neutral
        /// text [O].
        Efficiency = "efficiency" {
            evidence: Evidence::GradientsAndFisher, against: Against::Nothing, mean_gradient: false,
            passes: "1 forward, 1 backward", at_steps: Some([1, 1])
        }
        /// Distance of the block's outputs on rejected and chosen text; no backward pass (DINM) [O].
        ActDist = "act-dist" {
            evidence: Evidence::Activations, against: Against::Chosen, mean_gradient: false,
            passes: "2 forward", at_steps: Some([2, 0])
        }
        /// Attribution patching from rejected to chosen text [O].
        Atp = "atp" {
            evidence: Evidence::Activations, against: Against::Chosen, mean_gradient: false,
            passes: "2 forward, 1 backward", at_steps: Some([2, 1])
        }
        /// Attribution patching of what the block adds, averaged over five points between the rejected and the chosen
        /// text (EAP-IG) [O].
        EapIg = "eap-ig" {
            evidence: Evidence::Activations, against: Against::Chosen, mean_gradient: false,
            passes: "2 + 5 L / 2 forward, 5 L / 2 backward", at_steps: None
        }
        /// How much less likely rejected text is when the block adds what it adds on chosen text (activation patching)
        /// [O].
        Patching = "patching" {
            evidence: Evidence::Activations, against: Against::Chosen, mean_gradient: false,
            passes: "2 + L / 2 forward", at_steps: None
        }
        /// Share of the block's weights that are in the top 5 % by `snip` on rejected text and not on neutral text [O].
        SnipDiff = "snip-diff" {
            evidence: Evidence::StoredGradients, against: Against::Neutral, mean_gradient: true,
            passes: "2 forward, 2 backward", at_steps: Some([2, 2])
        }
        /// `snip-diff` with the size of a weight times the norm of its inputs (Wanda) for |weight times gradient| [O].
        WandaDiff = "wanda-diff" {
            evidence: Evidence::LayerInputs, against: Against::Neutral, mean_gradient: false,
            passes: "2 forward", at_steps: Some([2, 0])
        }
        /// How far a gate on what the unit writes closes when gates are trained to make rejected text less likely than
        /// chosen text, at a price for each that is not open (Hard Concrete) [O].
        Mask = "mask" {
            evidence: Evidence::Gates, against: Against::Chosen, mean_gradient: false,
            passes: "42 forward, 42 backward", at_steps: None
        }
        /// Uniform numbers: a control [O].
        Random = "random" {
            evidence: Evidence::Nothing, against: Against::Nothing, mean_gradient: false,
            passes: "none", at_steps: Some([0, 0])
        }
    }
}

/// What a metric is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Norms of weight gradients, which ghost norms give without storing a gradient.
    GradientNorms,
    /// Weight gradients themselves.
    StoredGradients,
    /// Weight gradients, and the diagonal of the model's Fisher matrix on neutral text (METHOD §27).
    GradientsAndFisher,
    /// Block outputs, and gradients of them.
    Activations,
    /// Inputs of linear layers.
    LayerInputs,
    /// Gates on the inputs of the projections that write to the residual stream, and gradients of them.
    Gates,
    /// No text at all.
    Nothing,
}

/// The text that a metric compares the rejected text with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// None.
    Nothing,
    /// The chosen text of the same pairs.
    Chosen,
    /// Neutral text: utility text where there is some, chosen text otherwise.
    Neutral,
}

/// One reduction of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReductionRow {
    /// Whether it takes the metric at a mean gradient ([`Metric::has_mean_gradient`]).
    pub at_mean_gradient: bool,
}

table! {
    /// How the values of several batches become one sensitivity (METHOD §3).
    pub enum Reduction("reduction"): ReductionRow {
        /// The metric at the mean gradient [D].
        NormOfMean = "norm-of-mean" { at_mean_gradient: true }
        /// Mean of the values of the batches [O].
        MeanOfNorm = "mean-of-norm" { at_mean_gradient: false }
    }
}

impl Metric {
    /// The reduction of METHOD §3 where the metric has it, the other one where not.
    pub fn default_reduction(self) -> Reduction {
        if self.has_mean_gradient() { Reduction::NormOfMean } else { Reduction::MeanOfNorm }
    }

    /// True when the metric may read chosen text.
    pub fn reads_chosen(self) -> bool {
        self.row().against != Against::Nothing
    }

    /// True when the metric has a value at the mean gradient of many batches (METHOD §3). The others are made from
    /// single texts, activations or noise: only their mean is defined.
    pub fn has_mean_gradient(self) -> bool {
        self.row().mean_gradient
    }

    /// True when the metric reads the Fisher matrix of the model that a run starts from.
    pub fn reads_fisher(self) -> bool {
        self.row().evidence == Evidence::GradientsAndFisher
    }

    /// True when units below the block have a value of their own; block outputs are of whole blocks.
    pub fn has_units(self) -> bool {
        self.row().evidence != Evidence::Activations
    }

    /// True when the metric compares the weights with the largest scores on two texts.
    pub fn compares_top_shares(self) -> bool {
        matches!(self, Self::SnipDiff | Self::WandaDiff)
    }

    /// How many entries CHANGELOG.md has that name the metric under *Numbers changed, of locators alone*: a ranking of
    /// another version is made again. No repair chooses by such a metric.
    pub fn numbers_version(self) -> u32 {
        u32::from(matches!(self, Self::EapIg | Self::Patching))
    }

    /// True when the metric comes from gradients of the weights.
    pub fn has_weight_gradients(self) -> bool {
        match self.row().evidence {
            Evidence::GradientNorms | Evidence::StoredGradients | Evidence::GradientsAndFisher => true,
            Evidence::Activations | Evidence::LayerInputs | Evidence::Gates | Evidence::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_metric_costs_at_a_step_is_what_its_passes_say() {
        for metric in Metric::ALL {
            let row = metric.row();
            let said = match row.at_steps {
                Some([0, 0]) => "none".to_owned(),
                Some([forward, 0]) => format!("{forward} forward"),
                Some([forward, backward]) => format!("{forward} forward, {backward} backward"),
                None => continue,
            };
            assert_eq!(row.passes, said, "{metric}");
            let texts = if row.against == Against::Nothing { 1 } else { 2 };
            assert!(row.at_steps == Some([0, 0]) || row.at_steps.is_some_and(|[n, _]| n == texts), "{metric}");
        }
    }
}
