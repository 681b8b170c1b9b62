//! Natural steps: one step over all that is updated, as long as a cost in KL allows.

use irepair_model::{Parameter, seed_of};
use tch::{Kind, Tensor};

use crate::Optimizer;
use crate::rows::Rows;
use crate::rule::{apply, debias};

impl Optimizer {
    /// One step that costs `kl` by the quadratic form of the Fisher matrix.
    pub(crate) fn natural_step<'a>(
        &mut self,
        parameters: &[Parameter],
        gradients: &[(usize, Tensor)],
        rows: &dyn Fn(usize) -> Option<&'a Rows>,
        momentum: f64,
        kl: f64,
    ) {
        let Some(fisher) = self.fisher.clone() else { return };
        // `m` and `F + lambda` of what is updated, and the square that it adds.
        let mut parts = Vec::with_capacity(gradients.len());
        for (index, gradient) in gradients {
            let (tensor, rows) = (&parameters[*index].tensor, rows(*index));
            let state = self.woken(*index, tensor, rows);
            let Some(all) = &state.mean else { continue };
            let of_slice = |tensor: &Tensor| rows.map_or_else(|| tensor.shallow_clone(), |rows| rows.take(tensor));
            let (mut mean, damped) = (of_slice(all), of_slice(fisher.damped(*index)));
            let gradient = gradient.to_kind(Kind::Float);
            let _ = mean.g_mul_scalar_(momentum).g_add_(&(gradient * (1.0 - momentum)));
            let by_updates = |of: &dyn Fn(f64) -> f64| state.by_updates(rows.map(|rows| (rows, &mean)), of);
            let square = match rows {
                None => {
                    let of_mean = (mean.square() / &damped).sum(Kind::Float);
                    of_mean / by_updates(&|n| debias(momentum, n).powi(2))
                }
                Some(rows) => {
                    rows.put(all, &mean);
                    ((&mean / by_updates(&|n| debias(momentum, n))).square() / &damped).sum(Kind::Float)
                }
            };
            let debiased = by_updates(&|n| debias(momentum, n));
            parts.push((*index, rows, mean, damped, debiased, square));
        }
        if parts.is_empty() {
            return;
        }
        // 1/2 c^2 m' (F + lambda)^-1 m = kl. Without a gradient there is no step, however long.
        let squares: Vec<&Tensor> = parts.iter().map(|(.., square)| square).collect();
        let square = Tensor::stack(&squares, 0).sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
        let length = (square.reciprocal() * (2.0 * kl)).sqrt();
        for (index, rows, mean, damped, debiased, _) in parts {
            let step = (mean / damped).g_mul_(&(&length / debiased));
            let seed = seed_of(&[self.seed, self.n_calls, index as u64]);
            let all = parameters[index].tensor.detach();
            let weights = rows.map_or_else(|| all.shallow_clone(), |rows| rows.take(&all));
            apply(weights.shallow_clone(), 1.0, &step, seed);
            rows.iter().for_each(|rows| rows.put(&all, &weights));
        }
    }
}

#[cfg(test)]
mod tests {
    use irepair_model::Fisher;

    use super::*;
    use crate::{OptimizerKind, StateMode};

    /// Two parameters, their diagonals and gradients; the weights after one natural step of cost `kl` without momentum.
    fn natural_step(diagonals: [&[f32]; 2], gradients: [&[f32]; 2], starts: [&[f32]; 2], kl: f64) -> Vec<f64> {
        let tensor = |values: &[f32]| Tensor::from_slice(values);
        let named = |start: &[f32]| Parameter { name: "p".into(), block: None, tensor: tensor(start) };
        let (parameters, fisher) = (starts.map(named), Fisher::of(diagonals.map(tensor).into(), 0.0).unwrap());
        let kind = OptimizerKind::Natural { momentum: 0.0 };
        let gradients: Vec<_> = gradients.into_iter().map(tensor).enumerate().collect();
        Optimizer::new(kind, StateMode::Keep, 0).with_fisher(Some(fisher)).update(&parameters, &gradients, kl);
        parameters.iter().flat_map(|p| Vec::<f64>::try_from(p.tensor.to_kind(Kind::Double)).unwrap()).collect()
    }

    #[test]
    fn a_natural_step_is_the_best_of_its_price() {
        let (f, g, kl) = ([2.0, 0.5, 8.0, 1.0], [0.3, -1.0, 2.0, 0.0], 1e-3);
        let narrow = |x: &[f64; 4]| x.map(|x| x as f32);
        let (f32s, g32s) = (narrow(&f), narrow(&g));
        let taken = natural_step([&f32s[..1], &f32s[1..]], [&g32s[..1], &g32s[1..]], [&[0.0], &[0.0; 3]], kl);
        let price = |step: &[f64]| step.iter().zip(f).map(|(d, f)| 0.5 * f * d * d).sum::<f64>();
        let gain = |step: &[f64]| -step.iter().zip(g).map(|(d, g)| d * g).sum::<f64>();
        assert!((price(&taken) / kl - 1.0).abs() < 1e-5);
        // METHOD §27: the best first-order decrease is sqrt(2 eps E).
        let efficiency: f64 = f.iter().zip(g).map(|(f, g)| g * g / f).sum();
        assert!((gain(&taken) / (2.0 * kl * efficiency).sqrt() - 1.0).abs() < 1e-5);
        for other in 0..200 {
            let step: Vec<f64> = (0..4).map(|i| (f64::from(other * 4 + i) * 12.9898).sin()).collect();
            let scale = (kl / price(&step)).sqrt();
            assert!(gain(&step) * scale <= gain(&taken) * (1.0 + 1e-5));
        }
    }

    #[test]
    fn under_the_identity_a_natural_step_is_one_of_sgd() {
        let taken = natural_step([&[1.0], &[1.0; 2]], [&[2.0], &[-1.0, 2.0]], [&[0.0], &[0.0; 2]], 0.02);
        // Length sqrt(2 kl) = 0.2 against the gradient, whose norm is 3.
        for (taken, gradient) in taken.into_iter().zip([2.0, -1.0, 2.0]) {
            assert!((taken + 0.2 * gradient / 3.0).abs() < 1e-6);
        }
    }

    /// `L = 1/2 sum_i h_i x_i^2`, `F = h`: a step leads straight to the minimum and leaves `(1 - sqrt(kl / L))^2 L`.
    #[test]
    fn a_natural_step_on_a_quadratic_bowl_has_a_closed_form() {
        let (h, x) = ([4.0f32, 0.25, 1.0], [0.5f32, -2.0, 1.0]);
        let g: Vec<f32> = h.iter().zip(x).map(|(h, x)| h * x).collect();
        let loss = |x: &[f64]| x.iter().zip(h).map(|(x, h)| 0.5 * f64::from(h) * x * x).sum::<f64>();
        let before = loss(&x.map(f64::from));
        for kl in [1e-3, 0.1, before] {
            let after = natural_step([&h[..1], &h[1..]], [&g[..1], &g[1..]], [&x[..1], &x[1..]], kl);
            let want = (1.0 - (kl / before).sqrt()).powi(2) * before;
            assert!((loss(&after) - want).abs() < 1e-6, "{kl}: {} for {want}", loss(&after));
        }
    }

    #[test]
    fn a_natural_step_without_a_gradient_changes_nothing() {
        assert_eq!(
            natural_step([&[1.0], &[1.0; 2]], [&[0.0], &[0.0; 2]], [&[0.5], &[0.25; 2]], 1.0),
            [0.5, 0.25, 0.25]
        );
    }
}
