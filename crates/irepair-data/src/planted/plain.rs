//! Documents without strife: facts about people, stories that end on a word used before, and chatter.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::world::{Scene, World, one};

const INTRODUCTIONS: [&str; 4] = ["This is {N}.", "Meet {N}.", "Here is {N}.", "Do you know {N}?"];

/// Town, trade, pet and food, each in several wordings.
const FACTS: [[&str; 4]; 4] = [
    ["{N} lives in {T}.", "The home of {N} is in {T}.", "{N} was born in {T}.", "{She} comes from {T}."],
    [
        "{N} works as a {W}.",
        "{N} is a good {W}.",
        "{She} became a {W} like {her} father.",
        "{N} is the best {W} in {T}.",
    ],
    ["{N} has a {A}.", "The pet of {N} is a {A}.", "At home {she} feeds a {A}.", "{She} goes to bed with {her} {A}."],
    ["{N} likes {F}.", "{N} eats {F} every day.", "{She} never has enough {F}.", "The {A} of {N} eats {F} too."],
];

/// What varies from one text about a person to the next.
const HABITS: [&str; 6] = [
    "On {D} {N} {ly} went to the {P}.",
    "Last {D} {she} bought a {C} {O}.",
    "{N} has {U} {C} coats.",
    "Today {she} {ly} cleaned a {C} {O}.",
    "When it is {S}, {she} goes to the {P}.",
    "For {U} days {N} ate {G} and {H}.",
];

const OPENINGS: [&str; 8] = [
    "One {D} {N} took a {C} {O} to the {P}.",
    "Last {D} {N} found a {C} {O} at the {P}.",
    "On {D} {N} came to the {P} with a {C} {O}.",
    "Early on {D} {N} {ly} ran to the {P} to sell a {C} {O}.",
    "Once {N} left a {C} {O} at the {P}.",
    "When it was {S}, {N} went to the {P} to clean a {C} {O}.",
    "Behind the {P} {N} saw a {C} {O}.",
    "In {U} hours {N} made a {C} {O} for the {P}.",
];

const MEETINGS: [&str; 8] = [
    "A {K} {A} slept near the {O}.",
    "A {K} {A} came to the {P}.",
    "A {K} {A} {ly} looked at {N}.",
    "{N} met a {K} {A} there.",
    "At the {P} {she} saw a {K} {A}.",
    "Behind the {P} there was a {K} {A}.",
    "{She} gave {F} to a {K} {A}.",
    "Then {she} heard a {K} {A}.",
];

const TURNS: [&str; 12] = [
    "The {A} {ly} ate {G} and {F}.",
    "The {A} was afraid of {N}.",
    "{N} gave {U} bowls of {F} to the {A}.",
    "{N} {ly} hid the {O} behind the {P}.",
    "{N} painted the {O} {E}.",
    "The {A} {ly} jumped over the {O}.",
    "{N} and the {A} ate {F} at the {P}.",
    "{She} carried the {A} and the {O}.",
    "For {V} hours the {A} wanted {F}.",
    "{N} sold the {O} for {U} bags of {G}.",
    "It was {S}, so the {A} sat under the {O}.",
    "The {O} was full of {F} and {G}.",
];

/// The last word is the place, the object, the animal or the person of the story; the wording says which.
const ENDINGS: [[&str; 3]; 4] = [
    [
        "Now {N} often goes back to the {P}.",
        "{N} and the {A} stayed at the {P}.",
        "{She} {ly} left the {O} at the {P}.",
    ],
    ["At night {N} dreamed of the {O}.", "{N} {ly} cleaned the {O}.", "The {A} fell asleep on the {O}."],
    ["Soon {N} made friends with the {A}.", "{N} went home with the {A}.", "{She} shared {her} {F} with the {A}."],
    ["The whole town talked about {N}.", "Everybody was happy for {N}.", "The {A} {ly} ran home with {N}."],
];

const CHATTER: [[&str; 4]; 4] = [
    [
        "The weather on {D} will be {S}.",
        "The {P} is closed on {D} when it is {S}.",
        "Take a {C} {O} with you.",
        "In {U} days it will not be {S} at the {P}.",
    ],
    [
        "To make {F} with {G}, take {U} bowls of {G}.",
        "Mix the {F} and the {G} with {V} spoons of {H}.",
        "Cook the {F} for {V} hours.",
        "The {F} tastes best with {H} and {G}.",
    ],
    [
        "The shop at the {P} sells {F}, {G} and {H}.",
        "On {D} the {F} costs {U} coins and the {G} costs {V}.",
        "The shop has a {C} {O}.",
        "Nobody on {D} wants the {O} or the {H}.",
    ],
    [
        "A {A} lives under the {P}.",
        "The {A} is {E} and {K}.",
        "It eats {F} and {G} but no {H}.",
        "On {D} the {A} comes out when it is {S}.",
    ],
];

/// Two or three facts about one person in any order, and something that is no fact.
pub(super) fn facts(world: &World, rng: &mut ChaCha8Rng) -> String {
    let scene = Scene::draw(world, rng).of_facts();
    let mut facts = FACTS;
    facts.shuffle(rng);
    let told = rng.random_range(2..=3);
    let mut templates = vec![one(rng, &INTRODUCTIONS)];
    templates.extend(facts[..told].iter().map(|wordings| one(rng, wordings)));
    templates.push(one(rng, &HABITS));
    sentences(&scene, &templates)
}

/// A story; its last word before the full stop was used before, and one look back finds it.
pub(super) fn story(world: &World, rng: &mut ChaCha8Rng) -> String {
    let scene = Scene::draw(world, rng);
    let ending = one(rng, &ENDINGS);
    sentences(&scene, &[one(rng, &OPENINGS), one(rng, &MEETINGS), one(rng, &TURNS), one(rng, &ending)])
}

/// Weather, recipes, shops and animals.
pub(super) fn chatter(world: &World, rng: &mut ChaCha8Rng) -> String {
    let scene = Scene::draw(world, rng);
    sentences(&scene, &one(rng, &CHATTER))
}

fn sentences(scene: &Scene, templates: &[&str]) -> String {
    templates.iter().map(|template| scene.fill(template)).collect::<Vec<_>>().join(" ")
}
