//! Several processes that repair one model together: how they are started, and how they end together.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use irepair_config::{RepairOptions, RepairPlan, resolve};
use irepair_core::fs::is_stream;
use irepair_core::{Diagnose, Diagnostic, ExitKind};
use irepair_model::exit_at_once;
use irepair_ranks::{LATEST_SECONDS, Place, Ranks, SECRET, TcpRanks};

use crate::error::CliError;
use crate::interrupt::{self, FOLLOW_STDIN};
use crate::locate::Locate;
use crate::rank::{Quiet, RanksArgs, of_ranks};
use crate::{diagnose, repair};

/// How long the first rank may take to save what it has after another one failed.
const SAVING_SECONDS: u64 = 600;

/// Threads of a rank, set by the process that starts it.
const THREADS: &str = "IREPAIR_RANK_THREADS";

/// Repairs: alone, as one of several ranks, or by starting them.
pub(crate) fn command(given: RepairOptions, plan: RepairPlan, RanksArgs { ranks }: &RanksArgs) -> anyhow::Result<()> {
    let n_asked = ranks.map(|n| n as usize);
    match (Place::from_environment()?, n_asked) {
        (Some(place), n) if n.is_some_and(|n| n != place.n_ranks) => {
            Err(CliError::OtherRanks { want: place.n_ranks, got: n.unwrap_or_default() }.into())
        }
        (Some(place), _) => as_rank(given, plan, &place),
        (None, Some(n)) if n > 1 => {
            refuse(n, &given, &plan)?;
            start(n, &plan)
        }
        (None, _) => repair::command((given, plan), None),
    }
}

/// Refuses what several ranks cannot do: share fewer micro-batches than they are, and read a pipe, which has its bytes
/// once.
fn refuse(n_ranks: usize, given: &RepairOptions, plan: &RepairPlan) -> anyhow::Result<()> {
    if given.accumulation.is_some_and(|n| n < n_ranks) {
        let got = format!("{} for {n_ranks} ranks", plan.accumulation);
        let want = "a micro-batch for every rank, or more";
        return Err(irepair_train::Error::BadSetting { key: "accumulation", want, got }.into());
    }
    match [Some(plan.pairs.as_path()), plan.utility.as_deref()].into_iter().flatten().find(|path| is_stream(path)) {
        Some(path) => Err(CliError::RanksPipe { path: path.to_owned() }.into()),
        None => Ok(()),
    }
}

/// Repairs as one of several ranks.
fn as_rank(given: RepairOptions, plan: RepairPlan, place: &Place) -> anyhow::Result<()> {
    if place.rank == 0 {
        let Place { n_ranks, address, .. } = place;
        tracing::info!(
            "rank 0 of {n_ranks}, which alone writes files and shows progress, waits for the others at {address}"
        );
    }
    let ranks = Arc::new(TcpRanks::join(place)?);
    let watched = Arc::downgrade(&ranks);
    ranks.on_loss(move |error| {
        if let Some(ranks) = watched.upgrade() {
            // Within a long computation: the last checkpoint is what is left.
            left_for(&ranks, error).iter().for_each(diagnose::show);
        }
        exit_at_once(i32::from(error.exit()));
    });
    let done = settled(given, plan, place).and_then(|settings| repair::command(settings, Some(&ranks)));
    let done = done.map_err(|error| ended(&ranks, error));
    if ranks.is_first() {
        let n_sent = ranks.n_bytes_sent() as f64 / f64::from(1 << 20);
        tracing::info!("rank 0 sent {n_sent:.1} MiB to others");
    }
    done
}

/// The settings of a rank, with what depends on how many there are.
fn settled(mut given: RepairOptions, plan: RepairPlan, place: &Place) -> anyhow::Result<(RepairOptions, RepairPlan)> {
    refuse(place.n_ranks, &given, &plan)?;
    if given.accumulation.is_none() {
        given.accumulation = Some(place.n_ranks);
    }
    // Ranks that find other memory free must not choose other batches.
    given.batch_size = Some(plan.batch_size);
    if given.threads.is_none() {
        given.threads = std::env::var(THREADS).ok().and_then(|n| n.parse().ok());
    }
    let device = (plan.device == "cuda").then(|| format!("cuda:{}", place.local_rank));
    let mut plan = resolve(&given, "the command line")?.located()?;
    if let Some(device) = device {
        plan.device = device;
    }
    Ok((given, plan))
}

/// Ends this rank's part because another one has ended; the message, where it is this rank that shows it.
fn left_for(ranks: &TcpRanks, error: &irepair_ranks::Error) -> Option<Diagnostic> {
    let (cause, shows) = (ranks.cause(error), ranks.shows(error));
    let error = cause.as_ref().unwrap_or(error);
    ranks.fail(error.exit(), &error.to_string(), shows);
    shows.then(|| error.diagnostic())
}

/// Ends this rank's part with an error: all others hear of it, and one of them shows it.
fn ended(ranks: &TcpRanks, error: anyhow::Error) -> anyhow::Error {
    let mut diagnostic = diagnose::diagnostic(&error);
    if let Some(of_others) = of_ranks(&error).filter(|error| error.is_of_another()) {
        let exit = of_others.exit();
        return match left_for(ranks, of_others) {
            Some(found) => CliError::Shown { found: Box::new(found) }.into(),
            None => Quiet(exit).into(),
        };
    }
    let exit = diagnostic.exit as u8;
    ranks.fail(exit, &diagnostic.what, true);
    if ranks.is_shown_below(&diagnostic.what) {
        return Quiet(exit).into();
    }
    if !ranks.is_first() {
        diagnostic.what = format!("rank {}: {}", ranks.rank(), diagnostic.what);
    }
    CliError::Shown { found: Box::new(diagnostic) }.into()
}

/// Starts `n` ranks of this very command on this machine, and ends as they end.
fn start(n: usize, plan: &RepairPlan) -> anyhow::Result<()> {
    let failed = |what: &str, error: std::io::Error| CliError::NoRank { what: what.to_owned(), why: error.to_string() };
    let program = std::env::current_exe().map_err(|error| failed("this program", error))?;
    // Held no longer than it takes to know a free port.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = usize::from(port.map_err(|error| failed("a port", error))?.port());
    let secret = secret();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ranks = Arc::new(Mutex::new(Vec::new()));
    let n_signals = stop_with_signal(&ranks)?;
    for rank in 0..n {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1));
        for (name, value) in
            [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", n), ("LOCAL_WORLD_SIZE", n), ("MASTER_PORT", port)]
        {
            command.env(name, value.to_string());
        }
        command.env("MASTER_ADDR", "127.0.0.1").env(SECRET, &secret).env(FOLLOW_STDIN, "1");
        command.env_remove("TORCHELASTIC_USE_AGENT_STORE").env_remove("IREPAIR_MASTER_PORT");
        if plan.threads.is_none() && plan.device == "cpu" {
            command.env(THREADS, (cores / n).max(1).to_string());
        }
        command.stdin(Stdio::piped()).stdout(if rank == 0 { Stdio::inherit() } else { Stdio::null() });
        own_group(&mut command);
        let child = command.spawn().map_err(|error| failed(&format!("rank {rank}"), error))?;
        ranks.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }
    let ended = wait(&ranks)?;
    if n_signals.load(Ordering::SeqCst) > 1 {
        diagnose::show(&interrupt::interrupted());
        return Err(Quiet(ExitKind::Interrupted as u8).into());
    }
    match ended {
        Ended { exit: 0, .. } => Ok(()),
        // Nothing is left that could have said it.
        Ended { killed: Some(rank), said: false, .. } => {
            Err(irepair_ranks::Error::Lost { rank, why: "a signal ended it".to_owned() }.into())
        }
        Ended { exit, .. } => Err(Quiet(exit).into()),
    }
}

/// A signal of the terminal goes to this process, which passes it on in its own way.
fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// A word that nothing but chance would find.
fn secret() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Each state has keys of its own, from the system.
    (0..4).map(|_| format!("{:016x}", RandomState::new().hash_one(std::process::id()))).collect()
}

type Children = Arc<Mutex<Vec<Child>>>;

/// The first signal asks all ranks to stop after their step, the second one ends them.
fn stop_with_signal(ranks: &Children) -> anyhow::Result<Arc<AtomicUsize>> {
    let (ranks, n_signals) = (Arc::clone(ranks), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&n_signals);
    let heard = move || {
        let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        for child in ranks.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if is_first {
                drop(child.stdin.take());
            } else {
                let _ = child.kill();
            }
        }
        if is_first {
            tracing::info!("stopping after this step; interrupt again to stop at once");
        }
    };
    ctrlc::set_handler(heard)
        .map_err(|error| CliError::NoRank { what: "signals".to_owned(), why: error.to_string() })?;
    Ok(n_signals)
}

/// How the ranks ended.
#[derive(Clone, Copy, Default)]
struct Ended {
    /// The code of the first that failed.
    exit: u8,
    /// The first that a signal ended.
    killed: Option<usize>,
    /// True when one that failed ended of itself, with a message.
    said: bool,
}

/// Waits until every rank has ended. Those that outlive a failed one too long are ended; the first may be saving what
/// it has.
fn wait(ranks: &Children) -> anyhow::Result<Ended> {
    let (mut ended, mut done, mut since) = (Ended::default(), BTreeSet::new(), None::<Instant>);
    loop {
        let mut children = ranks.lock().unwrap_or_else(PoisonError::into_inner);
        for (rank, child) in children.iter_mut().enumerate() {
            let status = match child.try_wait()? {
                Some(status) if done.insert(rank) && !status.success() => status,
                _ => continue,
            };
            since.get_or_insert_with(Instant::now);
            // A rank ended by a signal has no code: the others end with that of a lost rank.
            match status.code() {
                Some(_) => ended.said = true,
                None => drop(ended.killed.get_or_insert(rank)),
            }
            if ended.exit == 0 {
                ended.exit = status.code().map_or(ExitKind::Outcome as u8, |code| code as u8);
            }
        }
        if done.len() == children.len() {
            return Ok(ended);
        }
        for (rank, child) in children.iter_mut().enumerate() {
            let patience = Duration::from_secs(if rank == 0 { SAVING_SECONDS } else { LATEST_SECONDS });
            if since.is_some_and(|since| since.elapsed() > patience) && !done.contains(&rank) {
                let _ = child.kill();
            }
        }
        drop(children);
        std::thread::sleep(Duration::from_millis(20));
    }
}
