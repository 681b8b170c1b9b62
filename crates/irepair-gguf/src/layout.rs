//! Where the values of a tensor are in a GGUF file, against where Hugging Face has them.

/// How a GGUF file stores a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As Hugging Face does.
    Plain,
    /// A query or key projection of so many heads: rotation pairs row `i` of a head with row `head_dim / 2 + i`, and
    /// the file has the two rows of a pair next to each other.
    Paired { n_head: usize },
    /// The weight of a norm with 1 added.
    PlusOne,
}

impl Layout {
    /// Rows that keep their place as a group: those of a head, or one where no row moves. `n_rows` is the size of the
    /// tensor's first dimension.
    pub(crate) fn group(self, n_rows: usize) -> usize {
        match self {
            Self::Plain | Self::PlusOne => 1,
            Self::Paired { n_head } => n_rows / n_head,
        }
    }

    /// The row of the file that holds row `row` of Hugging Face's tensor, both counted from the start of a group.
    pub(crate) fn row(self, row: usize, group: usize) -> usize {
        match self {
            Self::Plain | Self::PlusOne => row,
            Self::Paired { .. } => row % (group / 2) * 2 + row / (group / 2),
        }
    }

    /// Turns the values of a group from the file's form into Hugging Face's.
    ///
    /// A weight to which 1 was added is the difference, rounded: adding 1 to that gives the file's value again, as
    /// converters round once. False where it does not.
    pub(crate) fn read_from_file(self, values: &[f32], group: usize, out: &mut [f32]) -> bool {
        if self == Self::PlusOne {
            out.iter_mut().zip(values).for_each(|(out, value)| *out = value - 1.0);
            return out.iter().zip(values).all(|(out, value)| out + 1.0 == *value);
        }
        let width = values.len() / group;
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            out.copy_from_slice(&values[self.row(row, group) * width..][..width]);
        }
        true
    }

    /// The opposite of [`Self::read_from_file`].
    pub(crate) fn to_file(self, values: &[f32], group: usize, out: &mut [f32]) {
        if self == Self::PlusOne {
            return out.iter_mut().zip(values).for_each(|(out, value)| *out = value + 1.0);
        }
        let width = values.len() / group;
        for (row, values) in values.chunks_exact(width).enumerate() {
            out[self.row(row, group) * width..][..width].copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_rows_move_to_the_halves_of_their_head() {
        let paired = Layout::Paired { n_head: 2 };
        assert_eq!((paired.group(8), Layout::Plain.group(8)), (4, 1));
        assert_eq!([0, 1, 2, 3].map(|row| paired.row(row, 4)), [0, 2, 1, 3]);
        let (file, mut hugging_face, mut back) = ([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5], [0.0; 8], [0.0; 8]);
        assert!(paired.read_from_file(&file, 4, &mut hugging_face));
        assert_eq!(hugging_face, [0.0, 0.5, 2.0, 2.5, 1.0, 1.5, 3.0, 3.5]);
        paired.to_file(&hugging_face, 4, &mut back);
        assert_eq!(back, file);
    }

    #[test]
    fn one_is_taken_off_where_adding_it_gives_the_value_again() {
        // What a converter makes of weights of all sizes, the smallest among them.
        let weights = [0.5, -0.25, 1e-9, -1e-9, 7.0, -0.9999999, -3.0, 1e-4, 1234.567, 0.1, -1.0];
        let file = weights.map(|weight: f32| weight + 1.0);
        let (mut out, mut back) = ([0.0; 11], [0.0; 11]);
        assert!(Layout::PlusOne.read_from_file(&file, 1, &mut out));
        Layout::PlusOne.to_file(&out, 1, &mut back);
        assert_eq!(back, file);
        // No weight and 1 add up to the smallest values.
        assert!(!Layout::PlusOne.read_from_file(&[1e-20], 1, &mut out[..1]));
    }
}
