//! Pairs, prompts, texts and tokens: read, check, tokenise, draw, pack, write; the lexicon scorer and the planted
//! language.
//!
//! ```
//! use irepair_data::{EpochOrder, Limits, Planted, Sides, Sizes, Tokenizer, split_validation, tokenize_pairs};
//!
//! let planted = Planted::generate(0, &Sizes::tiny())?;
//! let tokenizer = Tokenizer::train_bpe(&planted.train_docs, 400)?;
//! let (pairs, counts) = tokenize_pairs(&planted.pairs, &tokenizer, Limits::default(), Sides::Both)?;
//! let (train, validation) = split_validation(pairs, 4)?;
//! let batch = EpochOrder::new(train.len(), 0, true)?.batch(0, 4);
//! assert_eq!((counts.n_dropped_empty, validation.len(), batch.len()), (0, 4, 4));
//! assert!(planted.lexicon.is_toxic(&planted.pairs[0].rejected));
//! # Ok::<(), irepair_data::Error>(())
//! ```
//!
//! Invariants: a reader returns every record of a file or one error that names the place; a writer leaves the old file
//! or the new one; a draw depends on its arguments alone; the parts of a [`Planted`] language share no text.

mod added;
mod beginning;
mod benchmark;
mod chat;
mod counts;
mod cut;
mod draw;
mod error;
mod forms;
mod found;
mod generation;
mod labels;
mod lexicon;
mod library;
mod lines;
mod misfit;
mod pack;
mod pairs;
mod part;
mod partners;
mod parts;
mod place;
mod planted;
mod preference;
mod prefix_space;
mod read;
mod rebuilt;
mod record;
mod rendering;
mod rows;
mod sources;
mod spaces;
mod tokenizer;
mod wikitext;
mod write;

pub use beginning::common_beginning;
pub use benchmark::{
    Acceptability, MultipleEndings, RunningText, TrueContinuation, read_acceptability, read_continuations,
    read_multiple_endings, read_running_text,
};
pub use chat::{Chat, ChatTemplate};
pub use counts::Counts;
pub use cut::{Selection, cut};
pub use draw::{EpochOrder, without_replacement};
pub use error::{Error, Place, Result};
pub use found::{Found, OtherForm, columns_flag};
pub use generation::unread_generation;
pub use labels::{Labeled, read_labels};
pub use lexicon::Lexicon;
pub use library::{byte_level, guarded, read_settled_tokenizer, read_tokenizer, train_byte_level};
pub use lines::{Lines, MAX_LINE_BYTES};
pub use pack::pack;
pub use pairs::{
    Limits, TokenPair, read_token_pairs, read_token_texts, split_validation, tokenize_chats, tokenize_pairs,
};
pub use part::Part;
pub use place::place_of;
pub use planted::{Planted, Sizes};
pub use preference::{Pairs, RecordFile, TextKind, Whole};
pub use read::{
    ClozeItem, END_OF_TEXT, Pair, Sides, Stereotype, each_pair, each_text, read_cloze, read_minimal_pairs, read_pairs,
    read_prompts, read_texts,
};
pub use tokenizer::Tokenizer;
pub use wikitext::{wikitext_detokenized, wikitext_pages, wikitext_words};
pub use write::{write_cloze, write_jsonl, write_pairs_of, write_prompts, write_prompts_of, write_texts};
