//! IRepair: the sensitivity-guided slicer and the method built on it.
