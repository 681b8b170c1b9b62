//! A scorer of a made-up language: trained, applied, measured.
//!
//! `cargo run -p irepair-scorer --example train_scorer [LABELS.jsonl DEV.jsonl]`

use std::path::Path;

use irepair_data::{Labeled, read_labels};
use irepair_scorer::{LinearSettings, Quality, Scorer, identity_check, train_linear};

fn made_up() -> Vec<Labeled> {
    let label = |i: usize| Labeled {
        text: format!(
            "{} at the {}, said number {i}",
            ["you grubnik", "good day", "rain"][i % 3],
            ["mill", "barn"][i % 2]
        ),
        toxic: i.is_multiple_of(3),
        source: None,
    };
    (0..400).map(label).collect()
}

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), irepair_scorer::Error> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let (train, dev) = match &files[..] {
        [train, dev] => (read_labels(Path::new(train))?, read_labels(Path::new(dev))?),
        _ => (made_up(), vec![Labeled { text: "a zorbly grubnik".into(), toxic: true, source: None }]),
    };
    let start = std::time::Instant::now();
    let scorer = train_linear(&train, "none".into(), LinearSettings::default())?;
    println!("{} in {:.1} s: {:?}", scorer.name(), start.elapsed().as_secs_f64(), scorer.manifest());
    let scores: Vec<Option<f64>> = dev.iter().map(|label| scorer.score(&label.text).ok()).collect();
    println!("{:?}", Quality::of(&scores, &dev.iter().map(|label| label.toxic).collect::<Vec<_>>()));
    let check = identity_check(&scorer);
    println!("{:?} {:?}", check.identity, check.control);
    Ok(())
}
