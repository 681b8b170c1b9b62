//! A draw from the nucleus of a distribution, without sorting what is not in it.

/// The token at `draw` of the nucleus of `p`, `draw` in `[0, 1)`: tokens are ordered by falling probability, equal ones
/// by id; one is in the nucleus when those before it hold less than `top_p`, so the first always is.
pub(crate) fn token_at(p: &[f32], top_p: f64, draw: f64) -> usize {
    // What is below this holds at most 1 - top_p in total, so the nucleus ends before it.
    let floor = (1.0 - top_p) / p.len() as f64;
    let held = cumulative(p, floor as f32);
    let held = if held.last().is_some_and(|(_, mass)| *mass >= top_p) { held } else { cumulative(p, 0.0) };
    let n_kept = 1 + held.iter().take_while(|(_, mass)| *mass < top_p).count().min(held.len().saturating_sub(1));
    let Some(&(last, total)) = held.get(n_kept - 1) else { return 0 };
    held[..n_kept].iter().find(|(_, mass)| *mass > draw * total).map_or(last, |(token, _)| *token)
}

/// Tokens of at least `floor`, most probable first, each with the mass up to and with it.
fn cumulative(p: &[f32], floor: f32) -> Vec<(usize, f64)> {
    // Bits of a float that is not negative order as the float does; the token breaks ties.
    let key = |(token, &p): (usize, &f32)| (u64::from(!p.to_bits()) << 32) | token as u64;
    let mut keys: Vec<u64> = p.iter().enumerate().filter(|(_, p)| **p >= floor).map(key).collect();
    keys.sort_unstable();
    let mut mass = 0.0;
    let sum = |key: u64| {
        mass += f64::from(f32::from_bits(!((key >> 32) as u32)));
        ((key & u64::from(u32::MAX)) as usize, mass)
    };
    keys.into_iter().map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Everything sorted, METHOD §9's words one by one.
    fn slow(p: &[f32], top_p: f64, draw: f64) -> usize {
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
        let (mut before, mut kept) = (0.0, Vec::new());
        for token in order {
            if before < top_p || kept.is_empty() {
                kept.push(token);
            }
            before += f64::from(p[token]);
        }
        let total: f64 = kept.iter().map(|&token| f64::from(p[token])).sum();
        let mut mass = 0.0;
        for &token in &kept {
            mass += f64::from(p[token]);
            if mass > draw * total {
                return token;
            }
        }
        kept[kept.len() - 1]
    }

    #[test]
    fn draws_are_those_of_a_whole_sort() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for round in 0..400 {
            let sharpness = f64::from(round % 8);
            let weights: Vec<f64> = (0..50).map(|_| (rng.random::<f64>() * sharpness).exp().round()).collect();
            let total: f64 = weights.iter().sum();
            let p: Vec<f32> = weights.iter().map(|w| (w / total) as f32).collect();
            for top_p in [1e-9, 0.3, 0.9, 1.0] {
                let draw = rng.random();
                assert_eq!(token_at(&p, top_p, draw), slow(&p, top_p, draw), "{p:?}, {top_p}, {draw}");
            }
        }
    }

    #[test]
    fn what_is_no_distribution_still_gives_a_token() {
        for p in [&[f32::NAN, f32::NAN][..], &[0.0, 0.0], &[1.0]] {
            assert!(token_at(p, 0.9, 0.99) < p.len());
        }
    }
}
