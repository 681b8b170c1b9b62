//! The lines to measure, and the programs that measure each.

use std::path::Path;

/// A program that measures a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Program {
    /// `irepair-bench`.
    Ours,
    /// `irepair-bench` with a DPO step instead.
    OurDpo,
    /// `bench/peer.py --style published`.
    Published,
    /// `bench/peer.py --style tuned`.
    Tuned,
    /// TRL's trainer, in `bench/peer.py --style trl`.
    Trl,
    /// The bytes of a checkpoint, read in Python.
    Read,
}

impl Program {
    /// True if it runs in Python.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Published | Self::Tuned | Self::Trl | Self::Read)
    }

    /// Arguments that replace the line's own.
    pub(crate) fn instead(self) -> &'static [&'static str] {
        match self {
            Self::OurDpo => &["--what", "dpo"],
            Self::Read => &["--what", "read"],
            Self::Ours | Self::Published | Self::Tuned | Self::Trl => &[],
        }
    }
}

/// One line of the table.
pub(crate) struct Line {
    pub(crate) name: String,
    /// Upper limit of its rounds, for long lines.
    pub(crate) max_rounds: Option<usize>,
    /// Arguments of `irepair-bench`, which `bench/peer.py` understands too.
    pub(crate) args: Vec<String>,
    pub(crate) programs: Vec<Program>,
}

/// Arguments in one line.
pub(super) fn words(args: &str) -> Vec<String> {
    args.split_whitespace().map(str::to_owned).collect()
}

/// All lines, and the files they read.
pub(crate) struct Plan {
    pub(crate) lines: Vec<Line>,
    /// Arguments that write a checkpoint, and its directory.
    pub(crate) checkpoints: Vec<(Vec<String>, std::path::PathBuf)>,
    /// Number type of the machine's matrix products.
    pub(crate) dtype: &'static str,
}

impl Plan {
    /// The lines for a device.
    pub(crate) fn new(device: &str, rehearse: bool, home: &Path) -> Self {
        let dtype = if device == "cpu" { "f32" } else { "bf16" };
        let mut plan = Self { lines: Vec::new(), checkpoints: Vec::new(), dtype };
        let toy = if rehearse { " --n-layer 2 --n-embd 16 --n-head 2 --vocab-size 300 --tokens 16" } else { "" };
        if device == "cpu" {
            plan.on_cpu(toy, rehearse, home)
        } else {
            plan.on_gpu(toy)
        }
        plan
    }

    fn add(&mut self, name: &str, programs: &[Program], args: &str) {
        self.lines.push(Line {
            name: name.to_owned(),
            max_rounds: None,
            args: words(args),
            programs: programs.to_vec(),
        });
    }

    fn on_cpu(&mut self, toy: &str, rehearse: bool, home: &Path) {
        use Program::{OurDpo, Ours, Published, Read, Trl, Tuned};
        let all = [Ours, Published, Tuned];
        let (with_dpo, with_trl) = ([Ours, OurDpo, Published, Tuned], [Ours, Published, Tuned, Trl]);
        for (name, what) in [
            ("IRepair k = 1, GPT-2 124M", "irepair --top-k 1b"),
            ("IRepair top 20 %, GPT-2 124M", "irepair --top-k 20"),
            ("IRepair no KL k = 1, GPT-2 124M", "irepair-no-kl --top-k 1b"),
            ("DAPT, GPT-2 124M", "dapt"),
            ("DAPT+KL, GPT-2 124M", "dapt-kl"),
            ("DPO, GPT-2 124M", "dpo"),
        ] {
            let programs: &[Program] = match what {
                "irepair --top-k 1b" => &with_dpo,
                "dpo" => &with_trl,
                _ => &all,
            };
            self.add(name, programs, &format!("--what {what} --shape gpt2{toy}"));
        }
        self.add("IRepair k = 1, GPT-Neo 125M", &with_dpo, &format!("--what irepair --shape gpt-neo-125m{toy}"));
        for (method, what) in [("IRepair k = 1", "irepair --top-k 1b"), ("DPO", "dpo")] {
            let args = format!("--what {what} --shape smollm2-135m{toy}");
            self.add(&format!("{method}, SmolLM2 135M"), &all, &args);
        }
        // One step is enough: full fine-tuning of this size is measured for its memory.
        for what in ["irepair", "dapt"] {
            let name = format!("{}, GPT2-Large", if what == "dapt" { "DAPT" } else { "IRepair k = 1" });
            self.add(&name, &[Ours], &format!("--what {what} --shape gpt2-large{toy}"));
            self.lines.last_mut().into_iter().for_each(|line| line.max_rounds = Some(1));
        }
        for (name, what, batch) in [
            ("Greedy generation, 32 prompts", "generate", 32),
            ("Perplexity, 16 texts", "perplexity", 16),
            ("Last words (LAMBADA), 16 texts", "last-words", 16),
        ] {
            let args = format!("--what {what} --shape gpt2 --batch {batch}{toy}");
            self.add(&format!("{name}, GPT-2 124M"), &[Ours, Tuned], &args);
        }
        for shape in ["gpt2", "gpt2-large"] {
            let dir = home.join(if rehearse { format!("toy-{shape}") } else { shape.to_owned() });
            let at = format!("--shape {shape} --model {}", dir.display());
            self.add(&format!("Loading {shape}"), &[Ours, Tuned, Read], &format!("--what load {at}"));
            self.checkpoints.push((words(&format!("--what save --warm-up 0 {at}{toy}")), dir));
        }
    }

    fn on_gpu(&mut self, toy: &str) {
        for (shape, title) in [("gpt2-xl", "GPT2-XL"), ("gpt-neo-1.3b", "GPT-Neo 1.3B")] {
            for batch in [4, 32] {
                for (what, method) in [("irepair", "IRepair k = 1"), ("dpo", "DPO")] {
                    let args = format!("--what {what} --shape {shape} --batch {batch} --dtype bf16{toy}");
                    let name = format!("{method}, {title}, batch {batch}, bf16");
                    self.add(&name, &[Program::Ours, Program::Published, Program::Tuned], &args);
                }
            }
        }
    }
}
