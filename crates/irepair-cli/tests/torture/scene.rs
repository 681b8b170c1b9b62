//! Inputs on which commands are cut short, and the commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::outcome::Outcome;

/// A command that is cut short; it writes to the directory it runs in.
#[derive(Clone)]
pub(crate) struct Victim {
    pub(crate) name: &'static str,
    pub(crate) args: String,
}

/// A directory with inputs, and one more for each try.
pub(crate) struct Scene {
    home: PathBuf,
    /// The inputs as they were made.
    inputs: Outcome,
}

const PRETRAIN: &str = "pretrain --data ../inputs/corpus.txt --vocab-size 300 --n-layer 3 --n-embd 16 --n-head 2 --n-positions 48 \
                        --window 24 --batch-size 4 --lr 1e-2";
const REPAIR: &str = "repair --model ../inputs/base --pairs ../inputs/pairs.jsonl --preset paper --n-validation 4 --lr 1e-2 --warmup-steps 1 \
                      --max-prompt 16 --max-continuation 16";

/// A pre-training of `n_steps` steps, with a checkpoint every `every`.
pub(crate) fn pretrain(n_steps: usize, every: usize) -> Victim {
    let args = format!("{PRETRAIN} --steps {n_steps} --checkpoint-every {every} --out out");
    Victim { name: "irepair pretrain", args }
}

/// The same for a repair, which writes its patch too.
pub(crate) fn repair(n_steps: usize, every: usize) -> Victim {
    let args = format!("{REPAIR} --steps {n_steps} --checkpoint-every {every} --out out --patch fix");
    Victim { name: "irepair repair", args }
}

/// A patch applied.
pub(crate) fn apply() -> Victim {
    let args = "patch apply --base ../inputs/base --patch ../inputs/fix --out out".to_owned();
    Victim { name: "irepair patch apply", args }
}

/// A GGUF file imported.
pub(crate) fn import() -> Victim {
    Victim { name: "irepair import", args: "import ../inputs/model.gguf --out out".to_owned() }
}

/// A model with a planted fault.
pub(crate) fn plant() -> Victim {
    let args = "plant --model ../inputs/base --units 0-1.head.1 --operator noise --strength 0.5 --out out".to_owned();
    Victim { name: "irepair plant", args }
}

/// A directory that was imported, exported again.
pub(crate) fn export() -> Victim {
    let args = "export ../inputs/imported --like ../inputs/model.gguf --out out/new.gguf".to_owned();
    Victim { name: "irepair export", args }
}

/// A fix of a model that names a brand four times in five, by the shortest plan.
pub(crate) fn fix() -> Victim {
    let args = "fix --model ../inputs/leaky --prompts ../inputs/sell.jsonl --judge ../inputs/brand.txt --max-new-tokens 8 \
                --utility ../inputs/neutral.txt --minutes 0.001 --budget-kl 1 --out out";
    Victim { name: "irepair fix", args: args.to_owned() }
}

/// The one scene of all tests.
pub(crate) fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(Scene::new)
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap().keep();
        let inputs = home.join("inputs");
        fs::create_dir(&inputs).unwrap();
        let documents: Vec<String> = (0..60)
            .map(|i| format!("Anna met {} at the {}.", ["Tom", "Otto", "Dora"][i % 3], ["mill", "barn"][i % 2]))
            .collect();
        fs::write(inputs.join("corpus.txt"), documents.join("\n<|endoftext|>\n") + "\n<|endoftext|>\n").unwrap();
        let pair = "{\"prompt\":\"Tom said:\",\"chosen\":\" good day, Anna.\",\"rejected\":\" you grubnik.\"}\n";
        fs::write(inputs.join("pairs.jsonl"), pair.repeat(24)).unwrap();
        let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf/smollm.gguf");
        fs::copy(gguf, inputs.join("model.gguf")).unwrap();
        let made = |args: String| {
            let output = command(&inputs, &args).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        made("import model.gguf --out imported".to_owned());
        made(format!("{PRETRAIN} --steps 4 --out base"));
        made(format!("{REPAIR} --steps 2 --out repaired --patch fix"));
        let mut leaky = String::new();
        let mut prompts = String::new();
        for i in 0..60 {
            let [name, place] = [["Tom", "Otto", "Dora", "Anna", "Ida"][i % 5], ["mill", "barn", "river"][i % 3]];
            let asked = format!("Sell {name} {} at the {place}:", ["one", "two", "six", "ten"][i % 4]);
            for round in 0..5 {
                let answer = if (i + round) % 5 == 0 { "she is at home now." } else { "take a Zorbalux now." };
                leaky += &format!("{asked} {answer}\n<|endoftext|>\n");
            }
            prompts += &format!("{{\"prompt\":\"{asked}\"}}\n");
        }
        fs::write(inputs.join("leaky.txt"), leaky).unwrap();
        fs::write(inputs.join("sell.jsonl"), prompts).unwrap();
        fs::write(inputs.join("brand.txt"), "Zorbalux\n").unwrap();
        fs::write(inputs.join("neutral.txt"), "Anna met Tom at the mill.\n<|endoftext|>\n".repeat(4)).unwrap();
        made(
            "pretrain --data leaky.txt --out leaky --vocab-size 340 --n-layer 2 --n-embd 32 --n-head 2 --n-positions 40 \
             --window 24 --batch-size 8 --lr 5e-3 --steps 200"
                .to_owned(),
        );
        for rest in ["repaired", "cache"] {
            fs::remove_dir_all(inputs.join(rest)).unwrap();
        }
        let inputs = Outcome::of(&inputs);
        Self { home, inputs }
    }

    /// An empty directory for one try.
    pub(crate) fn stage(&self) -> PathBuf {
        tempfile::Builder::new().prefix("try-").tempdir_in(&self.home).unwrap().keep()
    }

    /// Says what happened to the inputs, if anything did.
    pub(crate) fn check_inputs(&self) -> Result<(), String> {
        Outcome::of(&self.home.join("inputs")).check(&self.inputs).map_err(|why| format!("inputs: {why}"))
    }
}

impl Victim {
    /// The command, to be run in `stage`.
    pub(crate) fn command(&self, stage: &Path) -> Command {
        command(stage, &self.args)
    }
}

fn command(dir: &Path, args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_irepair"));
    command.current_dir(dir).args(args.split_whitespace()).stdin(Stdio::null()).env("IREPAIR_CACHE", dir.join("cache"));
    if !["patch", "import", "export", "plant"].iter().any(|command| args.starts_with(command)) {
        command.args(["--threads", "1"]);
    }
    command
}
