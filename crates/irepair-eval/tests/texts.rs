//! METHOD §10 from files of text to numbers, equal to transformers on `parity/eval/texts/` (generator next to it).
//!
//! Tolerances as in `parity.rs`: parts in 10^6 of a log-probability, a factor of ten left. A perplexity per word is the
//! exponential of ten to fifteen nats: 2e-5 of those is 3e-4 of the perplexity.

use irepair_data::{
    Tokenizer, read_acceptability, read_cloze, read_continuations, read_multiple_endings, read_running_text,
    read_texts, wikitext_detokenized, wikitext_words,
};
use irepair_eval::{Evaluator, Generation, MinimalPair, Question, joined_tokens, key};
use irepair_model::CausalLm;
use serde_json::Value;
use support::{assert_close, json, numbers, parity};
use tch::{Device, Kind};

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../../../parity/support.rs"]
mod support;

const TOLERANCE: f64 = 2e-5;
const BATCHES: [usize; 2] = [1, 3];

fn opened() -> (CausalLm, Tokenizer, Value) {
    let dir = parity("eval/model");
    let (model, _) = CausalLm::load(&dir, Device::Cpu, Kind::Float).unwrap();
    (model, Tokenizer::load(&dir).unwrap(), json("eval/texts.json"))
}

fn text(name: &str) -> std::path::PathBuf {
    parity("eval/texts").join(name)
}

#[track_caller]
fn close(what: &str, got: Option<f64>, want: &Value) {
    assert_close(what, &[got.unwrap()], &numbers(want), TOLERANCE);
}

#[test]
fn a_raw_file_and_the_rows_of_the_hub_are_one_text_with_one_perplexity() {
    let (model, tokenizer, golden) = opened();
    let raw = read_running_text(&text("wiki.txt")).unwrap();
    assert_eq!(raw, read_running_text(&text("wiki.jsonl")).unwrap());
    let tokens: Vec<f64> = joined_tokens(&tokenizer, raw.parts()).unwrap().into_iter().map(f64::from).collect();
    assert_eq!(tokens, numbers(&golden["wiki_tokens"]));
    for case in golden["wiki"].as_array().unwrap() {
        let [window, stride] = ["window", "stride"].map(|key| case[key].as_u64().unwrap() as usize);
        for batch_size in BATCHES {
            let found = Evaluator::new(&model, &tokenizer, batch_size).text_perplexity(&raw, window, stride).unwrap();
            close("WIKI", found.value, &case["perplexity"]);
            assert_eq!((found.n, found.n_failed, found.version), (case["n"].as_u64().unwrap(), 0, 1));
            let words = format!(
                "exp of the mean NLL of rows of raw text joined by blank lines (WIKI), windows of {window} tokens, stride {stride}"
            );
            assert_eq!(found.definition, words);
        }
    }
}

#[test]
fn words_of_detokenised_pages() {
    let (model, tokenizer, golden) = opened();
    let want = &golden["wiki_word"];
    let pages = read_running_text(&text("wiki.txt")).unwrap().pages();
    let documents = std::fs::read_to_string(text("pages.jsonl")).unwrap();
    let documents: Vec<Value> = documents.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(pages.len(), documents.len());
    for (page, want) in pages.iter().zip(&documents) {
        // A blank line of the file may hold a space; neither the words nor the text to score know of it.
        assert_eq!(wikitext_words(page), want["n_words"].as_u64().unwrap() as usize);
        assert_eq!(wikitext_words(want["page"].as_str().unwrap()), wikitext_words(page));
        let ordinary = want["ordinary"].as_str().unwrap();
        assert_eq!(wikitext_detokenized(want["page"].as_str().unwrap()), ordinary);
        assert_eq!(wikitext_detokenized(page), ordinary.replace("\n\t\n", "\n\n"));
    }
    // One blank line of the golden holds a tab, which rows of the Hub lose: the numbers are of the pages as they stood.
    let pages: Vec<&str> = documents.iter().map(|d| d["page"].as_str().unwrap()).collect();
    for batch_size in BATCHES {
        let found = Evaluator::new(&model, &tokenizer, batch_size).word_perplexity(&pages).unwrap();
        assert_close("nats", &[found.value.unwrap().ln()], &[want["perplexity"].as_f64().unwrap().ln()], TOLERANCE);
        assert_eq!((found.n, found.n_failed), (want["n"].as_u64().unwrap(), 0));
    }
}

#[test]
fn last_words_and_their_texts() {
    let (model, tokenizer, golden) = opened();
    let (path, want) = (text("lambada.jsonl"), &golden["lambada"]);
    let texts = read_texts(&path).unwrap();
    for batch_size in BATCHES {
        let found = Evaluator::new(&model, &tokenizer, batch_size).cloze(&read_cloze(&path).unwrap()).unwrap();
        close("accuracy", found.metrics.value(key::LAST_WORD_ACCURACY), &want["accuracy_percent"]);
        let nats = found.metrics.value(key::LAST_WORD_PERPLEXITY).unwrap().ln();
        assert_close("nats", &[nats], &[want["perplexity"].as_f64().unwrap().ln()], TOLERANCE);
        let corpus = Evaluator::new(&model, &tokenizer, batch_size).cloze_corpus_perplexity(&texts, 64).unwrap();
        close("corpus", corpus.value, &want["corpus"]["perplexity"]);
        assert_eq!(corpus.n, want["corpus"]["n"].as_u64().unwrap());
        assert!(corpus.definition.contains("LAMBADA_corpus"));
    }
}

#[test]
fn acceptable_sentences() {
    let (model, tokenizer, golden) = opened();
    let pairs = read_acceptability(&text("blimp.jsonl")).unwrap();
    let pairs: Vec<MinimalPair> = pairs.into_iter().map(|p| MinimalPair { better: p.good, worse: p.bad }).collect();
    for batch_size in BATCHES {
        let found = Evaluator::new(&model, &tokenizer, batch_size).pair_accuracy(&pairs).unwrap();
        close("BLiMP", found.value, &golden["blimp_percent"]);
        assert_eq!((found.n, found.n_failed), (5, 0));
    }
}

#[test]
fn right_endings() {
    let (model, tokenizer, golden) = opened();
    let want = &golden["hellaswag"];
    let questions = read_multiple_endings(&text("hellaswag.jsonl")).unwrap();
    let questions: Vec<Question> =
        questions.into_iter().map(|q| Question { context: q.context, endings: q.endings, answer: q.label }).collect();
    for batch_size in BATCHES {
        let found = Evaluator::new(&model, &tokenizer, batch_size).multiple_choice(&questions).unwrap();
        close("acc", found.accuracy.value, &want["accuracy_percent"]);
        close("acc_norm", found.accuracy_by_bytes.value, &want["by_bytes_percent"]);
        assert_eq!((found.accuracy.n, found.n_truncated as u64), (5, want["n_truncated"].as_u64().unwrap()));
    }
}

#[test]
fn true_continuations() {
    let (model, tokenizer, golden) = opened();
    let want = &golden["f1"];
    let mut items = read_continuations(&text("f1.jsonl")).unwrap();
    let number = |key: &str| want[key].as_u64().unwrap() as usize;
    for batch_size in BATCHES {
        let generation =
            Generation { prompt_tokens: number("prompt_tokens"), n_new: number("n_new"), ..Generation::default() };
        let found = Evaluator::new(&model, &tokenizer, batch_size).continuation_f1(&items, &generation).unwrap();
        close("F1", found.value, &want["mean"]);
        assert_eq!((found.n, found.n_failed), (items.len() as u64, 0));
    }
    // One at a time, so that two errors cannot make up for each other; then one that cannot be measured.
    let generation =
        Generation { prompt_tokens: number("prompt_tokens"), n_new: number("n_new"), ..Generation::default() };
    for (item, want) in items.iter().zip(want["scores"].as_array().unwrap()) {
        let found =
            Evaluator::new(&model, &tokenizer, 2).continuation_f1(std::slice::from_ref(item), &generation).unwrap();
        close("F1 of one", found.value, want);
    }
    items.truncate(1);
    items[0].continuation.clear();
    let found = Evaluator::new(&model, &tokenizer, 2).continuation_f1(&items, &generation).unwrap();
    assert_eq!((found.value, found.n, found.n_failed), (None, 0, 1));
    assert!(Evaluator::new(&model, &tokenizer, 2).continuation_f1(&[], &generation).is_err());
}
