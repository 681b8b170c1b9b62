//! Sums of gradients over ranks, in the order of the parts of a step (METHOD §25).
//!
//! Every rank owns a run of each tensor: it receives that run of every part, adds the parts in order and sends the sum
//! to all. So every rank sends `(n_parts + n_ranks) / n_ranks` of a slice, the same additions happen in the same order
//! as on one process, and all ranks end with the same bits.

use std::collections::VecDeque;

use irepair_ranks::{Ranks, share_of};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::checkpoint::{bytes_of, dtype_of, kind_of};
use crate::{Error, Gradients, Result, add_gradients};

/// What other ranks must know of a gradient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Layout {
    index: usize,
    shape: Vec<i64>,
    dtype: Dtype,
}

impl Layout {
    fn kind(&self) -> Kind {
        kind_of(self.dtype).unwrap_or(Kind::Float)
    }

    /// Bytes of the run that `rank` of `n_ranks` owns.
    fn run(&self, rank: usize, n_ranks: usize) -> std::ops::Range<usize> {
        let size = self.kind().elt_size_in_bytes();
        let run = share_of(rank, self.shape.iter().product::<i64>() as usize, n_ranks);
        run.start * size..run.end * size
    }
}

/// Bytes of a part that are sent at a time: what is in memory beyond the gradients is a few times this, or one tensor.
const MOST_BYTES: usize = 1 << 25;

/// The sum, on `device`, of the gradients of all parts, where every rank gives those of its own: ranks in their order,
/// each one's parts in theirs. On one rank alone, or without any, the plain sum.
///
/// # Errors
/// When a rank is gone, failed, or sent what does not fit.
pub fn sum_over_ranks(ranks: Option<&dyn Ranks>, parts: Vec<Gradients>, device: Device) -> Result<Gradients> {
    let Some(ranks) = ranks.filter(|ranks| ranks.n_ranks() > 1) else {
        return Ok(parts.into_iter().fold(Gradients::new(), |mut sum, part| {
            add_gradients(&mut sum, part);
            sum
        }));
    };
    let layouts = gathered_layouts(ranks, &parts)?;
    let mut left: Vec<VecDeque<(usize, Tensor)>> = parts.into_iter().map(VecDeque::from).collect();
    let mut sum = Gradients::new();
    for group in groups(&layouts) {
        let end = group.last().map_or(0, |layout| layout.index + 1);
        let mut parts = Vec::new();
        for part in &mut left {
            parts.push(part.drain(..part.partition_point(|(index, _)| *index < end)).collect());
        }
        let of_group: Vec<Vec<Vec<&Layout>>> =
            layouts.iter().map(|parts| parts.iter().map(|part| within(part, &group)).collect()).collect();
        sum.extend(sum_of_group(ranks, parts, &of_group, &group, device)?);
    }
    Ok(sum)
}

/// The tensors of a part that are in a group.
fn within<'a>(part: &'a [Layout], group: &[Layout]) -> Vec<&'a Layout> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Vec::new() };
    part.iter().filter(|layout| (first.index..=last.index).contains(&layout.index)).collect()
}

/// Every tensor that any part has, by index, in groups that are sent at a time.
fn groups(layouts: &[Vec<Vec<Layout>>]) -> Vec<Vec<Layout>> {
    let mut all: Vec<Layout> = layouts.iter().flatten().flatten().cloned().collect();
    all.sort_by_key(|layout| layout.index);
    all.dedup_by_key(|layout| layout.index);
    let (mut groups, mut n_bytes): (Vec<Vec<Layout>>, usize) = (Vec::new(), 0);
    for layout in all {
        let size = layout.run(0, 1).len();
        match groups.last_mut().filter(|_| n_bytes + size <= MOST_BYTES) {
            Some(group) => group.push(layout),
            None => {
                groups.push(vec![layout]);
                n_bytes = 0;
            }
        }
        n_bytes += size;
    }
    groups
}

/// The sum of the tensors of a group: of this rank's parts, and what `layouts` says of everyone's.
fn sum_of_group(
    ranks: &dyn Ranks,
    parts: Vec<Gradients>,
    layouts: &[Vec<Vec<&Layout>>],
    group: &[Layout],
    device: Device,
) -> Result<Gradients> {
    let (n, rank) = (ranks.n_ranks(), ranks.rank());
    // The run of every rank goes to it, for each of this rank's parts.
    let mut to = vec![Vec::new(); n];
    for (part, layouts) in parts.into_iter().zip(&layouts[rank]) {
        for ((_, gradient), layout) in part.into_iter().zip(layouts) {
            let bytes = bytes_of(&gradient, layout.dtype);
            to.iter_mut().enumerate().for_each(|(owner, to)| to.extend_from_slice(&bytes[layout.run(owner, n)]));
        }
    }
    let found = ranks.exchange(&to.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    drop(to);

    // This rank's run of every tensor, summed over all parts in order.
    let mut sums = Gradients::new();
    for (from, (bytes, parts)) in found.iter().zip(layouts).enumerate() {
        let mut left = bytes.as_slice();
        for part in parts {
            let run = |layout: &&Layout| cut(&mut left, layout, layout.run(rank, n).len(), from);
            add_gradients(&mut sums, part.iter().map(run).collect::<Result<_>>()?);
        }
    }
    drop(found);
    let summed: Vec<u8> = sums.iter().flat_map(|(_, sum)| bytes_of(sum, dtype_of(sum.kind()))).collect();
    let found = ranks.gather(&summed)?;

    // Every tensor from the runs of its owners.
    let mut left: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
    let whole = |layout: &Layout| {
        let runs = left.iter_mut().enumerate();
        let runs = runs.map(|(owner, left)| Ok(cut(left, layout, layout.run(owner, n).len(), owner)?.1));
        let runs: Vec<Tensor> = runs.collect::<Result<_>>()?;
        Ok((layout.index, no_grad(|| Tensor::f_cat(&runs, 0)?.f_view(layout.shape.as_slice())?.f_to_device(device))?))
    };
    group.iter().map(whole).collect()
}

/// The layouts of the parts of every rank.
fn gathered_layouts(ranks: &dyn Ranks, parts: &[Gradients]) -> Result<Vec<Vec<Vec<Layout>>>> {
    let layout = |(index, gradient): &(usize, Tensor)| Layout {
        index: *index,
        shape: gradient.size(),
        dtype: dtype_of(gradient.kind()),
    };
    let mine: Vec<Vec<Layout>> = parts.iter().map(|part| part.iter().map(layout).collect()).collect();
    let mine = serde_json::to_vec(&mine).unwrap_or_default();
    let read = |(rank, bytes): (usize, &Vec<u8>)| serde_json::from_slice(bytes).map_err(|e| out_of_step(rank, &e));
    ranks.gather(&mine)?.iter().enumerate().map(read).collect()
}

fn out_of_step(rank: usize, reason: &dyn std::fmt::Display) -> Error {
    irepair_ranks::Error::OutOfStep { rank, reason: reason.to_string() }.into()
}

/// Takes a run of `n_bytes` of a tensor from the front of what `rank` sent.
fn cut(left: &mut &[u8], layout: &Layout, n_bytes: usize, rank: usize) -> Result<(usize, Tensor)> {
    let (run, rest) =
        left.split_at_checked(n_bytes).ok_or_else(|| out_of_step(rank, &"its gradients are too short"))?;
    *left = rest;
    let kind = layout.kind();
    let n = (n_bytes / kind.elt_size_in_bytes()) as i64;
    Ok((layout.index, Tensor::f_from_data_size(run, &[n], kind)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_is_much_larger_than_asked() {
        let layout = |index, n| Layout { index, shape: vec![n], dtype: Dtype::F32 };
        let half = (MOST_BYTES / 8) as i64;
        let layouts = [vec![vec![layout(1, half), layout(4, half), layout(5, 1)]], vec![vec![layout(2, 9 * half)]]];
        let indices: Vec<Vec<usize>> =
            groups(&layouts).iter().map(|group| group.iter().map(|layout| layout.index).collect()).collect();
        assert_eq!(indices, [vec![1], vec![2], vec![4, 5]]);
        let of = |part: &[Layout], group: &[Layout]| within(part, group).iter().map(|l| l.index).collect::<Vec<_>>();
        assert_eq!(of(&layouts[0][0], &groups(&layouts)[2]), [4, 5]);
        assert!(groups(&[vec![], vec![vec![]]]).is_empty());
    }
}
