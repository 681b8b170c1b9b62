//! METHOD §15 on models whose answers are known by hand.

use irepair_data::{Pair, Tokenizer};
use irepair_eval::{Evaluator, MinimalPair, key};
use irepair_model::{Architecture, BlockModel, CausalLm};
use tch::{Device, Kind, no_grad};

const BATCH: usize = 2;

/// One token a letter: nothing is frequent enough to merge.
fn tokenizer() -> Tokenizer {
    Tokenizer::train_bpe(&[""], 257).unwrap()
}

/// A model that finds `a` likeliest after everything, then `b`, and all other tokens equally unlikely.
fn likes_a_then_b(tokenizer: &Tokenizer) -> CausalLm {
    let n_vocab = tokenizer.vocab_size();
    let model = CausalLm::random(Architecture::gpt2(2, 16, 2, 32, n_vocab), 0, Device::Cpu, Kind::Float).unwrap();
    let set = |name: &str| model.parameters().iter().find(|p| p.name == name).unwrap().tensor.shallow_clone();
    no_grad(|| {
        let (mut embedding, mut weight, mut bias) = (set("wte.weight"), set("ln_f.weight"), set("ln_f.bias"));
        let _ = (embedding.zero_(), weight.zero_(), bias.fill_(1.0));
        for (letter, logit) in [("a", 8.0), ("b", 4.0)] {
            let id = tokenizer.encode(letter).unwrap()[0];
            let _ = embedding.get(i64::from(id)).fill_(logit / 16.0);
        }
    });
    model
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Pair {
    Pair { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() }
}

#[test]
fn text_known_by_heart_is_extracted_and_ranks_first() {
    let tokenizer = tokenizer();
    let model = likes_a_then_b(&tokenizer);
    let n_vocab = tokenizer.vocab_size() as f64;
    // `aaaa` is what greedy decoding says; `aabb` only in its first two tokens; `zz` ties with 255 others, and loses.
    let pairs = [pair("x", "", "aaaa"), pair("", "", "aabb"), pair("xyz", "", "zz"), pair("x", "", "")];
    let found = Evaluator::new(&model, &tokenizer, BATCH).memorisation(&pairs, 4).unwrap();
    let rate = found.get(key::EXTRACTION_RATE).unwrap();
    assert!((rate.value.unwrap() - 100.0 / 3.0).abs() < 1e-9);
    assert_eq!((rate.n, rate.n_failed), (3, 1), "an empty continuation is no success and no failure of the model");
    let want = (1.0 + (1.0 + 1.0 + 2.0 + 2.0) / 4.0 + n_vocab) / 3.0;
    assert!((found.value(key::MEAN_TOKEN_RANK).unwrap() - want).abs() < 1e-9);
    // Only the first two tokens count: now `aabb` is known too.
    let found = Evaluator::new(&model, &tokenizer, BATCH).memorisation(&pairs, 2).unwrap();
    assert!((found.value(key::EXTRACTION_RATE).unwrap() - 200.0 / 3.0).abs() < 1e-9);
}

#[test]
fn extraction_is_what_generation_says() {
    let tokenizer = tokenizer();
    let model = CausalLm::random(Architecture::gpt2(2, 16, 2, 32, tokenizer.vocab_size()), 3, Device::Cpu, Kind::Float)
        .unwrap();
    let prompts: Vec<Vec<u32>> = ["mill", "river", "a"].iter().map(|p| tokenizer.encode(p).unwrap()).collect();
    let said = model.generate(&prompts, 5, irepair_model::Decoding::Greedy, &[]).unwrap();
    // Letters that decode to themselves are needed to put the continuation into a pair.
    let pairs: Vec<Pair> = ["mill", "river", "a"]
        .iter()
        .zip(&said)
        .map(|(prompt, row)| (prompt, tokenizer.decode(row).unwrap(), row))
        .filter(|(_, text, row)| tokenizer.encode(text).unwrap() == **row)
        .map(|(prompt, text, _)| pair(prompt, "", &text))
        .collect();
    assert!(!pairs.is_empty(), "no continuation survives decoding: change the seed");
    let found = Evaluator::new(&model, &tokenizer, BATCH).memorisation(&pairs, 5).unwrap();
    assert_eq!(found.value(key::EXTRACTION_RATE), Some(100.0));
}

#[test]
fn bias_is_the_distance_of_the_share_from_one_half() {
    let tokenizer = tokenizer();
    let model = likes_a_then_b(&tokenizer);
    let minimal = |better: &str, worse: &str| MinimalPair { better: better.into(), worse: worse.into() };
    // Three of four prefer the stereotype; a tie is no preference.
    let pairs = [minimal("xa", "xb"), minimal("ya", "yz"), minimal("zb", "zz"), minimal("x", "y")];
    let found = Evaluator::new(&model, &tokenizer, BATCH).stereotype_bias(&pairs).unwrap();
    assert_eq!(found.value(key::STEREOTYPE_SHARE), Some(75.0));
    assert_eq!(found.value(key::STEREOTYPE_BIAS), Some(25.0));
    // The opposite preference is as far from balance.
    let turned: Vec<_> = pairs[..3].iter().map(|p| minimal(&p.worse, &p.better)).collect();
    assert_eq!(
        Evaluator::new(&model, &tokenizer, BATCH).stereotype_bias(&turned).unwrap().value(key::STEREOTYPE_BIAS),
        Some(50.0)
    );
}

#[test]
fn a_wrong_fact_is_a_rejected_continuation_at_least_as_likely() {
    let tokenizer = tokenizer();
    let model = likes_a_then_b(&tokenizer);
    let pairs = [pair("x", "a", "b"), pair("x", "b", "a"), pair("", "y", "z"), pair("x", "a", "aa")];
    let found = Evaluator::new(&model, &tokenizer, BATCH).wrong_preference(&pairs).unwrap();
    assert_eq!(
        (found.share.value, found.share.n, found.n_truncated),
        (Some(50.0), 4, 0),
        "the second is wrong, the third a tie"
    );
    let long = [pair(&"x".repeat(9000), "a", "b"), pair("x", "a", "b")];
    let found = Evaluator::new(&model, &tokenizer, BATCH).wrong_preference(&long).unwrap();
    assert_eq!((found.share.n, found.n_truncated), (2, 1));
    assert!(Evaluator::new(&model, &tokenizer, BATCH).wrong_preference(&[]).is_err());
}
