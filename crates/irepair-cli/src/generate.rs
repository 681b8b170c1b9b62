//! `irepair generate`: continue prompts, or sample texts from the start token.

use irepair_config::{GeneratePlan, Long, PromptSide};
use irepair_data::{RecordFile, Tokenizer, Whole, place_of, write_jsonl};
use irepair_model::{BlockModel, Decoding};
use serde::Serialize;

use crate::error::CliError;
use crate::model_dir::{LoadedModel, open, use_threads};
use crate::output::{print, print_json_line};
use crate::{notes, progress, prompts, utility};

#[derive(Serialize)]
struct Generated {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    /// Tokens of the prompt that were cut; none where it was read whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_cut: Option<usize>,
    /// The text of the tokens that are left of a prompt that was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_read: Option<String>,
    text: String,
    n_tokens: usize,
}

/// Runs the command.
pub(crate) fn command(plan: &GeneratePlan) -> anyhow::Result<()> {
    use_threads(plan.threads);
    plan.out.as_deref().map_or(Ok(()), irepair_patch::refuse_existing)?;
    let loaded = open(&plan.model, &plan.device, plan.dtype)?;
    notes::say_text_rule(&loaded.tokenizer);
    let (prompts, rows) = match &plan.prompts {
        Some(path) => {
            let columns = plan.columns.clone().unwrap_or_default();
            let file = RecordFile { path, columns: &columns };
            let Whole { items: prompts, kind, .. } = prompts::read(file, &loaded.tokenizer, plan.prompt_tokens)?;
            tracing::info!("{}", notes::begin_rule(&loaded.tokenizer, kind));
            let tokenizer = &*loaded.tokenizer.of_kind(kind);
            let (read, n_cut) = prompt_tokens(&loaded, tokenizer, &prompts, plan)?;
            let rows = continuations(&loaded, &read, plan)?;
            let shown = prompts.into_iter().zip(read.iter().zip(n_cut));
            let shown = shown.map(|(prompt, (read, n_cut))| Shown::of(prompt, read, n_cut, tokenizer));
            (shown.collect::<anyhow::Result<Vec<Shown>>>()?, rows)
        }
        None => {
            tracing::info!("{}", loaded.tokenizer.begin_rule());
            let (n, top_p) = (plan.n.unwrap_or(1), plan.top_p.unwrap_or(1.0));
            let rows = utility::sample(&loaded, n, plan.max_new_tokens, top_p, plan.temperature, plan.seed)?;
            ((0..rows.len()).map(|_| Shown::default()).collect(), rows)
        }
    };
    let text = |(Shown { prompt, n_cut, read }, row): (Shown, Vec<u32>)| {
        let text = loaded.tokenizer.decode_continuation(&row)?;
        Ok(Generated { prompt, n_cut, prompt_read: read, text, n_tokens: row.len() })
    };
    let generated: Vec<Generated> = prompts.into_iter().zip(rows).map(text).collect::<anyhow::Result<_>>()?;
    match &plan.out {
        Some(path) => Ok(write_jsonl(path, &generated)?),
        None if plan.json || plan.prompts.is_none() => generated.iter().try_for_each(print_json_line),
        None => {
            // One line a prompt, so that lines can be counted and matched; `--json` has the texts as they are.
            let shown =
                |c: char| if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() };
            let line = |text: &str| text.chars().map(shown).collect::<String>();
            let side = plan.prompt_side.unwrap_or_default();
            let prompt = |g: &Generated| match (&g.prompt_read, side) {
                (None, _) => line(g.prompt.as_deref().unwrap_or("")),
                (Some(read), PromptSide::Start) => format!("{} […]", line(read)),
                (Some(read), PromptSide::End) => format!("[…] {}", line(read)),
            };
            let shown = |g: &Generated| print(&format!("{} ‖ {}\n", prompt(g), line(&g.text)));
            generated.iter().try_for_each(shown)
        }
    }
}

/// A prompt as it is shown.
#[derive(Default)]
struct Shown {
    prompt: Option<String>,
    n_cut: Option<usize>,
    read: Option<String>,
}

impl Shown {
    /// A prompt of which these tokens are read, and so many are not.
    fn of(prompt: String, read: &[u32], n_cut: usize, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        let n_cut = (n_cut > 0).then_some(n_cut);
        let read = n_cut.map(|_| tokenizer.decode_continuation(read)).transpose()?;
        Ok(Self { prompt: Some(prompt), n_cut, read })
    }
}

/// The tokens of every prompt that are read, and how many are not.
fn prompt_tokens(
    loaded: &LoadedModel,
    tokenizer: &Tokenizer,
    prompts: &[String],
    plan: &GeneratePlan,
) -> anyhow::Result<(Vec<Vec<u32>>, Vec<usize>)> {
    let mut tokens = tokenizer.encode_texts(prompts)?;
    let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
    let (n_positions, side) = (loaded.model.n_positions(), plan.prompt_side.unwrap_or_default());
    let begin_id = tokenizer.begin_id();
    let n_cut = tokens.iter().filter(|row| row.len() > plan.prompt_tokens).count();
    let room = n_positions.saturating_sub(plan.max_new_tokens).max(1);
    let mut n_long = 0;
    for (index, row) in tokens.iter_mut().enumerate() {
        side.cut(row, plan.prompt_tokens, begin_id);
        if row.is_empty() {
            row.push(tokenizer.start_id());
        }
        if row.len() <= room {
            continue;
        }
        if plan.long == Long::Refuse {
            let place = plan.prompts.as_deref().map_or_else(String::new, |path| place_of(path, index));
            let help = "a prompt and --max-new-tokens must fit: give a smaller one of the two, fewer --prompt-tokens, or --long cut";
            return Err(CliError::TooLong { place, n_positions, got: row.len() + plan.max_new_tokens, help }.into());
        }
        side.cut(row, room, begin_id);
        n_long += 1;
    }
    let cuts = [(n_cut, plan.prompt_tokens), (n_long, room)];
    let said = cuts.iter().filter_map(|&(n, length)| notes::of_cut_prompts(n, prompts.len(), length, side));
    said.for_each(|note| tracing::info!("{note}"));
    let n_cut = lengths.iter().zip(&tokens).map(|(n, read)| n.saturating_sub(read.len())).collect();
    Ok((tokens, n_cut))
}

/// Continuations in the order of the prompts; batches are sorted by length so that little is padded.
fn continuations(loaded: &LoadedModel, tokens: &[Vec<u32>], plan: &GeneratePlan) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|&i| tokens[i].len());
    let bar = progress::bar("generate", tokens.len() as u64);
    let mut rows = vec![Vec::new(); tokens.len()];
    for (n, chunk) in order.chunks(plan.batch_size).enumerate() {
        let batch: Vec<_> = chunk.iter().map(|&i| tokens[i].clone()).collect();
        let decoding = match plan.top_p {
            Some(top_p) => {
                let seed = plan.seed.wrapping_mul(1_000_003).wrapping_add(n as u64);
                Decoding::Nucleus { top_p, temperature: plan.temperature, seed }
            }
            None => Decoding::Greedy,
        };
        let made = loaded.model.generate(&batch, plan.max_new_tokens, decoding, loaded.tokenizer.end_ids())?;
        chunk.iter().zip(made).for_each(|(&i, row)| rows[i] = row);
        bar.inc(chunk.len() as u64);
    }
    Ok(rows)
}
