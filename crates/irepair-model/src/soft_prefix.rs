//! A soft prefix: learned vectors that stand in front of every text, in the place of token embeddings.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor, no_grad};

use crate::{BlockModel, CausalLm, Error, Result, TextBatch, seed_of};

/// The name of the prefix among the parameters of a model, of which it is the last.
pub const SOFT_PREFIX: &str = "soft_prefix";

/// Makes the draw of tokens differ from other uses of the same seed.
const DOMAIN: u64 = 0x736f_6674;

impl CausalLm {
    /// The model with `n` vectors in front of every text, which alone learn from here on: at first the embeddings of
    /// tokens drawn by `seed`. A prefix that it already has is dropped.
    ///
    /// The vectors take positions of the context; hidden states and logits are those of the text alone.
    ///
    /// # Errors
    /// [`Error::ContextOverflow`] when they leave no position for a text.
    ///
    /// # Source
    /// METHOD §26 [O]: prompt tuning, Lester et al. 2021.
    pub fn with_soft_prefix(self, n: usize, seed: u64) -> Result<Self> {
        let n_positions = self.config().n_positions;
        if n >= n_positions {
            return Err(Error::ContextOverflow { n_positions, got: n.saturating_add(1) });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed_of(&[DOMAIN, seed]));
        let ids: Vec<i64> = (0..n).map(|_| rng.random_range(0..self.config().n_vocab as i64)).collect();
        let ids = Tensor::from_slice(&ids).to_device(self.device());
        let prefix = no_grad(|| self.scaled(self.token_embedding.detach().index_select(0, &ids)));
        let mut model = self.without_soft_prefix()?;
        if n > 0 {
            model.put_soft_prefix(prefix);
        }
        Ok(model)
    }

    /// The model without its prefix, which is the model as it was; weights are shared.
    ///
    /// # Errors
    /// As [`CausalLm::random`].
    pub fn without_soft_prefix(&self) -> Result<Self> {
        let n = self.parameters().len() - usize::from(self.soft_prefix.is_some());
        self.over(self.parameters()[..n].iter().map(|parameter| parameter.tensor.detach()))
    }

    /// The vectors in front of every text, `[n, width]`, if there are any.
    pub fn soft_prefix(&self) -> Option<&Tensor> {
        self.soft_prefix.as_ref()
    }

    pub(crate) fn put_soft_prefix(&mut self, prefix: Tensor) {
        self.params.add(SOFT_PREFIX, prefix.shallow_clone());
        self.soft_prefix = Some(prefix);
    }

    /// The columns of the first pass over a batch, those of the prefix before those of its texts: which are real
    /// (`[batch, n + seq]` bool), and their positions (int64). Padding on the left stands between prefix and text, and
    /// takes no position.
    pub(crate) fn columns(&self, batch: &TextBatch) -> (Tensor, Tensor) {
        let (real, positions) = (batch.attention_mask.shallow_clone(), batch.positions());
        let n = self.n_soft_prefix() as i64;
        if n == 0 {
            return (real, positions);
        }
        let (n_rows, device) = (real.size()[0], real.device());
        let before = Tensor::arange(n, (Kind::Int64, device)).unsqueeze(0).expand([n_rows, n], false);
        let ones = Tensor::ones([n_rows, n], (Kind::Bool, device));
        (Tensor::cat(&[ones, real], 1), Tensor::cat(&[before, positions + n], 1))
    }

    /// Embeddings of the first pass, `[batch, seq, width]`, with the prefix in front of every row.
    pub(crate) fn behind_soft_prefix(&self, tokens: Tensor) -> Tensor {
        let Some(prefix) = &self.soft_prefix else { return tokens };
        let before = prefix.unsqueeze(0).expand([tokens.size()[0], -1, -1], false);
        Tensor::cat(&[before, tokens], 1)
    }
}
