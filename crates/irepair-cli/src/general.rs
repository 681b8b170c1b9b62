//! General performance of a model: every benchmark of METHOD §10 whose file was given.

use irepair_config::EvalOptions;
use irepair_data::{read_acceptability, read_cloze, read_continuations, read_multiple_endings, read_running_text};
use irepair_eval::{
    Generation, Metrics, MinimalPair, Question, cloze, cloze_corpus_perplexity, continuation_f1, key, multiple_choice,
    pair_accuracy, text_perplexity, word_perplexity,
};

use crate::weights::Opened;

/// Measures what the given files allow; a file not given adds nothing.
pub(crate) fn general_performance(opened: &Opened, options: &EvalOptions) -> anyhow::Result<Metrics> {
    let (model, tokenizer) = (&opened.model, &opened.tokenizer);
    let batch_size = options.batch_size();
    let window = options.window.unwrap_or(model.config().n_positions);
    let mut metrics = Metrics::default();
    if let Some(path) = &options.wikitext {
        let text = read_running_text(path)?;
        let perplexity = |stride| text_perplexity(model, tokenizer, &text, window, stride, batch_size);
        metrics.insert(key::TOKEN_PERPLEXITY, perplexity(window)?);
        if let Some(stride) = options.stride {
            metrics.insert(key::STRIDED_PERPLEXITY, perplexity(stride)?);
        }
        let pages = text.pages();
        if !pages.is_empty() {
            metrics.insert(key::WORD_PERPLEXITY, word_perplexity(model, tokenizer, &pages, batch_size)?);
        }
    }
    if let Some(path) = &options.lambada {
        let items = read_cloze(path)?;
        let found = cloze(model, tokenizer, &items, batch_size)?;
        say_truncated("last words", found.n_truncated);
        metrics.extend(found.metrics);
        let texts: Vec<String> = items.iter().map(|item| item.text()).collect();
        let corpus = cloze_corpus_perplexity(model, tokenizer, &texts, window, batch_size)?;
        metrics.insert(key::LAST_WORD_CORPUS_PERPLEXITY, corpus);
    }
    if let Some(path) = &options.blimp {
        let pairs = read_acceptability(path)?.into_iter().map(|p| MinimalPair { better: p.good, worse: p.bad });
        let accuracy = pair_accuracy(model, tokenizer, &pairs.collect::<Vec<_>>(), batch_size)?;
        metrics.insert(key::BLIMP_ACCURACY, accuracy);
    }
    if let Some(path) = &options.hellaswag {
        let questions: Vec<Question> = read_multiple_endings(path)?
            .into_iter()
            .map(|q| Question { context: q.context, endings: q.endings, answer: q.label })
            .collect();
        let found = multiple_choice(model, tokenizer, &questions, batch_size)?;
        say_truncated("endings", found.n_truncated);
        metrics.insert(key::HELLASWAG_ACCURACY, found.accuracy);
        metrics.insert(key::HELLASWAG_ACCURACY_BY_BYTES, found.accuracy_by_bytes);
    }
    if let Some(path) = &options.f1 {
        let (prompt_tokens, n_new) = (options.prompt_tokens(), options.max_new_tokens());
        let generation = Generation { prompt_tokens, n_new, batch_size };
        let f1 = continuation_f1(model, tokenizer, &read_continuations(path)?, &generation)?;
        metrics.insert(key::TOKEN_F1, f1);
    }
    Ok(metrics)
}

fn say_truncated(what: &str, n: usize) {
    if n > 0 {
        tracing::warn!("{what}: {n} contexts lost their start because they did not fit");
    }
}
