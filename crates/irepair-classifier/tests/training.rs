//! A classifier trained here learns, can be read back, refuses its own texts, and comes out the same twice.

use irepair_classifier::{Classifier, Error, TrainSettings, train_classifier};
use irepair_data::Labeled;
use irepair_scorer::Scorer;
use tch::Device;

const SETTINGS: TrainSettings = TrainSettings {
    vocab_size: 300,
    n_block: 1,
    n_embd: 16,
    n_head: 2,
    n_positions: 24,
    n_epochs: 6,
    batch_size: 8,
    lr: 1e-2,
    seed: 3,
};

fn labels() -> Vec<Labeled> {
    let label = |i: usize| Labeled {
        text: format!(
            "{} at the {}, said number {i}",
            ["you grubnik", "good day", "rain"][i % 3],
            ["mill", "barn"][i % 2]
        ),
        toxic: i.is_multiple_of(3),
        source: None,
    };
    (0..120).map(label).collect()
}

#[test]
fn a_trained_classifier_learns_and_is_the_same_twice() {
    tch::set_num_threads(1);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for dir in &dirs {
        let record = train_classifier(&labels(), "00".repeat(32), SETTINGS, dir.path(), |_, _, _| {}).unwrap();
        assert_eq!((record.n_texts, record.n_toxic, record.n_steps), (120, 40, 90));
        assert!(record.last_loss < 0.1, "{}", record.last_loss);
    }
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "irepair_scorer.json"] {
        let [a, b] = [0, 1].map(|i: usize| std::fs::read(dirs[i].path().join(file)).unwrap());
        assert!(a == b, "{file} differs between two runs");
    }
    let classifier = Classifier::load(dirs[0].path(), None, Device::Cpu, 4).unwrap();
    assert!(classifier.name().starts_with("classifier-") && classifier.unused().is_empty());
    let scores = classifier.score_all(&[
        "you grubnik at the barn",
        "Good day at the BARN,  said number 1",
        "!?",
        "rain, good day",
    ]);
    assert!(*scores[0].as_ref().unwrap() > 0.5, "{scores:?}");
    assert_eq!(scores[1].as_ref().unwrap_err(), "the scorer was trained on this text");
    assert_eq!(scores[2].as_ref().unwrap_err(), "the text has neither letters nor digits");
    assert!(*scores[3].as_ref().unwrap() < 0.5, "{scores:?}");
}

#[test]
fn broken_directories_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    train_classifier(&labels(), "00".repeat(32), TrainSettings { n_epochs: 1, ..SETTINGS }, dir.path(), |_, _, _| {})
        .unwrap();
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from));
        std::fs::write(&path, config.replace(from, to)).unwrap();
        Classifier::load(dir.path(), None, Device::Cpu, 4).unwrap_err()
    };
    assert!(
        matches!(with("\"n_layers\": 1", "\"n_layers\": 2"), Error::MissingTensors { tensors, .. } if tensors.len() == 16)
    );
    assert!(matches!(with("\"dim\": 16", "\"dim\": 18"), Error::WrongShape { .. }));
    assert!(matches!(with("\"non-toxic\",\n", "\"LABEL_0\",\n"), Error::UnclearLabels { .. }));
    assert!(
        matches!(with("\"activation\": \"gelu\"", "\"activation\": \"mish\""), Error::Unsupported { key, .. } if key == "activation")
    );
    let one_kind = vec![Labeled { text: "a".into(), toxic: true, source: None }];
    let error = train_classifier(&one_kind, String::new(), SETTINGS, dir.path(), |_, _, _| {}).unwrap_err();
    assert_eq!(error.to_string(), "training texts have one label only");
}
