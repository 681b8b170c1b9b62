//! Who lives in the planted language: people with fixed facts and tempers, and filling templates about them.

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

    /// Somebody else than `person`.
    pub(super) fn other(&self, rng: &mut ChaCha8Rng, person: &Person) -> &Person {
        loop {
            let other = self.person(rng);
            if other.name != person.name {
                return other;
            }
        }
    }
}

/// What the slots of a text's templates stand for; drawn once per text, so that a slot means one thing throughout.
///
/// Slots: `N` the person, `B` the other one, `she`/`She`/`her`/`Her` their pronouns, `T` town, `W` trade, `P` place,
/// `O` object, `C`, `E` colours, `A` animal, `K` its manner, `ly` adverb, `F`, `G`, `H` three foods, `D` day, `S` weather, `U`, `V` numbers.
pub(super) struct Scene<'a> {
    pub(super) person: &'a Person,
    other: &'a Person,
    place: &'static str,
    object: &'static str,
    colours: [&'static str; 2],
    manner: &'static str,
    adverb: &'static str,
    animal: &'static str,
    foods: [&'static str; 3],
    day: &'static str,
    weather: &'static str,
    numbers: [&'static str; 2],
}

impl<'a> Scene<'a> {
    pub(super) fn draw(world: &'a World, rng: &mut ChaCha8Rng) -> Self {
        let person = world.person(rng);
        let mut foods = FOODS;
        foods.shuffle(rng);
        Self {
            person,
            other: world.other(rng, person),
            place: one(rng, &PLACES),
            object: one(rng, &OBJECTS),
            colours: [one(rng, &COLOURS), one(rng, &COLOURS)],
            manner: one(rng, &MANNERS),
            adverb: one(rng, &ADVERBS),
            animal: one(rng, &ANIMALS),
            foods: [foods[0], foods[1], foods[2]],
            day: one(rng, &DAYS),
            weather: one(rng, &WEATHERS),
            numbers: [one(rng, &NUMBERS), one(rng, &NUMBERS)],
        }
    }

    /// The same scene with the person's own facts in the slots for animal and food.
    pub(super) fn of_facts(mut self) -> Self {
        self.animal = self.person.pet;
        self.foods[0] = self.person.food;
        self
    }

    /// Fills the slots of a template.
    pub(super) fn fill(&self, template: &str) -> String {
        fill(template, |slot| self.word(slot))
    }

    pub(super) fn word(&self, slot: &str) -> &'static str {
        let gendered = |woman, man| if self.person.is_woman { woman } else { man };
        match slot {
            "N" => self.person.name,
            "B" => self.other.name,
            "she" => gendered("she", "he"),
            "She" => gendered("She", "He"),
            "her" => gendered("her", "his"),
            "Her" => gendered("Her", "His"),
            "T" => self.person.town,
            "W" => self.person.trade,
            "P" => self.place,
            "O" => self.object,
            "C" => self.colours[0],
            "E" => self.colours[1],
            "K" => self.manner,
            "ly" => self.adverb,
            "A" => self.animal,
            "F" => self.foods[0],
            "G" => self.foods[1],
            "H" => self.foods[2],
            "D" => self.day,
            "S" => self.weather,
            "U" => self.numbers[0],
            "V" => self.numbers[1],
            _ => unreachable!("templates use known slots only: a test fills them all"),
        }
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
