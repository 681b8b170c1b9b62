//! Texts of a micro-batch packed into one batch where that wastes little on padding: larger products, one gradient
//! instead of two.

use irepair_core::BlockId;
use irepair_model::{BlockModel, PrefixStates, TextBatch, states_at};
use tch::Tensor;

use crate::MicroBatch;

/// Positions run, padding included, over those that each text alone would take, at most.
const MOST_PADDING: f64 = 1.1;

/// Which texts of a micro-batch: chosen, rejected, utility.
pub(crate) type Sides = [bool; 3];

/// The texts asked for of a micro-batch, in as few batches as [`MOST_PADDING`] allows.
pub(crate) struct PackedBatch<'a> {
    segments: [Option<Segment>; 3],
    batches: Vec<Packed<'a>>,
}

/// Where one text lies.
struct Segment {
    /// Index of its batch.
    batch: usize,
    /// Positions of that batch whose hidden states are read, `[n]` int64: those that predict a target of chosen and
    /// rejected texts, every real token of utility texts.
    positions: Tensor,
}

/// A batch: one text as it is, or several copied below one another.
struct Packed<'a> {
    texts: Vec<&'a TextBatch>,
    stacked: Option<TextBatch>,
}

impl<'a> Packed<'a> {
    fn new(texts: Vec<&'a TextBatch>) -> Self {
        let stacked = (texts.len() > 1).then(|| TextBatch::stacked(&texts));
        Self { texts, stacked }
    }

    fn batch(&self) -> &TextBatch {
        self.stacked.as_ref().unwrap_or(self.texts[0])
    }
}

impl<'a> PackedBatch<'a> {
    pub(crate) fn new(micro: &'a MicroBatch, sides: Sides) -> Self {
        let mut groups: Vec<Vec<&TextBatch>> = Vec::new();
        let texts = [(&micro.chosen, sides[0]), (&micro.rejected, sides[1]), (&micro.utility, sides[2])];
        // For each text its batch, and how many texts lie above it there.
        let locations = texts.map(|(text, needed)| {
            let text = text.as_ref().filter(|_| needed)?;
            match groups.last_mut().filter(|group| fits(group, text)) {
                Some(group) => group.push(text),
                None => groups.push(vec![text]),
            }
            Some((groups.len() - 1, groups[groups.len() - 1].len() - 1))
        });
        let batches: Vec<Packed<'_>> = groups.into_iter().map(Packed::new).collect();
        let segment = |location: Option<(usize, usize)>, positions: fn(&TextBatch) -> &Tensor| {
            let (batch, n_above) = location?;
            let n = |text: &TextBatch| positions(text).numel() as i64;
            let Packed { texts, .. } = &batches[batch];
            let start = texts[..n_above].iter().map(|text| n(text)).sum();
            let positions = positions(batches[batch].batch()).narrow(0, start, n(texts[n_above]));
            Some(Segment { batch, positions })
        };
        let [chosen, rejected, utility] = locations;
        let segments = [
            segment(chosen, |text| &text.target_positions),
            segment(rejected, |text| &text.target_positions),
            segment(utility, |text| &text.real_positions),
        ];
        Self { segments, batches }
    }

    /// Runs the blocks before `block`, once for every model that shares them; none where the model cannot.
    pub(crate) fn prefixes(&self, model: &dyn BlockModel, block: BlockId) -> Option<Vec<PrefixStates>> {
        self.batches.iter().map(|packed| model.prefix_states(packed.batch(), block)).collect()
    }

    /// Last hidden states at those positions, `[n, width]` for each text; from `prefixes` where they were made of
    /// these batches.
    pub(crate) fn states(&self, model: &dyn BlockModel, prefixes: Option<&[PrefixStates]>) -> [Option<Tensor>; 3] {
        let batches = self.batches.iter().map(Packed::batch);
        let hidden: Vec<Tensor> = match prefixes {
            Some(prefixes) => {
                batches.zip(prefixes).map(|(batch, prefix)| model.hidden_states_from(batch, prefix)).collect()
            }
            None => batches.map(|batch| model.hidden_states(batch)).collect(),
        };
        self.segments.each_ref().map(|segment| {
            let Segment { batch, positions } = segment.as_ref()?;
            Some(states_at(&hidden[*batch], positions))
        })
    }
}

/// Whether `text` below `group` stays within the padding allowed.
fn fits(group: &[&TextBatch], text: &TextBatch) -> bool {
    let dims = || group.iter().copied().chain([text]).map(TextBatch::dims);
    let (rows, cols) = dims().fold((0, 0), |(rows, cols), (r, c)| (rows + r, cols.max(c)));
    let alone: i64 = dims().map(|(r, c)| r * c).sum();
    (rows * cols) as f64 <= MOST_PADDING * alone as f64
}

#[cfg(test)]
mod tests {
    use irepair_core::PaddedTokens;
    use irepair_model::{Architecture, CausalLm};
    use tch::{Device, Kind};

    use super::*;

    fn text(rows: &[Vec<u32>]) -> Option<TextBatch> {
        Some(TextBatch::new(PaddedTokens::right_padded(rows, 0).unwrap(), Device::Cpu))
    }

    #[test]
    fn packed_texts_have_the_states_they_have_alone() {
        let model = CausalLm::random(Architecture::gpt2(2, 16, 2, 32, 13), 1, Device::Cpu, Kind::Float).unwrap();
        model.freeze();
        let micro = MicroBatch {
            chosen: text(&[vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], vec![4, 5]]),
            rejected: text(&[vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10], vec![6, 7, 8]]),
            utility: text(&[vec![9; 12], vec![3, 1]]),
        };
        let packed = PackedBatch::new(&micro, [true; 3]);
        assert_eq!(packed.batches.len(), 1, "nearly equal widths share a batch");
        let all = packed.states(&model, None);
        for (side, states) in all.into_iter().enumerate() {
            let only = std::array::from_fn(|i| i == side);
            let alone = PackedBatch::new(&micro, only).states(&model, None);
            let (states, alone) = (states.unwrap(), alone[side].as_ref().unwrap().shallow_clone());
            assert_eq!(states.size(), alone.size());
            assert!(states.allclose(&alone, 1e-5, 1e-6, false), "side {side}");
        }
    }

    #[test]
    fn much_padding_keeps_texts_apart() {
        let micro = MicroBatch { chosen: text(&[vec![1; 10]]), rejected: text(&[vec![2; 4]]), utility: None };
        assert_eq!(PackedBatch::new(&micro, [true; 3]).batches.len(), 2);
        assert_eq!(PackedBatch::new(&micro, [true, false, false]).batches.len(), 1);
    }
}
