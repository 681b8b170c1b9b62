//! Laws: a batch size changes nothing, one text at a time gives the same, shares are shares.

use std::sync::LazyLock;

use irepair_core::PaddedTokens;
use irepair_data::{Lexicon, Tokenizer};
use irepair_eval::{
    ClozeTokens, Evaluator, Generation, bag_f1, cloze_tokens, continuation_perplexity, degeneration, key, kl_heldout,
    strided_perplexity, text_nlls, texts_perplexity, token_f1, windowed_nlls,
};
use irepair_model::{Architecture, BlockModel, CausalLm, Decoding, TextBatch};
use proptest::prelude::*;
use tch::{Device, Kind, no_grad};

const N_VOCAB: usize = 300;
const CONTEXT: usize = 40;

struct Models {
    gpt2: CausalLm,
    neo: CausalLm,
    tokenizer: Tokenizer,
}

thread_local! {
    static MODELS: LazyLock<Models> = LazyLock::new(|| {
        // The tests already fill the cores; threads of threads are ten times slower on models this small.
        tch::set_num_threads(1);
        let tokenizer = Tokenizer::train_bpe(&["the mill by the river", "the river by the mill"], N_VOCAB).unwrap();
        let model = |config| {
            let model = CausalLm::random(config, 7, Device::Cpu, Kind::Float).unwrap();
            // Larger weights: greedy choices far from ties, probabilities far from uniform.
            no_grad(|| model.parameters().iter().for_each(|p| drop(p.tensor.shallow_clone().g_mul_scalar_(8.0))));
            model
        };
        Models {
            gpt2: model(Architecture::gpt2(2, 16, 2, CONTEXT, N_VOCAB)),
            neo: model(Architecture::gpt_neo(2, 16, 2, CONTEXT, N_VOCAB, 5)),
            tokenizer,
        }
    });
}

fn texts(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..N_VOCAB as u32, 0..CONTEXT), n)
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 2e-5 * a.abs().max(1.0),
        (None, None) => true,
        _ => false,
    }
}

/// `log p` of every token but the first, from the logits of this text alone.
fn alone(model: &CausalLm, tokens: &[u32]) -> Vec<f64> {
    if tokens.is_empty() {
        return Vec::new();
    }
    // The last token is predicted, and need not fit the context.
    let read = tokens[..tokens.len().min(CONTEXT)].to_vec();
    let batch = TextBatch::new(PaddedTokens::right_padded(&[read], 0).unwrap(), Device::Cpu);
    let log_probs = no_grad(|| model.logits(&batch).to_kind(Kind::Double).log_softmax(-1, Kind::Double));
    (1..tokens.len()).map(|t| log_probs.double_value(&[0, t as i64 - 1, i64::from(tokens[t])])).collect()
}

proptest! {
    // A fixed seed: once in some hundred runs two tokens nearly tie, and rounding would decide the greedy choice.
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    #[test]
    fn likelihoods_do_not_depend_on_the_batch(texts in texts(1..9), batch_size in 1usize..9) {
        MODELS.with(|m| for model in [&m.gpt2, &m.neo] {
            for (text, nll) in texts.iter().zip(text_nlls(model, &texts, batch_size).unwrap()) {
                let slow = alone(model, text);
                assert_eq!(nll.n_tokens, slow.len());
                assert!(near(Some(nll.nll_sum), Some(-slow.iter().sum::<f64>())), "{nll:?} {slow:?}");
            }
        });
    }

    #[test]
    fn windows_score_every_token_but_the_first_once(
        texts in prop::collection::vec(prop::collection::vec(0..N_VOCAB as u32, 0..4 * CONTEXT), 1..4), batch_size in 1usize..9,
    ) {
        MODELS.with(|m| for model in [&m.gpt2, &m.neo] {
            for (text, nll) in texts.iter().zip(windowed_nlls(model, &texts, None, batch_size).unwrap()) {
                // A window predicts CONTEXT tokens, the last one the rest; its last token is not read.
                let starts = (1..text.len()).step_by(CONTEXT);
                let window = |first: usize| {
                    let end = (first + CONTEXT).min(text.len());
                    let start = end.saturating_sub(CONTEXT + 1);
                    alone(model, &text[start..end])[first - start - 1..].to_vec()
                };
                let slow: Vec<f64> = starts.clone().flat_map(window).collect();
                assert_eq!((nll.n_tokens, slow.len()), (text.len().saturating_sub(1), nll.n_tokens));
                assert_eq!(nll.n_windows, starts.count().max(1));
                assert!(near(Some(nll.nll_sum), Some(-slow.iter().sum::<f64>())), "{nll:?}");
            }
        });
    }

    #[test]
    fn perplexity_is_the_slow_sum(
        tokens in prop::collection::vec(0..N_VOCAB as u32, 2..120), window in 2..=CONTEXT, share in 0.0..1.0f64,
        batch_size in 1usize..9,
    ) {
        let stride = 1 + (share * (window - 1) as f64) as usize;
        MODELS.with(|m| {
            let metric = strided_perplexity(&m.gpt2, &tokens, window, stride, batch_size).unwrap();
            let (mut sum, mut n, mut seen, mut start) = (0.0, 0.0, 0, 0);
            while seen < tokens.len() {
                let end = (start + window).min(tokens.len());
                let log_probs = alone(&m.gpt2, &tokens[start..end]);
                let fresh = &log_probs[log_probs.len() - (end - seen).min(log_probs.len())..];
                if !fresh.is_empty() {
                    sum -= (end - seen) as f64 * fresh.iter().sum::<f64>() / fresh.len() as f64;
                    n += (end - seen) as f64;
                }
                (seen, start) = (end, start + stride);
            }
            assert!(near(metric.value.map(f64::ln), Some(sum / n)), "{metric:?}");
            assert_eq!(metric.n as f64, n);
        });
    }

    #[test]
    fn the_perplexity_of_texts_is_the_slow_sum(texts in texts(2..7), batch_size in 1usize..9) {
        MODELS.with(|m| {
            let log_probs: Vec<f64> = texts.iter().flat_map(|text| alone(&m.gpt2, text)).collect();
            match texts_perplexity(&m.gpt2, &texts, batch_size) {
                Ok(metric) => {
                    let mean = log_probs.iter().sum::<f64>() / log_probs.len() as f64;
                    assert!(near(metric.value.map(f64::ln), Some(-mean)), "{metric:?}");
                    assert_eq!(metric.n as usize, log_probs.len());
                }
                Err(_) => assert!(log_probs.is_empty()),
            }
        });
    }

    #[test]
    fn no_metric_depends_on_the_batch_size(texts in texts(2..7), batch_size in 2usize..9) {
        MODELS.with(|m| {
            let items: Vec<ClozeTokens> = texts
                .iter()
                .map(|t| ClozeTokens { context: t.clone(), target: t.iter().rev().take(3).copied().collect() })
                .collect();
            let [one, many] = [1, batch_size].map(|n| cloze_tokens(&m.gpt2, &items, 0, n).unwrap());
            assert_eq!(one.correct, many.correct);
            assert!(one.log_probs.iter().zip(&many.log_probs).all(|(a, b)| near(*a, *b)));

            if texts.iter().any(|t| !t.is_empty()) {
                let [one, many] = [1, batch_size].map(|n| kl_heldout(&m.gpt2, &m.neo, &texts, n).unwrap().metric);
                assert!(near(one.value, many.value) && one.n == many.n);
                assert!(one.value.unwrap() >= 0.0);
            }

            let prompts: Vec<String> = texts.iter().map(|t| m.tokenizer.decode(t).unwrap()).collect();
            let lexicon = Lexicon::new(["mill", "a", "e"]);
            let [one, many] = [1, batch_size].map(|batch_size| {
                let generation = Generation { prompt_tokens: 12, n_new: 8, ..Generation::default() };
                let evaluator = Evaluator::new(&m.gpt2, &m.tokenizer, batch_size);
                let found = evaluator.toxicity(&prompts, &lexicon, &generation).unwrap();
                let fluency = continuation_perplexity(&m.neo, &found.continuations, batch_size).unwrap();
                let sampled = evaluator.sampled_toxicity(&prompts, &lexicon, &generation, 3, 5).unwrap();
                let overlap = token_f1(&m.gpt2, &texts, &generation, batch_size).unwrap();
                (found, fluency, sampled, overlap)
            });
            assert_eq!(one.0, many.0);
            assert!(near(one.1.value, many.1.value));
            assert_eq!((&one.2, &one.3), (&many.2, &many.3));
        });
    }

    #[test]
    fn continuations_come_back_in_the_order_of_the_prompts(texts in texts(2..7)) {
        MODELS.with(|m| {
            let prompts: Vec<String> = texts.iter().map(|t| m.tokenizer.decode(t).unwrap()).collect();
            let generation = Generation { prompt_tokens: 12, n_new: 8, ..Generation::default() };
            let found = Evaluator::new(&m.gpt2, &m.tokenizer, 3).toxicity(&prompts, &Lexicon::new(["mill"]), &generation).unwrap();
            for (prompt, tokens) in found.continuations.prompts.iter().zip(&found.continuations.tokens) {
                let slow = m.gpt2.generate(std::slice::from_ref(prompt), 8, Decoding::Greedy, m.tokenizer.end_ids()).unwrap();
                assert_eq!(&slow[0], tokens);
            }
        });
    }

    #[test]
    fn shares_are_between_0_and_1(texts in texts(0..6)) {
        let written: Vec<String> = texts.iter().map(|t| "x".repeat(t.len())).collect();
        let metrics = degeneration(&texts, &written);
        for key in [key::DISTINCT_1, key::DISTINCT_2, key::DISTINCT_3, key::REPETITION_4, key::EMPTY_SHARE] {
            let metric = metrics.get(key).unwrap();
            prop_assert_eq!(metric.value.is_some(), metric.n > 0);
            prop_assert!(metric.value.is_none_or(|v| (0.0..=1.0).contains(&v)));
        }
    }

    #[test]
    fn f1_is_symmetric_and_1_on_the_same_bag(a in prop::collection::vec(0u32..9, 0..12), b in prop::collection::vec(0u32..9, 0..12)) {
        prop_assert_eq!(bag_f1(&a, &b), bag_f1(&b, &a));
        let mut turned = a.clone();
        turned.reverse();
        prop_assert_eq!(bag_f1(&a, &turned), (!a.is_empty()).then_some(1.0));
    }
}
