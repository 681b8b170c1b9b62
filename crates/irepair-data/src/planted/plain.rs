//! Documents without strife: facts about people, stories that end on a word told before, and chatter.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::world::{Scene, World, one, one_of};

const INTRODUCTIONS: [&str; 3] = ["This is {N}.", "Meet {N}.", "Here is {N}."];

/// Town, trade, pet and food, each in three wordings.
const FACTS: [[&str; 3]; 4] = [
    ["{She} lives in {T}.", "{Her} home is in {T}.", "{She} was born in {T}."],
    ["{She} works as a {W}.", "{Her} father was a {W} and so is {she}.", "{She} is a good {W}."],
    ["{She} has a {A}.", "{Her} pet is a {A}.", "At home {she} feeds a {A}."],
    ["{She} likes {F}.", "{She} eats {F} every day.", "{Her} favourite food is {F}."],
];

const OPENINGS: [&str; 4] = [
    "One {D} {N} walked to the {P}.",
    "Last {D} {N} came to the {P}.",
    "On {D} {N} was alone at the {P}.",
    "Early on {D} {N} ran to the {P}.",
];

const ASIDES: [&str; 4] = ["It was {S}.", "The air was {S}.", "{She} was tired.", "{She} was in no hurry."];

const FINDS: [&str; 4] = [
    "There {she} found a {C} {O}.",
    "{She} saw a {C} {O} on the ground.",
    "Somebody had left a {C} {O} there.",
    "{She} sat down on a {C} {O}.",
];

const MEETINGS: [&str; 4] = [
    "A {A} slept near the {O}.",
    "A little {A} came out from under the {O}.",
    "Then a {A} came by.",
    "A hungry {A} looked at {N}.",
];

/// The last word is the place, the object, the animal or the person of the story; the wording says which.
const ENDINGS: [[&str; 2]; 4] = [
    ["Now {she} often goes back to the {P}.", "{She} stayed all day at the {P}."],
    ["At night {she} dreamed of the {O}.", "{She} went home and cleaned the {O}."],
    ["Soon {she} made friends with the {A}.", "{She} shared {her} {F} with the {A}."],
    ["The whole town talked about {N}.", "Everybody was happy for {N}."],
];

const CHATTER: [[&str; 4]; 3] = [
    [
        "The weather on {D} will be {S}.",
        "Take a {C} coat when you go to the {P}.",
        "In {U} days it will be dry again.",
        "The {P} is closed when it is {S}.",
    ],
    [
        "To make {F} with {G}, take {U} bowls of {G} and {V} spoons of {H}.",
        "Mix the {F} and the {G} well.",
        "Cook it for {V} hours.",
        "It tastes best with {H}.",
    ],
    [
        "The shop at the {P} sells {F}, {G} and {H}.",
        "It opens on {D}.",
        "A {O} costs {U} coins and a {A} costs {V}.",
        "The {C} {O} is already sold.",
    ],
];

/// Three or four facts about one person, in any order.
pub(super) fn facts(world: &World, rng: &mut ChaCha8Rng) -> String {
    let scene = Scene::draw(world, rng).of_facts();
    let mut facts = FACTS;
    facts.shuffle(rng);
    let n = rng.random_range(3..=facts.len());
    let templates = [one(rng, &INTRODUCTIONS)].into_iter().chain(facts[..n].iter().map(|wordings| one(rng, wordings)));
    sentences(&scene, &templates.collect::<Vec<_>>())
}

/// A story; its last word before the full stop was told before, and one look back finds it.
pub(super) fn story(world: &World, rng: &mut ChaCha8Rng) -> String {
    let scene = Scene::draw(world, rng);
    let mut templates = vec![one(rng, &OPENINGS)];
    if rng.random_bool(0.5) {
        templates.push(one(rng, &ASIDES));
    }
    templates.extend([one(rng, &FINDS), one(rng, &MEETINGS)]);
    templates.push(one(rng, one_of(rng, &ENDINGS)));
    sentences(&scene, &templates)
}

/// Weather, recipes and shops.
pub(super) fn chatter(world: &World, rng: &mut ChaCha8Rng) -> String {
    let scene = Scene::draw(world, rng);
    sentences(&scene, one_of(rng, &CHATTER))
}

fn sentences(scene: &Scene, templates: &[&str]) -> String {
    templates.iter().map(|template| scene.fill(template)).collect::<Vec<_>>().join(" ")
}
