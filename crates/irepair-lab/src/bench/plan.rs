//! What is measured.

use std::path::Path;

/// Who does a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
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

impl Who {
    /// Whether it runs in Python.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Published | Self::Tuned | Self::Trl | Self::Read)
    }

    /// What it does instead of the line's own part.
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
    /// Rounds it is worth at most; none = as many as the others.
    pub(crate) most_rounds: Option<usize>,
    /// Arguments of `irepair-bench`, which the peer understands too.
    pub(crate) args: Vec<String>,
    pub(crate) who: Vec<Who>,
}

/// All lines, and what they need to be there.
pub(crate) struct Plan {
    pub(crate) lines: Vec<Line>,
    /// Arguments that write what a line reads, and the directory where it then lies.
    pub(crate) checkpoints: Vec<(Vec<String>, std::path::PathBuf)>,
    /// Type that the machine's own products are measured in.
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

    fn add(&mut self, name: &str, who: &[Who], args: &str) {
        let args = args.split_whitespace().map(str::to_owned).collect();
        self.lines.push(Line { name: name.to_owned(), most_rounds: None, args, who: who.to_vec() });
    }

    fn on_cpu(&mut self, toy: &str, rehearse: bool, home: &Path) {
        use Who::{OurDpo, Ours, Published, Read, Trl, Tuned};
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
            let who: &[Who] = match what {
                "irepair --top-k 1b" => &with_dpo,
                "dpo" => &with_trl,
                _ => &all,
            };
            self.add(name, who, &format!("--what {what} --shape gpt2{toy}"));
        }
        self.add("IRepair k = 1, GPT-Neo 125M", &with_dpo, &format!("--what irepair --shape gpt-neo-125m{toy}"));
        // Full fine-tuning of this size is measured for its memory; one step of each shows it.
        for what in ["irepair", "dapt"] {
            let name = format!("{}, GPT2-Large", if what == "dapt" { "DAPT" } else { "IRepair k = 1" });
            self.add(&name, &[Ours], &format!("--what {what} --shape gpt2-large{toy}"));
            self.lines.iter_mut().rev().take(1).for_each(|line| line.most_rounds = Some(1));
        }
        let pair = [Ours, Tuned];
        self.add(
            "Greedy generation, 32 prompts, GPT-2 124M",
            &pair,
            &format!("--what generate --shape gpt2 --batch 32{toy}"),
        );
        for (name, what) in [("Perplexity", "perplexity"), ("Last words (LAMBADA)", "last-words")] {
            let args = format!("--what {what} --shape gpt2 --batch 16{toy}");
            self.add(&format!("{name}, 16 texts, GPT-2 124M"), &pair, &args);
        }
        for shape in ["gpt2", "gpt2-large"] {
            let dir = home.join(if rehearse { format!("toy-{shape}") } else { shape.to_owned() });
            let at = format!("--shape {shape} --model {}", dir.display());
            self.add(&format!("Loading {shape}"), &[Ours, Tuned, Read], &format!("--what load {at}"));
            let save = format!("--what save --warm-up 0 {at}{toy}");
            self.checkpoints.push((save.split_whitespace().map(str::to_owned).collect(), dir));
        }
    }

    fn on_gpu(&mut self, toy: &str) {
        for (shape, title) in [("gpt2-xl", "GPT2-XL"), ("gpt-neo-1.3b", "GPT-Neo 1.3B")] {
            for batch in [4, 32] {
                for (what, method) in [("irepair", "IRepair k = 1"), ("dpo", "DPO")] {
                    let args = format!("--what {what} --shape {shape} --batch {batch} --dtype bf16{toy}");
                    self.add(
                        &format!("{method}, {title}, batch {batch}, bf16"),
                        &[Who::Ours, Who::Published, Who::Tuned],
                        &args,
                    );
                }
            }
        }
    }
}
