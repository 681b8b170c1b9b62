//! DAPT, DAPT+KL, DPO and their relatives: an objective and the policy all.
