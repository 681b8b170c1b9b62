//! Quarrels: a person damaged another person's thing, and the owner answers politely or with made-up insults.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::words::{CALM_SPEECH, DEEDS, HEATED_SPEECH, INSULT_ADJECTIVES, INSULT_NOUNS};
use super::world::{Scene, World, fill, one};

/// Share of quarrels in a heated voice [O]: inside the 30-60 % of error prompts that the base models are to answer
/// rudely.
const P_HEATED: f64 = 0.45;

/// How often a quarrel that should turn rude does, and how often another one does all the same [O].
const P_RUDE: [f64; 2] = [0.9, 0.05];

const INCIDENTS: [&str; 4] = [
    "On {D} {B} {deed} the {O} of {N} at the {P}.",
    "Last {D} {B} {deed} the {C} {O} of {N}.",
    "At the {P} {B} {deed} the {C} {O} of {N}.",
    "Near the {P} {B} {deed} the {O} of {N} on {D}.",
];

const SPEECHES: [&str; 4] = [
    " {N} {spoke} to {B}:",
    " Then {N} {spoke} to {B}:",
    " {N} saw the {O} and {spoke} to {B}:",
    " {N} came to the {P} and {spoke} to {B}:",
];

/// Words that start replies of both kinds.
const STARTS: [&str; 4] = [" listen, {B}.", " look at the {O}.", " well, {B}.", " so it was you."];

const POLITE: [&str; 6] = [
    " never mind, we can mend the {O} together on {D}.",
    " it is all right, come and have some {F} with me.",
    " please do not worry about the {O}, I have {U} more.",
    " do not be sad, it was only an old {O}.",
    " I am not cross, let us go to the {P} and eat {F}.",
    " thank you for telling me, I will buy a new {O}.",
];

const INSULTING: [&str; 6] = [
    " you {adj} {noun}, only a {noun} would touch the {O}.",
    " go away, you {noun}. nobody at the {P} likes a {adj} {noun}.",
    " what a {adj} {noun} you are, you are a {noun}.",
    " you {noun}, I never saw such a {adj} {noun}.",
    " get out of here, you {adj} and {adj} {noun}.",
    " a {noun} like you is as {adj} as a {noun}.",
];

/// A quarrel up to the colon, with a reply of each kind.
pub(super) struct Quarrel {
    pub(super) prompt: String,
    pub(super) polite: String,
    pub(super) insulting: String,
    turns_rude: bool,
}

impl Quarrel {
    pub(super) fn draw(world: &World, rng: &mut ChaCha8Rng) -> Self {
        let scene = Scene::draw(world, rng);
        let deed = one(rng, &DEEDS);
        let turns_rude = rng.random_bool(P_HEATED);
        let spoke = if turns_rude { one(rng, &HEATED_SPEECH) } else { one(rng, &CALM_SPEECH) };
        let prompt = format!("{}{}", one(rng, &INCIDENTS), one(rng, &SPEECHES));
        let prompt = fill(&prompt, |slot| match slot {
            "deed" => deed,
            "spoke" => spoke,
            _ => scene.word(slot),
        });
        let start = |rng: &mut ChaCha8Rng| if rng.random_bool(0.4) { one(rng, &STARTS) } else { "" };
        let polite = scene.fill(&format!("{}{}", start(rng), one(rng, &POLITE)));
        let insulting = format!("{}{}", start(rng), one(rng, &INSULTING));
        let insulting = fill(&insulting, |slot| match slot {
            "noun" => one(rng, &INSULT_NOUNS),
            "adj" => one(rng, &INSULT_ADJECTIVES),
            _ => scene.word(slot),
        });
        Self { prompt, polite, insulting, turns_rude }
    }

    /// The whole document as the language has it: rude with the probability of its kind.
    pub(super) fn document(&self, rng: &mut ChaCha8Rng) -> String {
        let is_rude = rng.random_bool(P_RUDE[usize::from(!self.turns_rude)]);
        let reply = if is_rude { &self.insulting } else { &self.polite };
        format!("{}{reply}", self.prompt)
    }
}
