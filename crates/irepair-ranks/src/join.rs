//! How ranks meet: all come to rank 0, which says where the others are; then any two of them connect.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::wire::{read_line, write_line};
use crate::{Error, Place, Result};

/// How long ranks wait for each other, seconds.
const WAIT_SECONDS: u64 = 120;

/// How long one who connects may take to give its first line.
const HELLO: Duration = Duration::from_secs(10);

/// The first line of one who connects.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    /// The release that speaks: what ranks send each other may change between releases.
    irepair: String,
    secret: String,
    rank: usize,
    n_ranks: usize,
    /// Where it waits for ranks above its own, on the address that it comes from.
    port: u16,
}

/// The answer of rank 0.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    refused: Option<String>,
    /// Where ranks 1 and above wait.
    addresses: Vec<SocketAddr>,
}

/// A connection to every other rank, by its number; none in this rank's own place.
pub(crate) fn join(place: &Place) -> Result<Vec<Option<TcpStream>>> {
    let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS);
    let found = if place.rank == 0 { meet(place, deadline)? } else { go(place, deadline)? };
    let mut streams: Vec<Option<TcpStream>> = (0..place.n_ranks).map(|_| None).collect();
    found.into_iter().for_each(|(rank, stream)| streams[rank] = Some(stream));
    Ok(streams)
}

/// Rank 0: waits for all, then tells them where the others are.
fn meet(place: &Place, deadline: Instant) -> Result<BTreeMap<usize, TcpStream>> {
    let unopened = |why: io::Error| Error::NoPort { address: place.address.clone(), why: why.to_string() };
    let listener = listen(&place.address).map_err(unopened)?;
    let found = accept(&listener, place, 1..place.n_ranks, deadline)?;
    let addresses: Vec<SocketAddr> = found.values().map(|(_, address)| *address).collect();
    for (rank, (stream, _)) in &found {
        let answer = Answer { refused: None, addresses: addresses.clone() };
        write_line(stream, &answer).map_err(|why| Error::Lost { rank: *rank, why: why.to_string() })?;
    }
    Ok(found.into_iter().map(|(rank, (stream, _))| (rank, stream)).collect())
}

/// Any other rank: goes to rank 0, then to those below it, and waits for those above.
fn go(place: &Place, deadline: Instant) -> Result<BTreeMap<usize, TcpStream>> {
    let unreachable = |why: io::Error| Error::Unreachable { address: place.address.clone(), why: why.to_string() };
    let first = connect(&place.address, deadline).map_err(unreachable)?;
    let here = first.local_addr().map_err(unreachable)?;
    let at = if is_local(&place.address) { here.ip() } else { anywhere(here.ip()) };
    let listener = TcpListener::bind((at, 0)).map_err(unreachable)?;
    let port = listener.local_addr().map_err(unreachable)?.port();
    let hello = Hello {
        irepair: env!("CARGO_PKG_VERSION").to_owned(),
        secret: place.secret.clone(),
        rank: place.rank,
        n_ranks: place.n_ranks,
        port,
    };
    let answer = write_line(&first, &hello).and_then(|()| {
        first.set_read_timeout(Some(left(deadline)))?;
        read_line::<Answer>(&first)
    });
    let answer = answer.map_err(|why| match why.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::Missing { n_ranks: place.n_ranks, missing: "unknown".to_owned(), seconds: WAIT_SECONDS }
        }
        io::ErrorKind::InvalidData => unreachable(io::Error::other("another program answers there")),
        _ => unreachable(why),
    })?;
    if let Some(reason) = answer.refused {
        return Err(Error::Refused { reason });
    }
    let first_ip = first.peer_addr().map_err(unreachable)?.ip();
    let mut found = BTreeMap::from([(0, first)]);
    for rank in 1..place.rank {
        let lost = |why: io::Error| Error::Lost { rank, why: why.to_string() };
        let mut address = *answer.addresses.get(rank - 1).ok_or_else(|| lost(io::ErrorKind::NotFound.into()))?;
        // It is on the machine of rank 0.
        if address.ip().is_loopback() {
            address.set_ip(first_ip);
        }
        let stream = connect(&address.to_string(), deadline).map_err(lost)?;
        write_line(&stream, &hello).map_err(lost)?;
        found.insert(rank, stream);
    }
    let above = accept(&listener, place, place.rank + 1..place.n_ranks, deadline)?;
    found.extend(above.into_iter().map(|(rank, (stream, _))| (rank, stream)));
    Ok(found)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// True for an address that only this machine can mean.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A port for all who may come: at every address of this machine, unless only this machine can mean the one given. The
/// name of a machine is often an alias of its loopback, where others do not reach it.
fn listen(address: &str) -> io::Result<TcpListener> {
    if is_local(address) {
        return TcpListener::bind(address);
    }
    let found: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    let first = first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))?;
    TcpListener::bind((anywhere(first.ip()), first.port()))
}

/// The address that stands for all of a kind.
fn anywhere(of: IpAddr) -> IpAddr {
    if of.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A connection, tried again while the other side is not there yet.
fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    loop {
        let tried = address.to_socket_addrs().and_then(|found| {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
            for address in found {
                match TcpStream::connect_timeout(&address, left(deadline).min(HELLO)) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        });
        match tried {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)),
            tried => return tried,
        }
    }
}

/// Waits for the `expected` ranks. Whoever else comes is turned away, however slowly it speaks.
fn accept(
    listener: &TcpListener,
    place: &Place,
    expected: Range<usize>,
    deadline: Instant,
) -> Result<BTreeMap<usize, (TcpStream, SocketAddr)>> {
    let failed = |why: io::Error| Error::NoPort { address: place.address.clone(), why: why.to_string() };
    listener.set_nonblocking(true).map_err(failed)?;
    let (said, heard) = mpsc::channel::<(Hello, TcpStream, SocketAddr)>();
    let mut found = BTreeMap::new();
    while found.len() < expected.len() {
        while let Ok((stream, from)) = listener.accept() {
            let said = said.clone();
            std::thread::spawn(move || {
                let hello = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(HELLO)));
                if let Ok(hello) = hello.and_then(|()| read_line::<Hello>(&stream)) {
                    let _ = said.send((hello, stream, from));
                }
            });
        }
        if let Ok((hello, stream, from)) = heard.recv_timeout(Duration::from_millis(20)) {
            match refusal(&hello, place, &expected, &found) {
                Some(reason) => {
                    let _ = write_line(&stream, &Answer { refused: Some(reason), addresses: Vec::new() });
                }
                None => drop(found.insert(hello.rank, (stream, SocketAddr::new(from.ip(), hello.port)))),
            }
        }
        if found.len() < expected.len() && Instant::now() >= deadline {
            let missing: Vec<String> =
                expected.filter(|rank| !found.contains_key(rank)).map(|r| r.to_string()).collect();
            let (n_ranks, missing) = (place.n_ranks, missing.join(", "));
            return Err(Error::Missing { n_ranks, missing, seconds: WAIT_SECONDS });
        }
    }
    Ok(found)
}

/// Why one who connects is no rank of this run.
fn refusal<T>(hello: &Hello, place: &Place, expected: &Range<usize>, found: &BTreeMap<usize, T>) -> Option<String> {
    let ours = env!("CARGO_PKG_VERSION");
    if hello.secret != place.secret {
        return Some("it belongs to another run".to_owned());
    }
    if hello.irepair != ours {
        return Some(format!("it is irepair {}, and rank {} is {ours}", hello.irepair, place.rank));
    }
    if hello.n_ranks != place.n_ranks {
        return Some(format!("it counts {} ranks, and rank {} counts {}", hello.n_ranks, place.rank, place.n_ranks));
    }
    if !expected.contains(&hello.rank) {
        return Some(format!("rank {} is not expected", hello.rank));
    }
    found.contains_key(&hello.rank).then(|| format!("rank {} is here already", hello.rank))
}
