//! The crate's error type.

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

irepair_core::errors! {
    /// What can go wrong among ranks.
    pub enum Error {
        /// A rank ended, or was not heard from for too long.
        Lost { rank: usize, why: String } = "rank {rank} is gone: {why}" =>
            Outcome.help("all ranks end; run the same command again: it continues from the state that was kept last, or starts again");
        /// A rank failed and said why. `shown`: it has shown the message itself.
        Failed { rank: usize, message: String, exit: u8, shown: bool } = "rank {rank} failed: {message}" =>
            Outcome.help("see the message of that rank");
        /// Some ranks did not come.
        Missing { n_ranks: usize, missing: String, seconds: u64 } = "not all {n_ranks} ranks came within {seconds} s" =>
            Outcome.at(format!("missing: rank {missing}"))
                .help("see their messages; on several machines, MASTER_ADDR must be an address of rank 0's that all reach");
        /// Rank 0 cannot be reached.
        Unreachable { address: String, why: String } = "rank 0 cannot be reached: {why}" =>
            Outcome.at(address)
                .help("MASTER_ADDR and MASTER_PORT (IREPAIR_MASTER_PORT under torchrun) must be an address and a free port of the machine of rank 0");
        /// The port for the other ranks cannot be opened.
        NoPort { address: String, why: String } = "no port for the other ranks: {why}" =>
            Outcome.at(address).help("MASTER_PORT must be a free port of the machine of rank 0; under torchrun, which takes that one, IREPAIR_MASTER_PORT names another");
        /// Rank 0 turned this process away.
        Refused { reason: String } = "rank 0 refused this process: {reason}" =>
            Usage.help("start all ranks with the same command, each with a rank of its own");
        /// The environment names a place among ranks that cannot be.
        BadPlace { name: &'static str, want: &'static str, got: String } = "`{name}` is wrong" =>
            Usage.want_got(want, got).help("the launcher sets it: torchrun, srun or `--ranks`");
        /// A message of another rank is not what this one expects.
        OutOfStep { rank: usize, reason: String } = "rank {rank} is out of step: {reason}" =>
            Bug.help("this is a bug of irepair: please report it with the command you ran");
    }
}

impl Error {
    /// The exit code of the process that this error ends.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Failed { exit, .. } => *exit,
            _ => irepair_core::Diagnose::diagnostic(self).exit as u8,
        }
    }

    /// True when another rank has ended.
    pub fn is_of_another(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Lost { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_the_one_that_was_read() {
        insta::assert_snapshot!(irepair_core::every_diagnostic!(Error {
            Lost: [Error::Lost { rank: 1, why: "its connection was closed".into() }],
            Failed: [Error::Failed {
                rank: 2,
                message: "the loss is not finite at step 7".into(),
                exit: 5,
                shown: true
            }],
            Missing: [Error::Missing { n_ranks: 4, missing: "1, 3".into(), seconds: 120 }],
            Unreachable: [Error::Unreachable { address: "10.0.0.1:29500".into(), why: "connection refused".into() }],
            NoPort: [Error::NoPort { address: "127.0.0.1:29500".into(), why: "address already in use".into() }],
            Refused: [Error::Refused { reason: "rank 1 is here already".into() }],
            BadPlace: [Error::BadPlace { name: "RANK", want: "a whole number below WORLD_SIZE (2)", got: "2".into() }],
            OutOfStep: [Error::OutOfStep { rank: 1, reason: "message 4 came instead of 3".into() }],
        }));
    }
}
