//! What a run is: everything that decides its bits, as named parts that a saved state is compared by.

use std::fmt::Display;

use irepair_core::fs::sha256_hex;
use irepair_data::TokenPair;
use irepair_model::{BlockModel, weights_sha256};
use irepair_objective::Objective;
use serde::{Deserialize, Serialize};

use crate::{RepairData, Settings};

/// Longest value that a message quotes; a hash is longer.
const MOST_QUOTED: usize = 60;

/// Named parts of a run, each with its value or the SHA-256 of what is too long to keep.
///
/// A saved state holds it. A run takes up a state only when every part is the same, so that no run is ever a mixture of
/// two models, two policies or two data sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity(Vec<(String, String)>);

impl Identity {
    /// This identity with one part more. `name` is what a message calls it, as `the policy`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// The parts of a run of the engine.
    pub(crate) fn of_run(
        model: &dyn BlockModel,
        objective: &Objective,
        localiser: Self,
        data: &RepairData,
        settings: &Settings,
    ) -> Self {
        let RepairData { pairs, validation, utility, validation_utility, pad_id } = data;
        let mut identity = Self::default()
            .with("the version of irepair", env!("CARGO_PKG_VERSION"))
            .with("the model's config.json", sha256_hex(model.settings().as_bytes()))
            .with("the model's weights", weights_sha256(model.parameters()))
            .with("the training pairs", of_pairs(pairs))
            .with("the validation pairs", of_pairs(validation))
            .with("the utility texts", of_tokens(utility.iter()))
            .with("the held-out utility texts", of_tokens(validation_utility.iter()))
            .with("the padding token", pad_id)
            .with("the objective", objective.written());
        identity.0.extend(localiser.0);
        settings.parts().into_iter().fold(identity, |all, (key, value)| all.with(format!("setting `{key}`"), value))
    }

    /// The value of a part.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// What differs from `then`, in words; empty when nothing does.
    pub(crate) fn changes_since(&self, then: &Self) -> String {
        let gone = then.0.iter().filter(|(name, _)| self.value(name).is_none());
        let changed = self.0.iter().chain(gone).filter_map(|(name, _)| {
            let (was, is) = (then.value(name), self.value(name));
            let short = |value: Option<&str>| value.is_none_or(|v| v.len() <= MOST_QUOTED);
            match was == is {
                true => None,
                false if short(was) && short(is) => {
                    Some(format!("{name} ({} → {})", was.unwrap_or("none"), is.unwrap_or("none")))
                }
                false => Some(name.clone()),
            }
        });
        changed.collect::<Vec<_>>().join(", ")
    }
}

/// Hash of every token of pairs, side by side.
fn of_pairs(pairs: &[TokenPair]) -> String {
    of_tokens(pairs.iter().flat_map(|pair| [&pair.prompt, &pair.chosen, &pair.rejected]))
}

/// Hash of token lists; their lengths are hashed too, so that no token can move from one to the next.
fn of_tokens<'a>(lists: impl Iterator<Item = &'a Vec<u32>>) -> String {
    let mut bytes = Vec::new();
    for tokens in lists {
        bytes.extend((tokens.len() as u32).to_le_bytes());
        bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
    }
    sha256_hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named_and_quoted_where_it_is_short() {
        let run = |policy: &str, weights: char| {
            Identity::default().with("the policy", policy).with("the weights", weights.to_string().repeat(64))
        };
        let then = run("dynamic", 'a');
        assert_eq!(then.changes_since(&run("dynamic", 'a')), "");
        assert_eq!(run("random", 'b').changes_since(&then), "the policy (dynamic → random), the weights");
        assert_eq!(run("dynamic", 'a').with("k", 3).changes_since(&then), "k (none → 3)");
        assert_eq!(then.changes_since(&run("dynamic", 'a').with("k", 3)), "k (3 → none)");
    }

    #[test]
    fn tokens_do_not_move_between_texts_unseen() {
        let hash = |lists: &[&[u32]]| of_tokens(lists.iter().map(|l| l.to_vec()).collect::<Vec<_>>().iter());
        assert_ne!(hash(&[&[1, 2], &[3]]), hash(&[&[1], &[2, 3]]));
    }
}
