//! Continuations with a key-value cache: greedy or sampled, many prompts at a time.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor, no_grad};

use irepair_core::PaddedTokens;

use crate::layers::{KeyValues, Visibility};
use crate::probe::NoProbe;
use crate::{CausalLm, Result, TokenBatch};

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

impl CausalLm {
    /// Continues every prompt by at most `n_new` tokens, stopping a row at `eos_id` if there is one.
    ///
    /// Prompts are padded on the left. The returned continuations hold neither prompt nor end token. No gradient.
    ///
    /// # Errors
    /// [`crate::Error::ContextOverflow`] when the longest prompt and `n_new` exceed the context;
    /// [`irepair_core::Error::NoTokens`] when there is no prompt, or one without a token to continue from.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        n_new: usize,
        decoding: Decoding,
        eos_id: Option<u32>,
    ) -> Result<Vec<Vec<u32>>> {
        if prompts.iter().any(Vec::is_empty) {
            return Err(irepair_core::Error::NoTokens.into());
        }
        let padded = PaddedTokens::left_padded(prompts, eos_id.unwrap_or(0))?;
        self.check_length(padded.n_cols() + n_new)?;
        no_grad(|| Ok(self.continue_rows(&TokenBatch::new(&padded, self.device()), n_new, decoding, eos_id)))
    }

    fn continue_rows(
        &self,
        prompts: &TokenBatch,
        n_new: usize,
        decoding: Decoding,
        eos_id: Option<u32>,
    ) -> Vec<Vec<u32>> {
        let (n_rows, n_prompt) = prompts.dims();
        let capacity = n_prompt + n_new as i64;
        let mut caches: Vec<KeyValues> = (0..self.n_blocks())
            .map(|_| KeyValues::new(self.config(), n_rows, capacity, &self.parameters()[0].tensor))
            .collect();
        let mut chooser = Chooser::new(decoding);
        let mut rows = vec![Vec::with_capacity(n_new); n_rows as usize];
        let mut done = vec![false; n_rows as usize];
        let one_more = Tensor::ones([n_rows, 1], (Kind::Bool, self.device()));
        let mut real = prompts.real.shallow_clone();
        let mut ids = prompts.ids.shallow_clone();
        let mut positions = prompts.positions();
        for _ in 0..n_new {
            let n_fresh = ids.size()[1];
            let visibility = Visibility::new(self.config(), &real, n_fresh, prompts.is_full(), self.kind());
            let hidden = self.hidden(&ids, &positions, &visibility, Some(&mut caches), &mut NoProbe);
            let next = chooser.choose(&self.project(&hidden.select(1, n_fresh - 1)));
            for (row, &token) in Vec::<i64>::try_from(&next).unwrap_or_default().iter().enumerate() {
                if done[row] {
                    continue;
                }
                if eos_id.map(i64::from) == Some(token) {
                    done[row] = true;
                } else {
                    rows[row].push(token as u32);
                }
            }
            if done.iter().all(|&d| d) {
                break;
            }
            ids = next.unsqueeze(1);
            positions = positions.narrow(1, n_fresh - 1, 1) + 1;
            real = Tensor::cat(&[&real, &one_more], 1);
        }
        rows
    }
}

/// Chooses one token per row of logits.
struct Chooser {
    decoding: Decoding,
    rng: ChaCha8Rng,
}

impl Chooser {
    fn new(decoding: Decoding) -> Self {
        let seed = match decoding {
            Decoding::Greedy => 0,
            Decoding::Nucleus { seed, .. } => seed,
        };
        Self { decoding, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// `[batch, vocab] -> [batch]` int64.
    fn choose(&mut self, logits: &Tensor) -> Tensor {
        match self.decoding {
            Decoding::Greedy => logits.argmax(-1, false),
            Decoding::Nucleus { top_p, temperature, .. } => {
                let p = (logits.to_kind(Kind::Float) / temperature).softmax(-1, Kind::Float);
                let (sorted, order) = p.sort_stable(true, -1, true);
                let cumulative = sorted.cumsum(-1, Kind::Double);
                // A token stays when the mass before it is under top_p; the first always stays.
                let kept = (&cumulative - &sorted).lt(top_p);
                let total = sorted.where_self(&kept, &sorted.zeros_like()).sum_dim_intlist(-1, true, Kind::Double);
                let draws: Vec<f64> = (0..logits.size()[0]).map(|_| self.rng.random()).collect();
                let target = Tensor::from_slice(&draws).to_device(logits.device()).unsqueeze(1) * &total;
                let n_kept = kept.to_kind(Kind::Int64).sum_dim_intlist(-1, true, Kind::Int64);
                let column = cumulative.le_tensor(&target).to_kind(Kind::Int64).sum_dim_intlist(-1, true, Kind::Int64);
                order.gather(-1, &column.minimum(&(n_kept - 1)), false).squeeze_dim(-1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelConfig;
    use tch::Device;

    fn models() -> [CausalLm; 2] {
        [ModelConfig::gpt2(3, 16, 2, 32, 29), ModelConfig::gpt_neo(3, 16, 2, 32, 29, 4)].map(|config| {
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
            let batch = TokenBatch::new(&PaddedTokens::right_padded(&[text.clone()], 0).unwrap(), Device::Cpu);
            let next = model.logits(&batch).select(1, text.len() as i64 - 1).argmax(-1, false);
            text.push(next.int64_value(&[0]) as u32);
        }
        text.split_off(prompt.len())
    }

    #[test]
    fn cached_batched_greedy_equals_the_slow_route() {
        let prompts = vec![vec![3, 5, 7, 9, 11, 2], vec![4], vec![8, 1, 6]];
        for model in models() {
            let fast = model.generate(&prompts, 12, Decoding::Greedy, None).unwrap();
            let slow: Vec<_> = prompts.iter().map(|p| greedy_without_cache(&model, p, 12)).collect();
            assert_eq!(fast, slow);
        }
    }

    #[test]
    fn sampling_is_a_function_of_the_seed_and_stays_in_the_nucleus() {
        let [model, _] = models();
        let sample = |top_p, seed| {
            let decoding = Decoding::Nucleus { top_p, temperature: 1.0, seed };
            model.generate(&[vec![3, 5], vec![9]], 10, decoding, None).unwrap()
        };
        assert_eq!(sample(0.9, 7), sample(0.9, 7));
        assert_ne!(sample(1.0, 7), sample(1.0, 8));
        // A nucleus that only the top token fits in is greedy decoding.
        assert_eq!(sample(1e-9, 7), model.generate(&[vec![3, 5], vec![9]], 10, Decoding::Greedy, None).unwrap());
    }

    #[test]
    fn a_row_ends_at_the_end_token() {
        let [model, _] = models();
        let free = model.generate(&[vec![3, 5]], 6, Decoding::Greedy, None).unwrap();
        let eos = free[0][2];
        let stopped = model.generate(&[vec![3, 5]], 6, Decoding::Greedy, Some(eos)).unwrap();
        let first = free[0].iter().position(|&t| t == eos).unwrap();
        assert_eq!(stopped[0], free[0][..first]);
    }

    #[test]
    fn too_long_is_refused() {
        let [model, _] = models();
        assert!(model.generate(&[vec![1; 30]], 3, Decoding::Greedy, None).is_err());
        assert!(model.generate(&[], 3, Decoding::Greedy, None).is_err());
        assert!(model.generate(&[vec![], vec![1]], 3, Decoding::Greedy, None).is_err());
    }
}
