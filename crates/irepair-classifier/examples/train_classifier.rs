//! A tiny classifier of a made-up language: trained, written, read back, applied.
//!
//! `cargo run -p irepair-classifier --example train_classifier`

use irepair_classifier::{Classifier, TrainSettings, train_classifier};
use irepair_data::Labeled;
use irepair_scorer::Scorer;

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), irepair_classifier::Error> {
    let label = |i: usize| Labeled {
        text: format!(
            "{} at the {}, said number {i}",
            ["you grubnik", "good day", "rain"][i % 3],
            ["mill", "barn"][i % 2]
        ),
        toxic: i.is_multiple_of(3),
        source: None,
    };
    let labels: Vec<Labeled> = (0..240).map(label).collect();
    let settings = TrainSettings {
        vocab_size: 300,
        n_block: 2,
        n_embd: 32,
        n_head: 2,
        n_positions: 24,
        n_epochs: 6,
        batch_size: 16,
        lr: 3e-3,
        seed: 0,
    };
    let dir = std::env::temp_dir().join(format!("irepair-classifier-example-{}", std::process::id()));
    train_classifier(&labels, "none".into(), settings, &dir, |step, n_steps, loss| {
        if step.is_multiple_of(30) {
            println!("step {step} of {n_steps}: loss {loss:.3}");
        }
    })?;
    let classifier = Classifier::load(&dir, None, tch::Device::Cpu, 8)?;
    for text in ["a grubnik", "a good day", "good day at the barn, said number 1"] {
        println!("{}: {text}: {:?}", classifier.name(), classifier.score(text));
    }
    println!("written to {}", dir.display());
    Ok(())
}
