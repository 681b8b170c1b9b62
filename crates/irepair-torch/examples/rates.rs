//! GFLOP/s of products of matrices by both libraries, in turns, on this machine:
//! `cargo run --release -p irepair-torch --example rates -- 512 768 3072` (rows, inputs, outputs).

#![expect(clippy::print_stdout, reason = "an example")]

use std::time::Instant;

use irepair_torch::{library, linear_by_onednn};
use tch::{Device, Kind, Tensor, no_grad};

const ROUNDS: usize = 15;

fn main() {
    let sizes: Vec<i64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let &[n_rows, n_in, n_out] = sizes.as_slice() else {
        return println!("rates ROWS INPUTS OUTPUTS: three whole numbers, such as 512 768 3072");
    };
    let of = |size: [i64; 2]| Tensor::rand(size, (Kind::Float, Device::Cpu));
    let (x, stored, other) = (of([n_rows, n_in]), of([n_out, n_in]), of([n_in, n_out]).tr());
    for (name, weight) in [("[out, in]", &stored), ("[in, out]", &other)] {
        let (mut mkl, mut onednn) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            mkl.push(seconds(|| Some(x.linear(weight, None::<&Tensor>))));
            onednn.push(seconds(|| linear_by_onednn(&x, weight, None)));
        }
        let rate = |seconds: &mut Vec<f64>| {
            seconds.sort_by(f64::total_cmp);
            2e-9 * (n_rows * n_in * n_out) as f64 / seconds[ROUNDS / 2]
        };
        let (mkl, onednn) = (rate(&mut mkl), rate(&mut onednn));
        println!("weight {name}: MKL {mkl:.0}, oneDNN {onednn:.0} GFLOP/s; taken here: {:?}", library(n_rows, weight));
    }
}

/// Of one product, none of whose output is read before it is made: on a CPU it is made when the call returns.
fn seconds(product: impl Fn() -> Option<Tensor>) -> f64 {
    let start = Instant::now();
    drop(no_grad(|| product().expect("float32 matrices are taken")));
    start.elapsed().as_secs_f64()
}
