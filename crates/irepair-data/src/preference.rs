//! Pairs and prompts in the forms that TRL has them: with a prompt of their own or one that both sides begin with, as
//! text or as messages. docs/FILES.md has the rules.

use std::path::Path;
use std::rc::Rc;

use irepair_core::Columns;
use serde_json::Value;

use crate::beginning::{common_beginning, n_common};
use crate::chat::ChatTemplate;
use crate::forms::{Form, form_of, kind_of, refuse_other_prompt, refuse_prompt, refuse_repeated};
use crate::found::meant;
use crate::partners::Partners;
use crate::read::not_empty;
use crate::record::{RENDERED, Record};
use crate::rendering::{Rendering, TOOLS, VARIABLES};
use crate::rows::{Rows, Unread};
use crate::{Error, Pair, Place, Result, Sides, Tokenizer};

/// A file of pairs or prompts, and the names of its columns.
#[derive(Clone, Copy, Debug)]
pub struct RecordFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// The names.
    pub columns: &'a Columns,
}

/// Texts as they were written, or rendered by a chat template, which writes the special tokens itself. All of a file
/// are of the kind of its first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextKind {
    /// As they were written.
    #[default]
    Plain,
    /// Rendered.
    Chat,
}

/// All records of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole<T> {
    /// In file order.
    pub items: Vec<T>,
    /// Their kind.
    pub kind: TextKind,
    /// Those of [`Pairs::unread_texts`]; none of prompts.
    pub unread_texts: Vec<String>,
}

impl<'a> RecordFile<'a> {
    /// A file whose columns have the names that they have here.
    pub fn plain(path: &'a Path) -> Self {
        const SAME: &Columns = &Columns::SAME;
        Self { path, columns: SAME }
    }

    /// Pairs, one after the other, from records `{"prompt", "chosen", "rejected"}`; other keys are ignored.
    ///
    /// Texts of records with `"rendered": true` ([`write_pairs_of`](crate::write_pairs_of)) were rendered before.
    ///
    /// Without `prompt`, it is what both sides begin with ([`common_beginning`]). Message lists are rendered by the
    /// chat template of `tokenizer`'s directory; the text of prompt and continuation together is that of the whole
    /// chat. Where only the rejected side is read, `chosen` is empty, and may be absent where there is a prompt.
    ///
    /// Records `{"prompt", "completion", "label"}` become pairs where a prompt has completions of both labels: its k-th
    /// desirable completion with its k-th undesirable one, in file order; a pair comes where the later of the two is.
    ///
    /// # Errors
    /// Any of this crate's file and line errors, at once or as an item; `NoTemplate` and `BadTemplate` where there are
    /// message lists.
    pub fn pairs(self, tokenizer: Option<&Tokenizer>, sides: Sides) -> Result<Pairs<'a>> {
        let mut rows = self.rows()?;
        let first = rows.next().transpose()?;
        let (mut form, mut kind, mut rendered) = (Form::Explicit, TextKind::Plain, false);
        let (unread, mut unread_texts): (Rc<[Unread]>, _) = (rows.unread().into(), Vec::new());
        if let Some((place, value)) = &first {
            let record = self.record(*place, value.clone(), &unread);
            rendered = record.is_rendered();
            (form, kind) = form_of(&record)?;
            if form == Form::Implicit && record.get("prompt").is_none() {
                unread_texts = record.unread_texts(&self.keys());
                let likeliest = meant("prompt", "prompt", &unread_texts, &[]);
                if let Some(at) = likeliest.and_then(|name| unread_texts.iter().position(|text| text == name)) {
                    unread_texts[..=at].rotate_right(1);
                }
            }
        }
        let template = template_of(kind, tokenizer)?;
        let partners = Partners::default();
        let n_read = 0;
        Ok(Pairs { file: self, rows, unread, unread_texts, first, form, template, rendered, sides, n_read, partners })
    }

    /// All of [`Self::pairs`].
    ///
    /// # Errors
    /// Those of [`Self::pairs`], and `NoRecords` when there is no pair.
    pub fn read_pairs(self, tokenizer: Option<&Tokenizer>, sides: Sides) -> Result<Whole<Pair>> {
        let mut pairs = self.pairs(tokenizer, sides)?;
        let kind = pairs.kind();
        let items: Vec<Pair> = pairs.by_ref().collect::<Result<_>>()?;
        pairs.refuse_none(items.len())?;
        Ok(Whole { items, kind, unread_texts: pairs.unread_texts })
    }

    /// Prompts from records whose `prompt` is a string, an object with a string `text` (RealToxicityPrompts), or a
    /// list of messages, which the chat template of `tokenizer`'s directory renders with its generation prompt.
    ///
    /// # Errors
    /// Any of this crate's file and line errors, `NoRecords` when there is no prompt, `NoTemplate` and `BadTemplate`
    /// where there are message lists.
    pub fn read_prompts(self, tokenizer: Option<&Tokenizer>) -> Result<Whole<String>> {
        let (mut items, mut first, mut rendered) = (Vec::new(), None, false);
        let rows = self.rows()?;
        let unread = rows.unread().to_vec();
        for row in rows {
            let (place, value) = row?;
            let record = self.record(place, value, &unread);
            let (kind, template) = match &first {
                Some(known) => known,
                None => {
                    let kind = kind_of(record.get("prompt"));
                    rendered = record.is_rendered();
                    first.insert((kind, template_of(kind, tokenizer)?))
                }
            };
            record.refuse_other_kind(rendered)?;
            items.push(match template {
                None if *kind == TextKind::Plain => {
                    record.refuse_written_list("prompt")?;
                    record.text("prompt", "prompt.text")?
                }
                None => return Err(record.bad(self.columns.of("prompt"), "a string", record.get("prompt"))),
                Some(template) => Rendering::of(template, &record)?.prompt(&record.messages("prompt")?)?,
            });
        }
        let kind = if rendered { TextKind::Chat } else { first.map_or(TextKind::Plain, |(kind, _)| kind) };
        Ok(Whole { items: not_empty(items, self.path, "prompts")?, kind, unread_texts: Vec::new() })
    }

    /// The keys that are read.
    fn keys(self) -> Vec<&'a str> {
        self.columns.names().chain([TOOLS, VARIABLES, RENDERED]).collect()
    }

    fn rows(self) -> Result<Rows> {
        Rows::open(self.path, Some(&self.keys()))
    }

    fn record<'r>(self, place: Place, value: Value, unread: &'r [Unread]) -> Record<'r>
    where
        'a: 'r,
    {
        Record { path: self.path, place, value, columns: Some(self.columns), unread }
    }
}

/// Pairs of a file ([`RecordFile::pairs`]).
pub struct Pairs<'a> {
    file: RecordFile<'a>,
    rows: Rows,
    unread: Rc<[Unread]>,
    unread_texts: Vec<String>,
    first: Option<(Place, Value)>,
    form: Form,
    template: Option<ChatTemplate>,
    /// The texts were rendered before.
    rendered: bool,
    sides: Sides,
    n_read: usize,
    partners: Partners,
}

impl Pairs<'_> {
    /// The kind of all texts.
    pub fn kind(&self) -> TextKind {
        if self.rendered || self.template.is_some() { TextKind::Chat } else { TextKind::Plain }
    }

    /// The sides that are read.
    pub fn sides(&self) -> Sides {
        self.sides
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path
    }

    /// Pairs so far whose prompt was taken from the beginning of both sides.
    pub fn n_implicit(&self) -> usize {
        if self.form == Form::Implicit { self.n_read } else { 0 }
    }

    /// Keys of text in the first record that nothing reads, where it has no `prompt` and both sides begin with one: the
    /// prompt may be there under another name. The likeliest is the first.
    pub fn unread_texts(&self) -> &[String] {
        &self.unread_texts
    }

    /// Pairs so far whose sides were two labelled completions.
    pub fn n_labelled(&self) -> usize {
        if self.form == Form::Labelled { self.n_read } else { 0 }
    }

    /// Labelled completions so far that have no partner: desirable and undesirable ones.
    pub fn n_without_partner(&self) -> [usize; 2] {
        self.partners.n_left()
    }

    /// Refuses a file of which nothing was left.
    pub(crate) fn refuse_none(&self, n: usize) -> Result<()> {
        let path = self.file.path.to_owned();
        match self.n_without_partner() {
            _ if n > 0 => Ok(()),
            [0, 0] => Err(Error::NoRecords { path, wanted: "pairs" }),
            [n_desirable, n_undesirable] => Err(Error::NoPartners { path, n_desirable, n_undesirable }),
        }
    }

    /// The pair of a record; none of a labelled completion that waits for its partner.
    fn pair(&mut self, record: &Record<'_>) -> Result<Option<Pair>> {
        record.refuse_other_kind(self.rendered)?;
        if self.form == Form::Labelled {
            let is_desirable = record.label("label")?;
            let (prompt, completion) = self.labelled(record)?;
            let pair = self.partners.add(prompt, completion, is_desirable);
            return Ok(pair.map(|pair| self.wanted(pair)));
        }
        Ok(Some(match &self.template {
            None => self.of_texts(record)?,
            Some(template) => self.of_messages(record, template)?,
        }))
    }

    /// A pair without the side that is not read.
    fn wanted(&self, mut pair: Pair) -> Pair {
        if !self.sides.chosen() {
            pair.chosen.clear();
        }
        if !self.sides.rejected() {
            pair.rejected.clear();
        }
        pair
    }

    fn labelled(&self, record: &Record<'_>) -> Result<(String, String)> {
        let Some(template) = &self.template else {
            return Ok((record.plain("prompt")?, record.plain("completion")?));
        };
        let (prompt, completion) = (record.messages("prompt")?, record.messages("completion")?);
        let rendering = Rendering::of(template, record)?;
        let text = rendering.prompt(&prompt)?;
        refuse_repeated(record, "completion", &prompt, &completion)?;
        let end = rendering.continuation("completion", &text, &prompt, &completion)?;
        Ok((text, end))
    }

    fn of_texts(&self, record: &Record<'_>) -> Result<Pair> {
        if self.form == Form::Explicit {
            return Ok(Pair {
                prompt: record.plain("prompt")?,
                chosen: if self.sides.chosen() { record.plain("chosen")? } else { String::new() },
                rejected: if self.sides.rejected() { record.plain("rejected")? } else { String::new() },
            });
        }
        refuse_prompt(record, "no prompt, as in the first record")?;
        let (chosen, rejected) = (record.plain("chosen")?, record.plain("rejected")?);
        let prompt = common_beginning(&chosen, &rejected);
        if prompt.is_empty() && !chosen.is_empty() && !rejected.is_empty() {
            return Err(record.no_common_prompt());
        }
        let end = |side: &str| side[prompt.len()..].to_owned();
        Ok(self.wanted(Pair { prompt: prompt.to_owned(), chosen: end(&chosen), rejected: end(&rejected) }))
    }

    fn of_messages(&self, record: &Record<'_>, template: &ChatTemplate) -> Result<Pair> {
        let is_implicit = self.form == Form::Implicit;
        let read = |key, wanted| if wanted || is_implicit { record.messages(key) } else { Ok(Vec::new()) };
        let mut chosen = read("chosen", self.sides.chosen())?;
        let mut rejected = read("rejected", self.sides.rejected())?;
        let prompt = if self.form == Form::Explicit {
            record.messages("prompt")?
        } else {
            if record.get("prompt").is_some_and(Value::is_array) {
                refuse_prompt(record, "no list of messages, as in the first record")?;
            }
            let n = n_common(&chosen, &rejected);
            let prompt = chosen[..n].to_vec();
            refuse_other_prompt(record, &prompt)?;
            (chosen, rejected) = (chosen.split_off(n), rejected.split_off(n));
            prompt
        };
        if prompt.is_empty() {
            return Err(record.no_common_prompt());
        }
        let rendering = Rendering::of(template, record)?;
        let text = rendering.prompt(&prompt)?;
        let end = |key, messages: &[Value], wanted: bool| {
            if !wanted {
                return Ok(String::new());
            }
            if !is_implicit {
                refuse_repeated(record, key, &prompt, messages)?;
            }
            rendering.continuation(key, &text, &prompt, messages)
        };
        let chosen = end("chosen", &chosen, self.sides.chosen())?;
        let rejected = end("rejected", &rejected, self.sides.rejected())?;
        Ok(Pair { prompt: text, chosen, rejected })
    }
}

impl Iterator for Pairs<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = self.first.take().map(Ok).or_else(|| self.rows.next())?;
            let pair = row.and_then(|(place, value)| {
                let (file, unread) = (self.file, self.unread.clone());
                self.pair(&file.record(place, value, &unread))
            });
            if let Some(pair) = pair.transpose() {
                self.n_read += usize::from(pair.is_ok());
                return Some(pair);
            }
        }
    }
}

/// The template that texts of this kind need; none where no tokenizer is given, whose readers refuse lists.
fn template_of(kind: TextKind, tokenizer: Option<&Tokenizer>) -> Result<Option<ChatTemplate>> {
    let tokenizer = tokenizer.filter(|_| kind == TextKind::Chat);
    tokenizer.map(Tokenizer::chat_template).transpose()
}
