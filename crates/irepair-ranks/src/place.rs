//! Where a process stands among the ranks, as its launcher says.

use crate::{Error, Result};

/// Name of the variable that holds a word that only the ranks know.
pub const SECRET: &str = "IREPAIR_RANKS_SECRET";

/// A process's place among the ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which rank it is, from 0.
    pub rank: usize,
    /// How many there are.
    pub n_ranks: usize,
    /// Which it is on its machine, from 0: the number of its device.
    pub local_rank: usize,
    /// How many there are on its machine, which share its memory; one where the launcher does not say.
    pub n_local: usize,
    /// Where rank 0 waits for the others, `host:port`.
    pub address: String,
    /// What a process must say to be let in.
    pub secret: String,
}

impl Place {
    /// The place that the environment gives this process: torchrun's variables, which `irepair repair --ranks` sets too
    /// (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`), or those of a step of srun's. None for a
    /// process that is alone.
    ///
    /// # Errors
    /// [`Error::BadPlace`].
    pub fn from_environment() -> Result<Option<Self>> {
        Self::from(&|name| std::env::var(name).ok())
    }

    fn from(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let found = if variable("WORLD_SIZE").is_some() && variable("RANK").is_some() {
            Self::of_torchrun(variable)?
        } else if variable("SLURM_STEP_NUM_TASKS").is_some() && variable("SLURM_PROCID").is_some() {
            Self::of_srun(variable)?
        } else {
            return Ok(None);
        };
        Ok((found.n_ranks > 1).then_some(found))
    }

    fn of_torchrun(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let n_ranks = number(variable, "WORLD_SIZE")?;
        let rank = below(number(variable, "RANK")?, n_ranks, "RANK")?;
        let local_rank = number_or(rank, variable, "LOCAL_RANK")?;
        let n_local = number_or(1, variable, "LOCAL_WORLD_SIZE")?.max(1);
        let host = variable("MASTER_ADDR").unwrap_or_else(|| "127.0.0.1".to_owned());
        // The agents of torchrun hold the port itself, for a store of their own.
        let next = usize::from(variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|used| used == "True"));
        let port = match variable("IREPAIR_MASTER_PORT") {
            Some(_) => number(variable, "IREPAIR_MASTER_PORT")?,
            None if n_ranks > 1 => number(variable, "MASTER_PORT")? + next,
            None => 0,
        };
        if port > usize::from(u16::MAX) {
            return Err(Error::BadPlace { name: "MASTER_PORT", want: "a port below 65536", got: port.to_string() });
        }
        let secret = variable(SECRET).or_else(|| variable("TORCHELASTIC_RUN_ID")).unwrap_or_default();
        Ok(Self { rank, n_ranks, local_rank, n_local, address: address(&host, port), secret })
    }

    fn of_srun(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let n_ranks = number(variable, "SLURM_STEP_NUM_TASKS")?;
        let rank = below(number(variable, "SLURM_PROCID")?, n_ranks, "SLURM_PROCID")?;
        let local_rank = number_or(0, variable, "SLURM_LOCALID")?;
        let node = variable("SLURM_NODEID").and_then(|id| id.parse().ok()).unwrap_or(0);
        let n_local = variable("SLURM_STEP_TASKS_PER_NODE").and_then(|list| tasks_of(&list, node)).unwrap_or(1);
        let nodes = variable("SLURM_STEP_NODELIST").unwrap_or_else(|| "127.0.0.1".to_owned());
        let host = variable("MASTER_ADDR").unwrap_or_else(|| first_node(&nodes));
        let id = |name: &str| variable(name).and_then(|id| id.parse::<usize>().ok()).unwrap_or_default();
        let (job, step) = (id("SLURM_JOB_ID"), id("SLURM_STEP_ID"));
        // A port that two jobs on one machine do not share, as far as one can tell.
        let port = match variable("IREPAIR_MASTER_PORT") {
            Some(_) => number(variable, "IREPAIR_MASTER_PORT")?,
            None => 20_000 + (job * 16 + step % 16) % 20_000,
        };
        let secret = variable(SECRET).unwrap_or_else(|| format!("slurm {job}.{step}"));
        Ok(Self { rank, n_ranks, local_rank, n_local, address: address(&host, port), secret })
    }
}

/// `host:port`, with brackets around an address of IPv6.
fn address(host: &str, port: usize) -> String {
    let is_v6 = host.contains(':') && !host.starts_with('[');
    if is_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The first node of a list as Slurm writes them: `node[003-006,9],other`.
fn first_node(list: &str) -> String {
    let end = list.find([',', '[']).unwrap_or(list.len());
    let (name, rest) = list.split_at(end);
    match rest.strip_prefix('[') {
        Some(numbers) => {
            let end = numbers.find(['-', ',', ']']).unwrap_or(numbers.len());
            let suffix = numbers.split_once(']').map_or("", |(_, after)| after);
            let suffix = &suffix[..suffix.find([',', '[']).unwrap_or(suffix.len())];
            format!("{name}{}{suffix}", &numbers[..end])
        }
        None => name.to_owned(),
    }
}

/// The tasks of a node, of a list as Slurm writes them: `2(x3),1` is two on each of three nodes and one on the last.
fn tasks_of(list: &str, node: usize) -> Option<usize> {
    let mut first = 0usize;
    for run in list.split(',') {
        let (n_tasks, n_nodes) = run.split_once("(x").unwrap_or((run, "1)"));
        first = first.checked_add(n_nodes.trim_end_matches(')').parse().ok()?)?;
        if node < first {
            return n_tasks.parse().ok().filter(|n| *n > 0);
        }
    }
    None
}

fn number(variable: &dyn Fn(&str) -> Option<String>, name: &'static str) -> Result<usize> {
    let got = variable(name).unwrap_or_else(|| "nothing".to_owned());
    let found = got.trim().parse().ok().filter(|&n| n < 1 << 20);
    found.ok_or(Error::BadPlace { name, want: "a whole number", got })
}

/// The number of a variable, or another one where it is not set.
fn number_or(otherwise: usize, variable: &dyn Fn(&str) -> Option<String>, name: &'static str) -> Result<usize> {
    if variable(name).is_some() { number(variable, name) } else { Ok(otherwise) }
}

fn below(rank: usize, n_ranks: usize, name: &'static str) -> Result<usize> {
    let bad =
        || Error::BadPlace { name, want: "a number below that of the ranks", got: format!("{rank} of {n_ranks}") };
    if rank < n_ranks { Ok(rank) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Result<Option<Place>> {
        Place::from(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_process_without_a_launcher_is_alone() {
        assert_eq!(place(&[]).unwrap(), None);
        assert_eq!(place(&[("WORLD_SIZE", "1"), ("RANK", "0")]).unwrap(), None);
        // A batch script, which no srun has started.
        assert_eq!(place(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0"), ("SLURM_JOB_ID", "7")]).unwrap(), None);
    }

    #[test]
    fn torchrun_keeps_its_port_to_itself() {
        let mut given = vec![("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1"), ("MASTER_PORT", "29500")];
        given.push(("MASTER_ADDR", "node1"));
        let alone = place(&given).unwrap().unwrap();
        assert_eq!((alone.rank, alone.n_ranks, alone.local_rank, alone.n_local), (3, 4, 1, 1));
        assert_eq!((alone.address.as_str(), alone.secret.as_str()), ("node1:29500", ""));
        given.extend([("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RUN_ID", "abc")]);
        let under = place(&given).unwrap().unwrap();
        assert_eq!((under.address.as_str(), under.secret.as_str()), ("node1:29501", "abc"));
        given.extend([("LOCAL_WORLD_SIZE", "2"), ("IREPAIR_MASTER_PORT", "4000"), (SECRET, "word")]);
        let named = place(&given).unwrap().unwrap();
        assert_eq!((named.address.as_str(), named.secret.as_str(), named.n_local), ("node1:4000", "word", 2));
    }

    #[test]
    fn a_step_of_srun_meets_on_its_first_node() {
        let given = [
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_PROCID", "1"),
            ("SLURM_LOCALID", "0"),
            ("SLURM_STEP_NODELIST", "gpu[03-05,9]"),
            ("SLURM_NODEID", "0"),
            ("SLURM_STEP_TASKS_PER_NODE", "2"),
            ("SLURM_JOB_ID", "71"),
            ("SLURM_STEP_ID", "2"),
        ];
        let found = place(&given).unwrap().unwrap();
        assert_eq!(found.n_local, 2);
        assert_eq!((found.rank, found.local_rank, found.address.as_str()), (1, 0, "gpu03:21138"));
        for (list, first) in [("a,b", "a"), ("n[7]", "n7"), ("r[1-2]c[3-4],x", "r1c"), ("n[1,2]-ib", "n1-ib")] {
            assert_eq!(first_node(list), first);
        }
        assert_eq!(address("::1", 5), "[::1]:5");
        let tasks = |node| tasks_of("2(x2),1", node);
        assert_eq!([0, 1, 2, 3].map(tasks), [Some(2), Some(2), Some(1), None]);
        let odd = ["", "x", "2(x", "0", "2(x99999999999999999999)", "1,"].map(|list| tasks_of(list, 1));
        assert_eq!(odd, [None; 6]);
    }

    #[test]
    fn a_place_that_cannot_be_is_refused() {
        assert!(place(&[("WORLD_SIZE", "two"), ("RANK", "0")]).is_err());
        assert!(place(&[("WORLD_SIZE", "2"), ("RANK", "2"), ("MASTER_PORT", "1")]).is_err());
        assert!(place(&[("WORLD_SIZE", "2"), ("RANK", "1")]).is_err(), "no port");
    }
}
