//! Scores of tokens straight from hidden states, without logits of every position in memory.
//!
//! The head (`logits = hidden W^T`) is applied only to the positions that count, a chunk of them at a time. Scores are
//! made tile by tile, while a tile of the chunk's logits is in the cache. With its scores every chunk leaves their
//! gradient by the hidden state, `d score_i / d hidden_i = (d score_i / d logits_i) W`, a vector of the model's width.
//! So no logits wait for the backward pass, which starts at the hidden states. Only a head that itself learns keeps the
//! gradient of every score by the logits until the loss is known. [`crate::TextLogits`] is the plain route to the same
//! numbers, and the tests compare the two.

use irepair_torch::linear;
use tch::{Device, Kind, Tensor, no_grad};

/// Logits of a chunk on a CPU, in bytes of float32: enough rows for a fast product.
const CHUNK: i64 = 50 << 20;

/// Logits of a tile of a chunk on a CPU: few enough to stay in the cache while scores are made of them.
const TILE: i64 = 4 << 20;

/// Chunk and tile on a GPU, where starting a kernel for every tile would cost more than the arithmetic: 2,670 rows of
/// GPT-2's vocabulary.
const GPU_CHUNK: i64 = 512 << 20;

/// Rows of `n_vocab` logits in so many bytes on a CPU, or in [`GPU_CHUNK`].
fn n_rows(device: Device, cpu_bytes: i64, n_vocab: i64) -> i64 {
    match device {
        _ if cfg!(test) => 0,
        Device::Cpu => cpu_bytes / (4 * n_vocab),
        _ => GPU_CHUNK / (4 * n_vocab),
    }
}

/// Scores of `n` rows and what is needed to go backward from them.
#[derive(Debug)]
pub struct HeadScores {
    /// The scores, `[n]` float32; they carry no gradient, [`HeadScores::vjp`] does.
    pub values: Tensor,
    hidden: Tensor,
    head: Tensor,
    /// `-d score / d hidden`, `[n, width]`; none where no gradient is needed.
    dscore_dhidden: Option<Tensor>,
    /// `-d score / d logits` in chunks `[.., vocab]`; empty where the head does not learn.
    dscore_dlogits: Vec<Tensor>,
}

/// Log-probability of a token after every hidden state. Logits are capped where the model caps them: `c tanh(z / c)`.
///
/// # Shapes
/// `hidden`: `[n, width]`; `head`: `[vocab, width]`; `targets`: `[n]` int64
///
/// # Source
/// METHOD §2 [D]: `log softmax(z)[x]` in float32.
pub fn head_log_probs(hidden: &Tensor, head: &Tensor, cap: Option<f64>, targets: &Tensor) -> HeadScores {
    HeadScores::collect(hidden, head, |at, n, learns| {
        let logits = logits(hidden, head, cap, at, n);
        let targets = targets.narrow(0, at, n).unsqueeze(-1);
        let values = by_tiles(&logits, |from, len| {
            let (mut logits, targets) = (logits.narrow(0, from, len), targets.narrow(0, from, len));
            let mut log_probs = logits.log_softmax(-1, Kind::Float);
            let values = log_probs.gather(-1, &targets, false).squeeze_dim(-1);
            if learns {
                // Softmax less one at the target, while it is float32: in half precision the difference is lost where
                // the model is sure.
                let minus_one = values.full_like(-1.0).unsqueeze(-1);
                let slope = slope(&logits, cap);
                logits.copy_(&times(log_probs.exp_().scatter_add_(-1, &targets, &minus_one), slope));
            }
            values
        });
        (values, logits)
    })
}

/// `KL(reference ‖ model)` of the next-token distributions after every hidden state.
///
/// # Shapes
/// `ref_hidden`, `hidden`: `[n, width]`; `ref_head`, `head`: `[vocab, width]`
///
/// # Source
/// METHOD §2 [D], in float32.
pub fn head_divergences(
    ref_hidden: &Tensor,
    ref_head: &Tensor,
    hidden: &Tensor,
    head: &Tensor,
    cap: Option<f64>,
) -> HeadScores {
    HeadScores::collect(hidden, head, |at, n, learns| {
        let (by_reference, logits) = (logits(ref_hidden, ref_head, cap, at, n), logits(hidden, head, cap, at, n));
        let values = by_tiles(&logits, |from, len| {
            let mut reference = by_reference.narrow(0, from, len).log_softmax(-1, Kind::Float);
            let mut logits = logits.narrow(0, from, len);
            let mut log_probs = logits.log_softmax(-1, Kind::Float);
            let mut p_reference = reference.exp();
            let values = reference.g_sub_(&log_probs).g_mul_(&p_reference).sum_dim_intlist(-1, false, Kind::Float);
            if learns {
                let slope = slope(&logits, cap);
                logits.copy_(&times(p_reference.g_sub_(&log_probs.exp_()), slope));
            }
            values
        });
        (values, logits)
    })
}

/// Whether each target is the most probable token after its hidden state; shapes as in [`head_log_probs`], `[n]` bool.
pub fn head_greedy(hidden: &Tensor, head: &Tensor, cap: Option<f64>, targets: &Tensor) -> Tensor {
    let best: Vec<Tensor> =
        chunks(hidden, head).map(|(at, n)| no_grad(|| logits(hidden, head, cap, at, n).argmax(-1, false))).collect();
    joined(&best, Kind::Int64, hidden).eq_tensor(targets)
}

impl HeadScores {
    /// `chunk(at, n, learns)` gives the scores of the `n` rows from `at` and, where something learns, `-d score / d
    /// logits` written over the logits.
    fn collect(hidden: &Tensor, head: &Tensor, chunk: impl Fn(i64, i64, bool) -> (Tensor, Tensor)) -> Self {
        // A parameter says that it wants gradients where none are recorded too; what is computed from it does not.
        let head_learns = (head.narrow(0, 0, 1) * 1.0).requires_grad();
        let hidden_learns = hidden.requires_grad();
        let (mut values, mut dscore_dhidden, mut dscore_dlogits) = (Vec::new(), Vec::new(), Vec::new());
        no_grad(|| {
            for (at, n) in chunks(hidden, head) {
                let (scores, gradient) = chunk(at, n, hidden_learns || head_learns);
                values.push(scores);
                if hidden_learns {
                    dscore_dhidden.push(linear(&gradient, &head.tr(), None));
                }
                if head_learns {
                    dscore_dlogits.push(gradient);
                }
            }
        });
        Self {
            values: joined(&values, Kind::Float, hidden),
            dscore_dhidden: (!dscore_dhidden.is_empty()).then(|| Tensor::cat(&dscore_dhidden, 0)),
            dscore_dlogits,
            hidden: hidden.shallow_clone(),
            head: head.shallow_clone(),
        }
    }

    /// [`vjp`] of these scores alone.
    pub fn vjp(&self, weights: &Tensor) -> Option<Tensor> {
        vjp(&[(self, weights)])
    }
}

/// Vector-Jacobian product of scores, as a scalar to go backward from: its gradients are those of
/// `sum_i weight_i score_i` over all the scores given, which are of one head; its value means nothing. None when
/// nothing learns.
///
/// `weights`: `[n]` float32 for each, `d loss / d score`.
pub fn vjp(scores: &[(&HeadScores, &Tensor)]) -> Option<Tensor> {
    let product = |tensor: &Tensor, gradient: &Tensor| tensor.reshape([-1]).dot(&gradient.reshape([-1]));
    let (mut products, mut by_head): (Vec<Tensor>, Option<(&Tensor, Tensor)>) = (Vec::new(), None);
    for (scores, weights) in scores {
        let minus_weights = -weights.detach().unsqueeze(-1);
        if let Some(dscore_dhidden) = &scores.dscore_dhidden {
            let gradient = no_grad(|| (dscore_dhidden * &minus_weights).to_kind(scores.hidden.kind()));
            products.push(product(&scores.hidden, &gradient));
        }
        let mut at = 0;
        no_grad(|| {
            for dscore_dlogits in &scores.dscore_dlogits {
                let n = dscore_dlogits.size()[0];
                // One gradient of the head for all: it is as large as the embedding.
                let (head, sum) = by_head.get_or_insert_with(|| (&scores.head, Tensor::zeros_like(&scores.head)));
                let weighted = (scores.hidden.detach() * &minus_weights).narrow(0, at, n).to_kind(head.kind());
                let _ = sum.addmm_(&dscore_dlogits.tr(), &weighted);
                at += n;
            }
        });
    }
    products.extend(by_head.map(|(head, gradient)| product(head, &gradient)));
    products.into_iter().reduce(|a, b| a + b)
}

/// Chunks one after another; of none, an empty tensor on the device of `like`.
fn joined(chunks: &[Tensor], kind: Kind, like: &Tensor) -> Tensor {
    if chunks.is_empty() { Tensor::zeros([0], (kind, like.device())) } else { Tensor::cat(chunks, 0) }
}

fn logits(hidden: &Tensor, head: &Tensor, cap: Option<f64>, at: i64, n: i64) -> Tensor {
    let logits = linear(&hidden.narrow(0, at, n).detach(), &head.detach(), None);
    cap.map_or(logits.shallow_clone(), |cap| (logits / cap).tanh() * cap)
}

/// The derivative of capped logits by those that were not capped, `1 - (z / c)^2`, float32.
fn slope(logits: &Tensor, cap: Option<f64>) -> Option<Tensor> {
    cap.map(|cap| 1.0 - (logits.to_kind(Kind::Float) / cap).square())
}

fn times(gradient: Tensor, slope: Option<Tensor>) -> Tensor {
    slope.map_or_else(|| gradient.shallow_clone(), |slope| &gradient * slope)
}

/// `scores(start, length)` of the tiles of a chunk's rows, joined.
fn by_tiles(logits: &Tensor, scores: impl Fn(i64, i64) -> Tensor) -> Tensor {
    let size = logits.size();
    let tiles: Vec<Tensor> =
        even(size[0], n_rows(logits.device(), TILE, size[1]).max(8)).map(|(at, n)| scores(at, n)).collect();
    joined(&tiles, Kind::Float, logits)
}

/// `(start, length)` of the chunks of `hidden`.
fn chunks(hidden: &Tensor, head: &Tensor) -> impl Iterator<Item = (i64, i64)> {
    even(hidden.size()[0], n_rows(hidden.device(), CHUNK, head.size()[0]).max(16))
}

/// `(start, length)` of runs of at most `most` of `n_rows` rows, nearly equal, so that each reuses the memory of the
/// last.
fn even(n_rows: i64, most: i64) -> impl Iterator<Item = (i64, i64)> {
    let n_chunks = ((n_rows + most - 1) / most).max(1);
    (0..n_chunks)
        .map(move |i| (n_rows * i / n_chunks, n_rows * (i + 1) / n_chunks))
        .map(|(from, to)| (from, to - from))
        .filter(|(_, n)| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target_log_probs;
    use tch::Device;

    const SHAPE: (i64, i64, i64) = (40, 3, 7);

    /// Numbers from -2 to 2 without a pattern, the same every time: tests share libtorch's generator.
    fn scattered(shape: [i64; 2], phase: f64) -> Tensor {
        let places = Tensor::arange(shape[0] * shape[1], (Kind::Double, Device::Cpu));
        (((places * 1.7 + phase).sin() * 43.7).sin() * 2.0).to_kind(Kind::Float).view(shape)
    }

    /// Rows of three chunks, a head, and targets; hidden states and head learn.
    fn given(kind: Kind) -> (Tensor, Tensor, Tensor) {
        let (n, width, vocab) = SHAPE;
        let learning = |shape, phase| scattered(shape, phase).to_kind(kind).set_requires_grad(true);
        let targets = (Tensor::arange(n, (Kind::Int64, Device::Cpu)) * 5).remainder(vocab);
        (learning([n, width], 0.3), learning([vocab, width], 1.1), targets)
    }

    fn capped(logits: Tensor, cap: Option<f64>) -> Tensor {
        cap.map_or(logits.shallow_clone(), |cap| (logits / cap).tanh() * cap)
    }

    fn gradients(loss: &Tensor, hidden: &Tensor, head: &Tensor) -> Vec<Tensor> {
        Tensor::f_run_backward(&[loss], &[hidden, head], false, false).unwrap()
    }

    fn assert_same(scores: &HeadScores, plain: &Tensor, (hidden, head): (&Tensor, &Tensor), tolerance: f64) {
        let weights = Tensor::linspace(-1.0, 2.0, SHAPE.0, (Kind::Float, Device::Cpu));
        assert!(scores.values.allclose(plain, tolerance, tolerance, false));
        assert!(!scores.values.requires_grad());
        let got = gradients(&scores.vjp(&weights).unwrap(), hidden, head);
        let want = gradients(&(plain * &weights).sum(Kind::Float), hidden, head);
        for (got, want) in got.iter().zip(&want) {
            let far = (got - want).abs().max().double_value(&[]) / want.abs().max().double_value(&[]);
            assert!(far < tolerance, "{far}");
        }
    }

    #[test]
    fn log_probabilities_and_their_gradients_are_those_of_whole_logits() {
        let caps = [(Kind::Float, 1e-5, None), (Kind::BFloat16, 2e-2, None), (Kind::Float, 1e-5, Some(1.5))];
        for (kind, tolerance, cap) in caps {
            let (hidden, head, targets) = given(kind);
            assert_eq!(chunks(&hidden, &head).count(), 3);
            // One text of 41 tokens: the last one is only a target.
            let ids = Tensor::cat(&[&targets.narrow(0, 0, 1), &targets], 0).unsqueeze(0);
            let logits = capped(hidden.matmul(&head.tr()), cap);
            let logits = Tensor::cat(&[&logits, &logits.narrow(0, 0, 1)], 0).unsqueeze(0);
            let plain = target_log_probs(&logits, &ids).squeeze_dim(0);
            assert_same(&head_log_probs(&hidden, &head, cap, &targets), &plain, (&hidden, &head), tolerance);
            let greedy = logits.squeeze_dim(0).narrow(0, 0, SHAPE.0).argmax(-1, false).eq_tensor(&targets);
            assert_eq!(head_greedy(&hidden, &head, cap, &targets), greedy);
        }
    }

    #[test]
    fn half_precision_keeps_the_small_gradients_of_a_sure_model() {
        let head = scattered([7, 16], 2.5).to_kind(Kind::BFloat16);
        let targets = Tensor::arange(7, (Kind::Int64, Device::Cpu));
        // Along their targets: the true token has nearly all of the probability.
        let sure = &head * 0.5;
        let gradient = |kind: Kind| {
            let (hidden, head) = (sure.to_kind(kind).copy().set_requires_grad(true), head.to_kind(kind));
            let scores = head_log_probs(&hidden, &head, None, &targets);
            let vjp = scores.vjp(&scores.values.ones_like()).unwrap();
            let gradient = Tensor::f_run_backward(&[&vjp], &[&hidden], false, false).unwrap().remove(0);
            gradient.to_kind(Kind::Float).square().sum_dim_intlist([1].as_slice(), false, Kind::Float).sqrt()
        };
        let (half, whole) = (gradient(Kind::BFloat16), gradient(Kind::Float));
        assert!(whole.min().double_value(&[]) < 0.02, "no row is sure of its target");
        let far = ((half - &whole).abs() / whole).max().double_value(&[]);
        assert!(far < 0.15, "{far}");
    }

    #[test]
    fn divergences_and_their_gradients_are_those_of_whole_logits() {
        let caps = [(Kind::Float, 1e-5, None), (Kind::BFloat16, 3e-2, None), (Kind::Float, 1e-5, Some(1.5))];
        for (kind, tolerance, cap) in caps {
            let (hidden, head, _) = given(kind);
            let (ref_hidden, ref_head) = (hidden.detach() * 0.9, head.detach() * 1.2);
            let reference = capped(ref_hidden.matmul(&ref_head.tr()), cap).log_softmax(-1, Kind::Float);
            let log_probs = capped(hidden.matmul(&head.tr()), cap).log_softmax(-1, Kind::Float);
            let by_token = reference.exp() * (&reference - log_probs);
            let plain = by_token.sum_dim_intlist(-1, false, Kind::Float);
            let scores = head_divergences(&ref_hidden, &ref_head, &hidden, &head, cap);
            assert_same(&scores, &plain, (&hidden, &head), tolerance);
        }
    }

    #[test]
    fn what_does_not_learn_is_not_prepared_for() {
        let (hidden, head, targets) = given(Kind::Float);
        let frozen = head_log_probs(&hidden.detach(), &head.detach(), None, &targets);
        assert!(frozen.dscore_dhidden.is_none() && frozen.dscore_dlogits.is_empty());
        assert!(frozen.vjp(&frozen.values).is_none());
        let sliced = head_log_probs(&hidden, &head.detach(), None, &targets);
        assert!(sliced.dscore_dhidden.is_some() && sliced.dscore_dlogits.is_empty());
        // A validation: the parameters want gradients, and nothing is recorded.
        let watched = no_grad(|| head_log_probs(&(&hidden * 1.0), &head, None, &targets));
        assert!(watched.dscore_dhidden.is_none() && watched.dscore_dlogits.is_empty());
    }

    #[test]
    fn no_rows_give_no_scores() {
        let (hidden, head, targets) = given(Kind::Float);
        let none = head_log_probs(&hidden.narrow(0, 0, 0), &head, None, &targets.narrow(0, 0, 0));
        assert_eq!(none.values.size(), [0]);
    }
}
