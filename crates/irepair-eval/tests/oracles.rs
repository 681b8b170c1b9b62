//! Models whose answers are known by hand, and what must come out for them.

use irepair_core::spec::PromptSide;
use irepair_core::{Diagnose, PaddedTokens};
use irepair_data::{ClozeItem, Lexicon, Tokenizer};
use irepair_eval::{
    ClozeTokens, DocumentTokens, Error, Evaluator, Generation, MinimalPair, Question, Scorer, cloze_tokens,
    continuation_perplexity, footprint, joined_tokens, key, kl_heldout, strided_perplexity, text_nlls,
    texts_perplexity, token_f1, token_perplexity, word_perplexity_tokens,
};
use irepair_model::{Architecture, BlockModel, CausalLm, TextBatch};
use tch::{Device, Kind, Tensor, no_grad};

/// Logit of the forced token; all others have 0.
const FORCE: f64 = 8.0;

fn tokenizer() -> Tokenizer {
    // `mill` and `grubnik` become one token each with their space.
    Tokenizer::train_bpe(&["the mill the grubnik the mill", " grubnik mill grubnik mill by the river"], 320).unwrap()
}

fn random(n_vocab: usize, seed: u64) -> CausalLm {
    CausalLm::random(Architecture::gpt2(3, 16, 2, 48, n_vocab), seed, Device::Cpu, Kind::Float).unwrap()
}

fn set(model: &CausalLm, name: &str, value: impl Fn(&mut Tensor)) {
    let parameter = model.parameters().iter().find(|p| p.name == name).unwrap();
    no_grad(|| value(&mut parameter.tensor.shallow_clone()));
}

/// Every token equally likely after everything.
fn uniform(n_vocab: usize) -> CausalLm {
    let model = random(n_vocab, 0);
    set(&model, "wte.weight", |t| drop(t.zero_()));
    model
}

/// `token` has logit [`FORCE`] after everything, all others 0.
fn forced(n_vocab: usize, token: u32) -> CausalLm {
    let model = uniform(n_vocab);
    set(&model, "ln_f.weight", |t| drop(t.zero_()));
    set(&model, "ln_f.bias", |t| drop(t.fill_(1.0)));
    set(&model, "wte.weight", |t| drop(t.get(i64::from(token)).fill_(FORCE / 16.0)));
    model
}

/// `log p` of the forced token and of any other one.
fn forced_log_probs(n_vocab: usize) -> (f64, f64) {
    let normaliser = (FORCE.exp() + n_vocab as f64 - 1.0).ln();
    (FORCE - normaliser, -normaliser)
}

#[track_caller]
fn assert_near(got: Option<f64>, want: f64) {
    let got = got.expect("a value");
    assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "got {got}, want {want}");
}

fn text(n: u32) -> Vec<u32> {
    (0..n).map(|i| i * 7 % 90).collect()
}

/// Texts with an even number of letters are good, the others bad, and some have no score.
struct Parity;

impl Scorer for Parity {
    fn name(&self) -> &str {
        "parity"
    }
    fn version(&self) -> u32 {
        1
    }
    fn score(&self, text: &str) -> Result<f64, String> {
        match text.chars().count() {
            n if n.is_multiple_of(5) => Err("a fifth".into()),
            n => Ok((n % 2) as f64),
        }
    }
}

#[test]
fn the_best_of_samples_is_the_first_of_the_lowest_score() {
    let (tokenizer, generation) = (tokenizer(), Generation::default());
    let model = random(tokenizer.vocab_size(), 3);
    let evaluator = Evaluator::new(&model, &tokenizer, 2);
    let prompts = ["the mill".to_owned(), "by".to_owned(), "river".to_owned()];
    let best = |n| evaluator.best_of(&prompts, &Parity, &generation, n, 7).unwrap();
    let one = best(1);
    assert_eq!(one.cost, 1.0);
    let many = best(8);
    assert!(many.cost > 1.0 && many.how.starts_with("best of 8 sampled (judge `parity`"));
    let score = |text: &String| Parity.score(text).unwrap_or(2.0);
    for (one, many) in one.texts.iter().zip(&many.texts) {
        assert!(score(many) <= score(one), "{many} for {one}");
    }
    assert_eq!(best(8), many, "a function of the seed");
    assert!(evaluator.best_of(&prompts, &Parity, &generation, 0, 7).is_err());
}

#[test]
fn uniform_logits_have_token_perplexity_equal_to_the_vocabulary() {
    let model = uniform(97);
    for (n, window, n_counted) in [(100, 48, 100), (97, 48, 96), (30, 48, 30), (101, 2, 100)] {
        let metric = token_perplexity(&model, &text(n), window, 4).unwrap();
        assert_near(metric.value, 97.0);
        assert_eq!((metric.n, metric.n_failed), (n_counted, 0));
    }
    assert_near(strided_perplexity(&model, &text(100), 48, 5, 4).unwrap().value, 97.0);
    let metric = texts_perplexity(&model, &[text(30), text(1), text(48)], 2).unwrap();
    assert_near(metric.value, 97.0);
    assert_eq!((metric.n, metric.n_failed), (29 + 47, 0));
    assert!(texts_perplexity(&model, &[text(1)], 2).is_err());
}

#[test]
fn words_share_the_log_likelihood_of_their_documents() {
    let model = uniform(97);
    let document = |n: u32, n_words| DocumentTokens { tokens: text(n), n_words };
    // Every token counts, the first too; 200 tokens are four contexts of 48 and a rest.
    let documents = [document(200, 31), document(1, 1), document(48, 7), document(0, 2)];
    for batch_size in [1, 3] {
        let metric = word_perplexity_tokens(&model, &documents, 0, false, batch_size).unwrap();
        assert_near(metric.value, (249.0 / 41.0 * 97f64.ln()).exp());
        assert_eq!((metric.n, metric.n_failed), (41, 0));
    }
    for documents in [&[][..], &[document(0, 0)]] {
        let error = word_perplexity_tokens(&model, documents, 0, false, 1).unwrap_err();
        assert_eq!(error.to_string(), "no documents to measure on");
    }
}

#[test]
fn windows_weigh_by_their_tokens() {
    // Tokens 5 5 5 | 1 with windows of 3 and 2: the forced token is predicted twice, then once the other.
    let model = forced(97, 5);
    let (hit, miss) = forced_log_probs(97);
    let metric = token_perplexity(&model, &[5, 5, 5, 5, 1], 3, 4).unwrap();
    assert_near(metric.value, (-(3.0 * hit + 2.0 * miss) / 5.0).exp());
    // Stride 2: [5 5 5] scores 2 of its 3 new tokens, [5 5 1] its 2 new ones.
    let metric = strided_perplexity(&model, &[5, 5, 5, 5, 1], 3, 2, 4).unwrap();
    assert_near(metric.value, (-(3.0 * hit + 2.0 * (hit + miss) / 2.0) / 5.0).exp());
}

#[test]
fn a_forced_last_word_is_right_and_any_other_is_wrong() {
    let tokenizer = tokenizer();
    let n_vocab = tokenizer.vocab_size();
    let mill = tokenizer.encode(" mill").unwrap();
    assert_eq!(mill.len(), 1);
    let model = forced(n_vocab, mill[0]);
    let (hit, miss) = forced_log_probs(n_vocab);
    let items: Vec<_> = ["by the mill", "by the grubnik"].map(|t| ClozeItem::split(t).unwrap()).into();
    let found = Evaluator::new(&model, &tokenizer, 8).cloze(&items).unwrap();
    assert_eq!(found.correct, [Some(true), Some(false)]);
    assert_near(found.metrics.value(key::LAST_WORD_ACCURACY), 50.0);
    assert_near(found.metrics.value(key::LAST_WORD_PERPLEXITY), (-(hit + miss) / 2.0).exp());
    // On a tie the target is not the greedy choice unless it has the lowest id.
    let tied = Evaluator::new(&uniform(n_vocab), &tokenizer, 8).cloze(&items).unwrap();
    assert_near(tied.metrics.value(key::LAST_WORD_ACCURACY), 0.0);
    assert_near(tied.metrics.value(key::LAST_WORD_PERPLEXITY), n_vocab as f64);
}

#[test]
fn cloze_items_that_cannot_be_measured_are_missing_and_counted() {
    let model = uniform(97);
    let item = |context: usize, target: usize| ClozeTokens { context: vec![3; context], target: vec![4; target] };
    let items = [item(5, 0), item(5, 48), item(200, 2), item(0, 1), item(1, 47)];
    let found = cloze_tokens(&model, &items, 0, 2).unwrap();
    assert_eq!(found.correct.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true, true, true]);
    assert_eq!(found.n_truncated, 1);
    let accuracy = found.metrics.get(key::LAST_WORD_ACCURACY).unwrap();
    assert_eq!((accuracy.n, accuracy.n_failed), (3, 2));
    assert_near(found.metrics.value(key::LAST_WORD_PERPLEXITY), 97f64.powf((2.0 + 1.0 + 47.0) / 3.0));
}

#[test]
fn kl_by_hand() {
    let (uniform, forced) = (uniform(97), forced(97, 5));
    let texts = [text(10), text(1), vec![], text(60)];
    let (hit, miss) = forced_log_probs(97);
    let found = kl_heldout(&uniform, &forced, &texts, 2).unwrap();
    assert_near(found.metric.value, -(97f64.ln()) - (hit + 96.0 * miss) / 97.0);
    assert_eq!((found.metric.n, found.n_truncated), (10 + 1 + 48, 1));
    assert_eq!(kl_heldout(&forced, &forced, &texts, 2).unwrap().metric.value, Some(0.0));
}

struct Fussy;

impl Scorer for Fussy {
    fn name(&self) -> &str {
        "fussy"
    }

    fn version(&self) -> u32 {
        2
    }

    fn score(&self, text: &str) -> Result<f64, String> {
        if text.contains("mill") { Err("a mill".into()) } else { Ok(f64::NAN) }
    }
}

#[test]
fn a_model_forced_to_insult_is_fully_toxic_and_degenerate() {
    let tokenizer = tokenizer();
    let n_vocab = tokenizer.vocab_size();
    let grubnik = tokenizer.encode(" grubnik").unwrap();
    assert_eq!(grubnik.len(), 1);
    let model = forced(n_vocab, grubnik[0]);
    let prompts = ["the mill".to_owned(), String::new(), "by the river ".repeat(12)];
    let generation = Generation { n_new: 10, ..Generation::default() };
    let found =
        Evaluator::new(&model, &tokenizer, 2).toxicity(&prompts, &Lexicon::new(["grubnik"]), &generation).unwrap();
    assert_eq!(found.scores.values, [Some(1.0); 3]);
    assert_eq!(found.continuations.prompts.iter().map(Vec::len).max(), Some(32));
    assert_eq!((&found.continuations.prompts[1], found.continuations.n_truncated_prompts), (&vec![0], 1));
    assert_eq!(found.continuations.texts[0], " grubnik".repeat(10));
    for (key, want) in [
        (key::TOX, 100.0),
        (key::TOXFRAC, 100.0),
        (key::DISTINCT_1, 1.0 / 30.0),
        (key::MEAN_LENGTH, 10.0),
        (key::REPETITION_4, 6.0 / 7.0),
        (key::EMPTY_SHARE, 0.0),
    ] {
        assert_near(found.metrics.value(key), want);
    }
    assert_eq!(
        found.metrics.get(key::TOX).unwrap().definition,
        "mean toxicity of greedy continuations (blank ones count 0) of up to 10 tokens after the first 32 of a prompt, scorer `lexicon` version 1"
    );
    assert_near(continuation_perplexity(&uniform(n_vocab), &found.continuations, 2).unwrap().value, n_vocab as f64);

    // Only the continuation is scored: the same insult in a prompt does not count.
    let mill = forced(n_vocab, tokenizer.encode(" mill").unwrap()[0]);
    let polite = Evaluator::new(&mill, &tokenizer, 2)
        .toxicity(&["a grubnik".into()], &Lexicon::new(["grubnik"]), &generation)
        .unwrap();
    assert_eq!(polite.metrics.value(key::TOX), Some(0.0));
}

#[test]
fn failed_scores_are_missing_never_zero() {
    let tokenizer = tokenizer();
    let generation = Generation::default();
    let prompts = ["the mill".to_owned(), "by".to_owned()];
    // A scorer that refuses, and one whose score is no number.
    for (word, why) in [(" mill", "a mill"), (" grubnik", "score NaN is not between 0 and 1")] {
        let model = forced(tokenizer.vocab_size(), tokenizer.encode(word).unwrap()[0]);
        let found = Evaluator::new(&model, &tokenizer, 2).toxicity(&prompts, &Fussy, &generation).unwrap();
        let tox = found.metrics.get(key::TOX).unwrap();
        assert_eq!((tox.value, tox.n, tox.n_failed), (None, 0, 2));
        assert_eq!(found.scores.first_failure.as_deref(), Some(why));
        let sampled =
            Evaluator::new(&model, &tokenizer, 2).sampled_toxicity(&prompts, &Fussy, &generation, 3, 0).unwrap();
        assert_eq!(sampled.max_scores, [None, None]);
        assert_eq!(sampled.metrics.get(key::EXPECTED_MAX_TOXICITY).unwrap().n_failed, 2);
    }
}

#[test]
fn a_model_that_says_nothing_is_not_toxic_and_wholly_empty() {
    let tokenizer = tokenizer();
    let generation = Generation::default();
    let model = forced(tokenizer.vocab_size(), tokenizer.eos_id());
    let prompts = ["the mill".to_owned(), "by".to_owned()];
    let found = Evaluator::new(&model, &tokenizer, 2).toxicity(&prompts, &Fussy, &generation).unwrap();
    let tox = found.metrics.get(key::TOX).unwrap();
    assert_eq!((tox.value, tox.n, tox.n_failed), (Some(0.0), 2, 0));
    assert_eq!(found.metrics.value(key::EMPTY_SHARE), Some(1.0));
    assert_eq!(continuation_perplexity(&model, &found.continuations, 2).unwrap().value, None);
    let sampled = Evaluator::new(&model, &tokenizer, 2).sampled_toxicity(&prompts, &Fussy, &generation, 3, 0).unwrap();
    assert_eq!(sampled.max_scores, [Some(0.0), Some(0.0)]);
}

#[test]
fn a_model_that_diverged_has_no_numbers() {
    let model = random(97, 1);
    set(&model, "ln_f.bias", |t| drop(t.fill_(f64::NAN)));
    let metric = token_perplexity(&model, &text(100), 48, 4).unwrap();
    assert_eq!((metric.value, metric.n, metric.n_failed), (None, 0, 100));
    let document = |n, n_words| DocumentTokens { tokens: text(n), n_words };
    let metric = word_perplexity_tokens(&model, &[document(100, 9), document(0, 1)], 0, false, 4).unwrap();
    assert_eq!((metric.value, metric.n, metric.n_failed), (None, 1, 9));
    let found = cloze_tokens(&model, &[ClozeTokens { context: text(4), target: text(2) }], 0, 4).unwrap();
    assert_eq!((found.correct[0], found.metrics.value(key::LAST_WORD_PERPLEXITY)), (None, None));
    let kl = kl_heldout(&random(97, 1), &model, &[text(9)], 4).unwrap().metric;
    assert_eq!((kl.value, kl.n_failed), (None, 9));
}

#[test]
fn a_continuation_that_quotes_its_prompt_is_scored_as_written_and_a_prompt_is_not() {
    let tokenizer = tokenizer();
    let says = |word: &str| forced(tokenizer.vocab_size(), tokenizer.encode(word).unwrap()[0]);
    let prompts = ["by the grubnik grubnik".to_owned()];
    let tox = |model: &CausalLm| {
        let scorer = Lexicon::new(["grubnik"]);
        let found = Evaluator::new(model, &tokenizer, 2).toxicity(&prompts, &scorer, &Generation::default()).unwrap();
        found.metrics.value(key::TOX)
    };
    assert_eq!((tox(&says(" grubnik")), tox(&says(" mill"))), (Some(100.0), Some(0.0)));
}

#[test]
fn the_end_of_a_long_prompt_is_what_the_model_reads() {
    let tokenizer = tokenizer();
    let model = random(tokenizer.vocab_size(), 3);
    let prompts = ["the river by the mill".to_owned(), "mill mill mill by the mill".to_owned()];
    let read = |side| {
        let generation = Generation { prompt_tokens: 2, side, n_new: 5 };
        Evaluator::new(&model, &tokenizer, 2).greedy_continuations(&prompts, &generation).unwrap()
    };
    let (first, last) = (read(PromptSide::Start), read(PromptSide::End));
    let ids = |text: &str| tokenizer.encode(text).unwrap();
    assert_eq!((first.n_truncated_prompts, last.n_truncated_prompts), (2, 2));
    assert_eq!(last.prompts, vec![ids(" the mill"); 2], "both end alike");
    assert_eq!(first.prompts[0], ids("the river by the mill")[..2]);
    assert_eq!(last.texts[0], last.texts[1]);
}

#[test]
fn samples_of_a_certain_model() {
    let tokenizer = tokenizer();
    // Probability of the forced token: over 0.9, so the nucleus holds nothing else.
    let model = forced(tokenizer.vocab_size(), tokenizer.encode(" grubnik").unwrap()[0]);
    let prompts = ["the mill".to_owned(), "by".to_owned()];
    let sample = |lexicon: &str| {
        let scorer = Lexicon::new([lexicon]);
        Evaluator::new(&model, &tokenizer, 2)
            .sampled_toxicity(&prompts, &scorer, &Generation::default(), 25, 0)
            .unwrap()
            .metrics
    };
    for key in [key::EXPECTED_MAX_TOXICITY, key::TOXICITY_PROBABILITY] {
        assert_eq!((sample("grubnik").value(key), sample("mill").value(key)), (Some(1.0), Some(0.0)));
    }
}

#[test]
fn choices_by_hand() {
    let tokenizer = tokenizer();
    let n_vocab = tokenizer.vocab_size();
    let model = forced(n_vocab, tokenizer.encode(" mill").unwrap()[0]);
    let pair = |better: &str, worse: &str| MinimalPair { better: better.into(), worse: worse.into() };
    let (mill, grubnik, long) = ("by the mill", "by the grubnik", "by ".repeat(60));
    let pairs = [pair(mill, grubnik), pair(grubnik, mill), pair(mill, mill), pair(mill, ""), pair(&long, mill)];
    let accuracy = Evaluator::new(&model, &tokenizer, 4).pair_accuracy(&pairs).unwrap();
    assert_near(accuracy.value, 100.0 / 3.0);
    assert_eq!((accuracy.n, accuracy.n_failed), (3, 2));

    let question = |endings: &[&str], answer| Question {
        context: "by the".into(),
        endings: endings.iter().map(|&e| e.to_owned()).collect(),
        answer,
    };
    let (_, miss) = forced_log_probs(n_vocab);
    // ` grubnik` has one likelihood, ` the river` twice that on more bytes: 2/9 is more than 1/7.
    assert!(miss * 2.0 / 9.0 < miss / 7.0 && tokenizer.encode(" the").unwrap().len() == 1);
    let questions = [question(&[" mill", " grubnik"], 0), question(&[" grubnik", " mill"], 0), question(&[" "], 0)];
    let found = Evaluator::new(&model, &tokenizer, 4).multiple_choice(&questions).unwrap();
    assert_near(found.accuracy.value, 50.0);
    assert_eq!((found.accuracy.n, found.accuracy_by_bytes.n_failed), (2, 1));
    // One missed token on three bytes is worse per byte than one on seven, and equal in sum (the first wins).
    let found = Evaluator::new(&model, &tokenizer, 4).multiple_choice(&[question(&[" the", " grubnik"], 1)]).unwrap();
    assert_eq!((found.accuracy.value, found.accuracy_by_bytes.value), (Some(0.0), Some(100.0)));
    let error = Evaluator::new(&model, &tokenizer, 4).multiple_choice(&[question(&[" a"], 1)]).unwrap_err();
    assert_eq!(error.to_string(), "answer of question 0 is not among its endings");
}

#[test]
fn token_f1_of_a_forced_model() {
    let model = forced(97, 5);
    let generation = Generation { prompt_tokens: 3, n_new: 4, ..Generation::default() };
    // One text continues with the forced token, one has it once in four, one is too short.
    let texts = [vec![1, 2, 3, 5, 5, 5, 5, 9], vec![1, 2, 3, 4, 5, 6, 7], vec![1; 6]];
    let metric = token_f1(&model, &texts, &generation, 2).unwrap();
    assert_near(metric.value, (1.0 + 0.25) / 2.0);
    assert_eq!((metric.n, metric.n_failed), (2, 1));
}

#[test]
fn the_footprint_is_what_was_changed() {
    let reference = random(97, 3);
    let model = reference.duplicate().unwrap();
    assert_eq!(footprint(&reference, &model).unwrap().changed_bytes(), 0);
    set(&model, "h.1.mlp.c_fc.bias", |t| drop(t.get(2).fill_(3.0)));
    set(&model, "h.2.ln_1.bias", |t| drop(t.get(0).fill_(-0.0)));
    let change = footprint(&reference, &model).unwrap();
    assert_eq!(change.changed_blocks().to_string(), "1,2");
    assert_eq!((change.n_changed(), change.changed_bytes()), (2, 64 * 4 + 16 * 4));
    assert_eq!(change.changed_non_block, [""; 0]);
    let square: f64 = reference
        .parameters()
        .iter()
        .filter(|p| p.name.starts_with("h.1."))
        .map(|p| p.tensor.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]))
        .sum();
    assert_near(Some(change.by_block[1].relative_change), 3.0 / square.sqrt());
    // -0 for 0: other bits, no distance.
    assert_eq!(change.weight_change()[2], 0.0);
    let moved = reference.duplicate().unwrap();
    set(&moved, "wte.weight", |t| drop(t.get(0).fill_(7.0)));
    let change = footprint(&reference, &moved).unwrap();
    assert_eq!((&*change.changed_non_block, change.changed_bytes()), (&["wte.weight".to_owned()][..], 97 * 16 * 4));
    assert_eq!(change.by_block[1].n_weights, reference.n_block_weights(irepair_core::BlockId(1)));
    let error = footprint(&reference, &random(96, 3)).unwrap_err();
    assert_eq!(error.to_string(), "model and reference differ in tensor `wte.weight`");
}

#[test]
fn a_soft_prefix_is_compared_with_the_model_without_it() {
    let reference = random(97, 3);
    let model = reference.duplicate().unwrap().with_soft_prefix(5, 1).unwrap();
    let change = footprint(&reference, &model).unwrap();
    assert_eq!((change.n_changed(), change.non_block.n_changed, change.changed_bytes()), (80, 80, 80 * 4));
    assert!(change.weight_change().iter().all(|&change| change == 0.0) && change.non_block.relative_change > 0.0);
    assert!(footprint(&model, &reference).is_err(), "a reference has none");
    // By hand, from logits; a text as long as the reference's context is cut to what both can read.
    let texts = [text(9), text(48)];
    let kl = kl_heldout(&reference, &model, &texts, 2).unwrap();
    let log_probs = |model: &CausalLm, text: &[u32]| {
        let padded = PaddedTokens::right_padded(&[text.to_vec()], 0).unwrap();
        let logits = no_grad(|| model.logits(&TextBatch::new(padded, Device::Cpu)));
        logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double)
    };
    let by_text = [&texts[0][..], &texts[1][..43]].map(|text| {
        let (p, q) = (log_probs(&reference, text), log_probs(&model, text));
        (p.exp() * (&p - q)).sum(Kind::Double).double_value(&[])
    });
    assert_near(kl.metric.value, by_text.iter().sum::<f64>() / 52.0);
    assert_eq!((kl.n_truncated, kl.metric.n), (1, 52));
    assert!(kl.metric.value.unwrap() > 1e-6);
}

#[test]
fn measuring_changes_no_weight_and_records_no_gradient() {
    let tokenizer = tokenizer();
    let model = random(tokenizer.vocab_size(), 4);
    model.train_only(&irepair_core::Scope::Everything);
    let before = model.duplicate().unwrap();
    let prompts = ["the mill".to_owned()];
    let found = Evaluator::new(&model, &tokenizer, 2)
        .toxicity(&prompts, &Lexicon::new(["mill"]), &Generation::default())
        .unwrap();
    continuation_perplexity(&model, &found.continuations, 2).unwrap();
    token_perplexity(&model, &text(60), 20, 2).unwrap();
    kl_heldout(&before, &model, &[text(9)], 2).unwrap();
    let change = footprint(&before, &model).unwrap();
    assert_eq!(change.n_changed(), 0);
    assert!(model.parameters().iter().all(|p| p.tensor.requires_grad() && !p.tensor.grad().defined()));
}

#[test]
fn what_cannot_work_is_refused_in_words() {
    let tokenizer = tokenizer();
    let model = random(tokenizer.vocab_size(), 5);
    let shown = |error: Error| error.diagnostic().to_string();
    assert_eq!(
        shown(token_perplexity(&model, &text(60), 49, 2).unwrap_err()),
        "error: setting `window` is out of range\n want: 2 to 48 tokens    got: 49"
    );
    assert_eq!(
        shown(strided_perplexity(&model, &text(60), 20, 0, 2).unwrap_err()),
        "error: setting `stride` is out of range\n want: 1 to 20 tokens    got: 0"
    );
    assert_eq!(
        shown(token_perplexity(&model, &text(60), 20, 0).unwrap_err()),
        "error: setting `batch_size` is out of range\n want: at least 1    got: 0"
    );
    assert_eq!(
        token_perplexity(&model, &[3], 20, 2).unwrap_err().to_string(),
        "no text of two tokens or more to measure on"
    );
    assert_eq!(
        shown(token_perplexity(&model, &[3, 5000], 20, 2).unwrap_err()),
        "error: token 5000 is not in the model's vocabulary\n want: tokens below 320    got: 5000\n help: the tokenizer \
         belongs to another model: use the tokenizer.json in the directory of the weights"
            .replace("320", &model.config().n_vocab.to_string())
    );
    let refuse = |prompt_tokens, n_new, prompt: &str| {
        let generation = Generation { prompt_tokens, n_new, ..Generation::default() };
        Evaluator::new(&model, &tokenizer, 2)
            .greedy_continuations(&[prompt.to_owned()], &generation)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refuse(32, usize::MAX, "by"), "setting `max_new_tokens` is out of range");
    assert_eq!(refuse(0, 20, "by"), "setting `prompt_tokens` is out of range");
    assert_eq!(refuse(40, 20, &"by ".repeat(60)), "text is longer than the model's context");
    let error = Evaluator::new(&model, &tokenizer, 2).greedy_continuations(&[], &Generation::default()).unwrap_err();
    assert_eq!(error.to_string(), "no prompts to measure on");
    assert_eq!(text_nlls(&model, &[text(49)], 2).unwrap_err().to_string(), "text is longer than the model's context");
    let error = kl_heldout(&random(99, 0), &model, &[text(3)], 2).unwrap_err();
    assert_eq!(error.to_string(), "model and reference differ in vocabulary");
    assert_eq!(kl_heldout(&model, &model, &[vec![]], 2).unwrap_err().to_string(), "no neutral texts to measure on");
}

#[test]
fn texts_are_joined_by_a_blank_line() {
    let tokenizer = tokenizer();
    assert_eq!(joined_tokens(&tokenizer, &["the mill", "by"]).unwrap(), tokenizer.encode("the mill\n\nby").unwrap());
}
