//! How the losses move as a model leaves its reference: one text it should say, one it should not, six made-up words.
//!
//! `cargo run -p irepair-objective --example losses`
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;

use irepair_core::spec::{Method, Term};
use irepair_objective::{Objective, Scores, TextLogits};
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let (chosen, rejected) =
        (Tensor::from_slice(&[0i64, 1, 2]).view([1, 3]), Tensor::from_slice(&[0i64, 4, 5]).view([1, 3]));
    let real = Tensor::ones([1, 3], (Kind::Bool, Device::Cpu));
    // The reference knows nothing; the model is it plus `lean` on the chosen words.
    let reference = Tensor::zeros([1, 3, 6], (Kind::Float, Device::Cpu));
    let direction = Tensor::from_slice(&[0f32, 1.0, 1.0, 0.0, -1.0, -1.0]);

    println!("lean   NLL(chosen)   KL   repair   DPO   NPO");
    for lean in [0.0, 0.5, 1.0, 2.0, 4.0] {
        let logits = &reference + lean * &direction;
        let log_probs = |ids, logits| TextLogits::new(ids, &real, logits).log_probs();
        let scores = Scores {
            chosen: Some(log_probs(&chosen, &logits)?),
            rejected: Some(log_probs(&rejected, &logits)?),
            ref_chosen: Some(log_probs(&chosen, &reference)?),
            ref_rejected: Some(log_probs(&rejected, &reference)?),
            utility: Some(TextLogits::new(&chosen, &real, &logits).divergences(&reference)?),
        };
        let repair = Objective::from(Method::Irepair).loss(&scores)?;
        let total = |term: Term| Objective::from(term).loss(&scores).map(|loss| loss.total.double_value(&[]));
        let part = |tensor: &Option<Tensor>| tensor.as_ref().map_or(f64::NAN, |t| t.double_value(&[]));
        println!(
            "{lean:>4.1}   {:>11.3} {:>4.2}   {:>6.3} {:>5.3} {:>5.2}",
            part(&repair.nll),
            part(&repair.kl),
            repair.total.double_value(&[]),
            total(Term::Dpo { beta: 0.1 })?,
            total(Term::Npo { beta: 0.1 })?,
        );
    }
    println!("At lean 0 the model is its reference: KL = 0 and the DPO loss is ln 2 = {:.3}.", 2f64.ln());
    println!("The repair loss turns up again where the KL outweighs what the chosen text gains.");
    Ok(())
}
