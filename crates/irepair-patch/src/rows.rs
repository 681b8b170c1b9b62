//! The rows or columns of a tensor that a patch of kind `xor` holds, where the rest of the tensor does not change.

use irepair_core::tensor_file::Bytes;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::kind::Op;
use crate::patch::Sink;

/// What a range takes in the metadata, about, in bytes: rows that are few but lie apart are not always smaller.
const RANGE: u64 = 16;

/// Most columns that are looked at: a bound that keeps hostile shapes from becoming allocations.
const MOST_COLUMNS: usize = 1 << 24;

/// Rows (`dim` 0) or columns (`dim` 1) of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// The dimension that they are counted along.
    pub dim: usize,
    /// Those that are held, as `[first, end]` without the end; in order, with others between two of them.
    pub ranges: Vec<[usize; 2]>,
}

impl Rows {
    /// How many are held.
    pub fn n(&self) -> usize {
        self.ranges.iter().map(|[first, end]| end - first).sum()
    }

    /// What is wrong with them in a tensor of this type and shape; none when they are rows or columns of it.
    pub(crate) fn fault(&self, dtype: Dtype, shape: &[usize]) -> Option<String> {
        let Some(&n_all) = shape.get(self.dim) else {
            return Some(format!("has no dimension {} that rows could be of", self.dim));
        };
        let n_bits = shape.iter().try_fold(dtype.bitsize(), |product, n| product.checked_mul(*n));
        if n_bits.is_none_or(|n| n == 0) || !dtype.bitsize().is_multiple_of(8) {
            return Some("is empty, too large, or of a type without whole bytes, and cannot have rows".to_owned());
        }
        let in_order = self.ranges.windows(2).all(|pair| pair[0][1] < pair[1][0]);
        let are_ranges = self.ranges.iter().all(|[first, end]| first < end && *end <= n_all);
        let are_rows = in_order && are_ranges && !self.ranges.is_empty();
        (!are_rows).then(|| format!("lists rows that are no ranges in order below {n_all}"))
    }

    /// The shape of the rows, of a tensor of this shape.
    pub(crate) fn shape(&self, shape: &[usize]) -> Vec<usize> {
        shape.iter().enumerate().map(|(dim, n)| if dim == self.dim { self.n() } else { *n }).collect()
    }

    /// Goes through the bytes of a tensor of this type and shape.
    pub(crate) fn walk(&self, dtype: Dtype, shape: &[usize]) -> Walk {
        let each = shape[self.dim + 1..].iter().product::<usize>() * dtype.bitsize() / 8;
        let runs = self.ranges.iter().map(|[first, end]| (first * each, end * each)).collect();
        Walk { runs, period: shape[self.dim] * each, at: 0, run: 0 }
    }
}

/// A way through a tensor's bytes, which says of each whether it is held.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    /// First byte and end of the rows that are held, in a part of the tensor that has all rows once.
    runs: Vec<(usize, usize)>,
    /// Bytes of such a part.
    period: usize,
    /// The next byte, in its part.
    at: usize,
    /// The first of the runs that does not end before it.
    run: usize,
}

impl Walk {
    /// How many of the next `n` bytes are alike, at least 1, and whether these are held.
    pub(crate) fn next(&mut self, n: usize) -> (usize, bool) {
        if self.at == self.period {
            (self.at, self.run) = (0, 0);
        }
        while self.runs.get(self.run).is_some_and(|(_, end)| *end <= self.at) {
            self.run += 1;
        }
        let (end, is_held) = match self.runs.get(self.run) {
            Some(&(first, end)) if first <= self.at => (end, true),
            Some(&(first, _)) => (first, false),
            None => (self.period, false),
        };
        let n = n.min(end - self.at);
        self.at += n;
        (n, is_held)
    }
}

/// What a patch holds of one tensor, read in the order of the tensor's bytes.
pub(crate) struct Change {
    pub(crate) bytes: Bytes,
    /// None where the whole tensor is held.
    pub(crate) walk: Option<Walk>,
}

impl Change {
    /// How many of the next `n` bytes of the tensor are alike, and whether these are held.
    pub(crate) fn run(&mut self, n: usize) -> (usize, bool) {
        self.walk.as_mut().map_or((n, true), |walk| walk.next(n))
    }

    /// The next bytes of the tensor, after `op` with what is held of them.
    pub(crate) fn applied(&mut self, op: Op, dtype: Dtype, chunk: &[u8]) -> Result<Vec<u8>> {
        let (mut new, mut rest) = (Vec::with_capacity(chunk.len()), chunk);
        while !rest.is_empty() {
            let (n, is_held) = self.run(rest.len());
            let (part, after) = rest.split_at(n);
            if is_held {
                new.extend(op.run(dtype, part, self.bytes.next(op.n_change(dtype, n))?));
            } else {
                new.extend_from_slice(part);
            }
            rest = after;
        }
        Ok(new)
    }
}

/// Passes on, of a whole tensor's bytes, those that are held.
pub(crate) fn held(mut walk: Option<Walk>, sink: Sink<'_>) -> impl FnMut(&[u8]) -> Result<()> {
    move |chunk| {
        let Some(walk) = &mut walk else { return sink(chunk) };
        let mut rest = chunk;
        while !rest.is_empty() {
            let (n, is_held) = walk.next(rest.len());
            let (part, after) = rest.split_at(n);
            if is_held {
                sink(part)?;
            }
            rest = after;
        }
        Ok(())
    }
}

/// Finds the rows and columns in which two tensors differ, from their bytes xor one another.
pub(crate) struct Finder {
    n_bytes: u64,
    /// Bytes of a value, and of a row.
    value: usize,
    row: usize,
    /// The next byte.
    at: u64,
    /// Rows that differ, as ranges in order.
    rows: Vec<[usize; 2]>,
    /// Whether each column differs; none where there are no columns.
    columns: Option<Vec<bool>>,
    has_rows: bool,
    differs: bool,
}

impl Finder {
    /// For a tensor of this type and shape, whose size fits into memory addresses.
    pub(crate) fn new(dtype: Dtype, shape: &[usize]) -> Self {
        let value = (dtype.bitsize() / 8).max(1);
        // A tensor without values may have any other dimensions.
        let row = shape.iter().skip(1).try_fold(value, |all, &n| all.checked_mul(n)).unwrap_or(0);
        let columns = matches!(shape, [_, n] if *n <= MOST_COLUMNS).then(|| vec![false; shape[1]]);
        let n_bytes = shape.first().map_or(value, |n| n * row) as u64;
        let has_rows = !shape.is_empty() && row > 0 && dtype.bitsize().is_multiple_of(8);
        Self { n_bytes, value, row, at: 0, rows: Vec::new(), columns, has_rows, differs: false }
    }

    /// The next `n` bytes do not differ.
    pub(crate) fn same(&mut self, n: usize) {
        self.at += n as u64;
    }

    /// The next bytes, xor one another.
    pub(crate) fn look(&mut self, bytes: &[u8]) {
        if !self.has_rows {
            self.differs |= bytes.iter().any(|byte| *byte != 0);
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (row, within) = ((self.at / self.row as u64) as usize, (self.at % self.row as u64) as usize);
            let (part, after) = rest.split_at(rest.len().min(self.row - within));
            if part.iter().any(|byte| *byte != 0) {
                self.row_differs(row);
                let value = self.value;
                if let Some(columns) = &mut self.columns {
                    let differing = part.iter().enumerate().filter(|(_, byte)| **byte != 0);
                    differing.for_each(|(i, _)| columns[(within + i) / value] = true);
                }
            }
            self.at += part.len() as u64;
            rest = after;
        }
    }

    /// Whether any byte seen so far is not the same in both.
    pub(crate) fn differs(&self) -> bool {
        self.differs
    }

    fn row_differs(&mut self, row: usize) {
        self.differs = true;
        match self.rows.last_mut() {
            Some([_, end]) if *end >= row => *end = row + 1,
            _ => self.rows.push([row, row + 1]),
        }
    }

    /// The rows or the columns that differ, whichever are smaller; none where the whole tensor is.
    pub(crate) fn found(self) -> Option<Rows> {
        let mut columns: Vec<[usize; 2]> = Vec::new();
        for (column, _) in self.columns.iter().flatten().enumerate().filter(|(_, differs)| **differs) {
            match columns.last_mut() {
                Some([_, end]) if *end == column => *end += 1,
                _ => columns.push([column, column + 1]),
            }
        }
        let column = self.n_bytes / self.columns.as_ref().map_or(1, |columns| columns.len().max(1)) as u64;
        let cost = |rows: &Rows, each: u64| rows.n() as u64 * each + RANGE * rows.ranges.len() as u64;
        let by_row = (Rows { dim: 0, ranges: self.rows }, self.row as u64);
        let by_column = (Rows { dim: 1, ranges: columns }, column);
        let smaller = [by_row, by_column].into_iter().filter(|(rows, _)| !rows.ranges.is_empty());
        let smallest = smaller.min_by_key(|(rows, each)| cost(rows, *each))?;
        (cost(&smallest.0, smallest.1) < self.n_bytes).then_some(smallest.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(shape: &[usize], differing: &[usize]) -> Option<Rows> {
        let mut bytes = vec![0; 4 * shape.iter().product::<usize>()];
        differing.iter().for_each(|&i| bytes[4 * i + 2] = 1);
        let mut by_chunks = Finder::new(Dtype::F32, shape);
        // Chunks that end within rows and within values, and parts that are skipped.
        for chunk in bytes.chunks(7) {
            if chunk.iter().all(|byte| *byte == 0) { by_chunks.same(chunk.len()) } else { by_chunks.look(chunk) }
        }
        let mut at_once = Finder::new(Dtype::F32, shape);
        at_once.look(&bytes);
        let found = at_once.found();
        assert_eq!(by_chunks.found(), found);
        found
    }

    #[test]
    fn what_differs_is_found_by_rows_or_columns_whichever_are_fewer() {
        let rows = |dim, ranges: &[[usize; 2]]| Some(Rows { dim, ranges: ranges.to_vec() });
        assert_eq!(found(&[16, 16], &[16, 33, 34, 35, 80]), rows(0, &[[1, 3], [5, 6]]));
        assert_eq!(found(&[16, 16], &[2, 18, 35, 255, 239]), rows(1, &[[2, 4], [15, 16]]));
        assert_eq!(found(&[32], &[7, 8, 9]), rows(0, &[[7, 10]]));
        assert_eq!(found(&[8, 4, 4], &[17, 40]), rows(0, &[[1, 3]]), "rows of more than one dimension");
        assert_eq!(found(&[4], &[2]), None, "not worth a range");
        assert_eq!(found(&[], &[0]), None);
        assert_eq!(Finder::new(Dtype::F32, &[0, 1 << 62, 1 << 62]).found(), None, "no values");
        assert_eq!(found(&[4, 4], &[0, 5, 10, 15]), None);
    }

    #[test]
    fn a_walk_tells_the_held_bytes_of_every_part() {
        let rows = Rows { dim: 1, ranges: vec![[0, 1], [3, 5]] };
        assert_eq!((rows.n(), rows.shape(&[2, 6])), (3, vec![2, 3]));
        let mut walk = rows.walk(Dtype::F16, &[2, 6]);
        let mut steps = Vec::new();
        let mut left = 24;
        while left > 0 {
            let (n, is_held) = walk.next(left.min(5));
            steps.push((n, is_held));
            left -= n;
        }
        let row = [(2, true), (4, false), (4, true), (2, false)];
        assert_eq!(steps, [row, row].concat());
    }

    #[test]
    fn rows_that_a_tensor_cannot_have_are_refused() {
        let fault = |dim, ranges: &[[usize; 2]], shape: &[usize]| {
            Rows { dim, ranges: ranges.to_vec() }.fault(Dtype::F32, shape).is_some()
        };
        assert!(!fault(0, &[[0, 1], [2, 4]], &[4, 2]) && !fault(1, &[[0, 2]], &[4, 2]));
        for (dim, ranges, shape) in [
            (2, &[[0, 1]][..], &[4, 2][..]),
            (0, &[], &[4]),
            (0, &[[1, 1]], &[4]),
            (0, &[[2, 1]], &[4]),
            (0, &[[0, 5]], &[4]),
            (0, &[[0, 2], [1, 3]], &[4]),
            (0, &[[0, 2], [2, 3]], &[4]),
            (0, &[[2, 3], [0, 1]], &[4]),
            (0, &[[0, 1]], &[4, 0]),
            (0, &[[0, 1]], &[usize::MAX, 2]),
            (1, &[[0, 1]], &[usize::MAX, usize::MAX]),
        ] {
            assert!(fault(dim, ranges, shape), "{dim} {ranges:?} {shape:?}");
        }
        let rows = Rows { dim: 0, ranges: vec![[0, 1]] };
        assert!(rows.fault(Dtype::F4, &[4, 2]).is_some(), "half a byte is no row");
    }
}
