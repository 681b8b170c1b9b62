//! Toxicity, perplexity, last-word accuracy, held-out KL, footprint: numbers that carry their definition.
