//! `--rehearse`: every row of a profile that needs published weights and data, on small stand-ins: weights a few steps
//! from random, of the same families and proportions, and a generated language in the published formats.

use std::path::{Path, PathBuf};

use anyhow::Result;
use irepair_config::{
    BaseModel, Experiment, Family, Grid, Language, Options, PretrainOptions, Profile, Protocol, RepairOptions, Shape,
    Utility, to_toml,
};
use irepair_core::fs::{read_to_string, write_atomic};
use irepair_core::{Diagnostic, ExitKind};
use serde_json::{Value, json};

use crate::error::diagnostic;
use crate::prepare::{Prepared, read_experiment};
use crate::sources::Given;
use crate::stages::build;
use crate::{cache, claims, identity, paths, process};

/// Printed above every table of a rehearsal.
const WARNING: &str = "REHEARSAL WITH ALMOST RANDOM WEIGHTS, NOT A RESULT";

/// Steps of every row.
const STEPS: u64 = 2;

/// Tokens of the stand-ins' tokenizer.
const VOCABULARY: usize = 600;

/// Makes the stand-ins and prepares the profile with them, in `runs/<profile>-rehearsal/`.
///
/// # Errors
/// A profile that makes its own weights and data, directories of published ones, or a stage that fails.
pub(crate) fn prepare(name: &str, given: &Given) -> Result<Prepared> {
    let real = read_experiment(name)?;
    if real.profile.data.is_empty() || real.profile.models.iter().any(|model| model.hub.is_none()) {
        let what = "--rehearse is for profiles of models on the hub, and of data that are given";
        let help = "this profile makes or fetches its models: leave --rehearse out";
        return Err(Diagnostic::new(ExitKind::Usage, what).at(name).help(help).into());
    }
    if given.model_dir.is_some() || given.data.is_some() {
        let what = "--rehearse generates models and data: --model-dir and --data have no use";
        return Err(Diagnostic::new(ExitKind::Usage, what).help("leave them out").into());
    }
    let name = format!("{name}-rehearsal");
    let inputs = paths::root().join("runs").join(&name).join("stand-ins");
    // Where there are shards, one makes what all need.
    let turn = given.shard.map(|_| claims::turn(&inputs)).transpose()?;
    build()?;
    let data = make_data(&inputs)?;
    for model in &real.profile.models {
        make_model(model, &inputs, &data)?;
    }
    drop(turn);
    let experiment = shortened(real);
    // Any machine can rehearse; on one with a GPU, `--device cuda` does so there.
    let device = given.device.clone().unwrap_or_else(|| "cpu".to_owned());
    let given = Given { device: None, model_dir: Some(inputs.join("models")), data: Some(data), ..given.clone() };
    let mut prepared = Prepared::of(&name, experiment, &given, device)?;
    prepared.warning = Some(WARNING.to_owned());
    prepared.make()?;
    Ok(prepared)
}

/// The same rows on the same models, two steps each, without preconditions.
fn shortened(real: Experiment) -> Experiment {
    let profile = real.profile;
    let repair = RepairOptions {
        // Under a protocol, its cap is the number of steps.
        steps: Some(STEPS).filter(|_| profile.protocol.is_none()),
        n_validation: Some(8),
        fixed_batches: Some(2),
        // Every row writes a checkpoint that it could continue from.
        checkpoint_every: Some(1),
        ..RepairOptions::default()
    };
    let models = profile.models.into_iter().map(|m| BaseModel { shape: m.shape.as_ref().map(scaled), ..m }).collect();
    let profile = Profile {
        title: format!("{WARNING}: {}", profile.title),
        seeds: 1,
        device: None,
        density_batches: Some(2),
        models,
        preconditions: Vec::new(),
        protocol: profile.protocol.map(protocol),
        repair: repair.over(profile.repair),
        eval: irepair_config::EvalOptions { window: Some(128), ..profile.eval },
        utility: Utility { n_texts: 24, max_new_tokens: 16, ..profile.utility },
        ..profile
    };
    Experiment { profile, ..real }
}

/// The same comparisons of runs of two steps.
fn protocol(real: Protocol) -> Protocol {
    Protocol { cap: STEPS, every: 1, equal_updates: 1, halving_start: 1, ..real }
}

/// A quarter of the blocks, a thirty-second of the width, as many heads, an eighth of the context.
fn scaled(shape: &Shape) -> Shape {
    Shape {
        n_layer: (shape.n_layer / 4).max(1),
        n_embd: (shape.n_embd / 32 / shape.n_head).max(1) * shape.n_head,
        n_positions: (shape.n_positions / 8).max(128),
        vocab_size: VOCABULARY,
        ..shape.clone()
    }
}

/// Weights a few steps from random. With random weights and a tied head a model repeats the start token, so that every
/// utility text would be empty.
fn make_model(model: &BaseModel, inputs: &Path, data: &Path) -> Result<()> {
    let Some(shape) = model.shape.as_ref().map(scaled) else { return Ok(()) };
    let out = inputs.join("models").join(&model.name);
    let options = PretrainOptions {
        family: Family::try_from(shape.family.clone()).ok(),
        n_layer: Some(shape.n_layer),
        n_embd: Some(shape.n_embd),
        n_head: Some(shape.n_head),
        n_positions: Some(shape.n_positions),
        vocab_size: Some(shape.vocab_size),
        window_size: (shape.family == "gpt-neo").then_some(shape.n_positions / 4),
        window: Some(32),
        steps: Some(20),
        batch_size: Some(4),
        lr: Some(5e-3),
        warmup_steps: Some(2),
        seed: Some(0),
        ..PretrainOptions::default()
    };
    let corpus = data.with_file_name("language").join("corpus/train.txt");
    let done = identity::numbers(&paths::irepair())?.text(&to_toml(&options)).file(&corpus)?;
    let options = PretrainOptions { data: Some(corpus), out: Some(out.clone()), threads: Some(1), ..options };
    cache::once(&out, &done, || {
        let config = inputs.join(format!("{}.toml", model.name));
        write_atomic(&config, to_toml(&options).as_bytes()).map_err(diagnostic)?;
        process::run_quietly(process::command(paths::irepair()).arg("pretrain").arg("--config").arg(config))
    })
}

/// A generated language in the published formats; returns the data directory.
fn make_data(inputs: &Path) -> Result<PathBuf> {
    let language = Language {
        seed: 0,
        train_docs: 200,
        pairs: 48,
        error_test: 16,
        error_valid: 8,
        clean_test: 8,
        general_test: 24,
        general_valid: 24,
        last_word_test: 16,
        last_word_valid: 8,
    };
    let (from, data) = (inputs.join("language"), inputs.join("data"));
    let done = identity::numbers(&paths::irepair())?.text(&format!("{language:?} 1"));
    cache::once(&data, &done, || {
        cache::clear(&from)?;
        let model = BaseModel {
            name: "none".to_owned(),
            title: "none".to_owned(),
            pretrain: Some(PretrainOptions::default()),
            ..BaseModel::default()
        };
        let profile = Profile {
            title: "the language of a rehearsal".to_owned(),
            seeds: 1,
            language: Some(language),
            models: vec![model],
            repair: RepairOptions { n_validation: Some(8), ..RepairOptions::default() },
            grid: Grid { lr: vec![1e-3], seeds: 1 },
            ..Profile::default()
        };
        let file = inputs.join("language.toml");
        write_atomic(&file, toml::to_string(&profile)?.as_bytes()).map_err(diagnostic)?;
        let mut command = process::command(paths::irepair());
        process::run_quietly(command.arg("language").arg("--profile").arg(file).arg("--out").arg(&from))?;
        for name in COPIED.split_whitespace().chain([PROMPTS]) {
            let text = read_to_string(&from.join(name)).map_err(diagnostic)?;
            let text = if name == PROMPTS { as_published(&text)? } else { text };
            write_atomic(&data.join(name), text.as_bytes()).map_err(diagnostic)?;
        }
        Ok(())
    })?;
    Ok(data)
}

/// Files of a generated language that are taken as they are.
const COPIED: &str =
    "pairs/train.jsonl general/test.txt general/valid.txt general/cloze.test.jsonl toxicity/lexicon.txt";

const PROMPTS: &str = "prompts/error.test.jsonl";

/// Prompts `{"prompt": text}` in the form of RealToxicityPrompts.
fn as_published(prompts: &str) -> Result<String> {
    let mut text = String::new();
    for line in prompts.lines() {
        let record: Value = serde_json::from_str(line)?;
        let prompt = json!({ "text": record["prompt"], "toxicity": null });
        text += &format!("{}\n", json!({ "filename": null, "challenging": true, "prompt": prompt }));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_ins_keep_the_proportions_and_the_rows_their_methods() {
        let real = read_experiment("paper").unwrap();
        let rows = real.rows.clone();
        let short = shortened(real);
        assert_eq!(short.rows, rows);
        let shapes: Vec<(usize, usize, usize, usize)> = short
            .profile
            .models
            .iter()
            .filter_map(|m| m.shape.as_ref())
            .map(|s| (s.n_layer, s.n_embd, s.n_head, s.n_positions))
            .collect();
        assert_eq!(shapes, [(9, 40, 20, 128), (12, 50, 25, 128), (6, 64, 16, 256)]);
        let repair = &short.profile.repair;
        assert_eq!((repair.steps, repair.batch_size(), repair.max_prompt()), (Some(2), 4, 64));
        assert!(short.profile.preconditions.is_empty() && short.profile.title.starts_with(WARNING));
        assert!(irepair_config::Validate::problems(&short.profile).is_empty());
    }

    #[test]
    fn prompts_become_those_of_real_toxicity_prompts() {
        let text = as_published("{\"prompt\":\"He \\\"said\\\"\"}\n{\"prompt\":\"x\"}\n").unwrap();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0]["prompt"]["text"], "He \"said\"");
        assert_eq!(records[1]["challenging"], true);
    }

    #[test]
    fn a_profile_that_makes_its_own_is_not_rehearsed() {
        let error = prepare("planted", &Given::default()).err().map(|e| e.to_string()).unwrap();
        assert!(error.contains("--rehearse is for profiles of models on the hub"), "{error}");
    }
}
