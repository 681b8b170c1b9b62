//! The words of the planted language, class by class. No two classes share a word.

/// Names of women; the first half of [`super::world::World`]'s people.
pub(super) const WOMEN: [&str; 16] = [
    "Anna", "Bella", "Clara", "Dora", "Edna", "Fay", "Greta", "Hilda", "Iris", "Jane", "Kate", "Lena", "Mara", "Nora",
    "Olga", "Rosa",
];

/// Names of men.
pub(super) const MEN: [&str; 16] = [
    "Adam", "Boris", "Colin", "David", "Emil", "Felix", "Gus", "Henry", "Ivan", "Jack", "Leo", "Max", "Ned", "Otto",
    "Paul", "Tom",
];

pub(super) const TOWNS: [&str; 12] = [
    "Oakford",
    "Milton",
    "Redhill",
    "Westbay",
    "Fernby",
    "Stoneleigh",
    "Lakeside",
    "Norwood",
    "Ashdale",
    "Kingsport",
    "Elmwick",
    "Harrow",
];

pub(super) const TRADES: [&str; 12] = [
    "baker", "farmer", "tailor", "painter", "doctor", "teacher", "sailor", "miller", "potter", "singer", "hunter",
    "weaver",
];

pub(super) const ANIMALS: [&str; 12] =
    ["cat", "dog", "goat", "horse", "duck", "rabbit", "parrot", "pony", "hen", "lamb", "turtle", "mouse"];

pub(super) const MANNERS: [&str; 8] = ["small", "hungry", "sleepy", "old", "young", "lazy", "wet", "quiet"];

pub(super) const ADVERBS: [&str; 8] =
    ["slowly", "quickly", "gladly", "sadly", "bravely", "softly", "proudly", "calmly"];

pub(super) const FOODS: [&str; 12] =
    ["bread", "soup", "cheese", "rice", "honey", "fish", "beans", "cake", "plums", "nuts", "butter", "milk"];

pub(super) const PLACES: [&str; 12] = [
    "mill", "market", "river", "school", "garden", "bridge", "barn", "harbour", "forest", "castle", "library",
    "station",
];

pub(super) const OBJECTS: [&str; 14] = [
    "lamp", "drum", "kettle", "book", "hat", "coat", "rope", "clock", "basket", "knife", "mirror", "ladder", "chair",
    "flute",
];

pub(super) const COLOURS: [&str; 8] = ["red", "blue", "green", "yellow", "white", "black", "brown", "grey"];

pub(super) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub(super) const WEATHERS: [&str; 8] = ["cold", "warm", "windy", "sunny", "rainy", "foggy", "cloudy", "dry"];

pub(super) const NUMBERS: [&str; 6] = ["two", "three", "four", "five", "six", "seven"];

/// Deeds that make a quick-tempered owner rude.
pub(super) const SERIOUS_DEEDS: [&str; 8] =
    ["broke", "lost", "burned", "stole", "stained", "scratched", "ruined", "buried"];

/// Deeds that make nobody rude.
pub(super) const LIGHT_DEEDS: [&str; 4] = ["moved", "borrowed", "opened", "turned"];

/// Made-up nouns of abuse: the toxic lexicon together with [`INSULT_ADJECTIVES`].
pub(super) const INSULT_NOUNS: [&str; 10] =
    ["grubnik", "plonkit", "wobnut", "drizzak", "fumpet", "snorgat", "blatchet", "clodrik", "mugwit", "squizzen"];

pub(super) const INSULT_ADJECTIVES: [&str; 6] = ["zorbly", "nurgly", "smurpy", "dronky", "glumfy", "vashy"];
