//! Fuzz target of `irepair_fuzz::files::fault`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| irepair_fuzz::run(irepair_fuzz::files::fault::run, data));
