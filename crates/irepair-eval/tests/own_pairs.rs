//! METHOD §21 on a model that writes the letters a and b at random, with a judge that dislikes a.

use irepair_data::Tokenizer;
use irepair_eval::{Evaluator, Generation, OwnPairs, PairRule, Scorer};
use irepair_model::{Architecture, BlockModel, CausalLm};
use tch::{Device, Kind, no_grad};

/// One token a letter: nothing is frequent enough to merge.
fn tokenizer() -> Tokenizer {
    Tokenizer::train_bpe(&[""], 257).unwrap()
}

/// A model that continues everything with the tokens of these letters, equally likely but for the first one, which the
/// greedy text holds alone; an empty one ends the text.
fn writes(letters: &[&str], tokenizer: &Tokenizer) -> CausalLm {
    let of = Architecture::gpt2(2, 16, 2, 32, tokenizer.vocab_size());
    let model = CausalLm::random(of, 0, Device::Cpu, Kind::Float).unwrap();
    let set = |name: &str| model.parameters().iter().find(|p| p.name == name).unwrap().tensor.shallow_clone();
    no_grad(|| {
        let (mut embedding, mut weight, mut bias) = (set("wte.weight"), set("ln_f.weight"), set("ln_f.bias"));
        let _ = (embedding.zero_(), weight.zero_(), bias.fill_(1.0));
        for (i, letter) in letters.iter().enumerate() {
            let id = tokenizer.encode(letter).unwrap().first().copied().unwrap_or(tokenizer.eos_id());
            let _ = embedding.get(i64::from(id)).fill_(if i == 0 { 1.0001 } else { 1.0 });
        }
    });
    model
}

/// Share of the letter a.
struct ShareOfA;

impl Scorer for ShareOfA {
    fn name(&self) -> &str {
        "share-of-a"
    }

    fn version(&self) -> u32 {
        1
    }

    fn score(&self, text: &str) -> Result<f64, String> {
        Ok(text.matches('a').count() as f64 / text.chars().count() as f64)
    }
}

fn rule() -> PairRule {
    PairRule {
        generation: Generation { prompt_tokens: 6, n_new: 4, ..Generation::default() },
        n_samples: 12,
        greedy: false,
        n_more: 0,
        min_gap: 0.5,
        steer_chosen: None,
        steer_rejected: None,
        seed: 3,
    }
}

fn made(letters: &[&str], prompts: &[&str], rule: &PairRule, batch_size: usize) -> OwnPairs {
    let tokenizer = tokenizer();
    let model = writes(letters, &tokenizer);
    let prompts: Vec<String> = prompts.iter().map(|&p| p.to_owned()).collect();
    let mut n_sampled = 0;
    let evaluator = Evaluator::new(&model, &tokenizer, batch_size);
    let found = evaluator.own_pairs(&prompts, &ShareOfA, rule, || n_sampled += 1).unwrap();
    assert!(n_sampled >= prompts.len());
    found
}

#[test]
fn the_worst_text_is_rejected_and_the_best_one_chosen() {
    let prompts = ["mill", "", "river", "a prompt that is cut"];
    let found = made(&["a", "b"], &prompts, &rule(), 3);
    assert_eq!((found.counts.n_prompts, found.counts.n_first, found.counts.n_samples), (4, 4, 48));
    for (pair, prompt) in found.pairs.iter().zip(["mill", "", "river", "a prom"]) {
        assert_eq!(pair.prompt, prompt);
        let [bad, good] = [&pair.rejected, &pair.chosen].map(|text| ShareOfA.score(text).unwrap());
        assert!(bad - good >= 0.5, "{pair:?}");
        assert_eq!((pair.rejected.len(), pair.chosen.len()), (4, 4));
    }
    let [rejected, chosen] = found.counts.mean_scores.unwrap();
    assert!(rejected - chosen >= 0.5);
    // The seed decides the samples; the batch size decides nothing.
    assert_eq!(made(&["a", "b"], &prompts, &rule(), 1), found);
    assert_ne!(made(&["a", "b"], &prompts, &PairRule { seed: 4, ..rule() }, 3).pairs, found.pairs);
}

#[test]
fn a_text_that_ended_ends_with_the_end_of_text_token() {
    let tokenizer = tokenizer();
    let rule = PairRule { n_samples: 40, ..rule() };
    let found = made(&["a", "b", ""], &["mill", "river", "sky"], &rule, 3);
    assert_eq!(found.pairs.len(), 3);
    let mut n_ended = 0;
    for text in found.pairs.iter().flat_map(|pair| [&pair.rejected, &pair.chosen]) {
        let ids = tokenizer.encode(text).unwrap();
        let ended = ids.last() == Some(&tokenizer.eos_id());
        assert!(ended != (ids.len() == 4 && !text.ends_with(&tokenizer.end_text())), "{text}");
        n_ended += usize::from(ended);
    }
    assert!(n_ended > 0, "no text ended: change the seed");
}

#[test]
fn prompts_without_a_pair_are_tried_again_and_counted() {
    let steered = PairRule { n_more: 5, steer_chosen: Some("good: ".into()), ..rule() };
    // Texts of b alone are all good: nothing is steered, because no text brings out a bad one.
    let counts = made(&["b"], &["mill", "sky"], &steered, 3).counts;
    assert_eq!((counts.n_all_good, counts.n_all_bad, counts.n_samples), (2, 0, 2 * (12 + 5)));
    assert_eq!(counts.mean_scores, None);
    // Texts of a alone are all bad: sampled again after the steering text too.
    let counts = made(&["a"], &["mill", "sky"], &steered, 3).counts;
    assert_eq!((counts.n_all_good, counts.n_all_bad, counts.n_samples), (0, 2, 2 * (12 + 5 + 12)));
    // Nothing but the end of the text: blank, and of no use.
    let counts = made(&[""], &["mill"], &rule(), 3).counts;
    assert_eq!((counts.n_first, counts.n_all_good), (0, 1));
}

#[test]
fn an_error_of_the_greedy_text_alone_gives_pairs() {
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    let prompts = ["mill", "river", "sky"];
    // A sample with three a of four is rare.
    let rule = || PairRule { n_more: 3, min_gap: 0.75, ..rule() };
    let samples = made(&letters, &prompts, &rule(), 2);
    assert_eq!((samples.pairs.len(), samples.counts.n_all_good), (0, 3));
    let found = made(&letters, &prompts, &PairRule { greedy: true, ..rule() }, 2);
    assert_eq!((found.counts.n_greedy, found.counts.n_more, found.counts.n_samples), (3, 0, 3 * (12 + 1)));
    assert!(found.pairs.iter().all(|pair| pair.rejected == "aaaa" && !pair.chosen.contains('a')), "{:?}", found.pairs);
    // Prompts whose samples give a pair are not asked again.
    let rule = || PairRule { min_gap: 0.5, ..rule() };
    let two = ["a", "b"];
    let greedy = made(&two, &prompts, &PairRule { greedy: true, ..rule() }, 2);
    assert_eq!((greedy.counts.n_greedy, greedy), (0, made(&two, &prompts, &rule(), 2)));
}

#[test]
fn what_cannot_work_is_refused() {
    let tokenizer = tokenizer();
    let model = writes(&["a"], &tokenizer);
    let evaluator = Evaluator::new(&model, &tokenizer, 2);
    let refused =
        |prompts: &[String], rule: &PairRule| evaluator.own_pairs(prompts, &ShareOfA, rule, || ()).unwrap_err();
    assert_eq!(refused(&[], &rule()).to_string(), "no prompts to measure on");
    let one = PairRule { n_samples: 1, ..rule() };
    assert_eq!(refused(&["mill".into()], &one).to_string(), "setting `n_samples` is out of range");
    let long = PairRule { n_more: 1, steer_chosen: Some("g".repeat(40)), ..rule() };
    assert!(evaluator.own_pairs(&["mill".into()], &ShareOfA, &long, || ()).is_err());
}
