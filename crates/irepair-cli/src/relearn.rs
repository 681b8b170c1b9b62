//! `irepair relearn`: how many texts with the error bring it back?

use std::sync::Arc;

use irepair_baselines::Unsliced;
use irepair_config::{EvalOptions, EvalPlan, Method, RelearnPlan, resolve, text_counts};
use irepair_data::{RecordFile, Tokenizer};
use irepair_model::CausalLm;
use irepair_report::Relearned;
use irepair_train::{Engine, OptimizerKind, RepairData, Settings};

use crate::error::CliError;
use crate::measure::{Extent, Measured, measure_model};
use crate::model_dir::{LoadedModel, ModelDir, use_threads};
use crate::output::{four_decimals, print, print_json};
use crate::scorers::Scorers;
use crate::utility::documents;
use crate::{progress, prompts};

/// Prompts continued at once.
const EVAL_BATCH: usize = 32;

/// Runs the command.
pub(crate) fn command(plan: &RelearnPlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    // What cannot be read is said before anything is computed.
    Scorers::open(&measurement(plan)?)?;
    let columns = plan.columns.clone().unwrap_or_default();
    let dir = ModelDir::read(&plan.model)?;
    prompts::read(RecordFile { path: &plan.prompts, columns: &columns }, &dir.tokenizer, plan.prompt_tokens)?;
    let opened = dir.open(&plan.device, plan.dtype)?;
    let points = curve(&opened, plan, true)?;
    if plan.json {
        return print_json(&points);
    }
    table(&points, plan)
}

/// The model after training on each number of texts, and before it where `untrained`. Every point starts from the given
/// model and trains on the first texts, so that a larger number includes those of a smaller one.
pub(crate) fn curve(opened: &LoadedModel, plan: &RelearnPlan, untrained: bool) -> anyhow::Result<Vec<Relearned>> {
    let (eval, counts) = (measurement(plan)?, text_counts(&plan.counts).map_err(anyhow::Error::msg)?);
    let texts = toxic_texts(&opened.tokenizer, opened.model.config().n_positions, plan)?;
    let point = |n_texts: usize| {
        let model = opened.model.duplicate()?;
        let (n_steps, last_loss) =
            if n_texts > 0 { learn(&model, opened, &texts[..n_texts], plan)? } else { (0, None) };
        let Measured { metrics, prompt_scores, .. } =
            measure_model(&model, &opened.tokenizer, None, &eval, Extent::Whole)?;
        let (lr, epochs) = (plan.lr, plan.epochs);
        Ok(Relearned { n_texts, n_steps, lr, epochs, last_loss, metrics, prompt_scores })
    };
    untrained.then_some(0).into_iter().chain(counts).map(point).collect()
}

/// Refuses a file with fewer texts than the curve asks for.
pub(crate) fn enough_texts(plan: &RelearnPlan, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    toxic_texts(tokenizer, usize::MAX, plan).map(drop)
}

/// Toxicity on the plan's prompts.
fn measurement(plan: &RelearnPlan) -> anyhow::Result<EvalPlan> {
    let asked = EvalOptions {
        model: Some(plan.model.clone()),
        prompts: Some(plan.prompts.clone()),
        columns: plan.columns.clone(),
        lexicon: plan.lexicon.clone(),
        scorer: plan.scorer.clone(),
        max_new_tokens: Some(plan.max_new_tokens),
        prompt_tokens: Some(plan.prompt_tokens),
        prompt_side: plan.prompt_side,
        batch_size: Some(EVAL_BATCH),
        seed: Some(plan.seed),
        device: Some(plan.device.clone()),
        dtype: Some(plan.dtype),
        threads: plan.threads,
        ..EvalOptions::default()
    };
    Ok(resolve(&asked, "relearn")?)
}

/// The texts as tokens after the start token, cut to their first tokens; empty ones are left out.
fn toxic_texts(tokenizer: &Tokenizer, n_positions: usize, plan: &RelearnPlan) -> anyhow::Result<Vec<Vec<u32>>> {
    let counts = text_counts(&plan.counts).map_err(anyhow::Error::msg)?;
    let wanted = counts.into_iter().max().unwrap_or(0);
    let max_tokens = plan.max_tokens.unwrap_or(n_positions);
    if max_tokens > n_positions {
        let want = format!("2 to {n_positions} tokens");
        return Err(irepair_eval::Error::BadSetting { key: "max_tokens", want, got: max_tokens }.into());
    }
    let mut texts = documents(&plan.texts, tokenizer, usize::MAX)?;
    let n_cut = texts.iter_mut().filter(|text| text.len() > max_tokens).map(|text| text.truncate(max_tokens)).count();
    if n_cut > 0 {
        tracing::warn!("{n_cut} of {} texts cut to {max_tokens} tokens", texts.len());
    }
    if texts.len() < wanted {
        return Err(CliError::TooLittle {
            path: plan.texts.clone(),
            option: "--counts",
            want: format!("at least {wanted} texts"),
            got: texts.len().to_string(),
            help: "give more texts, or smaller numbers",
        }
        .into());
    }
    Ok(texts)
}

/// DAPT on texts (METHOD §7), the model's every parameter; steps taken and the loss of the last.
fn learn(
    model: &CausalLm,
    opened: &LoadedModel,
    texts: &[Vec<u32>],
    plan: &RelearnPlan,
) -> anyhow::Result<(u64, Option<f64>)> {
    let data = Arc::new(RepairData::of_texts(texts.iter().cloned(), opened.tokenizer.eos_id()));
    let settings = Settings {
        n_steps: plan.epochs.saturating_mul(texts.len().div_ceil(plan.batch_size) as u64),
        batch_size: plan.batch_size,
        lr: plan.lr,
        // A run of three steps has no warm-up, and without one RMSprop's first steps are ten times the learning rate.
        optimizer: OptimizerKind::adamw(0.0),
        warmup_steps: 0,
        seed: plan.seed,
        ..Settings::default()
    };
    let (n_steps, mut last_loss) = (settings.n_steps, None);
    let mut engine = Engine::new(model, Method::Dapt, Box::new(Unsliced), &data, settings)?;
    let bar = progress::bar("relearn", n_steps);
    while engine.unfinished() {
        let record = engine.step()?;
        last_loss = Some(record.loss);
        bar.set_position(record.step + 1);
    }
    Ok((engine.finish()?.1.n_steps, last_loss))
}

fn table(points: &[Relearned], plan: &RelearnPlan) -> anyhow::Result<()> {
    use irepair_eval::key::{DISTINCT_2, TOX, TOXFRAC};
    print(&format!("{:>8} {:>8} {:>10} {:>10} {:>10} {:>10}\n", "texts", "steps", "loss", TOX, TOXFRAC, DISTINCT_2))?;
    for point in points {
        let [tox, toxfrac, distinct] = [TOX, TOXFRAC, DISTINCT_2].map(|key| four_decimals(point.metrics.value(key)));
        let loss = point.last_loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
        print(&format!(
            "{:>8} {:>8} {loss:>10} {tox:>10} {toxfrac:>10} {distinct:>10}\n",
            point.n_texts, point.n_steps
        ))?;
    }
    let definition = points.first().and_then(|p| p.metrics.get(TOX)).map_or("", |tox| &tox.definition);
    let (epochs, lr, batch) = (plan.epochs, plan.lr, plan.batch_size);
    print(&format!(
        "after {epochs} epoch(s) of the first texts of the file, all parameters, AdamW, lr {lr}, {batch} texts a step; every row \
         starts from the given model\nloss: of the last step, nats a text (METHOD §7: DAPT)\n{TOX}: {definition}\n"
    ))
}
