//! Everything but steps: products, loading, generation, likelihoods.

use std::path::PathBuf;

use anyhow::Context;
use irepair_eval::{ClozeTokens, cloze_tokens, text_nlls};
use irepair_model::{BlockModel, CausalLm, Decoding};
use irepair_torch::linear;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor, no_grad};

use crate::turns::repeated;
use crate::{Args, Measured, weight_bytes};

/// Tokens of a prompt and new tokens of a continuation.
const PROMPT: usize = 16;
const NEW: usize = 20;
/// Tokens of a last word.
const LAST: usize = 2;
/// Matrix products at a time: long enough to time.
const PRODUCTS: i64 = 8;

/// Square products of matrices that fit no cache but are read many times, by the library that models take.
pub(crate) fn gemm(args: &Args) -> anyhow::Result<Measured> {
    let options = (args.kind()?, args.device()?);
    let n = if options.1 == Device::Cpu { 2048 } else { 8192 };
    let (a, b) = (Tensor::rand([n, n], options), Tensor::rand([n, n], options));
    // Reading a value waits for the device.
    let products =
        || Ok((0..PRODUCTS).map(|_| no_grad(|| linear(&a, &b.tr(), None).double_value(&[0, 0]))).sum::<f64>());
    Ok(Measured { flops: (PRODUCTS * 2 * n * n * n) as f64, ..repeated(args, 0.0, products)? })
}

pub(crate) fn save(args: &Args) -> anyhow::Result<Measured> {
    let dir = directory(args)?;
    let model = CausalLm::random(args.config()?, 0, Device::Cpu, args.kind()?)?;
    Ok(Measured { weight_bytes: weight_bytes(&model), ..repeated(args, 0.0, || Ok(model.save(&dir)?))? })
}

pub(crate) fn load(args: &Args) -> anyhow::Result<Measured> {
    let (dir, device, kind) = (directory(args)?, args.device()?, args.kind()?);
    let mut bytes = 0;
    let measured = repeated(args, 0.0, || {
        let (model, _) = CausalLm::load(&dir, device, kind)?;
        // A weight that was read, whatever the loader puts off.
        let sums: f64 = model.parameters().iter().map(|p| p.tensor.view(-1).double_value(&[0])).sum();
        anyhow::ensure!(sums.is_finite(), "weights are not finite");
        bytes = weight_bytes(&model);
        Ok(())
    })?;
    Ok(Measured { weight_bytes: bytes, ..measured })
}

pub(crate) fn generate(args: &Args) -> anyhow::Result<Measured> {
    let model = args.random_model()?;
    let prompts = texts(args.batch, PROMPT, model.config().n_vocab);
    let go = || Ok(model.generate(&prompts, NEW, Decoding::Greedy, &[])?);
    Ok(Measured { weight_bytes: weight_bytes(&model), ..repeated(args, (args.batch * NEW) as f64, go)? })
}

pub(crate) fn perplexity(args: &Args) -> anyhow::Result<Measured> {
    let model = args.random_model()?;
    let texts = texts(args.batch, args.tokens, model.config().n_vocab);
    let go = || Ok(text_nlls(&model, &texts, args.batch)?);
    Ok(Measured { weight_bytes: weight_bytes(&model), ..repeated(args, (args.batch * args.tokens) as f64, go)? })
}

pub(crate) fn last_words(args: &Args) -> anyhow::Result<Measured> {
    let model = args.random_model()?;
    let item = |mut context: Vec<u32>| ClozeTokens { target: context.split_off(args.tokens - LAST), context };
    let items: Vec<_> = texts(args.batch, args.tokens, model.config().n_vocab).into_iter().map(item).collect();
    let go = || Ok(cloze_tokens(&model, &items, 0, args.batch)?);
    Ok(Measured { weight_bytes: weight_bytes(&model), ..repeated(args, (args.batch * args.tokens) as f64, go)? })
}

fn texts(n: usize, n_tokens: usize, n_vocab: usize) -> Vec<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    (0..n).map(|_| (0..n_tokens).map(|_| rng.random_range(0..n_vocab as u32)).collect()).collect()
}

fn directory(args: &Args) -> anyhow::Result<PathBuf> {
    args.model.clone().context("--model DIR is missing")
}
