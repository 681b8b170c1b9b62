//! GPT-2 and GPT-Neo on libtorch: load, run, generate, freeze by block, write back.
