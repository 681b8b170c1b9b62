//! The ranks that have met, each connected with every other one.

use std::io::{self, BufReader};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::alarm::{self, SILENCE};
use crate::wire::{self, Failure, Frame};
use crate::{Error, Place, Ranks, Result, join};

/// How another rank ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// It finished.
    Finished,
    /// It failed.
    Failed(Failure),
    /// It is gone.
    Lost(String),
}

/// Another rank.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// Held while a frame is written.
    pub(crate) writing: Mutex<()>,
    inbox: Mutex<Receiver<(u64, Vec<u8>)>>,
    /// Milliseconds after the start at which bytes last came from it.
    pub(crate) heard: AtomicU64,
    pub(crate) end: Mutex<Option<End>>,
}

/// What threads share.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) rank: usize,
    n_local: usize,
    pub(crate) peers: Vec<Option<Peer>>,
    pub(crate) started: Instant,
    /// True once this rank has ended.
    pub(crate) closed: AtomicBool,
    /// True once it ends by itself.
    pub(crate) ending: AtomicBool,
    n_exchanges: Mutex<u64>,
    n_sent: AtomicU64,
}

/// Ranks connected over TCP.
#[derive(Debug)]
pub struct TcpRanks(Arc<Group>);

/// A lock whose holder panicked is still a lock.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a connection broke, where the process at its other end is gone or the way to it.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "its connection was closed".to_owned()
        }
        _ => error.to_string(),
    }
}

impl TcpRanks {
    /// Meets the other ranks.
    ///
    /// # Errors
    /// When not all come in time, rank 0 cannot be reached or turns this process away.
    pub fn join(place: &Place) -> Result<Self> {
        let lost = |rank: usize, why: io::Error| Error::Lost { rank, why: why.to_string() };
        let (mut peers, mut readers) = (Vec::new(), Vec::new());
        for (rank, stream) in join::join(place)?.into_iter().enumerate() {
            let Some(stream) = stream else {
                peers.push(None);
                continue;
            };
            let prepared = stream.set_nodelay(true).and_then(|()| {
                stream.set_read_timeout(None)?;
                stream.set_write_timeout(Some(SILENCE))?;
                stream.try_clone()
            });
            let (to_inbox, inbox) = channel();
            readers.push((rank, prepared.map_err(|why| lost(rank, why))?, to_inbox));
            let (writing, heard, end) = (Mutex::new(()), AtomicU64::new(0), Mutex::new(None));
            peers.push(Some(Peer { stream, writing, inbox: Mutex::new(inbox), heard, end }));
        }
        let group = Arc::new(Group {
            rank: place.rank,
            n_local: place.n_local,
            peers,
            started: Instant::now(),
            closed: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            n_exchanges: Mutex::new(0),
            n_sent: AtomicU64::new(0),
        });
        for (rank, stream, to_inbox) in readers {
            let group = Arc::clone(&group);
            std::thread::spawn(move || group.listen(rank, stream, &to_inbox));
        }
        let watched = Arc::clone(&group);
        std::thread::spawn(move || alarm::beat(&watched));
        Ok(Self(group))
    }

    /// How many ranks share the memory of this machine, as far as the launcher said.
    pub fn n_local(&self) -> usize {
        self.0.n_local
    }

    /// Calls `end` where another rank is gone and this one does not come to notice by itself: it is within a long
    /// computation. `end` ends the process; without it the next exchange fails.
    pub fn on_loss(&self, end: impl Fn(&Error) + Send + 'static) {
        let group = Arc::clone(&self.0);
        std::thread::spawn(move || alarm::watch(&group, end));
    }

    /// Tells all others that this rank ends with a message, and whether it shows it itself.
    pub fn fail(&self, exit: u8, message: &str, shown: bool) {
        let failure = Failure { exit, shown, message: message.to_owned() };
        self.0.close(|stream| wire::write_failed(stream, &failure));
    }

    /// True where this rank shows the message of `error`: no other has, and it is the first of those left.
    pub fn shows(&self, error: &Error) -> bool {
        let is_out = |peer: &Peer| match &*held(&peer.end) {
            Some(End::Lost(_)) => true,
            Some(End::Failed(failure)) => !failure.shown,
            _ => false,
        };
        match error {
            Error::Failed { shown: true, .. } => false,
            Error::Lost { .. } | Error::Failed { .. } => self.0.peers[..self.0.rank].iter().flatten().all(is_out),
            _ => true,
        }
    }

    /// What began the end of all, where `error` is of a rank that ended because of it: the rank that is gone.
    pub fn cause(&self, error: &Error) -> Option<Error> {
        let is_lost = |rank: &usize| self.0.peers[*rank].as_ref().is_some_and(Peer::is_lost);
        let is_of_another = matches!(error, Error::Failed { shown: false, .. });
        (0..self.n_ranks()).find(is_lost).filter(|_| is_of_another).map(|rank| self.0.end_of(rank))
    }

    /// True where a rank below this one has shown `message`, or does so soon.
    pub fn is_shown_below(&self, message: &str) -> bool {
        let shown = |peer: &Peer| matches!(&*held(&peer.end), Some(End::Failed(failure)) if failure.message == message);
        let until = Instant::now() + alarm::BEAT;
        while self.0.rank > 0 && Instant::now() < until {
            if self.0.peers[..self.0.rank].iter().flatten().any(shown) {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        false
    }
}

impl Peer {
    fn is_lost(&self) -> bool {
        matches!(&*held(&self.end), Some(End::Lost(_)))
    }

    /// Notes how it ended; the first end is the one that counts.
    pub(crate) fn ended(&self, end: End) {
        held(&self.end).get_or_insert(end);
    }

    fn write(&self, write: impl FnOnce(&TcpStream) -> io::Result<()>) -> io::Result<()> {
        let _writing = held(&self.writing);
        write(&self.stream)
    }
}

impl Group {
    /// Reads what a rank sends until it ends.
    fn listen(&self, rank: usize, stream: TcpStream, inbox: &Sender<(u64, Vec<u8>)>) {
        let Some(peer) = &self.peers[rank] else { return };
        let heard = || peer.heard.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        let mut from = BufReader::with_capacity(1 << 18, stream);
        let end = loop {
            match wire::read(&mut from, heard) {
                Ok(Frame::Data(number, bytes)) => drop(inbox.send((number, bytes))),
                Ok(Frame::Beat) => {}
                Ok(Frame::Failed(failure)) => break End::Failed(failure),
                Ok(Frame::Bye) => break End::Finished,
                Err(error) => break End::Lost(said(&error)),
            }
        };
        peer.ended(end);
        // The sender of the inbox is dropped here: whoever waits for bytes looks at the end.
    }

    /// The error of a rank that ended before it sent what was waited for.
    pub(crate) fn end_of(&self, rank: usize) -> Error {
        let end = self.peers[rank].as_ref().and_then(|peer| held(&peer.end).clone());
        match end {
            Some(End::Failed(Failure { exit, shown, message })) => Error::Failed { rank, message, exit, shown },
            Some(End::Lost(why)) => Error::Lost { rank, why },
            Some(End::Finished) => Error::Lost { rank, why: "it has finished before this one".to_owned() },
            None => Error::Lost { rank, why: "its connection was closed".to_owned() },
        }
    }

    /// Ends the part of this rank: a last word to all others.
    fn close(&self, word: impl Fn(&TcpStream) -> io::Result<()>) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        for peer in self.peers.iter().flatten() {
            let _ = peer.write(&word);
            let _ = peer.stream.shutdown(Shutdown::Write);
        }
    }
}

impl Ranks for TcpRanks {
    fn rank(&self) -> usize {
        self.0.rank
    }

    fn n_ranks(&self) -> usize {
        self.0.peers.len()
    }

    fn exchange(&self, to: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let (group, n) = (&self.0, self.n_ranks());
        let mut count = held(&group.n_exchanges);
        let number = *count;
        *count += 1;
        // Each begins with the one after it, so that not all write to the same one.
        for rank in (1..n).map(|step| (group.rank + step) % n) {
            let Some(peer) = &group.peers[rank] else { continue };
            if let Err(error) = peer.write(|stream| wire::write_data(stream, number, to[rank])) {
                // It may have said why before.
                if held(&peer.end).is_none() {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                peer.ended(End::Lost(said(&error)));
                return Err(group.end_of(rank));
            }
            group.n_sent.fetch_add(to[rank].len() as u64, Ordering::Relaxed);
        }
        let mut found = Vec::with_capacity(n);
        for (rank, peer) in group.peers.iter().enumerate() {
            let Some(peer) = peer else {
                found.push(to[rank].to_vec());
                continue;
            };
            match held(&peer.inbox).recv() {
                Ok((theirs, bytes)) if theirs == number => found.push(bytes),
                Ok((theirs, _)) => {
                    let reason = format!("message {theirs} came instead of {number}");
                    return Err(Error::OutOfStep { rank, reason });
                }
                Err(_) => return Err(group.end_of(rank)),
            }
        }
        Ok(found)
    }

    fn ends_itself(&self) {
        self.0.ending.store(true, Ordering::SeqCst);
    }

    fn n_bytes_sent(&self) -> u64 {
        self.0.n_sent.load(Ordering::Relaxed)
    }
}

impl Drop for TcpRanks {
    fn drop(&mut self) {
        self.0.close(|stream| wire::write_bye(stream));
    }
}
