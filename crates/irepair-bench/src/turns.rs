//! When a repetition is due: a number of times, or at every line on stdin.

use std::io::{self, Write};
use std::time::Instant;

use tch::{Cuda, Device};

use crate::{Args, Measured};

/// Runs `go` before anything is counted, then as often as it is asked for; `seconds` are those of the counted ones.
///
/// # Errors
/// Those of `go`.
#[expect(clippy::print_stdout, reason = "whoever paces this process reads its stdout")]
pub(crate) fn repeated<T>(
    args: &Args,
    tokens: f64,
    mut go: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<Measured> {
    // Calls return before a GPU has done the work.
    let device = args.device()?;
    let wait = || {
        if let Device::Cuda(index) = device {
            Cuda::synchronize(index as i64);
        }
    };
    for _ in 0..args.warm_up {
        go()?;
    }
    wait();
    let say = |word: &str| -> io::Result<()> {
        println!("{word}");
        io::stdout().flush()
    };
    if args.paced {
        say("ready")?;
    }
    let mut seconds = Vec::new();
    while if args.paced { io::stdin().read_line(&mut String::new())? > 0 } else { seconds.len() < args.repeat } {
        let started = Instant::now();
        go()?;
        wait();
        let taken = started.elapsed().as_secs_f64();
        seconds.push(taken);
        if args.paced {
            say(&taken.to_string())?;
        }
    }
    Ok(Measured { seconds, tokens, ..Measured::default() })
}
