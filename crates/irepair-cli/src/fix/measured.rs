//! The chosen point: its weights as files, what they are like on prompts and texts that chose nothing, and the patch.

use std::path::{Path, PathBuf};

use irepair_config::FixPlan;
use irepair_core::fs::{list, remove, sha256_file, write_atomic_with};
use irepair_eval::{kl_heldout, texts_perplexity};
use irepair_model::{BlockModel as _, CausalLm};
use irepair_patch::{Kind, Provenance};
use irepair_report::{FixMeasured, FixPoint, FixSample, KeptAnswers};

use super::answers::Answers;
use super::failures::{Failures, More, rate};
use super::place::Place;
use super::prepared::{Prepared, Prompts};
use super::search::kept;
use super::{MODEL, PATCH};
use crate::kept::KeptWeights;
use crate::model_dir::open;

/// Before-and-after texts in the result.
const N_SAMPLES: usize = 20;

/// The chosen point of a fix.
pub(crate) struct Chosen<'a> {
    pub(crate) point: &'a FixPoint,
    pub(crate) place: &'a Place,
    pub(crate) plan: &'a FixPlan,
}

/// Writes the chosen weights as a model directory in the work; returns it.
pub(crate) fn save(chosen: &Chosen<'_>, prepared: &Prepared) -> anyhow::Result<PathBuf> {
    let Chosen { point, place, plan } = chosen;
    let dir = place.work(&format!("chosen-{}-{}", point.preset, point.step));
    if dir.join("config.json").exists() {
        return Ok(dir);
    }
    let base = &prepared.opened.model;
    let (model, _) = CausalLm::load(&plan.model, base.device(), base.kind())?;
    KeptWeights::new(kept(plan.budget_kl), &place.run(&point.preset)).apply(point.step, base, &model)?;
    model.round_to_stored(plan.seed)?;
    model.save(&dir)?;
    Ok(dir)
}

/// What the model as it was does on test prompts.
pub(crate) struct Before<'a> {
    /// Failures of several answers to the test prompts.
    pub(crate) failures: &'a Failures,
    /// How they were asked for.
    pub(crate) more: More,
}

/// Measures the saved files, as a user would load them.
pub(crate) fn measure(
    chosen: &Chosen<'_>,
    prepared: &Prepared,
    prompts: &Prompts,
    before: Before<'_>,
    neutral: &[Vec<u32>],
    saved: &Path,
) -> anyhow::Result<FixMeasured> {
    let Chosen { point, place, plan } = chosen;
    place.stage(&Place::measuring(&point.preset, point.step), || {
        let n_test = prompts.parts()[2].len();
        super::show::now(&format!("measuring the saved model on {n_test} prompts and neutral text ..."));
        let base = &prepared.opened.model;
        let after_model = super::quietly(|| open(saved, &plan.device, plan.dtype))?;
        let model = &after_model.model;
        let asking = prepared.asking();
        let test = &prompts.parts()[2];
        let items = prompts.of(test);
        let failures = asking.failures(model, &items, before.more, true)?;
        let mut lost = failures.form.lost(&before.failures.form);
        let (judged, second) = before.failures.change(&failures);
        let (before, after) = (&before.failures.greedy, &failures.greedy);
        let kl = kl_heldout(base, model, neutral, plan.batch_size)?.metric;
        let fine: Vec<Option<f64>> =
            (0..test.len()).filter(|&i| before.fails(i) == Some(false)).map(|i| after.scores[i]).collect();
        let unchanged = |keep: &Vec<String>| {
            let (was, is) = (asking.ask(base, keep)?, asking.ask(model, keep)?);
            let n_same = was.texts.iter().zip(&is.texts).filter(|(was, is)| was == is).count();
            anyhow::Ok(KeptAnswers { n: keep.len(), n_same, after: is.texts })
        };
        let kept = (!prompts.keep.is_empty()).then(|| unchanged(&prompts.keep)).transpose()?;
        let perplexity = |model: &CausalLm| anyhow::Ok(texts_perplexity(model, neutral, plan.batch_size)?.value);
        let perplexity = [perplexity(base)?, perplexity(model)?];
        for what in after.form().lost(&before.form()) {
            if !lost.contains(&what) {
                lost.push(what);
            }
        }
        Ok(FixMeasured {
            judged,
            second,
            kl: kl.value,
            kl_tokens: kl.n,
            perplexity,
            fine: rate(&fine, 1),
            kept,
            form: [before.form(), after.form()],
            passes: lost.is_empty(),
            lost: lost.into_iter().map(str::to_owned).collect(),
            samples: samples(&items, before, after),
        })
    })
}

/// Puts the saved model and its patch in their places, or takes what stands there away where nothing was gained.
pub(crate) fn settle(chosen: &Chosen<'_>, saved: &Path, written: bool) -> anyhow::Result<()> {
    let Chosen { point, place, plan } = chosen;
    let (model, patch) = (place.result(MODEL), place.result(PATCH));
    remove(&patch)?;
    let suite = place.result(super::SUITE);
    if suite.exists() {
        std::fs::remove_dir_all(&suite)?;
    }
    if model.exists() {
        // A model without this file is not whole.
        remove(&model.join("config.json"))?;
        std::fs::remove_dir_all(&model)?;
    }
    if !written {
        return Ok(());
    }
    // Copied and not moved: a later choice may come back to this point.
    copy_model(saved, &model)?;
    let provenance = Provenance {
        method: Some(point.preset.clone()),
        config_sha256: Some(sha256_file(&place.result(super::SETTINGS))?),
        seed: Some(plan.seed),
        ..Provenance::default()
    };
    irepair_patch::create(&plan.model, &model, Kind::Xor, provenance, &patch)?;
    Ok(())
}

/// Copies a model directory byte for byte; its `config.json` last, so that a directory with one is whole.
fn copy_model(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copy = |path: PathBuf| -> anyhow::Result<()> {
        let place = to.join(path.strip_prefix(from).unwrap_or(&path));
        let mut source = irepair_core::fs::open(&path)?;
        Ok(write_atomic_with(&place, |file| std::io::copy(&mut source, file).map(|_| ()))?)
    };
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = list(from)?.into_iter().partition(|path| path.is_dir());
    let (config, files): (Vec<PathBuf>, Vec<PathBuf>) =
        files.into_iter().partition(|path| path.ends_with("config.json"));
    for folder in folders {
        list(&folder)?.into_iter().try_for_each(copy)?;
    }
    files.into_iter().chain(config).try_for_each(copy)
}

/// Test prompts with their answers: those that failed before first.
fn samples(prompts: &[String], before: &Answers, after: &Answers) -> Vec<FixSample> {
    let mut places: Vec<usize> = (0..prompts.len()).collect();
    places.sort_by_key(|&i| (before.fails(i) != Some(true), i));
    let of = |i: usize| FixSample {
        prompt: prompts[i].clone(),
        before: before.texts[i].clone(),
        after: after.texts[i].clone(),
        fails: [before.fails(i), after.fails(i)],
    };
    places.into_iter().take(N_SAMPLES).map(of).collect()
}
