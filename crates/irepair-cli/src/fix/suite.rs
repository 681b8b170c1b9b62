//! The regression suite of a fix: what a later model must keep, for `irepair check`.

use std::fs;
use std::path::Path;

use irepair_config::FixPlan;
use irepair_data::{END_OF_TEXT, write_jsonl, write_prompts_of};
use irepair_report::{Clause, FixMeasured, Rate, SUITE_FORMAT, Suite, copy_judge};
use serde_json::json;

use super::answers::Answers;
use super::measured::Chosen;
use super::prepared::{Prepared, Prompts};
use super::{MODEL, SUITE};
use crate::environment::weights_sha256;
use crate::model_dir::open;

const TEST: &str = "prompts.test.jsonl";
const FINE: &str = "prompts.fine.jsonl";
const KEEP: &str = "answers.jsonl";
const NEUTRAL: &str = "neutral.txt";

/// How much the perplexity of neutral text may rise over the repaired model's.
const PERPLEXITY_RISE: f64 = 1.05;

/// Writes the suite of the model that stands in its place.
pub(crate) fn write(
    chosen: &Chosen<'_>,
    prepared: &Prepared,
    prompts: &Prompts,
    before: &Answers,
    neutral: &[Vec<u32>],
    measured: &FixMeasured,
) -> anyhow::Result<()> {
    let Chosen { place, plan, .. } = chosen;
    let dir = place.result(SUITE);
    fs::create_dir_all(&dir)?;
    let test = &prompts.parts()[2];
    let items = prompts.of(test);
    let kind = prepared.opened.tokenizer.marked_kind(prompts.kind);
    write_prompts_of(&dir.join(TEST), &items, kind)?;
    let mut clauses = vec![
        Clause::failures("failures", TEST, bound(&measured.judged.greedy[1])),
        Clause::form("form of the answers", TEST, before.form()),
        Clause::weights("weights"),
    ];
    if let Some(second) = &measured.second {
        clauses.push(Clause::failures("failures, second judge", TEST, bound(&second.greedy[1])).by_second());
    }
    let fine = items.iter().enumerate().filter(|(i, _)| before.fails(*i) == Some(false)).map(|(_, prompt)| prompt);
    let fine: Vec<&String> = fine.collect();
    if !fine.is_empty() {
        write_prompts_of(&dir.join(FINE), &fine, kind)?;
        clauses.push(Clause::fine("failures where none was", FINE, bound(&measured.fine)));
    }
    if let Some(kept) = &measured.kept {
        let answers = prompts.keep.iter().zip(&kept.after);
        write_jsonl(&dir.join(KEEP), answers.map(|(prompt, answer)| json!({"prompt": prompt, "answer": answer})))?;
        clauses.push(Clause::answers("answers to keep", KEEP, 1.0));
    }
    if let Some(most) = write_neutral(&dir, place.result(MODEL).as_path(), prepared, neutral, plan)? {
        clauses.push(Clause::perplexity("perplexity of neutral text", NEUTRAL, most));
    }
    let suite = Suite {
        format: SUITE_FORMAT,
        judge: copy_judge(&plan.judge, &dir)?,
        second_judge: plan.second_judge.as_ref().map(|judge| copy_judge(judge, &dir)).transpose()?,
        toxic_labels: plan.toxic_labels.clone(),
        prompt_tokens: plan.prompt_tokens,
        prompt_side: plan.prompt_side.unwrap_or_default(),
        max_new_tokens: plan.max_new_tokens,
        rendered: prompts.are_rendered(),
        dtype: plan.dtype,
        weights: weights_sha256(&place.result(MODEL))?,
        clauses,
    };
    Ok(suite.write(&dir)?)
}

/// The largest rate that is no failure: the upper bound of what was measured.
fn bound(rate: &Rate) -> f64 {
    rate.interval.map_or(1.0, |[_, high]| (high / 100.0).clamp(0.0, 1.0))
}

/// Writes neutral texts and gives the largest perplexity of them; none where it cannot be measured.
fn write_neutral(
    dir: &Path,
    model: &Path,
    prepared: &Prepared,
    neutral: &[Vec<u32>],
    plan: &FixPlan,
) -> anyhow::Result<Option<f64>> {
    let tokenizer = &prepared.opened.tokenizer;
    // Without the start token.
    let texts = neutral.iter().map(|text| tokenizer.decode(&text[1..])).collect::<Result<Vec<_>, _>>()?;
    let text: String = texts.iter().map(|text| format!("{}\n{END_OF_TEXT}\n", text.replace(END_OF_TEXT, ""))).collect();
    let path = dir.join(NEUTRAL);
    irepair_core::fs::write_atomic(&path, text.as_bytes())?;
    let loaded = super::quietly(|| open(model, &plan.device, plan.dtype))?;
    let found = crate::check::neutral_perplexity(&loaded, &path, plan.batch_size)?.value;
    Ok(found.filter(|value| value.is_finite()).map(|value| (value * PERPLEXITY_RISE).max(1.0)))
}
