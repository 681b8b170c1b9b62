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
}

table! {
    /// How the sensitivity of a block is measured (METHOD §3).
    pub enum Metric("sensitivity metric"): MetricRow {
        /// L2 norm of the block's gradient on rejected text: the paper's [D].
        GradL2 = "grad-l2" { evidence: Evidence::GradientNorms, against: Against::Nothing, mean_gradient: true }
        /// `grad-l2` over the square root of the block's number of parameters [O].
        Density = "density" { evidence: Evidence::GradientNorms, against: Against::Nothing, mean_gradient: true }
        /// `grad-l2` over the L2 norm of the block's weights (surgical fine-tuning) [O].
        Relative = "relative" { evidence: Evidence::GradientNorms, against: Against::Nothing, mean_gradient: true }
        /// Sum of |weight times gradient| (SNIP) [O].
        Snip = "snip" { evidence: Evidence::StoredGradients, against: Against::Nothing, mean_gradient: true }
        /// Sum of squared per-example gradients: diagonal empirical Fisher [S].
        Fisher = "fisher" { evidence: Evidence::StoredGradients, against: Against::Nothing, mean_gradient: false }
        /// `grad-l2` on rejected text over `grad-l2` on neutral text [O].
        Contrast = "contrast" { evidence: Evidence::GradientNorms, against: Against::Neutral, mean_gradient: true }
        /// What a KL budget spent in the block buys: root of the gradient's square over the Fisher matrix on neutral
        /// text [O].
        Efficiency = "efficiency" { evidence: Evidence::GradientsAndFisher, against: Against::Nothing, mean_gradient: false }
        /// Distance of the block's outputs on rejected and chosen text; no backward pass (DINM) [O].
        ActDist = "act-dist" { evidence: Evidence::Activations, against: Against::Chosen, mean_gradient: false }
        /// Attribution patching from rejected to chosen text [O].
        Atp = "atp" { evidence: Evidence::Activations, against: Against::Chosen, mean_gradient: false }
        /// Uniform numbers: a control [O].
        Random = "random" { evidence: Evidence::Nothing, against: Against::Nothing, mean_gradient: false }
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

    /// True when the metric comes from gradients of the weights.
    pub fn has_weight_gradients(self) -> bool {
        match self.row().evidence {
            Evidence::GradientNorms | Evidence::StoredGradients | Evidence::GradientsAndFisher => true,
            Evidence::Activations | Evidence::Nothing => false,
        }
    }
}
