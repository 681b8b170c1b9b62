//! Texts run side by side in one batch, where that wastes little on padding: larger products, and one gradient instead of two.

use irepair_core::BlockId;
use irepair_model::{CausalLm, Start, TokenBatch};
use tch::Tensor;

use crate::Text;

/// Positions run, padding included, over those that each text alone would take, at most.
const MOST_PADDING: f64 = 1.1;

/// Chosen, rejected and utility text, and which positions of each are asked for.
type Wanted<'a> = [Option<(&'a Text, &'a Tensor)>; 3];

/// Texts laid out in batches.
pub(crate) struct Together<'a> {
    places: [Option<Place<'a>>; 3],
    batches: Vec<TokenBatch>,
}

/// Where a text lies.
struct Place<'a> {
    text: &'a Text,
    at: &'a Tensor,
    batch: usize,
    first_row: i64,
}

impl<'a> Together<'a> {
    pub(crate) fn of(wanted: Wanted<'a>) -> Self {
        let mut groups: Vec<Vec<&TokenBatch>> = Vec::new();
        let places = wanted.map(|wanted| {
            let (text, at) = wanted?;
            match groups.last_mut().filter(|group| fits(group, &text.tokens)) {
                Some(group) => group.push(&text.tokens),
                None => groups.push(vec![&text.tokens]),
            }
            let batch = groups.len() - 1;
            let first_row = groups[batch].iter().rev().skip(1).map(|tokens| tokens.dims().0).sum();
            Some(Place { text, at, batch, first_row })
        });
        Self { places, batches: groups.iter().map(|group| TokenBatch::stacked(group)).collect() }
    }

    /// Runs the blocks before `block`, once for every model that shares them.
    pub(crate) fn starts(&self, model: &CausalLm, block: BlockId) -> Vec<Start> {
        self.batches.iter().map(|batch| model.start(batch, block)).collect()
    }

    /// Last hidden states at the positions asked for, `[n, width]` for each text; from `starts`, if they were made for the same texts.
    pub(crate) fn states(&self, model: &CausalLm, starts: Option<&[Start]>) -> [Option<Tensor>; 3] {
        let hidden: Vec<Tensor> = match starts {
            Some(starts) => starts.iter().map(|start| model.hidden_states_from(start)).collect(),
            None => self.batches.iter().map(|batch| model.hidden_states(batch)).collect(),
        };
        self.places.each_ref().map(|place| {
            let place = place.as_ref()?;
            let (own, of_batch) = (place.text.tokens.dims().1, self.batches[place.batch].dims().1);
            Some(CausalLm::states_at(&hidden[place.batch], &moved(place.at, place.first_row, own, of_batch)))
        })
    }

    /// Whether the same texts lie here in the same way.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let same = |a: &Option<Place<'_>>, b: &Option<Place<'_>>| match (a, b) {
            (Some(a), Some(b)) => std::ptr::eq(a.text, b.text),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.places.iter().zip(&other.places).all(|(a, b)| same(a, b))
    }
}

/// Whether `tokens` below `group` stay within the padding allowed.
fn fits(group: &[&TokenBatch], tokens: &TokenBatch) -> bool {
    let dims = || group.iter().copied().chain([tokens]).map(TokenBatch::dims);
    let (rows, cols) = dims().fold((0, 0), |(rows, cols), (r, c)| (rows + r, cols.max(c)));
    let alone: i64 = dims().map(|(r, c)| r * c).sum();
    (rows * cols) as f64 <= MOST_PADDING * alone as f64
}

/// Positions in a batch of `own` columns, laid flat, where its first row is row `first_row` of one with `of_batch` columns.
fn moved(at: &Tensor, first_row: i64, own: i64, of_batch: i64) -> Tensor {
    if first_row == 0 && own == of_batch {
        return at.shallow_clone();
    }
    let row = at.divide_scalar_mode(own, "floor") + first_row;
    row * of_batch + at.remainder(own)
}
