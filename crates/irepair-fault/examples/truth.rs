//! The units of a model and how a fault is recorded: `cargo run -p irepair-fault --example truth`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use irepair_arch::{Architecture, UnitMap};
use irepair_core::spec::{Operator, UnitKind};
use irepair_fault::{Fault, Faults, Ranking};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let map = UnitMap::new(&Architecture::gpt2(12, 768, 12, 1024, 50_257));
    for &kind in UnitKind::ALL {
        println!("{kind}: {} units", map.units(kind).count());
    }
    let faults = Faults::new(vec![Fault::new("3.head.5".parse()?, Operator::SignFlip, None, 0)]);
    print!("{}", faults.to_toml()?);
    // A locator that names the highest block first.
    let ranking = Ranking::of_scores(UnitKind::Block, map.units(UnitKind::Block).map(|u| (u, u.block.0 as f64)));
    println!("rank of the faulty block: {:?}", ranking.faulty_ranks(&faults)?);
    Ok(())
}
