//! A tokenizer that begins texts with a token: every window, chunk and cut context of a text begins with it.

use irepair_core::PaddedTokens;
use irepair_data::{ClozeItem, RunningText, Tokenizer};
use irepair_eval::Evaluator;
use irepair_model::{Architecture, BlockModel, CausalLm, TextBatch};
use serde_json::{Value, json};
use tch::{Device, Kind, no_grad};

const BEGIN: u32 = 0;
const CONTEXT: usize = 16;

/// One token a letter, after token [`BEGIN`].
fn tokenizer() -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    Tokenizer::train_bpe(&[""], 257).unwrap().save(dir.path()).unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut stored: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let begin_then_text = json!([
        {"SpecialToken": {"id": "begin", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]);
    stored["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": begin_then_text,
        "pair": begin_then_text,
        "special_tokens": {"begin": {"id": "begin", "ids": [BEGIN], "tokens": ["begin"]}},
    });
    std::fs::write(&path, stored.to_string()).unwrap();
    Tokenizer::load(dir.path()).unwrap()
}

fn model(tokenizer: &Tokenizer) -> CausalLm {
    let of = Architecture::gpt2(2, 16, 2, CONTEXT, tokenizer.vocab_size());
    CausalLm::random(of, 3, Device::Cpu, Kind::Float).unwrap()
}

/// Negative log-likelihood of `tokens` from `first` on, after the begin-of-text token.
fn nll(model: &CausalLm, tokens: &[u32], first: usize) -> f64 {
    let whole = [&[BEGIN], tokens].concat();
    let input = PaddedTokens::right_padded(&[whole[..tokens.len()].to_vec()], 0).unwrap();
    let log_probs = no_grad(|| model.logits(&TextBatch::new(input, Device::Cpu)).log_softmax(-1, Kind::Float));
    let nll = |i: usize| -log_probs.double_value(&[0, i as i64, i64::from(tokens[i])]);
    (first..tokens.len()).map(nll).sum()
}

#[track_caller]
fn assert_near(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-4 * want.abs(), "got {got}, want {want}");
}

#[test]
fn every_window_of_a_perplexity_begins_with_it() {
    let tokenizer = tokenizer();
    let model = model(&tokenizer);
    let evaluator = Evaluator::new(&model, &tokenizer, 3);
    let written = "the mill by the river";
    let ids = tokenizer.encode(written).unwrap();
    assert_eq!((ids.len(), tokenizer.begin_id()), (21, Some(BEGIN)));

    // A window of 8 has room for 7 tokens of the text.
    let want: f64 = ids.chunks(7).map(|window| nll(&model, window, 0)).sum();
    let found = evaluator.text_perplexity(&RunningText::Documents(vec![written.into()]), 8, 8).unwrap();
    assert_near(found.value.unwrap().ln(), want / 21.0);
    assert_eq!((found.n, found.n_failed), (21, 0));
    let definition =
        "exp of the mean NLL of running text, windows of 8 tokens, stride 7, each begun by the begin-of-text token";
    assert_eq!(found.definition, definition);
    assert_eq!(evaluator.token_perplexity(&ids, 8).unwrap(), found);

    // Windows of 7 tokens of the text every 5: of the later ones only the last tokens are new.
    let want = nll(&model, &ids[..7], 0)
        + nll(&model, &ids[5..12], 2)
        + nll(&model, &ids[10..17], 2)
        + nll(&model, &ids[15..], 2);
    let found = evaluator.text_perplexity(&RunningText::Documents(vec![written.into()]), 8, 5).unwrap();
    assert_near(found.value.unwrap().ln(), want / 21.0);
}

#[test]
fn every_chunk_of_a_page_begins_with_it() {
    let tokenizer = tokenizer();
    let model = model(&tokenizer);
    let written = "mill river mill river";
    let ids = tokenizer.encode(written).unwrap();
    // The model reads 16 tokens: the first chunk predicts 16, the last one the other 5 after the 11 before
    // them.
    let want = nll(&model, &ids[..16], 0) + nll(&model, &ids[5..], 11);
    let found = Evaluator::new(&model, &tokenizer, 3).word_perplexity(&[written]).unwrap();
    assert_near(found.value.unwrap().ln(), want / 4.0);
    assert!(found.definition.ends_with("the begin-of-text token first"));
}

#[test]
fn a_cut_context_keeps_it() {
    let tokenizer = tokenizer();
    let model = model(&tokenizer);
    let item = ClozeItem { context: "the mill by the".into(), target: " river".into() };
    let ids = tokenizer.encode("the mill by the river").unwrap();
    let found = Evaluator::new(&model, &tokenizer, 3).cloze(&[item]).unwrap();
    // 16 tokens: the begin-of-text token, 9 of the context, 6 of the target.
    assert_near(-found.log_probs[0].unwrap(), nll(&model, &ids[6..], 9));
    assert_eq!(found.n_truncated, 1);
}
