//! `--dry-run`: rows, needs, what is missing, and estimates of memory, disk and time. Starts nothing.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};

use irepair_config::{Architecture, BaseModel, Dtype, Memory, Method, Options, RepairOptions, Texts, Work};

use crate::cell::Cell;
use crate::prepare::{PAIRS, Prepared};
use crate::{doctor, fetch};

/// Assumed speed of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// Matrix FLOPs per second, of one process.
    flops: f64,
    /// Bytes of weights read per second while texts are sampled token by token.
    bytes: f64,
}

impl Rates {
    /// Half the f32 peak of an A100 (19.5 TFLOP/s), a third of it in bf16 (312); on a CPU, one core. `tflops` wins.
    pub(crate) fn of(device: &str, dtype: Dtype, tflops: Option<f64>) -> Self {
        let assumed = match (device == "cpu", dtype) {
            (true, _) => Self { flops: 20e9, bytes: 5e9 },
            (false, Dtype::F32) => Self { flops: 10e12, bytes: 500e9 },
            (false, Dtype::Bf16) => Self { flops: 100e12, bytes: 500e9 },
        };
        Self { flops: tflops.map_or(assumed.flops, |t| t * 1e12), ..assumed }
    }
}

/// One line of the table: a row for one model, all its seeds.
struct Line {
    row: String,
    model: String,
    seeds: Vec<u64>,
    n_done: usize,
    n_steps: u64,
    memory: Memory,
    seconds: f64,
}

/// The whole plan as text.
pub(crate) fn text(prepared: &Prepared, cells: &[Cell], rates: Rates) -> String {
    let profile = &prepared.experiment.profile;
    let lines = lines(prepared, cells, rates);
    let dtype = profile.repair.dtype();
    let mut text = format!(
        "profile {}: {}\ndevice {}, weights in {dtype}, {} process(es) at a time\n\n",
        prepared.name, profile.title, prepared.device, prepared.workers.n_workers
    );
    let n_done: usize = lines.iter().map(|line| line.n_done).sum();
    let _ = writeln!(text, "rows: {} ({n_done} have a result, which is checked at the start)\n", cells.len());
    text += &table(&lines);
    text +=
        "\nsteps: without early stopping. memory: peak on the device, upper bound. hours: all seeds, upper bound.\n";
    text += &fetch::plan(&prepared.sources.manifests);
    text += &needs(prepared);
    text += &takes(prepared, &lines, rates);
    text + "\nnothing was started\n"
}

fn table(lines: &[Line]) -> String {
    let mut text =
        format!("{:<16} {:<12} {:<8} {:>8} {:>10} {:>9}\n", "row", "model", "seeds", "steps", "memory GB", "hours");
    for line in lines {
        let seeds = match line.seeds.as_slice() {
            [first, .., last] => format!("{first}-{last}"),
            [one] => one.to_string(),
            [] => String::new(),
        };
        let (memory, hours) = (gb(line.memory.total()), line.seconds / 3600.0);
        let (row, model, n_steps) = (&line.row, &line.model, line.n_steps);
        let _ = writeln!(text, "{row:<16} {model:<12} {seeds:<8} {n_steps:>8} {memory:>10.1} {hours:>9.2}");
    }
    text
}

/// Models and data, one per line, in the form of `doctor`.
fn needs(prepared: &Prepared) -> String {
    let mut text = "\nneeds\n".to_owned();
    let profile = &prepared.experiment.profile;
    if profile.language.is_some() {
        text += "ok        language: generated here\n";
    }
    for model in profile.models.iter().filter(|model| prepared.is_trained_here(model)) {
        let _ = writeln!(text, "ok        {}: trained here", model.title);
    }
    for model in profile.models.iter().filter(|model| model.gguf.is_some()) {
        let _ = writeln!(text, "ok        {}: imported here", model.title);
    }
    for item in &prepared.sources.items {
        let _ = match (item.lacks.is_empty(), item.optional) {
            (true, _) => writeln!(text, "ok        {}\n      at:  {}", item.what, item.place.display()),
            (false, true) => writeln!(text, "optional  {}", item.described()),
            (false, false) => writeln!(text, "missing   {}", item.described()),
        };
    }
    let (n_missing, n) = (prepared.sources.missing().len(), prepared.sources.items.len());
    let _ = writeln!(text, "{n_missing} of {n} needs are missing");
    text
}

/// Memory, disk and time of all rows.
fn takes(prepared: &Prepared, lines: &[Line], rates: Rates) -> String {
    let profile = &prepared.experiment.profile;
    let largest = lines.iter().max_by_key(|line| line.memory.total());
    let mut text = "\nestimates\n".to_owned();
    if let Some(Line { row, model, memory, .. }) = largest {
        let _ = writeln!(
            text,
            "memory    {:.1} GB on the device for {row}-{model}: weights {:.1}, reference {:.1}, gradients {:.1}, optimizer {:.1}, \
             best weights {:.1}, activations {:.1}",
            gb(memory.total()),
            gb(memory.weights),
            gb(memory.reference),
            gb(memory.gradients),
            gb(memory.optimizer),
            gb(memory.best),
            gb(memory.activations)
        );
    }
    let width = Dtype::F32.n_bytes();
    let weights = |model: &BaseModel| model.architecture().map_or(0, |of| of.n_weights() * width);
    let bases: u64 = profile.models.iter().map(weights).sum();
    // A checkpoint holds the weights, the best weights and the optimizer's state of every parameter touched.
    let state = |line: &Line| 2 * line.memory.best + line.memory.optimizer;
    let states = lines.iter().map(state).max().unwrap_or(0) * prepared.workers.n_workers as u64;
    let kept: u64 = match profile.keep_models {
        Some(false) => 0,
        _ => lines.iter().filter(|l| l.n_steps > 0).map(|l| l.memory.weights * l.seeds.len() as u64).sum(),
    };
    let free = doctor::free_gb(&crate::paths::root()).map_or("unknown".to_owned(), |free| format!("{free} GB"));
    let _ = writeln!(
        text,
        "disk      {:.1} GB: base models {:.1}, checkpoints of running rows {:.1}, repaired models {:.1}; {free} free under runs/",
        gb(bases + states + kept),
        gb(bases),
        gb(states),
        gb(kept)
    );
    let before: f64 = profile.models.iter().map(|model| preparation(prepared, model, rates)).sum();
    let rows: f64 = lines.iter().map(|line| line.seconds).sum();
    let n_workers = prepared.workers.n_workers as f64;
    let _ = writeln!(
        text,
        "time      {:.1} h at most, one seed after the other: base models, utility texts and density {:.1}, rows {:.1}",
        (before + rows) / n_workers / 3600.0,
        before / n_workers / 3600.0,
        rows / n_workers / 3600.0
    );
    let _ = writeln!(
        text,
        "          counted matrix FLOPs (METHOD §12) at an assumed {} GFLOP/s a process; --tflops N counts with another rate",
        rates.flops / 1e9
    );
    text
}

/// A line for each row and model of the cells, in the order of tables.
fn lines(prepared: &Prepared, cells: &[Cell], rates: Rates) -> Vec<Line> {
    let (profile, rows) = (&prepared.experiment.profile, prepared.experiment.ordered());
    // A run at another rate of a row, `dpo@1e-5`, is a line of its own behind the row's.
    let place = |cell: &&Cell| {
        let method = cell.job.method.clone();
        let row = rows.iter().position(|(key, _)| method.split('@').next() == Some(key));
        (row, profile.models.iter().position(|model| model.name == cell.job.model), method)
    };
    let mut sorted: Vec<&Cell> = cells.iter().collect();
    sorted.sort_by_cached_key(place);
    let n_pairs = n_pairs(prepared);
    let line = |seeds: &[&Cell]| {
        let (job, options) = (&seeds[0].job, &seeds[0].job.repair);
        let model = profile.models.iter().find(|model| model.name == job.model)?.architecture()?;
        let texts = Texts::of(options, profile.utility.max_new_tokens);
        let n_steps = Work::n_steps(options, n_pairs);
        // Test texts go through the model twice (perplexity, KL) and through the reference once or twice.
        let measuring = 4.0 * measured_tokens(prepared) * Work::forward_token(&model);
        let flops = Work::new(&model, options, &texts).of_run(n_steps) + measuring;
        Some(Line {
            row: job.method.clone(),
            model: job.model.clone(),
            seeds: seeds.iter().map(|cell| cell.job.repair.seed()).collect(),
            n_done: seeds.iter().filter(|cell| cell.has_result()).count(),
            n_steps,
            memory: peak_memory(&model, options, &texts),
            seconds: seeds.len() as f64 * flops / rates.flops,
        })
    };
    sorted.chunk_by(|a, b| place(a) == place(b)).filter_map(line).collect()
}

/// Memory of repairing, or of measuring the repaired model with the original one loaded, whichever is more.
fn peak_memory(model: &Architecture, options: &RepairOptions, texts: &Texts) -> Memory {
    let vanilla = RepairOptions { method: Some(Method::Vanilla), gamma: None, ..options.clone() };
    let (repairing, measuring) = (Memory::of(model, options, texts), Memory::of(model, &vanilla, texts));
    if measuring.total() > repairing.total() { measuring } else { repairing }
}

/// Tokens that a row is measured on.
fn measured_tokens(prepared: &Prepared) -> f64 {
    /// Tokens of a generated text, about.
    const PER_TEXT: usize = 36;
    let profile = &prepared.experiment.profile;
    let given: u64 = profile.data.iter().filter(|file| !file.optional).map(|file| file.n_tokens).sum();
    let made =
        |l: &irepair_config::Language| (l.error_test + l.clean_test + l.general_test + l.last_word_test) * PER_TEXT;
    given as f64 + profile.language.as_ref().map_or(0, made) as f64
}

/// Seconds of preparing a model: training, utility texts, sensitivities.
fn preparation(prepared: &Prepared, model: &BaseModel, rates: Rates) -> f64 {
    let profile = &prepared.experiment.profile;
    let Some(of) = model.architecture() else { return 0.0 };
    let forward = Work::forward_token(&of);
    let made = model.pretrain.as_ref().filter(|_| prepared.is_trained_here(model));
    let trained = made.map_or(0.0, |p| {
        let tokens = p.steps() as f64 * (p.batch_size() * p.window.unwrap_or(p.n_positions())) as f64;
        3.0 * tokens * forward
    });
    // Sampling reads all weights for every column of tokens; 32 texts share a column.
    let (utility, width) = (&profile.utility, profile.repair.dtype().n_bytes());
    let columns = utility.n_texts.div_ceil(32) as f64 * utility.max_new_tokens as f64;
    let sampled = (32.0 * columns * forward / rates.flops).max(columns * (of.n_weights() * width) as f64 / rates.bytes);
    let options = RepairOptions { method: Some(Method::IrepairNoKl), ..RepairOptions::default() };
    let options = options.over(RepairOptions { gamma: None, ..profile.repair.clone() });
    let texts = Texts::of(&options, utility.max_new_tokens);
    let density = 2.0 * f64::from(profile.density_batches()) * Work::new(&of, &options, &texts).sensitivity();
    (trained + density) / rates.flops + sampled
}

/// Pairs of the profile: lines of its file if that exists and is not packed, else the number in the profile.
fn n_pairs(prepared: &Prepared) -> u64 {
    let profile = &prepared.experiment.profile;
    if let Some(language) = &profile.language {
        return language.pairs as u64;
    }
    let path = prepared.pairs(profile.models.first().map_or("", |model| model.name.as_str()));
    let counted = std::fs::File::open(&path).ok().filter(|_| path.extension().is_some_and(|end| end == "jsonl"));
    let counted = counted.map(|file| BufReader::new(file).lines().map_while(Result::ok).count() as u64);
    let own = profile.pairs.as_ref().map(|own| own.n_records);
    let given = || profile.data.iter().find(|data| data.file == PAIRS).map(|data| data.n_records);
    counted.filter(|&n| n > 0).or(own).or_else(given).unwrap_or(0)
}

/// Gigabytes, of 10⁹ bytes.
fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Given;

    fn plan(profile: &str, n_seeds: u32) -> String {
        let nowhere = tempfile::tempdir().unwrap();
        let given = match profile {
            "paper" => {
                Given { model_dir: Some(nowhere.path().into()), data: Some(nowhere.path().into()), ..Given::default() }
            }
            _ => Given::default(),
        };
        let prepared = Prepared::plan(profile, &given).unwrap();
        let rates = Rates::of(&prepared.device, Dtype::F32, None);
        text(&prepared, &prepared.cells("", Some(n_seeds), |_| true), rates)
    }

    #[test]
    fn the_papers_plan_names_rows_needs_and_costs() {
        let text = plan("paper", 5);
        for part in [
            "device cuda, weights in f32, 1 process(es) at a time",
            // Three vanilla rows of one seed, and 11 methods for 3 models and 5 seeds.
            "rows: 168 ",
            "missing   GPT2-XL: openai-community/gpt2-xl, 1558M weights",
            "hf download openai-community/gpt2-xl config.json model.safetensors tokenizer.json --local-dir",
            "missing   general/test.jsonl",
            "optional  prompts/clean.test.jsonl",
            " of 12 needs are missing",
            "CUDA device",
            "repaired models 0.0",
            "at an assumed 10000 GFLOP/s",
            "nothing was started",
        ] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
        let row = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().split_whitespace();
        let dpo: Vec<&str> = row("dpo ").collect();
        assert_eq!(dpo[..4], ["dpo", "gpt2-large", "0-4", "30640"], "5 epochs of (24,576 - 64) / 4 steps");
        let memory = |key: &str| row(key).nth(4).unwrap().parse::<f64>().unwrap();
        assert!(memory("dpo ") > memory("irepair ") && memory("irepair ") > memory("random-no-kl "), "{text}");
        assert!(memory("dpo ") > 5.0 * 3.096 && memory("dpo ") < 30.0, "five times 774M weights, and activations");
    }

    #[test]
    fn the_planted_plan_misses_nothing() {
        let text = plan("planted", 3);
        // 2 base models; 5 rows on both and 6 on one, 3 seeds each; one more rate of a KL budget.
        for part in ["rows: 51 ", "device cpu", "0 of 0 needs are missing", "trained here", "    1500 "] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
        assert!(!text.contains("missing   "), "{text}");
    }

    #[test]
    fn a_faster_device_takes_less_time() {
        let (slow, fast) = (Rates::of("cuda", Dtype::F32, None), Rates::of("cuda:1", Dtype::F32, Some(40.0)));
        assert_eq!((slow.flops, fast.flops), (10e12, 40e12));
        assert!(Rates::of("cpu", Dtype::F32, None).flops < slow.flops);
    }
}
