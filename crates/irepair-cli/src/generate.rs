//! `irepair generate`: continue prompts, or sample texts from the start token.

use irepair_config::GenerateOptions;
use irepair_data::{read_prompts, write_jsonl};
use irepair_model::{BlockModel, Decoding};
use serde::Serialize;

use crate::refusal::spare_inputs;
use crate::repair::print;
use crate::weights::{open, use_threads};
use crate::{progress, utility};

#[derive(Serialize)]
struct Generated {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    text: String,
    n_tokens: usize,
}

/// Runs the command.
pub(crate) fn command(options: GenerateOptions) -> anyhow::Result<()> {
    use_threads(options.threads);
    let Some(model) = &options.model else { unreachable!("validated") };
    spare_inputs(options.out.as_deref(), &[Some(model), options.prompts.as_ref()])?;
    let opened = open(model, &options.device(), options.dtype())?;
    let (prompts, rows) = match (&options.prompts, options.n) {
        (Some(path), _) => {
            let prompts = read_prompts(path)?;
            let rows = continuations(&opened, &prompts, &options)?;
            (prompts.into_iter().map(Some).collect(), rows)
        }
        (None, n) => {
            let (n, top_p) = (n.unwrap_or(1), options.top_p.unwrap_or(1.0));
            let rows =
                utility::sample(&opened, n, options.max_new_tokens(), top_p, options.temperature(), options.seed())?;
            (vec![None; rows.len()], rows)
        }
    };
    let mut generated = Vec::with_capacity(rows.len());
    for (prompt, row) in prompts.into_iter().zip(rows) {
        generated.push(Generated { prompt, text: opened.tokenizer.decode(&row)?, n_tokens: row.len() });
    }
    match &options.out {
        Some(path) => Ok(write_jsonl(path, &generated)?),
        None if options.json() || generated.iter().any(|g| g.prompt.is_none()) => {
            generated.iter().try_for_each(|g| print(&(serde_json::to_string(g)? + "\n")))
        }
        None => {
            // One line a prompt, so that lines can be counted and matched; `--json` has the texts as they are.
            let line = |text: &str| text.replace('\n', "\\n");
            generated
                .iter()
                .try_for_each(|g| print(&format!("{} ‖ {}\n", line(g.prompt.as_deref().unwrap_or("")), line(&g.text))))
        }
    }
}

/// Continuations in the order of the prompts; batches are sorted by length so that little is padded.
fn continuations(
    opened: &crate::weights::Opened,
    prompts: &[String],
    options: &GenerateOptions,
) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut tokens = opened.tokenizer.encode_batch(prompts)?;
    for row in &mut tokens {
        row.truncate(options.prompt_tokens());
        if row.is_empty() {
            row.push(opened.eos_id);
        }
    }
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|&i| tokens[i].len());
    let bar = progress::bar("generate", tokens.len() as u64);
    let mut rows = vec![Vec::new(); tokens.len()];
    for (n, chunk) in order.chunks(options.batch_size()).enumerate() {
        let batch: Vec<_> = chunk.iter().map(|&i| tokens[i].clone()).collect();
        let decoding = match options.top_p {
            Some(top_p) => {
                let seed = options.seed().wrapping_mul(1_000_003).wrapping_add(n as u64);
                Decoding::Nucleus { top_p, temperature: options.temperature(), seed }
            }
            None => Decoding::Greedy,
        };
        let made = opened.model.generate(&batch, options.max_new_tokens(), decoding, opened.tokenizer.end_ids())?;
        chunk.iter().zip(made).for_each(|(&i, row)| rows[i] = row);
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(rows)
}
