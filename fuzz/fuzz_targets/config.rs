//! Fuzz target of `irepair_fuzz::models::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| irepair_fuzz::run(irepair_fuzz::models::config::run, data));
