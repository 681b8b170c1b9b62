//! Continuations with a key-value cache: greedy or sampled, many prompts at a time.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

use irepair_arch::RopeScaling;
use irepair_core::PaddedTokens;
use irepair_torch::{Library, library};

use crate::attention::{AttentionContext, KeyValues};
use crate::nucleus;
use crate::probe::NoProbe;
use crate::{BlockModel, CausalLm, Error, Result, TextBatch};

/// Rows up to which the head is multiplied from the other side: measured on a CPU, 32 gain and 64 lose.
const FEW_ROWS: i64 = 32;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decoding {
    /// The most probable token; the lower id on a tie.
    Greedy,
    /// A draw from the smallest set of tokens that holds `top_p` of the probability (nucleus sampling).
    Nucleus {
        /// Probability kept, over 0 and up to 1; 1 samples from everything.
        top_p: f64,
        /// Divides the logits; 1 leaves them.
        temperature: f64,
        /// Seed of the draws: the same seed gives the same texts.
        seed: u64,
    },
}

/// Nucleus sampling without a seed: see [`Decoding::Nucleus`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nucleus {
    /// Probability kept, over 0 and up to 1.
    pub top_p: f64,
    /// Divides the logits; 1 leaves them.
    pub temperature: f64,
}

/// The prompts, padded on the left, once it is clear that they can be continued by `n_new` tokens.
fn padded(
    model: &(impl BlockModel + ?Sized),
    prompts: &[Vec<u32>],
    n_new: usize,
    ends: &[u32],
) -> Result<PaddedTokens> {
    if prompts.iter().any(Vec::is_empty) {
        return Err(irepair_core::Error::NoTokens.into());
    }
    let padded = PaddedTokens::left_padded(prompts, ends.first().copied().unwrap_or(0))?;
    model.check_length(padded.n_cols() + n_new)?;
    Ok(padded)
}

/// [`BlockModel::generate`] for any model: the whole text again for every token.
pub(crate) fn without_cache(
    model: &(impl BlockModel + ?Sized),
    prompts: &[Vec<u32>],
    n_new: usize,
    decoding: Decoding,
    ends: &[u32],
) -> Result<Vec<Vec<u32>>> {
    let (mut chooser, mut written) = (Chooser::new(decoding), Continuations::new(prompts.len(), n_new));
    let (mut texts, mut padded) = (prompts.to_vec(), padded(model, prompts, n_new, ends)?);
    for _ in 0..n_new {
        let batch = TextBatch::new(padded, model.device());
        let logits = no_grad(|| model.project(&model.hidden_states(&batch).select(1, batch.dims().1 - 1)));
        let tokens = Vec::<i64>::try_from(&chooser.choose(&model.logits_to_write(logits))?)?;
        if !written.extend(&tokens, ends) {
            break;
        }
        texts.iter_mut().zip(tokens).for_each(|(text, token)| text.push(token as u32));
        padded = PaddedTokens::left_padded(&texts, 0)?;
    }
    Ok(written.rows)
}

/// [`BlockModel::sample`] for any model: a prompt after the other.
pub(crate) fn sample_one_by_one(
    model: &(impl BlockModel + ?Sized),
    prompts: &[(Vec<u32>, u64)],
    n_samples: usize,
    n_new: usize,
    Nucleus { top_p, temperature }: Nucleus,
    ends: &[u32],
) -> Result<Vec<Vec<u32>>> {
    let mut samples = Vec::new();
    for (prompt, seed) in prompts {
        let decoding = Decoding::Nucleus { top_p, temperature, seed: *seed };
        samples.extend(model.generate(&vec![prompt.clone(); n_samples], n_new, decoding, ends)?);
    }
    Ok(samples)
}

/// What was written after each prompt so far.
struct Continuations {
    rows: Vec<Vec<u32>>,
    ended: Vec<bool>,
}

impl Continuations {
    fn new(n_rows: usize, n_new: usize) -> Self {
        Self { rows: vec![Vec::with_capacity(n_new); n_rows], ended: vec![false; n_rows] }
    }

    /// Adds a token to every row that has not ended; false once all have.
    fn extend(&mut self, tokens: &[i64], ends: &[u32]) -> bool {
        for ((row, ended), &token) in self.rows.iter_mut().zip(&mut self.ended).zip(tokens) {
            *ended = *ended || ends.iter().any(|&end| i64::from(end) == token);
            if !*ended {
                row.push(token as u32);
            }
        }
        !self.ended.iter().all(|&ended| ended)
    }
}

impl CausalLm {
    /// [`BlockModel::sample`] with a key-value cache.
    pub(crate) fn continue_prompts(
        &self,
        prompts: &[Vec<u32>],
        n_samples: usize,
        n_new: usize,
        mut chooser: Chooser,
        ends: &[u32],
    ) -> Result<Vec<Vec<u32>>> {
        let prompts = TextBatch::new(padded(self, prompts, n_new, ends)?, self.device());
        let (n_prompts, n_cols) = prompts.dims();
        let (n_rows, n_each) = (n_prompts as usize * n_samples, n_samples as i64);
        if n_rows == 0 {
            return Ok(Vec::new());
        }
        let capacity = n_cols + (n_new + self.n_soft_prefix()) as i64;
        let mut caches: Vec<KeyValues> = (0..self.n_blocks())
            .map(|_| KeyValues::new(self.config(), n_prompts, capacity, &self.parameters()[0].tensor))
            .collect();
        let mut written = Continuations::new(n_rows, n_new);
        let one_more = Tensor::ones([n_rows as i64, 1], (Kind::Bool, self.device()));
        let mut ids = prompts.ids.shallow_clone();
        // A soft prefix is in the caches from the first pass on.
        let (mut attention_mask, mut positions) = self.columns(&prompts);
        for step in 0..n_new {
            let n_fresh = ids.size()[1];
            let full = prompts.is_full();
            let context = AttentionContext::new(self.config(), &attention_mask, &positions, full, self.kind());
            let hidden = self.hidden(&ids, &positions, &context, Some(&mut caches), &mut NoProbe);
            let mut logits = self.project_rows(&hidden.select(1, n_fresh - 1));
            positions = positions.narrow(1, positions.size()[1] - 1, 1) + 1;
            if step == 0 && n_samples > 1 {
                // From here on the samples of a prompt differ.
                let each = |t: &Tensor| t.repeat_interleave_self_int(n_each, 0, None::<i64>);
                (logits, positions) = (each(&logits), each(&positions));
                attention_mask = each(&attention_mask);
                caches.iter_mut().for_each(|cache| cache.repeat_rows(n_each));
            }
            let next = chooser.choose(&self.logits_to_write(logits))?;
            if !written.extend(&Vec::<i64>::try_from(&next)?, ends) {
                break;
            }
            ids = next.unsqueeze(1);
            attention_mask = Tensor::cat(&[&attention_mask, &one_more], 1);
        }
        Ok(written.rows)
    }

    /// Whether keys of earlier tokens would be other ones once a text is longer: no cache can hold them.
    pub(crate) fn changes_on_the_way<'a>(&self, prompts: impl Iterator<Item = &'a Vec<u32>>, n_new: usize) -> bool {
        let originals = (0..self.n_blocks()).filter_map(|block| match self.config().positions.rope(block)?.scaling {
            RopeScaling::LongRope { original, .. } => Some(original as usize),
            _ => None,
        });
        let Some(original) = originals.min() else { return false };
        let prefix = self.n_soft_prefix();
        prompts.map(|prompt| prompt.len() + prefix).any(|n| n <= original && n + n_new > original)
    }

    /// The head, `[rows, width] -> [rows, vocab]`. MKL's product of few rows would copy the whole head into another
    /// layout; its transpose copies the rows.
    fn project_rows(&self, hidden: &Tensor) -> Tensor {
        let (n_rows, head) = (hidden.size()[0], self.head());
        if n_rows > FEW_ROWS || self.device() != Device::Cpu || library(n_rows, &head) == Library::OneDnn {
            return self.project(hidden);
        }
        self.cap(head.matmul(&hidden.tr()).tr().contiguous())
    }
}

/// Chooses one token per row of logits.
pub(crate) struct Chooser {
    /// None is greedy.
    nucleus: Option<Nucleus>,
    /// Sources of draws, each for the same number of rows in a row.
    streams: Vec<ChaCha8Rng>,
}

impl Chooser {
    pub(crate) fn new(decoding: Decoding) -> Self {
        match decoding {
            Decoding::Greedy => Self { nucleus: None, streams: Vec::new() },
            Decoding::Nucleus { top_p, temperature, seed } => Self::nucleus(Nucleus { top_p, temperature }, &[seed]),
        }
    }

    /// Draws from the nucleus, with a stream of its own for every prompt.
    pub(crate) fn nucleus(nucleus: Nucleus, seeds: &[u64]) -> Self {
        Self { nucleus: Some(nucleus), streams: seeds.iter().map(|&seed| ChaCha8Rng::seed_from_u64(seed)).collect() }
    }

    /// `[batch, vocab] -> [batch]` int64.
    ///
    /// # Errors
    /// [`Error::NotFinite`]: a NaN is the largest of its row, and no token.
    fn choose(&mut self, logits: &Tensor) -> Result<Tensor> {
        let (largest, best) = logits.max_dim(-1, false);
        if !bool::try_from(largest.isfinite().all())? {
            return Err(Error::NotFinite);
        }
        let Some(Nucleus { top_p, temperature }) = self.nucleus else { return Ok(best) };
        let p = (logits.to_kind(Kind::Float) / temperature).softmax(-1, Kind::Float).to_device(Device::Cpu);
        let (n_rows, n_vocab) = (p.size()[0] as usize, p.size()[1] as usize);
        let p = Vec::<f32>::try_from(p.reshape([-1]))?;
        // Logits over a temperature near 0 are infinite, and their probabilities no numbers.
        if p.iter().any(|p| !p.is_finite()) {
            return Err(Error::NotFinite);
        }
        let rows_each = n_rows / self.streams.len();
        let tokens: Vec<i64> = p
            .chunks(n_vocab)
            .enumerate()
            .map(|(row, p)| nucleus::token_at(p, top_p, self.streams[row / rows_each].random()) as i64)
            .collect();
        Ok(Tensor::from_slice(&tokens).to_device(logits.device()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, Shape};

    /// A model of every family, and one whose rotation depends on the length of the text.
    fn models() -> Vec<CausalLm> {
        let shape =
            |family: &str| Shape { n_kv_head: Some(2), window_size: Some(4), ..Shape::new(family, [3, 16, 4], 32, 29) };
        let mut configs: Vec<_> =
            irepair_arch::FAMILIES.iter().map(|f| shape(f.name).architecture().unwrap()).collect();
        let mut phi3: serde_json::Value =
            serde_json::from_str(&shape("phi3").architecture().unwrap().to_json()).unwrap();
        phi3["original_max_position_embeddings"] = 7.into();
        phi3["rope_scaling"] =
            serde_json::json!({"type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [3.0, 5.0]});
        configs.push(Architecture::from_json(phi3, "config.json".as_ref()).unwrap());
        let made = |config| {
            let model = CausalLm::random(config, 1, Device::Cpu, Kind::Float).unwrap();
            // Larger weights than a fresh model's, so that the next token depends on the text.
            no_grad(|| model.parameters().iter().for_each(|p| drop(p.tensor.shallow_clone().g_mul_scalar_(2.0))));
            model
        };
        configs.into_iter().map(made).collect()
    }

    #[test]
    fn cached_batched_greedy_equals_the_slow_route() {
        let prompts = vec![vec![3, 5, 7, 9, 11, 2], vec![4], vec![8, 1, 6]];
        for model in models() {
            let fast = model.generate(&prompts, 12, Decoding::Greedy, &[]).unwrap();
            // The slow simple route, one prompt at a time and all of them together.
            let slow = |prompts: &[Vec<u32>]| without_cache(&model, prompts, 12, Decoding::Greedy, &[]).unwrap();
            assert_eq!(fast, prompts.iter().flat_map(|prompt| slow(std::slice::from_ref(prompt))).collect::<Vec<_>>());
            assert_eq!(fast, slow(&prompts));
        }
    }

    #[test]
    fn sampling_is_a_function_of_the_seed_and_stays_in_the_nucleus() {
        let model = models().swap_remove(0);
        let sample = |top_p, seed| {
            let decoding = Decoding::Nucleus { top_p, temperature: 1.0, seed };
            model.generate(&[vec![3, 5], vec![9]], 10, decoding, &[]).unwrap()
        };
        assert_eq!(sample(0.9, 7), sample(0.9, 7));
        assert_ne!(sample(1.0, 7), sample(1.0, 8));
        // A nucleus that only the top token fits in is greedy decoding.
        assert_eq!(sample(1e-9, 7), model.generate(&[vec![3, 5], vec![9]], 10, Decoding::Greedy, &[]).unwrap());
    }

    #[test]
    fn samples_of_a_prompt_do_not_depend_on_the_other_prompts() {
        let nucleus = Nucleus { top_p: 0.9, temperature: 1.0 };
        for model in models() {
            let together = model.sample(&[(vec![3, 5, 7, 9], 7), (vec![4], 8)], 3, 8, nucleus, &[]).unwrap();
            let alone = |prompt: Vec<u32>, seed| model.sample(&[(prompt, seed)], 3, 8, nucleus, &[]).unwrap();
            assert_eq!(together[..3], alone(vec![3, 5, 7, 9], 7));
            assert_eq!(together[3..], alone(vec![4], 8));
            // The slow route: the prompt read again for each of its samples.
            let decoding = Decoding::Nucleus { top_p: 0.9, temperature: 1.0, seed: 7 };
            assert_eq!(together[..3], model.generate(&vec![vec![3, 5, 7, 9]; 3], 8, decoding, &[]).unwrap());
        }
    }

    #[test]
    fn a_row_ends_at_the_end_token() {
        let model = models().swap_remove(0);
        let free = model.generate(&[vec![3, 5]], 6, Decoding::Greedy, &[]).unwrap();
        let (eos, other) = (free[0][2], free[0][4]);
        for ends in [&[eos][..], &[other], &[other, eos]] {
            let stopped = model.generate(&[vec![3, 5]], 6, Decoding::Greedy, ends).unwrap();
            let first = free[0].iter().position(|t| ends.contains(t)).unwrap();
            assert_eq!(stopped[0], free[0][..first]);
        }
    }

    #[test]
    fn rows_without_a_token_are_never_written() {
        let n_vocab = 29;
        for model in models() {
            let free = model.generate(&[vec![3, 5]], 8, Decoding::Greedy, &[]).unwrap();
            let unwritten: Vec<u32> = free[0].iter().copied().take(3).collect();
            let model = model.never_writing(&unwritten);
            let prompts = [vec![3, 5], vec![7]];
            let fast = model.generate(&prompts, 8, Decoding::Greedy, &[]).unwrap();
            assert_eq!(fast, without_cache(&model, &prompts, 8, Decoding::Greedy, &[]).unwrap());
            let nucleus = Nucleus { top_p: 1.0, temperature: 5.0 };
            let drawn = model.duplicate().unwrap().sample(&[(vec![3, 5], 1)], 20, 20, nucleus, &[]).unwrap();
            let written = || fast.iter().chain(&drawn).flatten();
            assert!(written().all(|id| !unwritten.contains(id)));
            assert!(drawn.iter().flatten().any(|&id| id + 1 == n_vocab || id == 0), "all others may be");
        }
    }

    #[test]
    fn too_long_is_refused() {
        let model = models().swap_remove(0);
        assert!(model.generate(&[vec![1; 30]], 3, Decoding::Greedy, &[]).is_err());
        assert!(model.generate(&[], 3, Decoding::Greedy, &[]).is_err());
        assert!(model.generate(&[vec![], vec![1]], 3, Decoding::Greedy, &[]).is_err());
    }
}
