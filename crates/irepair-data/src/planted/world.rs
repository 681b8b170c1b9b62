//! The people of the planted language, with fixed facts, and templates about them.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::words::{
    ADVERBS, ANIMALS, COLOURS, DAYS, FOODS, MANNERS, MEN, NUMBERS, OBJECTS, PLACES, TOWNS, TRADES, WEATHERS, WOMEN,
};

/// A person and what is always true of them.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) is_woman: bool,
    pub(super) town: &'static str,
    pub(super) trade: &'static str,
    pub(super) pet: &'static str,
    pub(super) food: &'static str,
}

/// The people of one seed.
pub(super) struct World {
    people: Vec<Person>,
}

impl World {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        let names = WOMEN.iter().map(|&name| (name, true)).chain(MEN.iter().map(|&name| (name, false)));
        let mut people: Vec<Person> = names
            .map(|(name, is_woman)| Person {
                name,
                is_woman,
                town: one(rng, &TOWNS),
                trade: one(rng, &TRADES),
                pet: one(rng, &ANIMALS),
                food: one(rng, &FOODS),
            })
            .collect();
        people.shuffle(rng);
        Self { people }
    }

    pub(super) fn person(&self, rng: &mut ChaCha8Rng) -> &Person {
        &self.people[rng.random_range(0..self.people.len())]
    }

    /// Another person than `person`.
    pub(super) fn other(&self, rng: &mut ChaCha8Rng, person: &Person) -> &Person {
        loop {
            let other = self.person(rng);
            if other.name != person.name {
                return other;
            }
        }
    }
}

/// The words for the slots of a text's templates; drawn once per text, so that a slot means one thing throughout.
///
/// Slots: `N` the person, `B` another one, `she`/`She`/`her`/`Her` the person's pronouns, `T` town, `W` trade, `P`
/// place, `O` object, `C`, `E` colours, `A` animal, `K` its manner, `ly` adverb, `F`, `G`, `H` three foods, `D` day,
/// `S` weather, `U`, `V` numbers.
pub(super) struct Scene<'a> {
    person: &'a Person,
    words: [(&'static str, &'static str); 22],
}

impl<'a> Scene<'a> {
    pub(super) fn draw(world: &'a World, rng: &mut ChaCha8Rng) -> Self {
        let person = world.person(rng);
        let mut foods = FOODS;
        foods.shuffle(rng);
        let [she, capital_she, her, capital_her] =
            if person.is_woman { ["she", "She", "her", "Her"] } else { ["he", "He", "his", "His"] };
        // In the order of the draws.
        let words = [
            ("B", world.other(rng, person).name),
            ("P", one(rng, &PLACES)),
            ("O", one(rng, &OBJECTS)),
            ("C", one(rng, &COLOURS)),
            ("E", one(rng, &COLOURS)),
            ("K", one(rng, &MANNERS)),
            ("ly", one(rng, &ADVERBS)),
            ("A", one(rng, &ANIMALS)),
            ("F", foods[0]),
            ("G", foods[1]),
            ("H", foods[2]),
            ("D", one(rng, &DAYS)),
            ("S", one(rng, &WEATHERS)),
            ("U", one(rng, &NUMBERS)),
            ("V", one(rng, &NUMBERS)),
            ("N", person.name),
            ("T", person.town),
            ("W", person.trade),
            ("she", she),
            ("She", capital_she),
            ("her", her),
            ("Her", capital_her),
        ];
        Self { person, words }
    }

    /// The same scene with the person's own facts in the slots for animal and food.
    pub(super) fn of_facts(mut self) -> Self {
        for (slot, word) in &mut self.words {
            match *slot {
                "A" => *word = self.person.pet,
                "F" => *word = self.person.food,
                _ => {}
            }
        }
        self
    }

    /// Fills the slots of a template.
    pub(super) fn fill(&self, template: &str) -> String {
        fill(template, |slot| self.word(slot))
    }

    pub(super) fn word(&self, slot: &str) -> &'static str {
        let found = self.words.iter().find(|(known, _)| *known == slot);
        found.unwrap_or_else(|| unreachable!("templates use known slots only: a test fills them all")).1
    }
}

/// Replaces every `{slot}` of a template.
pub(super) fn fill(template: &str, mut word: impl FnMut(&str) -> &'static str) -> String {
    let mut text = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (slot, tail) = after.split_once('}').unwrap_or((after, ""));
        text.push_str(before);
        text.push_str(word(slot));
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// One of a list that is not empty.
pub(super) fn one<T: Copy>(rng: &mut ChaCha8Rng, list: &[T]) -> T {
    list[rng.random_range(0..list.len())]
}
