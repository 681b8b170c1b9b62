//! A setting is the same thing as a flag, as a key and in its documentation.

use clap::{Args, Command};
use irepair_config::{
    EvalOptions, GenerateOptions, Options, PairsOptions, PretrainOptions, RelearnOptions, RepairOptions, ScoreOptions,
    ScorerEvalOptions, ScorerTrainOptions, SensitivityOptions, from_str, text_counts, to_toml,
};

fn command<T: Args>() -> Command {
    T::augment_args(Command::new("irepair"))
}

fn parse<T: Args>(line: &str) -> Result<T, clap::Error> {
    let matches = command::<T>().try_get_matches_from(line.split_whitespace())?;
    T::from_arg_matches(&matches)
}

/// The doc comment says `Default X` exactly where the code has a default, and X is that default.
fn documented_defaults_are_true<T: Options>() {
    let defaults: toml::Table = to_toml(&T::default().with_defaults()).parse().unwrap();
    for arg in command::<T>().get_arguments() {
        let key = arg.get_id().as_str();
        assert_eq!(arg.get_long(), Some(key.replace('_', "-").as_str()));
        let help = arg.get_long_help().or(arg.get_help()).expect("every setting is documented").to_string();
        let said = help.split("Default ").nth(1).map(|rest| {
            let word = rest.split(' ').next().unwrap_or(rest);
            word.trim_end_matches(['.', ',']).to_owned()
        });
        match (defaults.get(key), said) {
            (None, None) => {}
            (Some(toml::Value::Float(value)), Some(said)) => assert_eq!(said.parse(), Ok(*value), "{key}"),
            (Some(toml::Value::String(value)), Some(said)) => assert_eq!(&said, value, "{key}"),
            (Some(value), Some(said)) => assert_eq!(said, value.to_string(), "{key}"),
            (value, said) => panic!("`{key}` has default {value:?}, its doc comment says {said:?}"),
        }
    }
}

#[test]
fn doc_comments_state_the_defaults() {
    documented_defaults_are_true::<RepairOptions>();
    documented_defaults_are_true::<EvalOptions>();
    documented_defaults_are_true::<GenerateOptions>();
    documented_defaults_are_true::<PretrainOptions>();
    documented_defaults_are_true::<SensitivityOptions>();
    documented_defaults_are_true::<ScoreOptions>();
    documented_defaults_are_true::<PairsOptions>();
    documented_defaults_are_true::<RelearnOptions>();
    documented_defaults_are_true::<ScorerTrainOptions>();
    documented_defaults_are_true::<ScorerEvalOptions>();
}

#[test]
fn flags_and_keys_give_the_same_settings() {
    let flags: RepairOptions = parse(
        "irepair --model m --method irepair-no-kl --policy every-n --top-k 20 --lr 3e-4 --no-shuffle --skip-prompt=false",
    )
    .unwrap();
    let file: RepairOptions = from_str(
        "model = 'm'\nmethod = 'irepair-no-kl'\npolicy = 'every-n'\ntop_k = '20%'\nlr = 3e-4\nno_shuffle = true\n\
         skip_prompt = false",
        "x.toml",
    )
    .unwrap();
    assert_eq!(flags, file);
}

#[test]
fn settings_survive_their_own_file() {
    let options = RepairOptions { lr: Some(0.1 + 0.2), steps: Some(7), ..Default::default() }.with_defaults();
    assert_eq!(from_str::<RepairOptions>(&to_toml(&options), "config.toml").unwrap(), options);
    let pretrain = PretrainOptions::default().with_defaults();
    assert_eq!(from_str::<PretrainOptions>(&to_toml(&pretrain), "config.toml").unwrap(), pretrain);
}

#[test]
fn the_command_line_wins_over_the_file() {
    let file: RepairOptions = from_str("lr = 1e-3\nsteps = 5", "x.toml").unwrap();
    let merged = parse::<RepairOptions>("irepair --lr 2e-3").unwrap().over(file);
    assert_eq!((merged.lr, merged.steps, merged.patience), (Some(2e-3), Some(5), None));
}

#[test]
fn a_slice_of_nothing_or_of_more_than_everything_is_refused() {
    for bad in ["0", "0b", "101", "-3"] {
        let error = parse::<RepairOptions>(&format!("irepair --top-k={bad}")).unwrap_err().to_string();
        assert!(error.contains(&format!("slice size `{bad}` is out of range: `3b` is three blocks")), "{error}");
    }
}

#[test]
fn settings_of_an_evaluation_that_need_one_another_say_so() {
    let problems = |line: &str| {
        let options: EvalOptions = parse(line).unwrap();
        irepair_config::Validate::problems(&options).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(problems("irepair --prompts p --samples 25 --wikitext w --window 64 --stride 32").is_empty());
    for (line, said) in [
        ("irepair --samples 25", "`samples`: needs `prompts`"),
        ("irepair --prompts p --samples 0", "`samples`: must be at least 1, is 0"),
        ("irepair --stride 4", "`stride`: needs `wikitext`"),
        ("irepair --wikitext w --stride 0", "`stride`: must be at least 1, is 0"),
        ("irepair --wikitext w --window 8 --stride 9", "`stride`: clashes with `window`"),
    ] {
        let found = problems(line);
        assert!(found.len() == 1 && found[0].contains(said), "{line}: {found:?}");
    }
}

#[test]
fn counts_of_a_relearning_curve_are_numbers() {
    assert_eq!(text_counts(&RelearnOptions::default().counts()), Ok(vec![10, 100, 1000]));
    assert_eq!(text_counts("3, 5"), Ok(vec![3, 5]));
    let bad = (text_counts("3,x"), text_counts(""), text_counts("0"));
    assert_eq!(bad, (Err("x".into()), Err(String::new()), Err("0".into())));
}

#[test]
#[cfg(unix)]
fn a_path_that_is_not_utf_8_is_named_by_its_key() {
    use std::os::unix::ffi::OsStrExt;

    use irepair_core::Diagnose;

    let path = std::ffi::OsStr::from_bytes(b"x\xff");
    let options = ScoreOptions { model: Some("m".into()), input: Some(path.into()), ..Default::default() };
    let said = irepair_config::resolve(&options, "the command line").unwrap_err().diagnostic().to_string();
    assert!(said.contains("1 problem in") && said.contains("`input`: is a path that is not UTF-8"), "{said}");
}
