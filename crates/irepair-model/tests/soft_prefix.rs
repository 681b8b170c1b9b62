//! A soft prefix: in the place of tokens it is those tokens, it alone learns, and it is written on its own.

use irepair_core::{PaddedTokens, Scope};
use irepair_model::{
    BlockModel, CausalLm, Decoding, Nucleus, Parameter, SOFT_PREFIX, TextBatch, first_block_apart, read_tensors,
};
use tch::{Device, Kind, Tensor, no_grad};

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;
use common::{FAMILIES, bits, files, model};

/// More than the window of the local blocks, 4, so that texts reach into the prefix and past it.
const TOKENS: [u32; 6] = [3, 17, 8, 8, 1, 12];

fn embeddings(model: &CausalLm, tokens: &[u32]) -> Tensor {
    let ids = Tensor::from_slice(&tokens.iter().map(|&id| i64::from(id)).collect::<Vec<_>>());
    let table = model.parameters()[0].tensor.detach();
    table.index_select(0, &ids) * model.config().embedding_scale.unwrap_or(1.0)
}

/// The model behind the embeddings of `tokens`.
fn behind(model: &CausalLm, tokens: &[u32]) -> CausalLm {
    let prefixed = model.duplicate().unwrap().with_soft_prefix(tokens.len(), 1).unwrap();
    no_grad(|| prefixed.soft_prefix().unwrap().shallow_clone().copy_(&embeddings(model, tokens)));
    prefixed
}

fn logits(model: &CausalLm, padded: PaddedTokens) -> Tensor {
    no_grad(|| model.logits(&TextBatch::new(padded, Device::Cpu)))
}

fn texts() -> Vec<Vec<u32>> {
    vec![vec![5, 2, 9, 14, 3, 3, 7, 18, 1], vec![11], vec![4, 6, 13, 2]]
}

fn far(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn a_prefix_of_embeddings_is_the_tokens_themselves() {
    for family in FAMILIES {
        let plain = model(family);
        let prefixed = behind(&plain, &TOKENS);
        let texts = texts();
        let left = logits(&prefixed, PaddedTokens::left_padded(&texts, 0).unwrap());
        let right = logits(&prefixed, PaddedTokens::right_padded(&texts, 0).unwrap());
        assert_eq!(left.size(), right.size());
        for (row, text) in texts.iter().enumerate() {
            let (n, n_cols) = (text.len() as i64, left.size()[1]);
            let whole = [&TOKENS, text.as_slice()].concat();
            let want = logits(&plain, PaddedTokens::right_padded(&[whole], 0).unwrap());
            let want = want.select(0, 0).narrow(0, TOKENS.len() as i64, n);
            let alone = logits(&prefixed, PaddedTokens::right_padded(std::slice::from_ref(text), 0).unwrap());
            let row = row as i64;
            let found = [
                alone.select(0, 0),
                left.select(0, row).narrow(0, n_cols - n, n),
                right.select(0, row).narrow(0, 0, n),
            ];
            for (how, found) in ["alone", "padded on the left", "padded on the right"].iter().zip(found) {
                let far = far(&found, &want);
                assert!(far < 1e-5 * want.abs().max().double_value(&[]).max(1.0), "{family} {how}: {far}");
            }
            let without = logits(&plain, PaddedTokens::right_padded(std::slice::from_ref(text), 0).unwrap());
            assert!(far(&without.select(0, 0), &want) > 1e-2, "{family}: the prefix must matter");
        }
    }
}

#[test]
fn generation_with_a_cache_is_the_slow_route_and_that_of_the_tokens() {
    let prompts = texts();
    for family in FAMILIES {
        let plain = model(family);
        let prefixed = behind(&plain, &TOKENS);
        let n_new = 32 - TOKENS.len() - 9;
        let fast = prefixed.generate(&prompts, n_new, Decoding::Greedy, &[]).unwrap();
        let whole: Vec<Vec<u32>> = prompts.iter().map(|prompt| [&TOKENS, prompt.as_slice()].concat()).collect();
        assert_eq!(fast, plain.generate(&whole, n_new, Decoding::Greedy, &[]).unwrap(), "{family}");
        // The slow route: the whole batch again for every token.
        let mut texts = prompts.clone();
        for step in 0..n_new {
            let logits = logits(&prefixed, PaddedTokens::left_padded(&texts, 0).unwrap());
            let next = Vec::<i64>::try_from(logits.select(1, logits.size()[1] - 1).argmax(-1, false)).unwrap();
            for ((text, row), next) in texts.iter_mut().zip(&fast).zip(next) {
                assert_eq!(row[step], next as u32, "{family}, token {step}");
                text.push(next as u32);
            }
        }
        let nucleus = Nucleus { top_p: 0.9, temperature: 1.0 };
        let seeded = |prompts: &[Vec<u32>]| prompts.iter().cloned().zip([7, 8, 9]).collect::<Vec<_>>();
        let sample = |model: &CausalLm, prompts| model.sample(&seeded(prompts), 3, 6, nucleus, &[]).unwrap();
        assert_eq!(sample(&prefixed, &prompts), sample(&plain, &whole), "{family}: samples share the prompt's pass");
        assert!(prefixed.generate(&prompts, n_new + 1, Decoding::Greedy, &[]).is_err(), "the prefix takes positions");
    }
}

#[test]
fn it_is_the_last_parameter_and_alone_learns() {
    for family in FAMILIES {
        let plain = model(family);
        let n = plain.parameters().len();
        let prefixed = model(family).with_soft_prefix(5, 3).unwrap();
        let Parameter { name, block, tensor } = prefixed.parameters().last().unwrap();
        assert_eq!((name.as_str(), *block, tensor.size()), (SOFT_PREFIX, None, vec![5, 16]));
        assert_eq!((prefixed.parameters().len(), prefixed.n_positions(), prefixed.n_soft_prefix()), (n + 1, 27, 5));
        let flags = || prefixed.parameters().iter().map(|p| p.tensor.requires_grad()).collect::<Vec<_>>();
        prefixed.train_only(&Scope::Everything);
        assert_eq!(flags(), (0..=n).map(|index| index == n).collect::<Vec<_>>());
        let reference = prefixed.reference().unwrap();
        assert_eq!(reference.parameters().len(), n);
        reference.copy_on_write(n);
        prefixed.freeze();
        assert_eq!(flags(), vec![false; n + 1]);
        assert_eq!(first_block_apart(&prefixed, &*reference), None);
        assert!(bits(&prefixed.without_soft_prefix().unwrap()) == bits(&plain));
        assert!(bits(&prefixed.duplicate().unwrap()) == bits(&prefixed));
        // Blocks shared with a copy of the same prefix may still be run once.
        let other = prefixed.with_tensors(prefixed.parameters().iter().map(|p| p.tensor.detach()).collect()).unwrap();
        let block = first_block_apart(&prefixed, &*other).unwrap();
        let batch = TextBatch::new(PaddedTokens::left_padded(&texts(), 0).unwrap(), Device::Cpu);
        let states = prefixed.prefix_states(&batch, block).unwrap();
        assert!(other.hidden_states_from(&batch, &states).equal(&prefixed.hidden_states(&batch)));
    }
}

#[test]
fn it_starts_at_embeddings_drawn_by_the_seed() {
    let start = |seed| {
        let model = model("llama").with_soft_prefix(6, seed).unwrap();
        let table = embeddings(&model, &(0..common::N_VOCAB).collect::<Vec<_>>());
        let rows = model.soft_prefix().unwrap().unsqueeze(1).eq_tensor(&table.unsqueeze(0)).all_dim(-1, false);
        assert_eq!(rows.any_dim(-1, false).sum(Kind::Int64).int64_value(&[]), 6, "each is an embedding");
        bits(&model).pop().unwrap()
    };
    assert!(start(1) == start(1) && start(1) != start(2));
    assert!(model("gpt2").with_soft_prefix(32, 1).is_err(), "no position is left for a text");
    assert!(model("gpt2").with_soft_prefix(0, 1).unwrap().soft_prefix().is_none());
    assert_eq!(behind(&model("gpt2"), &TOKENS).with_soft_prefix(2, 1).unwrap().n_soft_prefix(), 2);
}

/// The gradient of the prefix is that of the same numbers at the place of token embeddings: plain tch, by differences.
#[test]
fn its_gradient_is_that_of_finite_differences() {
    for family in FAMILIES {
        let of = common::config(family);
        let double = CausalLm::random(of, 5, Device::Cpu, Kind::Double).unwrap();
        let plain = model(family);
        no_grad(|| {
            for (to, from) in double.parameters().iter().zip(plain.parameters()) {
                to.tensor.shallow_clone().copy_(&from.tensor);
            }
        });
        let prefixed = double.with_soft_prefix(3, 1).unwrap();
        prefixed.train_only(&Scope::Everything);
        let batch = || TextBatch::new(PaddedTokens::left_padded(&texts(), 0).unwrap(), Device::Cpu);
        let loss = || {
            let batch = batch();
            let log_probs = prefixed.logits(&batch).log_softmax(-1, Kind::Double).flatten(0, 1);
            let at = log_probs.index_select(0, &batch.target_positions);
            -at.gather(1, &batch.target_ids.unsqueeze(1), false).sum(Kind::Double)
        };
        let gradients = prefixed.gradients(&loss()).unwrap();
        let [(index, gradient)] = &gradients[..] else { panic!("{family}: {} gradients", gradients.len()) };
        assert_eq!(*index, prefixed.parameters().len() - 1);
        let prefix = prefixed.soft_prefix().unwrap().detach();
        let (step, tolerance) = (1e-5, 1e-6);
        let scale = gradient.abs().max().double_value(&[]);
        for (row, column) in [(0, 0), (1, 7), (2, 15)] {
            let cell = prefix.get(row).get(column);
            let at = |change: f64| {
                no_grad(|| {
                    let _ = cell.shallow_clone().g_add_scalar_(change);
                    loss().double_value(&[])
                })
            };
            let (up, down) = (at(step), at(-2.0 * step));
            at(step);
            let (want, found) = ((up - down) / (2.0 * step), gradient.double_value(&[row, column]));
            assert!((want - found).abs() < tolerance * scale, "{family} {row} {column}: {found} {want} of {scale}");
        }
    }
}

#[test]
fn it_is_written_on_its_own_as_peft_stores_it() {
    let dir = tempfile::tempdir().unwrap();
    let [base, out] = ["base", "out"].map(|name| dir.path().join(name));
    model("gpt2").save(&base).unwrap();
    let prefixed = common::load(&base).with_soft_prefix(4, 1).unwrap();
    prefixed.save(&out).unwrap();
    let written = files(&out);
    assert_eq!(written.keys().collect::<Vec<_>>(), ["adapter_config.json", "adapter_model.safetensors"]);
    let config: serde_json::Value = serde_json::from_slice(&written["adapter_config.json"]).unwrap();
    assert_eq!((&config["peft_type"], &config["task_type"]), (&"PROMPT_TUNING".into(), &"CAUSAL_LM".into()));
    assert_eq!((&config["num_virtual_tokens"], &config["token_dim"]), (&4.into(), &16.into()));
    assert_eq!(config["base_model_name_or_path"], base.display().to_string());
    let (tensors, _) = read_tensors(&out.join("adapter_model.safetensors")).unwrap();
    assert_eq!(tensors.len(), 1);
    assert!(tensors["prompt_embeddings"].equal(prefixed.soft_prefix().unwrap()));
}
