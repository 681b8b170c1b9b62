//! The equal-step control (METHOD §23 [O]): an update of whatever slice is as long, as a share of its weights. Without
//! it a comparison of places compares step sizes too.

use irepair_model::{Parameter, round_stochastically, seed_of};
use tch::{Kind, Tensor, no_grad};

use crate::rows::{Rows, SliceRows};

/// A slice as it was before an update.
pub(crate) struct Before<'a>(Vec<Part<'a>>);

/// A parameter, or rows of it.
struct Part<'a> {
    index: usize,
    /// The parameter itself.
    all: Tensor,
    rows: Option<&'a Rows>,
    before: Tensor,
}

impl Part<'_> {
    fn now(&self) -> Tensor {
        self.rows.map_or_else(|| self.all.shallow_clone(), |rows| rows.take(&self.all))
    }
}

impl<'a> Before<'a> {
    /// Of what the update with these gradients will change.
    pub(crate) fn of(parameters: &[Parameter], gradients: &[(usize, Tensor)], rows: Option<&'a SliceRows>) -> Self {
        let part = |(index, _): &(usize, Tensor)| {
            let (all, rows) = (parameters[*index].tensor.detach(), rows.and_then(|rows| rows.rows(*index)));
            let before = rows.map_or_else(|| all.copy(), |rows| rows.take(&all));
            Part { index: *index, all, rows, before }
        };
        Self(no_grad(|| gradients.iter().map(part).collect()))
    }

    /// Keeps the direction of the change since, and makes its norm `share` of the norm of the weights before. What did
    /// not change does not move. `seed` is of the draws that round weights narrower than float32.
    pub(crate) fn rescale(self, share: f64, seed: u64) {
        if self.0.is_empty() {
            return;
        }
        no_grad(|| {
            let exact = |tensor: &Tensor| tensor.to_kind(Kind::Float);
            let changes: Vec<Tensor> = self.0.iter().map(|part| exact(&part.now()) - exact(&part.before)).collect();
            let norm = |tensors: &mut dyn Iterator<Item = Tensor>| {
                let squares: Vec<Tensor> = tensors.map(|tensor| tensor.square().sum(Kind::Double)).collect();
                Tensor::stack(&squares, 0).sum(Kind::Double).sqrt()
            };
            let of_change = norm(&mut changes.iter().map(Tensor::shallow_clone));
            // Squares of a very large step are beyond float32.
            let in_double = norm(&mut changes.iter().map(|change| change.to_kind(Kind::Double)));
            let of_change = of_change.where_self(&of_change.isfinite(), &in_double);
            let of_change = of_change.clamp_min(f64::from(f32::MIN_POSITIVE));
            let of_weights = norm(&mut self.0.iter().map(|part| exact(&part.before)));
            let factor = (of_weights * share / of_change).to_kind(Kind::Float);
            for (mut part, change) in self.0.into_iter().zip(changes) {
                let wanted = exact(&part.before) + change * &factor;
                let seed = seed_of(&[seed, part.index as u64]);
                let wanted = round_stochastically(&wanted, part.all.kind(), seed);
                match part.rows {
                    Some(rows) => rows.put(&part.all, &wanted),
                    None => part.all.copy_(&wanted),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn parameters(kind: Kind) -> Vec<Parameter> {
        let named = |values: &[f32]| {
            let tensor = Tensor::from_slice(values).view([2, -1]).to_kind(kind);
            Parameter { name: "p".into(), block: None, tensor }
        };
        vec![named(&[1.0, -2.0, 2.0, 4.0]), named(&[0.5, 0.0, -1.5, 2.5, 1.0, -1.0]), named(&[7.0, 7.0])]
    }

    fn values(parameters: &[Parameter]) -> Vec<f64> {
        let of = |p: &Parameter| Vec::<f64>::try_from(p.tensor.to_kind(Kind::Double).view(-1)).unwrap();
        parameters.iter().flat_map(of).collect()
    }

    fn norm(values: &[f64]) -> f64 {
        values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    /// Updates rows, or all, of the first two parameters by steps of any size; the change and the slice before.
    fn changed(scale: f64, share: f64, rows: Option<&SliceRows>, kind: Kind) -> (Vec<f64>, Vec<f64>) {
        let parameters = parameters(kind);
        let was = values(&parameters);
        let gradients: Vec<(usize, Tensor)> =
            parameters[..2].iter().enumerate().map(|(i, p)| (i, p.tensor.ones_like())).collect();
        let before = Before::of(&parameters, &gradients, rows);
        for (index, p) in parameters[..2].iter().enumerate() {
            let step = Tensor::arange(p.tensor.numel() as i64, (Kind::Float, Device::Cpu)).view_as(&p.tensor) + 1.0;
            let step = (step * scale).to_kind(kind);
            let all = p.tensor.detach();
            match rows.and_then(|rows| rows.rows(index)) {
                Some(rows) => rows.put(&all, &(rows.take(&all) - rows.take(&step))),
                None => all.shallow_clone().copy_(&(&all - step)),
            }
        }
        before.rescale(share, 3);
        let change = values(&parameters).iter().zip(&was).map(|(now, was)| now - was).collect();
        (change, was)
    }

    #[test]
    fn a_change_of_any_size_becomes_the_share_of_the_slice_and_keeps_its_direction() {
        for scale in [0.01, 0.2, 5.0, 1e30] {
            let (change, was) = changed(scale, 0.02, None, Kind::Float);
            assert!((norm(&change) / norm(&was[..10]) - 0.02).abs() < 1e-6, "{scale}: {change:?}");
            assert_eq!(change[10..], [0.0, 0.0], "it had no gradient");
            let first = change[0];
            let wanted = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(|step| step * first);
            assert!(change.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4 * b.abs()), "{change:?}");
        }
    }

    #[test]
    fn of_rows_their_own_weights_count_and_no_other_moves() {
        let rows = SliceRows::one(0, Rows::new(0, 2, vec![1], Device::Cpu));
        let parameters = parameters(Kind::Float);
        let gradients = vec![(0, Tensor::ones([1, 2], (Kind::Float, Device::Cpu)))];
        let before = Before::of(&parameters, &gradients, Some(&rows));
        let of = rows.rows(0).unwrap();
        of.put(&parameters[0].tensor, &(of.take(&parameters[0].tensor) + 1.0));
        before.rescale(0.1, 0);
        let now = values(&parameters);
        // The row is (2, 4), of norm sqrt 20; the change (1, 1) becomes 0.1 sqrt 20 / sqrt 2 of each.
        let each = 0.1 * 20f64.sqrt() / 2f64.sqrt();
        assert_eq!(now[..2], [1.0, -2.0]);
        assert!((now[2] - 2.0 - each).abs() < 1e-6 && (now[3] - 4.0 - each).abs() < 1e-6, "{now:?}");
    }

    #[test]
    fn nothing_moves_where_nothing_changed() {
        for kind in [Kind::Float, Kind::BFloat16] {
            assert_eq!(changed(0.0, 0.02, None, kind).0, vec![0.0; 12]);
        }
    }

    #[test]
    fn narrow_weights_change_by_the_share_too() {
        let (change, was) = changed(0.5, 0.2, None, Kind::BFloat16);
        assert!((norm(&change) / norm(&was[..10]) - 0.2).abs() < 0.01, "{change:?}");
    }
}
