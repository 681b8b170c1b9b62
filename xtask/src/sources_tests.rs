//! Tests of `sources.rs`.

use irepair_config::{Experiment, PretrainOptions};

use super::*;
use crate::paths;

fn paper() -> Profile {
    Experiment::load(&paths::root().join("experiments/paper")).unwrap().profile
}

fn given(model_dir: Option<&Path>, data: Option<&Path>) -> Given {
    Given { model_dir: model_dir.map(Path::to_path_buf), data: data.map(Path::to_path_buf), ..Given::default() }
}

/// Writes files of any content.
pub(crate) fn put(dir: &Path, files: &[&str]) {
    for file in files {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
}

#[test]
fn one_error_names_everything_that_is_missing_and_how_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources::look(&paper(), &given(Some(dir.path()), Some(dir.path()))).unwrap();
    let error = sources.complete().unwrap_err().to_string();
    for part in [
        "error: 9 of 11 needs of this profile are missing",
        "GPT2-Large: openai-community/gpt2-large, 774M weights",
        "hf download openai-community/gpt2-large config.json model.safetensors tokenizer.json --local-dir ",
        "hf download openai-community/gpt2-xl ",
        "hf download EleutherAI/gpt-neo-1.3B config.json model.safetensors vocab.json merges.txt --local-dir ",
        "24,576 pairs of Lee et al. 2024",
        "general/cloze.test.jsonl: is missing",
        "hf download allenai/real-toxicity-prompts prompts.jsonl --repo-type dataset",
        "nothing was started",
    ] {
        assert!(error.contains(part), "no `{part}` in\n{error}");
    }
    assert!(error.contains(&format!("> {}/pairs/train.jsonl", dir.path().display())), "{error}");
    assert!(!error.contains("clean.test"), "what is optional is not missing:\n{error}");
}

#[test]
fn a_cuda_device_is_a_need_like_any_other() {
    let with = |driver: Option<&str>| Sources::default().and_device("cuda:1", driver.map(str::to_owned));
    assert!(with(Some("580.1")).complete().is_ok());
    let error = with(None).complete().unwrap_err().to_string();
    assert!(error.contains("CUDA device\n      at:  cuda:1: no NVIDIA driver on this machine"), "{error}");
    assert!(Sources::default().and_device("cpu", None).items.is_empty());
}

#[test]
fn without_directories_the_error_says_which_flags_name_them() {
    let sources = Sources::look(&paper(), &given(None, None)).unwrap();
    let data = sources.items.iter().find(|item| item.what.starts_with("pairs/")).unwrap();
    // IREPAIR_DATA may be set where the tests run.
    if std::env::var_os("IREPAIR_DATA").is_none() {
        assert_eq!(data.lacks, ["no data directory: give --data DATA, or set IREPAIR_DATA"]);
    }
    let model = sources.items.first().unwrap();
    assert!(model.get.ends_with("--local-dir MODELS/gpt2-large; then --model-dir MODELS"), "{}", model.get);
}

#[test]
fn models_are_found_by_name_by_their_hub_name_and_in_the_hubs_layout() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["config.json", "model.safetensors", "tokenizer.json"];
    put(&dir.path().join("gpt2-large"), &files);
    put(&dir.path().join("gpt-neo-1.3B"), &files);
    let xl = dir.path().join("models--openai-community--gpt2-xl");
    put(&xl.join("snapshots/aaaa"), &files);
    put(&xl.join("snapshots/bbbb"), &files);
    fs::create_dir_all(xl.join("refs")).unwrap();
    fs::write(xl.join("refs/main"), "bbbb\n").unwrap();
    let sources = Sources::look(&paper(), &given(Some(dir.path()), None)).unwrap();
    assert_eq!(sources.models["gpt2-large"], dir.path().join("gpt2-large"));
    assert_eq!(
        sources.models["gpt-neo"],
        dir.path().join("gpt-neo-1.3B"),
        "a tokenizer.json stands for vocab and merges"
    );
    assert_eq!(sources.models["gpt2-xl"], xl.join("snapshots/bbbb"));
    assert!(sources.items[..3].iter().all(|item| item.lacks.is_empty()), "{:?}", sources.items);

    fs::remove_file(xl.join("refs/main")).unwrap();
    let sources = Sources::look(&paper(), &given(Some(dir.path()), None)).unwrap();
    assert_eq!(sources.items[1].lacks, ["no directory of openai-community/gpt2-xl"], "two snapshots, and no `main`");
}

#[test]
fn shards_stand_for_one_file_and_a_pointer_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("gpt2-large");
    put(&model, &["config.json", "tokenizer.json", "a.safetensors"]);
    let lacks = |dir: &Path| Sources::look(&paper(), &given(Some(dir), None)).unwrap().items[0].lacks.clone();
    assert_eq!(lacks(dir.path()), ["model.safetensors is missing"]);
    fs::write(
        model.join("model.safetensors.index.json"),
        r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#,
    )
    .unwrap();
    assert_eq!(lacks(dir.path()), ["model.safetensors is missing"], "one of two shards");
    put(&model, &["b.safetensors"]);
    assert_eq!(lacks(dir.path()), [""; 0]);
    fs::write(model.join("b.safetensors"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    fs::write(model.join("model.safetensors"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert_eq!(lacks(dir.path()), ["model.safetensors is a git-LFS pointer, not the file itself"]);
}

#[test]
fn data_files_may_be_packed_or_have_the_other_ending() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &["pairs/train.jsonl.gz", "general/test.txt", "general/valid.txt.gz"]);
    let sources = Sources::look(&paper(), &given(None, Some(dir.path()))).unwrap();
    assert_eq!(sources.file("pairs/train.jsonl"), Some(dir.path().join("pairs/train.jsonl.gz").as_path()));
    // The planted layout's name for it.
    assert_eq!(sources.file("general/test.txt"), Some(dir.path().join("general/test.txt").as_path()));
    assert_eq!(sources.file("general/valid.jsonl"), Some(dir.path().join("general/valid.txt.gz").as_path()));
    assert_eq!(sources.file("general/cloze.test.jsonl"), Some(dir.path().join("general/cloze.test.jsonl").as_path()));
    assert_eq!(sources.file("nothing.txt"), None);
}

#[test]
fn a_corpus_is_needed_where_the_model_is_trained_here() {
    let dir = tempfile::tempdir().unwrap();
    let profile = real();
    let sources = profile.data.iter().flat_map(|file| file.sources());
    put(dir.path(), &sources.filter(|source| *source != "corpus/childrens_stories.txt").collect::<Vec<_>>());
    let data = dir.path().join("given");
    fs::create_dir_all(&data).unwrap();
    let error = |data| Sources::look(&profile, &given(None, Some(data))).unwrap().complete().unwrap_err().to_string();
    assert!(error(dir.path()).starts_with("error: 1 of "), "{}", error(dir.path()));
    assert!(error(dir.path()).contains("childrens_stories"), "{}", error(dir.path()));
    put(&dir.path().join("models/base-gpt2-12x192"), &["config.json", "model.safetensors", "tokenizer.json"]);
    let found = Sources::look(&profile, &given(None, Some(dir.path()))).unwrap();
    assert!(found.complete().is_ok(), "the model is there: {:?}", found.items);
    let gone = Sources::look(&profile, &given(None, Some(&dir.path().join("gone")))).unwrap_err().to_string();
    assert!(gone.contains("the data directory is not there"), "{gone}");
}

#[test]
fn directories_for_a_profile_that_makes_its_own_are_refused() {
    let made = BaseModel { name: "m".into(), pretrain: Some(PretrainOptions::default()), ..BaseModel::default() };
    let planted = Profile { models: vec![made], ..Profile::default() };
    let refused = |given: &Given| Sources::look(&planted, given).unwrap_err().to_string();
    let dir = Some(Path::new("d"));
    assert!(refused(&given(dir, None)).contains("--model-dir has no use: this profile trains its base models itself"));
    assert!(refused(&given(None, dir)).contains("--data has no use: this profile generates its data itself"));
    assert!(Sources::look(&planted, &Given::default()).unwrap().items.is_empty());
}

fn real() -> Profile {
    Experiment::load(&paths::root().join("experiments/real")).unwrap().profile
}

#[test]
fn a_model_beside_the_data_is_taken_and_its_corpus_is_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let corpus = |sources: &Sources| sources.items.iter().any(|item| item.what.starts_with("corpus/train.txt"));
    let look = || Sources::look(&real(), &given(None, Some(&data))).unwrap();
    fs::create_dir(&data).unwrap();
    let bare = look();
    assert!(bare.models.is_empty() && corpus(&bare), "it is trained during the run");
    let name = "base-gpt2-12x192";
    for place in [dir.path().join("models"), data.join("models")] {
        put(&place.join(name), &["config.json", "model.safetensors", "tokenizer.json"]);
        let found = look();
        assert_eq!(found.models[name], place.join(name));
        assert!(!corpus(&found));
    }
    fs::remove_file(data.join("models").join(name).join("model.safetensors")).unwrap();
    let error = look().complete().unwrap_err().to_string();
    assert!(error.contains("model.safetensors is missing"), "{error}");
}

#[test]
fn a_file_that_is_cut_needs_its_sources_packed_or_not() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &["prompts/halves.dev.jsonl.gz", "corpus/brown.txt"]);
    let sources = Sources::look(&real(), &given(None, Some(dir.path()))).unwrap();
    let lacks = |name: &str| &sources.items.iter().find(|item| item.what.starts_with(name)).unwrap().lacks;
    assert!(lacks("prompts/error.test.jsonl").is_empty());
    assert_eq!(*lacks("pairs/train.jsonl"), ["pairs/paradetox.train.jsonl is missing"]);
    let utility = lacks("general/utility.txt");
    assert!(!utility.is_empty() && !utility.iter().any(|lack| lack.contains("brown")), "{utility:?}");
    assert_eq!(sources.file("pairs/train.jsonl"), None, "it is made, not given");
}
