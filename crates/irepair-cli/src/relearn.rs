//! `irepair relearn`: how many texts with the error does it take to bring it back?

use std::path::Path;
use std::sync::Arc;

use irepair_baselines::Unsliced;
use irepair_config::{Method, RelearnOptions};
use irepair_data::{Lexicon, TokenPair, read_prompts};
use irepair_eval::{Generation, Metrics, toxicity};
use irepair_model::CausalLm;
use irepair_train::{Engine, OptimizerKind, RepairData, Settings};
use serde::Serialize;

use crate::progress;
use crate::repair::print;
use crate::utility::documents;
use crate::weights::{Opened, open, use_threads};

/// One point of the curve.
#[derive(Serialize)]
struct Point {
    /// Texts trained on; 0 is the model as it was given.
    n_texts: usize,
    n_steps: u64,
    /// DAPT's loss of the last step, nats a text (METHOD §7).
    last_loss: Option<f64>,
    /// Toxicity and its degeneration guard after training.
    metrics: Metrics,
}

/// Runs the command.
pub(crate) fn command(options: RelearnOptions) -> anyhow::Result<()> {
    use_threads(options.threads);
    let (Some(model), Some(texts)) = (&options.model, &options.texts) else { unreachable!("validated") };
    let (Some(prompts), Some(lexicon)) = (&options.prompts, &options.lexicon) else { unreachable!("validated") };
    let Ok(counts) = options.text_counts() else { unreachable!("validated") };
    let (prompts, lexicon) = (read_prompts(prompts)?, Lexicon::read(lexicon)?);
    let opened = open(model, &options.device(), options.dtype())?;
    let texts = toxic_texts(texts, &opened, &options, counts.iter().copied().max().unwrap_or(0))?;
    let generation =
        Generation { prompt_tokens: options.prompt_tokens(), n_new: options.max_new_tokens(), ..Generation::default() };

    let mut points = Vec::with_capacity(1 + counts.len());
    for n_texts in std::iter::once(0).chain(counts) {
        // Every point starts from the model as it was given, and learns the texts of the point before and more.
        let model = opened.model.duplicate()?;
        let (n_steps, last_loss) =
            if n_texts > 0 { learn(&model, &opened, &texts[..n_texts], &options)? } else { (0, None) };
        let metrics = toxicity(&model, &opened.tokenizer, &prompts, &lexicon, &generation)?.metrics;
        points.push(Point { n_texts, n_steps, last_loss, metrics });
    }
    if options.json() {
        return print(&(serde_json::to_string_pretty(&points)? + "\n"));
    }
    table(&points, &options)
}

/// The texts as tokens after the start token, cut to their first tokens; empty ones are left out.
fn toxic_texts(path: &Path, opened: &Opened, options: &RelearnOptions, wanted: usize) -> anyhow::Result<Vec<Vec<u32>>> {
    let max_tokens = options.max_tokens.unwrap_or(opened.model.config().n_positions);
    let mut texts = documents(path, &opened.tokenizer, opened.eos_id, usize::MAX)?;
    let n_cut = texts.iter_mut().filter(|text| text.len() > max_tokens).map(|text| text.truncate(max_tokens)).count();
    if n_cut > 0 {
        tracing::warn!("{n_cut} of {} texts cut to {max_tokens} tokens", texts.len());
    }
    if texts.len() < wanted {
        return Err(irepair_data::Error::TooFew { wanted, n: texts.len() }.into());
    }
    Ok(texts)
}

/// DAPT on texts (METHOD §7), the model's every parameter; steps taken and the loss of the last.
fn learn(
    model: &CausalLm,
    opened: &Opened,
    texts: &[Vec<u32>],
    options: &RelearnOptions,
) -> anyhow::Result<(u64, Option<f64>)> {
    let pair = |text: &Vec<u32>| TokenPair { prompt: Vec::new(), chosen: text.clone(), rejected: Vec::new() };
    let data = RepairData { pairs: texts.iter().map(pair).collect(), pad_id: opened.eos_id, ..RepairData::default() };
    let data = Arc::new(data);
    let settings = Settings {
        n_steps: options.epochs().saturating_mul(texts.len().div_ceil(options.batch_size()) as u64),
        batch_size: options.batch_size(),
        lr: options.lr(),
        // A run of three steps knows no warm-up, and without one RMSprop's first steps are ten times the learning rate.
        optimizer: OptimizerKind::adamw(0.0),
        warmup_steps: 0,
        seed: options.seed(),
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
    bar.finish_and_clear();
    Ok((engine.finish()?.1.n_steps, last_loss))
}

fn table(points: &[Point], options: &RelearnOptions) -> anyhow::Result<()> {
    use irepair_eval::key::{DISTINCT_2, TOX, TOXFRAC};
    let shown = |value: Option<f64>| value.map_or("missing".to_owned(), |v| format!("{v:.4}"));
    print(&format!("{:>8} {:>8} {:>10} {:>10} {:>10} {:>10}\n", "texts", "steps", "loss", TOX, TOXFRAC, DISTINCT_2))?;
    for point in points {
        let [tox, toxfrac, distinct] = [TOX, TOXFRAC, DISTINCT_2].map(|key| shown(point.metrics.value(key)));
        let loss = point.last_loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
        print(&format!(
            "{:>8} {:>8} {loss:>10} {tox:>10} {toxfrac:>10} {distinct:>10}\n",
            point.n_texts, point.n_steps
        ))?;
    }
    let definition = points.first().and_then(|p| p.metrics.get(TOX)).map_or("", |tox| &tox.definition);
    let (epochs, lr, batch) = (options.epochs(), options.lr(), options.batch_size());
    print(&format!(
        "after {epochs} epoch(s) of the first texts of the file, every parameter, AdamW, lr {lr}, {batch} texts a step, each number of \
         texts from the model as given\nloss: of the last step, nats a text (METHOD §7: DAPT)\n{TOX}: {definition}\n"
    ))
}
