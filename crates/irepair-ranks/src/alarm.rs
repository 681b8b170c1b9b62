//! Signs of life: every rank is heard from every few seconds, or is gone.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;
use crate::group::{End, Group, Peer, held};
use crate::wire;

/// How often a rank says that it is there.
pub(crate) const BEAT: Duration = Duration::from_secs(2);

/// A rank that was silent for so long is gone.
pub(crate) const SILENCE: Duration = Duration::from_secs(12);

/// How long a rank may take to notice by itself that another one is gone.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// After so many seconds without a rank, all others have ended.
pub const MOST_SECONDS: u64 = SILENCE.as_secs() + LATEST_SECONDS + BEAT.as_secs();

/// After so many seconds without one that was seen to end, all others have ended.
pub const LATEST_SECONDS: u64 = GRACE.as_secs() + 1;

/// Says every few seconds that this rank is there, and notes who has fallen silent.
pub(crate) fn beat(group: &Group) {
    let mut last = group.started.elapsed();
    while !group.closed.load(Ordering::SeqCst) {
        let now = group.started.elapsed();
        // This process slept itself, as one that was suspended: what others sent meanwhile is still to be read.
        if now.saturating_sub(last) > SILENCE / 2 {
            let heard = |peer: &Peer| peer.heard.store(now.as_millis() as u64, Ordering::Relaxed);
            group.peers.iter().flatten().for_each(heard);
        }
        last = now;
        for peer in group.peers.iter().flatten() {
            // Where the lock is taken, bytes are on their way, which say it too.
            if let Ok(_writing) = peer.writing.try_lock() {
                let _ = wire::write_beat(&peer.stream);
            }
            let silent = now.saturating_sub(Duration::from_millis(peer.heard.load(Ordering::Relaxed)));
            if silent > SILENCE && held(&peer.end).is_none() {
                peer.ended(End::Lost(format!("it was silent for {} seconds", silent.as_secs())));
                // Whoever reads or writes there wakes up.
                let _ = peer.stream.shutdown(Shutdown::Both);
            }
        }
        sleep(BEAT);
    }
}

/// Calls `end` when a rank has been gone for a while and this one has not ended of itself.
pub(crate) fn watch(group: &Group, end: impl Fn(&Error)) {
    let mut since: Option<(usize, Instant)> = None;
    while !group.closed.load(Ordering::SeqCst) && !group.ending.load(Ordering::SeqCst) {
        let is_gone = |rank: &usize| {
            let peer = group.peers[*rank].as_ref();
            peer.is_some_and(|peer| matches!(&*held(&peer.end), Some(End::Lost(_) | End::Failed(_))))
        };
        match since {
            None => since = (0..group.peers.len()).find(is_gone).map(|rank| (rank, Instant::now())),
            Some((rank, noticed)) if noticed.elapsed() > GRACE => {
                end(&group.end_of(rank));
                return;
            }
            Some(_) => {}
        }
        sleep(Duration::from_millis(200));
    }
}
