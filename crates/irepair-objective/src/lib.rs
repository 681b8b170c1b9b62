//! Training objectives as pure functions of tensors: NLL, KL, DAPT, DPO, NPO, IRepair.
