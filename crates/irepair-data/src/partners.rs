//! Pairs of labelled completions.

use std::collections::{HashMap, VecDeque};

use crate::Pair;

/// Labelled completions that wait for one of the other label, by their prompts.
#[derive(Default)]
pub(crate) struct Partners {
    waiting: HashMap<String, (bool, VecDeque<String>)>,
    n_left: [usize; 2],
}

impl Partners {
    /// Takes a completion; the pair that it makes with the one that waits longest.
    pub(crate) fn add(&mut self, prompt: String, completion: String, is_desirable: bool) -> Option<Pair> {
        let (label, waiting) = self.waiting.entry(prompt.clone()).or_insert_with(|| (is_desirable, VecDeque::new()));
        if *label == is_desirable {
            waiting.push_back(completion);
            self.n_left[usize::from(!is_desirable)] += 1;
            return None;
        }
        let partner = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&prompt);
        }
        let partner = partner?;
        self.n_left[usize::from(is_desirable)] -= 1;
        let (chosen, rejected) = if is_desirable { (completion, partner) } else { (partner, completion) };
        Some(Pair { prompt, chosen, rejected })
    }

    /// Completions that wait: desirable and undesirable ones.
    pub(crate) fn n_left(&self) -> [usize; 2] {
        self.n_left
    }
}
