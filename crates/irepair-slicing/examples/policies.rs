//! What each policy chooses over six steps of one drifting set of sensitivities.
//!
//! `cargo run -p irepair-slicing --example policies`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use irepair_core::Sensitivities;
use irepair_core::spec::Number;
use irepair_slicing::{Memory, Policy, PolicySpec, SlicePolicy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for kind in Policy::ALL {
        let policy = SlicePolicy::new(&PolicySpec::new(*kind).with(Number::PolicyEvery, 2.0))?;
        let mut memory = Memory::default();
        print!("{kind:>9}:");
        for step in 0..6_u64 {
            // The error starts in block 1 and moves to block 3.
            let drift = step as f64;
            let measured = Sensitivities::new(vec![1.0, 6.0 - drift, 2.0, drift])?;
            let scope = policy.choose(&mut memory, step, Some(&measured), 4, 0)?;
            print!(" {scope:>4}");
        }
        println!();
    }
    Ok(())
}
