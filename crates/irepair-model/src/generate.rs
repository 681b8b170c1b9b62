//! Continuations with a key-value cache: greedy or sampled, many prompts at a time.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

use irepair_core::PaddedTokens;

use crate::attention::{KeyValues, Sight};
use crate::nucleus;
use crate::probe::NoProbe;
use crate::{CausalLm, Result, TextBatch};

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

impl CausalLm {
    /// Continues every prompt by at most `n_new` tokens, stopping a row at the first of `ends`.
    ///
    /// Prompts are padded on the left. The returned continuations hold neither prompt nor end token. No gradient.
    ///
    /// # Errors
    /// [`crate::Error::ContextOverflow`] when the longest prompt and `n_new` exceed the context;
    /// [`irepair_core::Error::NoTokens`] when there is no prompt, or one without a token to continue from;
    /// [`crate::Error::NotFinite`] when the model overflows.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        n_new: usize,
        decoding: Decoding,
        ends: &[u32],
    ) -> Result<Vec<Vec<u32>>> {
        let chooser = Chooser::new(decoding);
        no_grad(|| self.continue_prompts(prompts, 1, n_new, chooser, ends))
    }

    /// Several nucleus samples of every prompt: all of the first prompt, then all of the second, and so on.
    ///
    /// A prompt is read once for all its samples, and `seeds` gives each a stream of draws of its own: but for rounding, what
    /// follows a prompt depends on its seed alone, not on the prompts beside it. Else as [`CausalLm::generate`].
    ///
    /// # Errors
    /// As [`CausalLm::generate`]; [`crate::Error::SeedCount`] unless there is a seed for every prompt.
    pub fn sample(
        &self,
        prompts: &[Vec<u32>],
        seeds: &[u64],
        n_samples: usize,
        n_new: usize,
        nucleus: Nucleus,
        ends: &[u32],
    ) -> Result<Vec<Vec<u32>>> {
        if prompts.len() != seeds.len() {
            return Err(crate::Error::SeedCount { want: prompts.len(), got: seeds.len() });
        }
        let chooser = Chooser { nucleus: Some(nucleus), streams: seeds.iter().map(|&seed| stream(seed)).collect() };
        no_grad(|| self.continue_prompts(prompts, n_samples, n_new, chooser, ends))
    }

    fn continue_prompts(
        &self,
        prompts: &[Vec<u32>],
        n_samples: usize,
        n_new: usize,
        mut chooser: Chooser,
        ends: &[u32],
    ) -> Result<Vec<Vec<u32>>> {
        if prompts.iter().any(Vec::is_empty) {
            return Err(irepair_core::Error::NoTokens.into());
        }
        let padded = PaddedTokens::left_padded(prompts, ends.first().copied().unwrap_or(0))?;
        self.check_length(padded.n_cols() + n_new)?;
        let prompts = TextBatch::new(padded, self.device());
        let (n_prompts, n_cols) = prompts.dims();
        let (n_rows, n_each) = (n_prompts as usize * n_samples, n_samples as i64);
        if n_rows == 0 {
            return Ok(Vec::new());
        }
        let mut caches: Vec<KeyValues> = (0..self.n_blocks())
            .map(|_| KeyValues::new(self.config(), n_prompts, n_cols + n_new as i64, &self.parameters()[0].tensor))
            .collect();
        let mut rows = vec![Vec::with_capacity(n_new); n_rows];
        let mut done = vec![false; n_rows];
        let one_more = Tensor::ones([n_rows as i64, 1], (Kind::Bool, self.device()));
        let mut attention_mask = prompts.attention_mask.shallow_clone();
        let mut ids = prompts.ids.shallow_clone();
        let mut positions = prompts.positions();
        for step in 0..n_new {
            let n_fresh = ids.size()[1];
            let sight = Sight::new(self.config(), &attention_mask, &positions, prompts.is_full(), self.kind());
            let hidden = self.hidden(&ids, &positions, &sight, Some(&mut caches), &mut NoProbe);
            let mut logits = self.project_rows(&hidden.select(1, n_fresh - 1));
            positions = positions.narrow(1, n_fresh - 1, 1) + 1;
            if step == 0 && n_samples > 1 {
                // From here on every sample goes its own way.
                let each = |t: &Tensor| t.repeat_interleave_self_int(n_each, 0, None::<i64>);
                (logits, positions) = (each(&logits), each(&positions));
                attention_mask = each(&attention_mask);
                caches.iter_mut().for_each(|cache| cache.repeat_rows(n_each));
            }
            let next = chooser.choose(&logits)?;
            for (row, &token) in Vec::<i64>::try_from(&next)?.iter().enumerate() {
                if done[row] {
                    continue;
                }
                if ends.iter().any(|&end| i64::from(end) == token) {
                    done[row] = true;
                } else {
                    rows[row].push(token as u32);
                }
            }
            if done.iter().all(|&d| d) {
                break;
            }
            ids = next.unsqueeze(1);
            attention_mask = Tensor::cat(&[&attention_mask, &one_more], 1);
        }
        Ok(rows)
    }
}

impl CausalLm {
    /// The head, `[rows, width] -> [rows, vocab]`. A product of few rows would lay out the whole head anew; its transpose lays
    /// out the rows.
    fn project_rows(&self, hidden: &Tensor) -> Tensor {
        if hidden.size()[0] > FEW_ROWS || self.device() != Device::Cpu {
            return self.project(hidden);
        }
        self.head().matmul(&hidden.tr()).tr().contiguous()
    }
}

/// Chooses one token per row of logits.
struct Chooser {
    /// None is greedy.
    nucleus: Option<Nucleus>,
    /// Sources of draws, each for the same number of rows in a row.
    streams: Vec<ChaCha8Rng>,
}

impl Chooser {
    fn new(decoding: Decoding) -> Self {
        match decoding {
            Decoding::Greedy => Self { nucleus: None, streams: Vec::new() },
            Decoding::Nucleus { top_p, temperature, seed } => {
                Self { nucleus: Some(Nucleus { top_p, temperature }), streams: vec![stream(seed)] }
            }
        }
    }

    /// `[batch, vocab] -> [batch]` int64.
    ///
    /// # Errors
    /// [`crate::Error::NotFinite`]: a NaN is the largest of its row, and no token.
    fn choose(&mut self, logits: &Tensor) -> Result<Tensor> {
        let (largest, best) = logits.max_dim(-1, false);
        if !bool::try_from(largest.isfinite().all())? {
            return Err(crate::Error::NotFinite);
        }
        let Some(Nucleus { top_p, temperature }) = self.nucleus else { return Ok(best) };
        let p = (logits.to_kind(Kind::Float) / temperature).softmax(-1, Kind::Float).to_device(Device::Cpu);
        let (n_rows, n_vocab) = (p.size()[0] as usize, p.size()[1] as usize);
        let p = Vec::<f32>::try_from(p.reshape([-1]))?;
        let rows_each = n_rows / self.streams.len();
        let tokens: Vec<i64> = p
            .chunks(n_vocab)
            .enumerate()
            .map(|(row, p)| nucleus::token_at(p, top_p, self.streams[row / rows_each].random()) as i64)
            .collect();
        Ok(Tensor::from_slice(&tokens).to_device(logits.device()))
    }
}

fn stream(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelConfig, Shape};

    fn models() -> [CausalLm; 3] {
        let llama = Shape { n_kv_head: Some(2), ..Shape::new("llama", [3, 16, 4], 32, 29) };
        let llama = llama.architecture().unwrap();
        [ModelConfig::gpt2(3, 16, 2, 32, 29), ModelConfig::gpt_neo(3, 16, 2, 32, 29, 4), llama].map(|config| {
            let model = CausalLm::random(config, 1, Device::Cpu, Kind::Float).unwrap();
            // Larger weights than a fresh model's, so that the next token depends on the text.
            no_grad(|| model.parameters().iter().for_each(|p| drop(p.tensor.shallow_clone().g_mul_scalar_(2.0))));
            model
        })
    }

    /// The slow simple route: the whole text again for every token, one prompt at a time.
    fn greedy_without_cache(model: &CausalLm, prompt: &[u32], n_new: usize) -> Vec<u32> {
        let mut text = prompt.to_vec();
        for _ in 0..n_new {
            let batch = TextBatch::new(PaddedTokens::right_padded(&[text.clone()], 0).unwrap(), Device::Cpu);
            let next = model.logits(&batch).select(1, text.len() as i64 - 1).argmax(-1, false);
            text.push(next.int64_value(&[0]) as u32);
        }
        text.split_off(prompt.len())
    }

    #[test]
    fn cached_batched_greedy_equals_the_slow_route() {
        let prompts = vec![vec![3, 5, 7, 9, 11, 2], vec![4], vec![8, 1, 6]];
        for model in models() {
            let fast = model.generate(&prompts, 12, Decoding::Greedy, &[]).unwrap();
            let slow: Vec<_> = prompts.iter().map(|p| greedy_without_cache(&model, p, 12)).collect();
            assert_eq!(fast, slow);
        }
    }

    #[test]
    fn sampling_is_a_function_of_the_seed_and_stays_in_the_nucleus() {
        let [model, ..] = models();
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
    fn samples_of_a_prompt_do_not_depend_on_the_prompts_beside_it() {
        let nucleus = Nucleus { top_p: 0.9, temperature: 1.0 };
        for model in models() {
            let together = model.sample(&[vec![3, 5, 7, 9], vec![4]], &[7, 8], 3, 8, nucleus, &[]).unwrap();
            let alone = |prompt: Vec<u32>, seed| model.sample(&[prompt], &[seed], 3, 8, nucleus, &[]).unwrap();
            assert_eq!(together[..3], alone(vec![3, 5, 7, 9], 7));
            assert_eq!(together[3..], alone(vec![4], 8));
            // The slow route: the prompt read anew for each of its samples.
            let decoding = Decoding::Nucleus { top_p: 0.9, temperature: 1.0, seed: 7 };
            assert_eq!(together[..3], model.generate(&vec![vec![3, 5, 7, 9]; 3], 8, decoding, &[]).unwrap());
        }
        assert!(models()[0].sample(&[vec![1]], &[], 3, 8, nucleus, &[]).is_err());
    }

    #[test]
    fn a_row_ends_at_the_end_token() {
        let [model, ..] = models();
        let free = model.generate(&[vec![3, 5]], 6, Decoding::Greedy, &[]).unwrap();
        let (eos, other) = (free[0][2], free[0][4]);
        for ends in [&[eos][..], &[other], &[other, eos]] {
            let stopped = model.generate(&[vec![3, 5]], 6, Decoding::Greedy, ends).unwrap();
            let first = free[0].iter().position(|t| ends.contains(t)).unwrap();
            assert_eq!(stopped[0], free[0][..first]);
        }
    }

    #[test]
    fn too_long_is_refused() {
        let [model, ..] = models();
        assert!(model.generate(&[vec![1; 30]], 3, Decoding::Greedy, &[]).is_err());
        assert!(model.generate(&[], 3, Decoding::Greedy, &[]).is_err());
        assert!(model.generate(&[vec![], vec![1]], 3, Decoding::Greedy, &[]).is_err());
    }
}
