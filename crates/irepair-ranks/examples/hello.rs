//! Three ranks in one process tell each other their numbers: `cargo run -p irepair-ranks --example hello`.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use irepair_ranks::{Place, Ranks, Result, TcpRanks};

fn main() -> std::io::Result<()> {
    let n_ranks = 3;
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.map_or_else(|_| "127.0.0.1:29500".to_owned(), |address| address.to_string());
    let start = |rank| {
        // A launcher says this in the environment: `Place::from_environment`.
        let place = Place {
            rank,
            n_ranks,
            local_rank: rank,
            n_local: n_ranks,
            address: address.clone(),
            secret: "word".to_owned(),
        };
        thread::spawn(move || -> Result<String> {
            let ranks = TcpRanks::join(&place)?;
            let all = ranks.gather(format!("rank {rank}").as_bytes())?;
            let all: Vec<String> = all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
            Ok(format!("rank {rank} heard: {}; {} bytes sent", all.join(", "), ranks.n_bytes_sent()))
        })
    };
    let started: Vec<_> = (0..n_ranks).map(start).collect();
    let mut out = std::io::stdout();
    for rank in started {
        let said =
            rank.join().unwrap_or_else(|_| Ok("a rank panicked".to_owned())).unwrap_or_else(|error| error.to_string());
        writeln!(out, "{said}")?;
    }
    Ok(())
}
