//! Which text does the model find likelier? Minimal pairs and multiple choice.

use crate::{Error, Evaluator, Metric, Result, key};

/// Two sentences that differ in one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinimalPair {
    /// The sentence that should be likelier.
    pub better: String,
    /// The other one.
    pub worse: String,
}

/// A beginning with several endings, one of them right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The beginning, without trailing space.
    pub context: String,
    /// The endings, each with the space before it.
    pub endings: Vec<String>,
    /// Index of the right ending.
    pub answer: usize,
}

/// Accuracy on multiple-choice questions.
#[derive(Clone, Debug, PartialEq)]
pub struct MultipleChoice {
    /// Percent of questions whose right ending has the highest log-likelihood.
    pub accuracy: Metric,
    /// The same with log-likelihoods divided by the ending's bytes, its leading space not counted.
    pub accuracy_by_bytes: Metric,
    /// Contexts that lost their start because they did not fit with one of the endings.
    pub n_truncated: usize,
}

impl Evaluator<'_> {
    /// Percent of pairs with `ll(better) > ll(worse)`; a tie is not a success.
    ///
    /// The end-of-text token starts each sentence, so that its first token counts too. A pair fails when a sentence is
    /// empty or does not fit the context, or a likelihood is not finite.
    ///
    /// # Errors
    /// [`Error::Nothing`] without pairs; [`Error::UnknownToken`]; a batch size of 0; the tokenizer's.
    ///
    /// # Source
    /// METHOD §10 [S]: BLiMP; METHOD §15 measures social bias this way.
    pub fn pair_accuracy(&self, pairs: &[MinimalPair]) -> Result<Metric> {
        let hits = self.likelier(pairs)?;
        let definition =
            "minimal pairs whose better sentence has the higher log-likelihood, ties not counted as success";
        Ok(Metric::mean(key::BLIMP_ACCURACY, &hits, definition))
    }

    /// 1 where the better sentence of a pair is the likelier, 0 where not, none where the pair failed.
    pub(crate) fn likelier(&self, pairs: &[MinimalPair]) -> Result<Vec<Option<f64>>> {
        if pairs.is_empty() {
            return Err(Error::Nothing { what: "pairs" });
        }
        let sentences: Vec<&String> = pairs.iter().flat_map(|p| [&p.better, &p.worse]).collect();
        let tokens = self.tokenizer.encode_batch(&sentences)?;
        let (found, _) = self.conditional(tokens.iter().map(|t| (&[][..], &t[..])))?;
        Ok(found.chunks(2).map(|pair| Some(f64::from(u8::from(pair[0]? > pair[1]?)))).collect())
    }

    /// Percent of questions whose right ending is the likeliest, by log-likelihood and by log-likelihood per byte.
    ///
    /// Ties go to the earlier ending. A context too long for the model loses its start. A question fails when an ending
    /// is blank or leaves no room for a context, or a likelihood is not finite.
    ///
    /// # Errors
    /// [`Error::Nothing`] without questions; [`Error::BadQuestion`]; [`Error::UnknownToken`]; a batch size of 0; the
    /// tokenizer's.
    ///
    /// # Source
    /// METHOD §10 [S]: HellaSwag, `acc` and `acc_norm`.
    pub fn multiple_choice(&self, questions: &[Question]) -> Result<MultipleChoice> {
        if questions.is_empty() {
            return Err(Error::Nothing { what: "questions" });
        }
        for (index, q) in questions.iter().enumerate() {
            if q.answer >= q.endings.len() {
                return Err(Error::BadQuestion { index, n_endings: q.endings.len(), answer: q.answer });
            }
        }
        let contexts = self.tokenizer.encode_texts(&questions.iter().map(|q| &q.context).collect::<Vec<_>>())?;
        let endings =
            self.tokenizer.encode_continuations(&questions.iter().flat_map(|q| &q.endings).collect::<Vec<_>>())?;
        let context_of = questions.iter().zip(&contexts).flat_map(|(q, c)| q.endings.iter().map(move |_| &c[..]));
        let texts = context_of.zip(endings.iter().map(|e| &e[..]));
        let (found, cut) = self.conditional(texts)?;

        let (mut by_sum, mut by_bytes, mut n_truncated, mut start) = (Vec::new(), Vec::new(), 0, 0);
        for q in questions {
            let range = start..start + q.endings.len();
            start = range.end;
            n_truncated += usize::from(cut[range.clone()].contains(&true));
            let bytes = |ending: &String| Some(ending.trim_start().len()).filter(|&n| n > 0).map(|n| n as f64);
            let sums: Option<Vec<f64>> = found[range].iter().copied().collect();
            let sizes: Option<Vec<f64>> = q.endings.iter().map(bytes).collect();
            let (sums, sizes) = match (sums, sizes) {
                (Some(sums), Some(sizes)) => (sums, sizes),
                _ => {
                    by_sum.push(None);
                    by_bytes.push(None);
                    continue;
                }
            };
            let hit = |values: &[f64]| Some(f64::from(u8::from(first_highest(values) == q.answer)));
            by_sum.push(hit(&sums));
            by_bytes.push(hit(&sums.iter().zip(&sizes).map(|(ll, n)| ll / n).collect::<Vec<_>>()));
        }
        let definition = "questions whose right ending has the highest log-likelihood";
        Ok(MultipleChoice {
            accuracy: Metric::mean(key::HELLASWAG_ACCURACY, &by_sum, definition),
            accuracy_by_bytes: Metric::mean(
                key::HELLASWAG_ACCURACY_BY_BYTES,
                &by_bytes,
                format!("{definition} per byte of the ending"),
            ),
            n_truncated,
        })
    }
}

fn first_highest(values: &[f64]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}
