//! Sums over ranks have the bits of the sum on one process.

use std::net::TcpListener;
use std::thread;

use irepair_model::{Gradients, add_gradients, sum_over_ranks};
use irepair_ranks::{Place, Ranks, TcpRanks, share_of};
use tch::{Kind, Tensor};

/// Gradients of part `p`: numbers whose sum depends on its order; every third part lacks a tensor, part 4 has none.
fn part(p: i64, kind: Kind) -> Gradients {
    let tensor = |index: usize, shape: &[i64]| {
        let n: i64 = shape.iter().product();
        let x =
            (Tensor::arange(n, (Kind::Double, tch::Device::Cpu)) * (p + 1) + index as i64).sin() * 10f64.powi(p as i32);
        (index, x.to_kind(kind).view(shape))
    };
    match p {
        4 => Gradients::new(),
        p if p % 3 == 1 => vec![tensor(2, &[5]), tensor(9, &[1])],
        _ => vec![tensor(2, &[5]), tensor(3, &[7, 11]), tensor(9, &[1])],
    }
}

fn bits(gradients: &Gradients) -> Vec<(usize, Vec<i64>, Vec<u64>)> {
    let bits = |t: &Tensor| Vec::<f64>::try_from(t.to_kind(Kind::Double).view(-1)).unwrap();
    let of = |(index, t): &(usize, Tensor)| (*index, t.size(), bits(t).iter().map(|x| x.to_bits()).collect());
    gradients.iter().map(of).collect()
}

#[test]
fn n_ranks_give_the_bits_of_one() {
    for (n_ranks, n_parts, kind) in
        [(1, 3, Kind::Float), (2, 6, Kind::Float), (3, 7, Kind::Float), (4, 4, Kind::BFloat16), (3, 2, Kind::Half)]
    {
        let mut alone = Gradients::new();
        (0..n_parts).for_each(|p| add_gradients(&mut alone, part(p, kind)));
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let start = |rank: usize| {
            let place =
                Place { rank, n_ranks, local_rank: 0, n_local: 1, address: address.clone(), secret: String::new() };
            thread::spawn(move || {
                let ranks = TcpRanks::join(&place).unwrap();
                let parts = share_of(rank, n_parts as usize, n_ranks).map(|p| part(p as i64, kind)).collect();
                let sum = sum_over_ranks(Some(&ranks), parts, tch::Device::Cpu).unwrap();
                assert!(n_ranks == 1 || ranks.n_bytes_sent() > 0);
                bits(&sum)
            })
        };
        let started: Vec<_> = (0..n_ranks).map(start).collect();
        for sum in started {
            assert_eq!(sum.join().unwrap(), bits(&alone), "{n_ranks} ranks, {n_parts} parts");
        }
    }
    assert!(sum_over_ranks(None, Vec::new(), tch::Device::Cpu).unwrap().is_empty());
}
