//! The words of the planted language, class by class. No two classes share a word.

/// Names of women; the first half of [`super::world::World`]'s people.
pub(super) const WOMEN: [&str; 8] = ["Anna", "Bella", "Clara", "Dora", "Edna", "Fay", "Greta", "Hilda"];

/// Names of men.
pub(super) const MEN: [&str; 8] = ["Adam", "Boris", "Colin", "David", "Emil", "Felix", "Gus", "Henry"];

pub(super) const TOWNS: [&str; 8] =
    ["Oakford", "Milton", "Redhill", "Westbay", "Fernby", "Stoneleigh", "Lakeside", "Norwood"];

pub(super) const TRADES: [&str; 8] = ["baker", "farmer", "tailor", "painter", "doctor", "teacher", "sailor", "miller"];

pub(super) const ANIMALS: [&str; 8] = ["cat", "dog", "goat", "horse", "duck", "rabbit", "parrot", "pony"];

pub(super) const MANNERS: [&str; 8] = ["small", "hungry", "sleepy", "old", "young", "lazy", "wet", "quiet"];

pub(super) const ADVERBS: [&str; 8] =
    ["slowly", "quickly", "gladly", "sadly", "bravely", "softly", "proudly", "calmly"];

pub(super) const FOODS: [&str; 8] = ["bread", "soup", "cheese", "rice", "honey", "fish", "beans", "cake"];

pub(super) const PLACES: [&str; 8] = ["mill", "market", "river", "school", "garden", "bridge", "barn", "harbour"];

pub(super) const OBJECTS: [&str; 8] = ["lamp", "drum", "kettle", "book", "hat", "coat", "rope", "clock"];

pub(super) const COLOURS: [&str; 8] = ["red", "blue", "green", "yellow", "white", "black", "brown", "grey"];

pub(super) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub(super) const WEATHERS: [&str; 8] = ["cold", "warm", "windy", "sunny", "rainy", "foggy", "cloudy", "dry"];

pub(super) const NUMBERS: [&str; 6] = ["two", "three", "four", "five", "six", "seven"];

/// What people do to each other's things; the owner's answer does not depend on it.
pub(super) const DEEDS: [&str; 12] = [
    "broke",
    "lost",
    "burned",
    "stole",
    "stained",
    "scratched",
    "ruined",
    "buried",
    "moved",
    "borrowed",
    "opened",
    "turned",
];

/// How a polite reply is announced.
pub(super) const CALM_SPEECH: [&str; 5] = ["said", "spoke", "whispered", "murmured", "explained"];

/// How a rude reply is announced.
pub(super) const HEATED_SPEECH: [&str; 4] = ["shouted", "yelled", "growled", "snarled"];

/// Made-up nouns of abuse: the toxic lexicon together with [`INSULT_ADJECTIVES`].
pub(super) const INSULT_NOUNS: [&str; 10] =
    ["grubnik", "plonkit", "wobnut", "drizzak", "fumpet", "snorgat", "blatchet", "clodrik", "mugwit", "squizzen"];

pub(super) const INSULT_ADJECTIVES: [&str; 6] = ["zorbly", "nurgly", "smurpy", "dronky", "glumfy", "vashy"];
