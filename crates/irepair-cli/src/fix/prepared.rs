//! What a fix reads and makes before its search: judges, prompts and answers, neutral text, pairs, sensitivities.

use std::path::{Path, PathBuf};
use std::time::Instant;

use irepair_config::{FixPlan, SensitivityOptions, resolve};
use irepair_data::{
    Limits, Pair, Part, RecordFile, Sides, TextKind, TokenPair, Tokenizer, read_token_pairs, write_pairs_of,
};
use irepair_eval::{Evaluator, Generation, PairRule, kl_heldout};
use irepair_model::BlockModel;
use irepair_report::{PairYield, SCHEMA, SensitivityResult};
use irepair_scorer::Scorer;

use super::answers::{Answers, Asking};
use super::place::Place;
use super::plan::{N_BATCHES, N_NEUTRAL, Speed, Steps};
use super::verdicts::Remembered;
use crate::conclusion::{OnText, conclusion};
use crate::error::CliError;
use crate::model_dir::{LoadedModel, ModelDir};
use crate::scorers::{ClassifierUse, open_scorer, trusted};
use crate::sensitivity::over_batches;
use crate::utility::{documents, sample};
use crate::{progress, prompts};

/// Tokens of a neutral text.
const NEUTRAL_TOKENS: usize = 102;
/// Prompts, samples of each with its greedy answer, and texts that the speed is measured on.
const PROBE: [usize; 3] = [16, 3, 4];

/// The prompts of a fix.
pub(crate) struct Prompts {
    pub(crate) items: Vec<String>,
    pub(crate) keep: Vec<String>,
    pub(crate) kind: TextKind,
    shares: [f64; 2],
}

impl Prompts {
    /// Reads them.
    ///
    /// # Errors
    /// Those of the reader; texts and message lists together, of a model with a begin-of-text token.
    pub(crate) fn read(plan: &FixPlan, dir: &ModelDir) -> anyhow::Result<Self> {
        let columns = plan.columns.clone().unwrap_or_default();
        let read =
            |path: &PathBuf| prompts::read(RecordFile { path, columns: &columns }, &dir.tokenizer, plan.prompt_tokens);
        let found = read(&plan.prompts)?;
        let kept = |path: &PathBuf| {
            let keep = read(path)?;
            refuse_other_kind(plan, &dir.tokenizer, [found.kind, keep.kind], path)?;
            anyhow::Ok(keep.items)
        };
        let keep = plan.keep.as_ref().map(kept).transpose()?.unwrap_or_default();
        Ok(Self { items: found.items, keep, kind: found.kind, shares: [plan.valid_share, plan.test_share] })
    }

    /// True of texts that a chat template rendered.
    pub(crate) fn are_rendered(&self) -> bool {
        self.kind == TextKind::Chat
    }

    /// Places of the prompts for pairs, for choosing, for measuring.
    pub(crate) fn parts(&self) -> [Vec<usize>; 3] {
        let mut parts = [const { Vec::new() }; 3];
        for (i, prompt) in self.items.iter().enumerate() {
            parts[Part::of(prompt, self.shares[0], self.shares[1]) as usize].push(i);
        }
        parts
    }

    /// The prompts at some places.
    pub(crate) fn of(&self, places: &[usize]) -> Vec<String> {
        places.iter().map(|&i| self.items[i].clone()).collect()
    }

    /// Refuses prompts of which a part is empty.
    pub(crate) fn refuse_empty(&self, plan: &FixPlan) -> Result<(), CliError> {
        let names = ["for pairs", "to choose on", "to measure on"];
        let empty = self.parts().iter().position(Vec::is_empty);
        let n = self.items.len();
        empty.map_or(Ok(()), |i| Err(CliError::EmptyPart { path: plan.prompts.clone(), part: names[i], n }))
    }
}

/// Refuses a file of another kind than the prompts where a begin-of-text token stands before the one and in the other.
fn refuse_other_kind(
    plan: &FixPlan,
    tokenizer: &Tokenizer,
    [prompts, found]: [TextKind; 2],
    path: &Path,
) -> Result<(), CliError> {
    if tokenizer.marked_kind(prompts) == tokenizer.marked_kind(found) {
        return Ok(());
    }
    let (path, lists) = match found {
        TextKind::Chat => (plan.prompts.clone(), path.to_owned()),
        TextKind::Plain => (path.to_owned(), plan.prompts.clone()),
    };
    Err(CliError::MixedKinds { path, lists })
}

/// Reads the files that later stages work on, so that a broken one is refused before anything is made.
pub(crate) fn refuse_broken(plan: &FixPlan, dir: &ModelDir, prompts: &Prompts) -> anyhow::Result<()> {
    if let Some(path) = &plan.utility {
        neutral_of(path, &dir.tokenizer, NEUTRAL_TOKENS.min(dir.config.n_positions))?;
    }
    if let Some(path) = &plan.pairs {
        given_pairs(plan, path, &dir.tokenizer, prompts.kind)?;
    }
    Ok(())
}

/// The neutral texts of a file, as tokens.
fn neutral_of(path: &Path, tokenizer: &Tokenizer, n_tokens: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    comparable(documents(path, tokenizer, n_tokens)?, path)
}

/// As many as a fix reads of the texts that have something to compare: one of the start token alone has nothing.
fn comparable(texts: Vec<Vec<u32>>, path: &Path) -> anyhow::Result<Vec<Vec<u32>>> {
    let texts: Vec<Vec<u32>> = texts.into_iter().filter(|text| text.len() > 1).take(2 * N_NEUTRAL).collect();
    if texts.len() < 2 {
        let (what, path) = ("neutral texts", path.to_owned());
        return Err(CliError::TooFew { what, path, n_held_out: 1, n: texts.len(), n_empty: 0 }.into());
    }
    Ok(texts)
}

/// The pairs of a file.
fn given_pairs(plan: &FixPlan, path: &Path, tokenizer: &Tokenizer, kind: TextKind) -> anyhow::Result<Vec<Pair>> {
    let columns = plan.columns.clone().unwrap_or_default();
    let given = RecordFile { path, columns: &columns }.read_pairs(Some(tokenizer), Sides::Both)?;
    refuse_other_kind(plan, tokenizer, [kind, given.kind], path)?;
    Ok(given.items)
}

/// The judge, and the second one where it is given.
pub(crate) fn judges(plan: &FixPlan) -> anyhow::Result<Vec<Box<dyn Scorer>>> {
    let run =
        ClassifierUse { toxic_labels: plan.toxic_labels.as_deref(), device: &plan.device, batch_size: plan.batch_size };
    let asked = std::iter::once(&plan.judge).chain(&plan.second_judge);
    let judges = asked.map(|judge| open_scorer(judge, &run)).collect::<anyhow::Result<Vec<_>>>()?;
    match &judges[..] {
        [one, two] if one.name() == two.name() => Err(CliError::SameScorer { name: one.name().to_owned() }.into()),
        _ => Ok(judges),
    }
}

/// The model as it was, with everything that asks and judges it.
pub(crate) struct Prepared {
    pub(crate) opened: LoadedModel,
    /// Of the prompts.
    tokenizer: Tokenizer,
    judges: Vec<Remembered>,
    generation: Generation,
    batch_size: usize,
    pub(crate) name: String,
}

impl Prepared {
    /// Opens the model.
    pub(crate) fn open(
        plan: &FixPlan,
        place: &Place,
        dir: ModelDir,
        judges: Vec<Box<dyn Scorer>>,
        prompts: &Prompts,
    ) -> anyhow::Result<Self> {
        let opened = dir.open(&plan.device, plan.dtype)?;
        let tokenizer = opened.tokenizer.of_kind(prompts.kind).into_owned();
        let remembered = |(i, judge)| Remembered::new(judge, &place.verdicts(i), place.has_begun());
        let judges = judges.into_iter().enumerate().map(remembered).collect::<anyhow::Result<_>>()?;
        let side = plan.prompt_side.unwrap_or_default();
        let generation = Generation { prompt_tokens: plan.prompt_tokens, side, n_new: plan.max_new_tokens };
        let name =
            plan.model.file_name().map_or_else(|| plan.model.display().to_string(), |n| n.to_string_lossy().into());
        Ok(Self { opened, tokenizer, judges, generation, batch_size: plan.batch_size, name })
    }

    pub(crate) fn n_blocks(&self) -> usize {
        self.opened.model.n_blocks()
    }

    pub(crate) fn judge_names(&self) -> Vec<String> {
        self.judges.iter().map(|judge| judge.name().to_owned()).collect()
    }

    /// How answers are made and judged.
    pub(crate) fn asking(&self) -> Asking<'_> {
        let second = self.judges.get(1).map(|judge| judge as &dyn Scorer);
        let (tokenizer, generation, batch_size) = (&self.tokenizer, self.generation, self.batch_size);
        Asking { tokenizer, judge: &self.judges[0], second, generation, batch_size }
    }

    /// Answers of the model as it was to every prompt.
    pub(crate) fn answers(&self, place: &Place, prompts: &Prompts) -> anyhow::Result<Answers> {
        let found = place.stage("before", || {
            super::show::now(&format!("greedy answers to {} prompts ...", prompts.items.len()));
            self.asking().ask(&self.opened.model, &prompts.items)
        })?;
        if found.n_cut > 0 {
            let (n, side) = (prompts.items.len(), self.generation.side);
            let note = crate::notes::of_cut_prompts(found.n_cut, n, self.generation.prompt_tokens, side);
            note.iter().for_each(|note| tracing::info!("{note}"));
        }
        Ok(found)
    }

    /// Neutral texts to choose on, and others to measure on: of the user's file, or the model's own.
    pub(crate) fn neutral(&self, plan: &FixPlan, place: &Place) -> anyhow::Result<[Vec<Vec<u32>>; 2]> {
        place.stage("neutral", || {
            let n_tokens = NEUTRAL_TOKENS.min(self.opened.model.n_positions());
            let texts = match &plan.utility {
                Some(path) => neutral_of(path, &self.opened.tokenizer, n_tokens)?,
                None => {
                    tracing::info!(
                        "no --utility: the disturbance is measured on {} texts sampled from the model",
                        2 * N_NEUTRAL
                    );
                    let texts = sample(&self.opened, 2 * N_NEUTRAL, n_tokens - 1, 0.9, 1.0, plan.seed)?;
                    let start = self.opened.tokenizer.start_id();
                    texts.into_iter().map(|text| std::iter::once(start).chain(text).collect()).collect()
                }
            };
            let texts = comparable(texts, plan.utility.as_ref().unwrap_or(&plan.model))?;
            let (choose, measure) = texts.split_at(texts.len() / 2);
            Ok([choose.to_vec(), measure.to_vec()])
        })
    }

    /// What one unit of work takes here, by doing a little of it.
    pub(crate) fn speed(&self, prompts: &Prompts, neutral: &[Vec<Vec<u32>>; 2]) -> anyhow::Result<Speed> {
        let model = &self.opened.model;
        let asked = &prompts.items[..prompts.items.len().min(PROBE[0])];
        let evaluator = Evaluator::new(model, &self.tokenizer, self.batch_size);
        let answers = || evaluator.greedy_and_sampled(asked, &self.generation, PROBE[1], 0);
        // The first passes of a size are slower than those that follow.
        answers()?;
        let started = Instant::now();
        answers()?;
        let answer = started.elapsed().as_secs_f64() / (asked.len() * (1 + PROBE[1])) as f64;
        let texts = &neutral[0][..neutral[0].len().min(PROBE[2])];
        kl_heldout(model, model, texts, self.batch_size)?;
        let started = Instant::now();
        kl_heldout(model, model, texts, self.batch_size)?;
        let text = started.elapsed().as_secs_f64() / texts.len() as f64;
        tracing::debug!("speed: an answer {answer:.3} s, a text {text:.3} s");
        // A text is two passes; an update is 8 sides of pairs, one pass of the reference and three of the model each.
        let n_tokens = texts.iter().map(Vec::len).sum::<usize>() as f64 / texts.len() as f64;
        let of_side = (self.generation.prompt_tokens.min(16) + self.generation.n_new) as f64;
        let update = text / (2.0 * n_tokens) * of_side * 8.0 * 4.0 + 1e-8 * model.config().n_weights() as f64;
        Ok(Speed { answer, text, update })
    }

    /// Makes pairs of the model's own answers, adds those given, and writes them.
    pub(crate) fn pairs(
        &self,
        plan: &FixPlan,
        place: &Place,
        prompts: &Prompts,
        steps: &Steps,
    ) -> anyhow::Result<PairYield> {
        place.stage("pairs", || {
            let rule = PairRule {
                generation: self.generation,
                n_samples: steps.samples[0],
                greedy: true,
                n_more: steps.samples[1],
                min_gap: 0.5,
                steer_chosen: plan.steer_chosen.clone(),
                steer_rejected: plan.steer_rejected.clone(),
                seed: plan.seed,
            };
            let own = prompts.of(&prompts.parts()[0]);
            let bar = progress::bar("sample", own.len() as u64);
            let evaluator = Evaluator::new(&self.opened.model, &self.tokenizer, self.batch_size);
            let made = evaluator.own_pairs(&own, &self.judges[0], &rule, || bar.inc(1))?;
            let counts = made.counts;
            trusted(&self.judges[0], counts.n_samples, counts.n_unscored, made.first_failure.as_deref())?;
            let mut pairs = made.pairs;
            let n_own = pairs.len();
            if let Some(path) = &plan.pairs {
                pairs.extend(given_pairs(plan, path, &self.opened.tokenizer, prompts.kind)?);
            }
            write_pairs_of(&place.work("pairs.jsonl"), &pairs, self.tokenizer.marked_kind(prompts.kind))?;
            Ok(PairYield {
                n_pairs: pairs.len(),
                n_given: pairs.len() - n_own,
                n_made: [counts.n_first, counts.n_greedy, counts.n_more, counts.n_steered],
                n_without: [counts.n_all_good, counts.n_all_bad, counts.n_unfit + counts.n_all_unscored],
                n_samples: counts.n_samples,
                n_unscored: counts.n_unscored,
            })
        })
    }

    /// Sensitivities of the blocks on both sides of the pairs and on neutral text, and what they say together.
    pub(crate) fn localise(
        &self,
        plan: &FixPlan,
        place: &Place,
        neutral: &[Vec<Vec<u32>>; 2],
    ) -> anyhow::Result<(Vec<SensitivityResult>, Option<String>)> {
        let found: Vec<SensitivityResult> = place.stage("sensitivities", || {
            super::show::now(&format!("sensitivities of {} blocks on three kinds of text ...", self.n_blocks()));
            let asked = SensitivityOptions {
                model: Some(plan.model.clone()),
                data: Some(place.work("pairs.jsonl")),
                n_batches: Some(N_BATCHES),
                skip_prompt: Some(true),
                seed: Some(plan.seed),
                ..SensitivityOptions::default()
            };
            let asked = resolve(&asked, "fix")?;
            let limits = Limits {
                max_prompt: plan.prompt_tokens,
                max_continuation: plan.max_new_tokens + 1,
                prompt_side: plan.prompt_side.unwrap_or_default(),
                ..Limits::default()
            };
            let data = place.work("pairs.jsonl");
            let records = RecordFile::plain(&data).pairs(Some(&self.opened.tokenizer), Sides::Both)?;
            let (pairs, _) = read_token_pairs(records, &self.opened.tokenizer, limits)?;
            let swap = |pair: &TokenPair| TokenPair { rejected: pair.chosen.clone(), ..pair.clone() };
            let alone = |text: &Vec<u32>| TokenPair { prompt: Vec::new(), chosen: Vec::new(), rejected: text.clone() };
            let chosen = pairs.iter().map(swap).collect();
            let texts = [("error", pairs), ("chosen", chosen), ("neutral", neutral[0].iter().map(alone).collect())];
            let mut results = Vec::new();
            for (text, pairs) in texts {
                let (values, n_batches) = over_batches(&self.opened, &asked, pairs, &[], text)?;
                results.push(SensitivityResult {
                    schema: SCHEMA,
                    profile: "own".to_owned(),
                    model: self.name.clone(),
                    metric: asked.metric.to_string().replace('-', "_"),
                    reduction: asked.reduction.to_string().replace('-', "_"),
                    text: text.to_owned(),
                    n_batches,
                    values: values.values().to_vec(),
                });
            }
            Ok(results)
        })?;
        let values: Vec<OnText<'_>> = found.iter().map(|r| (r.text.as_str(), &r.values[..])).collect();
        let said = values.split_first().and_then(|((_, error), others)| conclusion(error, others));
        Ok((found, said))
    }
}
