//! Every file under `experiments/` loads and agrees with its neighbours.

use std::path::{Path, PathBuf};

use irepair_config::{Dtype, Experiment, LearningRates, Options, Policy, Profile, Row, from_str, resolve};
use irepair_core::Diagnose;

fn experiments() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments")
}

fn profiles() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(experiments()).expect("the workspace has experiments/");
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

#[test]
fn every_experiment_file_is_valid() {
    let profiles = profiles();
    assert!(!profiles.is_empty());
    for dir in profiles {
        let experiment = Experiment::load(&dir).unwrap_or_else(|error| panic!("{}", error.diagnostic()));
        assert!(!experiment.rows.is_empty(), "{}", dir.display());
        for (name, row) in &experiment.rows {
            let mut options = experiment.profile.repair_of(row).with_defaults();
            (options.model, options.pairs, options.out) = (Some("m".into()), Some("p".into()), Some("o".into()));
            resolve(&options, name).unwrap_or_else(|error| panic!("{}", error.diagnostic()));
        }
    }
}

#[test]
fn every_row_opens_with_its_purpose_and_its_command() {
    for dir in profiles() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            // The table next to learning-rates.toml is a result, not an experiment.
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let head: String = text.lines().take_while(|line| line.starts_with('#')).collect();
            assert!(head.contains("needs:") && head.contains("run: cargo xtask "), "{}", path.display());
        }
    }
}

#[test]
fn the_planted_rows_are_those_of_the_paper_and_the_controls() {
    let experiment = Experiment::load(&experiments().join("planted")).unwrap();
    let rows: Vec<&str> = experiment.rows.keys().map(String::as_str).collect();
    assert_eq!(
        rows.join(" "),
        "dapt dapt-kl dpo fixed fixed-no-kl irepair irepair-no-kl random random-no-kl reverse reverse-no-kl vanilla"
    );
    let policy = |row: &str| experiment.profile.repair_of(&experiment.rows[row]).policy();
    assert_eq!(policy("irepair"), Policy::Dynamic);
    assert_eq!(policy("dpo"), Policy::All);
    assert_eq!(policy("random-no-kl"), Policy::Random);
}

#[test]
fn the_paper_rows_have_the_papers_models_and_settings() {
    let experiment = Experiment::load(&experiments().join("paper")).unwrap();
    let rows: Vec<&str> = experiment.rows.keys().map(String::as_str).collect();
    assert_eq!(
        rows.join(" "),
        "dapt dapt-kl dpo fixed fixed-no-kl irepair irepair-no-kl random random-no-kl reverse reverse-no-kl vanilla"
    );
    let profile = &experiment.profile;
    assert_eq!((profile.seeds, profile.device.as_deref(), profile.density_batches()), (5, Some("cuda"), 500));
    let weights: Vec<u64> = profile.models.iter().map(|m| m.architecture().unwrap().n_weights()).collect();
    assert_eq!(weights, [774_030_080, 1_557_611_200, 1_315_575_808]);
    assert!(profile.models.iter().all(|m| m.pretrain.is_none()) && profile.language.is_none());
    // METHOD §17, whatever the defaults of this version are.
    for (name, row) in &experiment.rows {
        let options = profile.repair_of(row);
        assert_eq!((options.batch_size(), options.warmup_steps(), options.clip_norm()), (4, 150, 10.0), "{name}");
        assert_eq!((options.epochs(), options.eval_every(), options.patience()), (5, 100, 30), "{name}");
        assert_eq!((options.max_prompt(), options.max_continuation(), options.n_validation()), (64, 64, 64), "{name}");
        assert_eq!((options.fixed_batches(), options.dtype(), options.steps), (500, Dtype::F32, None), "{name}");
        for model in profile.models.iter().filter(|_| name != "vanilla") {
            let rate = if name == "dpo" { 1e-6 } else { 5e-5 };
            assert_eq!(experiment.learning_rates.get(name, &model.name), Some(rate), "{name}");
        }
        assert_eq!(options.gamma(), if options.method().has_kl() { 1.0 } else { 0.0 }, "{name}");
    }
    assert_eq!((profile.utility.n_texts, profile.utility.max_new_tokens, profile.utility.top_p), (30_000, 101, 0.9));
    assert_eq!(
        (profile.eval.prompt_tokens(), profile.eval.max_new_tokens(), profile.eval.window),
        (32, 20, Some(1024))
    );
}

#[test]
fn files_that_disagree_are_reported_together() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "profile.toml",
        "title = 't'\nseeds = 1\ngrid = { lr = [1e-3], seeds = 1 }\nmodels = [{ name = 'm', title = 'M', hub = 'o/m', files = ['config.json'], shape = { family = 'gpt2', n_layer = 2, n_embd = 8, n_head = 2, n_positions = 16, vocab_size = 32 } }]\n[repair]\ngamma = 0.5\n",
    );
    write("dapt.toml", "title = 'DAPT'\ntables = ['rq1']\nrepair.method = 'dapt'\n");
    write("learning-rates.toml", "[dapt]\nm = 1e-3\nn = 1e-3\n[dpo]\nm = 1e-3\n");
    let error = Experiment::load(dir.path()).unwrap_err().diagnostic().to_string();
    for part in [
        "`dapt.toml with profile.toml: repair.gamma`: clashes with `method`: dapt has no KL term",
        "`learning-rates.toml: dapt`: unknown name `n`; did you mean `m`?",
        "`learning-rates.toml`: unknown name `dpo`; did you mean `dapt`?",
    ] {
        assert!(error.contains(part), "{part}\n{error}");
    }

    write("dapt.toml", "title = 'DAPT'\ntables = ['rq9']\nrepair.methd = 'dapt'\n");
    write("learning-rates.toml", "[dapt]\nm = -1\n");
    let error = Experiment::load(dir.path()).unwrap_err().diagnostic().to_string();
    for part in [
        "line 2, `dapt.toml: tables`: unknown value `rq9`; did you mean `rq1`?",
        "line 3, `dapt.toml: repair.methd`: unknown key; did you mean `method`?",
        "line 2, `learning-rates.toml: dapt.m`: must be a number over 0, is -1",
    ] {
        assert!(error.contains(part), "{part}\n{error}");
    }
}

#[test]
fn learning_rates_are_read_by_row_and_model() {
    let rates: LearningRates = from_str("[irepair]\ngpt2 = 1e-3\n", "learning-rates.toml").unwrap();
    assert_eq!(
        (rates.get("irepair", "gpt2"), rates.get("irepair", "x"), rates.get("y", "gpt2")),
        (Some(1e-3), None, None)
    );
}

#[test]
fn an_empty_profile_and_an_empty_row_say_all_they_lack() {
    let profile = from_str::<Profile>("", "profile.toml").unwrap_err();
    assert_eq!(profile.to_string(), "5 problems in profile.toml");
    let row = from_str::<Row>("", "row.toml").unwrap_err();
    assert_eq!(row.to_string(), "3 problems in row.toml");
}
