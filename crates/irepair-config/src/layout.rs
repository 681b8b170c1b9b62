//! Tables and figures of a report that rows stand in.

names! {
    /// A table whose rows are those that name it.
    TableKey {
        /// The headline numbers H1-H3 (METHOD §11).
        Headlines,
        /// RQ1: toxicity, perplexity and last-word accuracy.
        Rq1,
        /// The error left within KL budgets, and the hypervolume of the front (METHOD §20).
        Budgets,
        /// Where rows stopped, equal updates and equal compute, in one table (METHOD §20).
        Compare,
        /// Where trajectories end, and how much of the plane they dominate (METHOD §16).
        Trajectory,
        /// How fast the error returns with training on it (METHOD §10).
        Relearning,
        /// Toxicity by every scorer and prompt set.
        Scorers,
        /// Every measure of general ability.
        General,
        /// Whether the text has collapsed.
        Guard,
        /// Each row against the profile's subject, with tests (METHOD §16).
        Pairwise,
        /// RQ2: cost.
        Rq2,
        /// RQ3: which blocks to repair.
        Rq3,
        /// Slice size by policy.
        Ablation,
    }

    /// A figure that shows the rows that name it.
    FigureKey {
        /// Toxicity against perplexity, a point for each row.
        Pareto,
        /// The same plane, step by step.
        Trajectory,
        /// Fronts on validation data: toxicity against KL (METHOD §20).
        Front,
        /// Toxicity on validation data against counted compute.
        Compute,
        /// Which blocks were selected at which steps.
        Selection,
        /// Cost of a step in steps of the profile's baseline.
        Cost,
    }
}
