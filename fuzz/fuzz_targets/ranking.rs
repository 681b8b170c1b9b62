//! Fuzz target of `irepair_fuzz::files::ranking`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| irepair_fuzz::run(irepair_fuzz::files::ranking::run, data));
