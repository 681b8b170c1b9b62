//! Pairs, prompts, texts and tokens: read, check, tokenise, pad, draw; and the planted language.
