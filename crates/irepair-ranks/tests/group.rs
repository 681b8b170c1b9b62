//! Ranks on loopback: what they exchange, who is let in, and what happens when one is gone.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use irepair_ranks::{Error, MOST_SECONDS, Place, Ranks, TcpRanks, share_of};

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn place(rank: usize, n_ranks: usize, address: &str) -> Place {
    Place { rank, n_ranks, local_rank: rank, n_local: n_ranks, address: address.to_owned(), secret: "word".to_owned() }
}

/// Runs `work` on every rank, each in a thread; what they give, in their order.
fn on_all<T: Send + 'static>(n_ranks: usize, work: fn(TcpRanks) -> T) -> Vec<T> {
    let address = free_address();
    let start = |rank| {
        let place = place(rank, n_ranks, &address);
        thread::spawn(move || work(TcpRanks::join(&place).unwrap()))
    };
    let started: Vec<_> = (0..n_ranks).rev().map(start).collect();
    started.into_iter().rev().map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn every_rank_gets_what_was_meant_for_it() {
    for n in [1, 2, 3, 4] {
        let found = on_all(n, |ranks| {
            let (rank, n) = (ranks.rank() as u8, ranks.n_ranks());
            let to: Vec<[u8; 2]> = (0..n as u8).map(|other| [rank, other]).collect();
            let first = ranks.exchange(&to.each()).unwrap();
            // Long, so that no buffer of the system holds it.
            let long = vec![rank; 3 << 20];
            let second = ranks.gather(&long).unwrap();
            let third = ranks.gather(&[]).unwrap();
            assert_eq!(third, vec![Vec::<u8>::new(); n]);
            assert_eq!(ranks.n_bytes_sent(), ((n - 1) * (2 + (3 << 20))) as u64);
            (first, second)
        });
        for (rank, (first, second)) in found.iter().enumerate() {
            let meant: Vec<Vec<u8>> = (0..n).map(|from| vec![from as u8, rank as u8]).collect();
            assert_eq!(first, &meant);
            assert!(second.iter().enumerate().all(|(from, bytes)| bytes == &vec![from as u8; 3 << 20]));
        }
    }
}

trait Each {
    fn each(&self) -> Vec<&[u8]>;
}

impl Each for Vec<[u8; 2]> {
    fn each(&self) -> Vec<&[u8]> {
        self.iter().map(|bytes| &bytes[..]).collect()
    }
}

#[test]
fn a_rank_that_fails_tells_the_others_why() {
    let found = on_all(3, |ranks| {
        if ranks.rank() == 1 {
            ranks.fail(4, "no such file", true);
            return None;
        }
        let error = ranks.gather(b"mine").unwrap_err();
        assert!(!ranks.shows(&error));
        assert_eq!(ranks.is_shown_below("no such file"), ranks.rank() == 2);
        ranks.fail(error.exit(), &error.to_string(), false);
        Some((error.to_string(), error.exit()))
    });
    let said = Some(("rank 1 failed: no such file".to_owned(), 4));
    assert_eq!(found, [said.clone(), None, said]);
}

#[test]
fn a_rank_that_ends_early_is_an_error_of_the_others() {
    let found = on_all(2, |ranks| if ranks.rank() == 0 { None } else { ranks.gather(b"mine").err() });
    assert!(matches!(&found[1], Some(Error::Lost { rank: 0, .. })), "{found:?}");
}

/// A rank whose process stops without a word, as under SIGSTOP or a cut cable: its socket stays open.
#[test]
fn a_silent_rank_is_gone_in_time() {
    let address = free_address();
    let silent = {
        let address = address.clone();
        thread::spawn(move || {
            let stream = connect(&address);
            let hello = format!(
                r#"{{"irepair":"{}","secret":"word","rank":1,"n_ranks":2,"port":1}}"#,
                env!("CARGO_PKG_VERSION")
            );
            (&stream).write_all((hello + "\n").as_bytes()).unwrap();
            stream
        })
    };
    let ranks = TcpRanks::join(&place(0, 2, &address)).unwrap();
    let _open = silent.join().unwrap();
    let started = Instant::now();
    let error = ranks.gather(b"mine").unwrap_err();
    assert!(matches!(&error, Error::Lost { rank: 1, why } if why.contains("silent")), "{error}");
    assert!(ranks.shows(&error));
    assert!(started.elapsed() < Duration::from_secs(MOST_SECONDS));
}

fn connect(address: &str) -> TcpStream {
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn a_rank_within_a_long_computation_is_told() {
    let found = on_all(2, |ranks| {
        if ranks.rank() == 1 {
            ranks.fail(5, "the loss is not finite", true);
            return None;
        }
        let (told, tell) = mpsc::channel();
        ranks.on_loss(move |error| told.send(error.to_string()).unwrap());
        tell.recv_timeout(Duration::from_secs(MOST_SECONDS)).ok()
    });
    assert_eq!(found[0].as_deref(), Some("rank 1 failed: the loss is not finite"));
}

#[test]
fn others_are_turned_away_and_the_run_continues() {
    let address = free_address();
    let others = {
        let address = address.clone();
        thread::spawn(move || {
            let silent = connect(&address);
            let mut noise = connect(&address);
            noise.write_all(&[0xff; 100]).unwrap();
            noise.write_all(b"\n").unwrap();
            let wrong = Place { secret: "guess".to_owned(), ..place(1, 2, &address) };
            let refused = TcpRanks::join(&wrong).unwrap_err();
            let counts = TcpRanks::join(&place(1, 3, &address)).unwrap_err();
            // Rank 0 has the port already.
            let twice = TcpRanks::join(&place(0, 2, &address)).unwrap_err();
            drop((silent, noise));
            (refused.to_string(), counts.to_string(), matches!(twice, Error::NoPort { .. }))
        })
    };
    let first = {
        let address = address.clone();
        thread::spawn(move || TcpRanks::join(&place(0, 2, &address)).unwrap().gather(b"0").unwrap())
    };
    let (refused, counts, no_port) = others.join().unwrap();
    assert_eq!(refused, "rank 0 refused this process: it belongs to another run");
    assert_eq!(counts, "rank 0 refused this process: it counts 3 ranks, and rank 0 counts 2");
    assert!(no_port);
    let second = TcpRanks::join(&place(1, 2, &address)).unwrap().gather(b"1").unwrap();
    assert_eq!((first.join().unwrap(), second), (vec![vec![b'0'], vec![b'1']], vec![vec![b'0'], vec![b'1']]));
}

#[test]
fn shares_are_whole() {
    for (n, n_ranks) in [(7, 3), (2, 4), (0, 2), (8, 8)] {
        let all: Vec<usize> = (0..n_ranks).flat_map(|rank| share_of(rank, n, n_ranks)).collect();
        assert_eq!(all, (0..n).collect::<Vec<_>>());
    }
}
