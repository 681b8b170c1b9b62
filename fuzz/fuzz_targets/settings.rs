//! Fuzz target of `irepair_fuzz::files::settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| irepair_fuzz::run(irepair_fuzz::files::settings::run, data));
