//! Checks a repair's TOML and prints it with every default spelled out.
//!
//! `cargo run -p irepair-config --example check_config [FILE]`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use irepair_config::{Options, RepairOptions, from_str, to_toml};
use irepair_core::Diagnose;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (text, place) = match std::env::args().nth(1) {
        Some(path) => (std::fs::read_to_string(&path)?, path),
        None => ("method = 'dpo'\npolicy = 'dynamic'\ntop_k = '20%'\n".to_owned(), "the built-in example".to_owned()),
    };
    match from_str::<RepairOptions>(&text, &place) {
        Ok(options) => print!("{}", to_toml(&options.with_defaults())),
        Err(error) => println!("{}", error.diagnostic()),
    }
    Ok(())
}
