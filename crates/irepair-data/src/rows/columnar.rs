//! Rows of Parquet: the columns that are read, a page of each in memory at a time.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::LogicalType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::Unread;
use crate::{Error, Place, Result};

/// Levels of lists and objects in one another; more is no record.
const MOST_DEPTH: usize = 64;

/// Rows as objects; the library's panics over damaged files become errors.
pub(crate) struct Columnar {
    path: PathBuf,
    rows: RowIter<'static>,
    row: usize,
    failed: bool,
    /// Whether what is read is what was asked for, so that values without a form in JSON are refused.
    is_wanted: bool,
    pub(super) unread: Vec<Unread>,
}

impl Columnar {
    /// Reads the schema.
    ///
    /// # Errors
    /// `BadTable` for a damaged file and a compression that is not read.
    pub(super) fn new(path: &Path, file: File, columns: Option<&[&str]>) -> Result<Self> {
        let bad = |why: String| Error::BadTable { path: path.to_owned(), row: None, why };
        let (mut is_wanted, mut unread) = (false, Vec::new());
        let rows = guarded(|| {
            let reader = SerializedFileReader::new(file)?;
            let schema = reader.metadata().file_metadata().schema().clone();
            let wanted = |name: &str| columns.is_none_or(|columns| columns.contains(&name));
            let fields: Vec<_> = schema.get_fields().iter().filter(|field| wanted(field.name())).cloned().collect();
            is_wanted = columns.is_some() && !fields.is_empty();
            let rows = RowIter::from_file_into(Box::new(reader));
            // Without a column that is wanted, all are read, so that the error can name the one that is missing.
            if fields.is_empty() || fields.len() == schema.get_fields().len() {
                return Ok(rows);
            }
            let left = schema.get_fields().iter().filter(|field| !wanted(field.name()));
            unread = left.map(|field| Unread { name: field.name().to_owned(), is_text: is_text(field) }).collect();
            rows.project(Some(Type::group_type_builder(schema.name()).with_fields(fields).build()?))
        });
        let rows = rows.map_err(bad)?;
        Ok(Self { path: path.to_owned(), rows, row: 0, failed: false, is_wanted, unread })
    }

    fn next_row(&mut self) -> Result<Option<(Place, Value)>> {
        self.row += 1;
        let bad = |why: String| Error::BadTable { path: self.path.clone(), row: Some(self.row), why };
        let row = guarded(|| self.rows.next().transpose()).map_err(bad)?;
        let value = row.map(|row| object(&row, 0, self.is_wanted)).transpose().map_err(|why| bad(why.to_owned()))?;
        Ok(value.map(|value| (Place::Row(self.row), value)))
    }
}

impl Iterator for Columnar {
    type Item = Result<(Place, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_row();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// Text, which older writers do not mark as such.
fn is_text(field: &Type) -> bool {
    let kind = field.get_basic_info().logical_type_ref();
    field.is_primitive()
        && field.get_physical_type() == parquet::basic::Type::BYTE_ARRAY
        && matches!(kind, None | Some(LogicalType::String))
}

/// Runs the library; what it says, or that it gave up, in one line.
fn guarded<T>(work: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}

fn object(row: &Row, depth: usize, is_wanted: bool) -> Result<Value, &'static str> {
    let fields = row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(field, depth, is_wanted)?)));
    Ok(Value::Object(fields.collect::<Result<Map<_, _>, &'static str>>()?))
}

fn value(field: &Field, depth: usize, is_wanted: bool) -> Result<Value, &'static str> {
    if depth > MOST_DEPTH {
        return Err("values are nested more than 64 deep");
    }
    let float = |x: f64| match Number::from_f64(x) {
        Some(number) => Ok(Value::Number(number)),
        None if is_wanted => Err("a column that is read holds numbers that are not finite"),
        None => Ok(Value::Null),
    };
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(x) => Value::Bool(*x),
        Field::Byte(x) => (*x).into(),
        Field::Short(x) => (*x).into(),
        Field::Int(x) => (*x).into(),
        Field::Long(x) => (*x).into(),
        Field::UByte(x) => (*x).into(),
        Field::UShort(x) => (*x).into(),
        Field::UInt(x) => (*x).into(),
        Field::ULong(x) => (*x).into(),
        Field::Float16(x) => float(f64::from(x.to_f32()))?,
        Field::Float(x) => float(f64::from(*x))?,
        Field::Double(x) => float(*x)?,
        Field::Str(text) => Value::String(text.clone()),
        // Older writers do not mark text as such.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) if is_wanted => return Err("a column that is read holds bytes that are not UTF-8"),
            Err(_) => Value::Null,
        },
        Field::Group(row) => object(row, depth + 1, is_wanted)?,
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|field| value(field, depth + 1, is_wanted))
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        Field::MapInternal(map) => {
            let entry = |(key, field): &(Field, Field)| match key {
                Field::Str(key) => Ok((key.clone(), value(field, depth + 1, is_wanted)?)),
                _ => Err("a key of a map is no text"),
            };
            Value::Object(map.entries().iter().map(entry).collect::<Result<_, _>>()?)
        }
        // As text they would be trained on in a form that no author wrote.
        Field::Decimal(_) if is_wanted => {
            return Err("a column that is read holds decimal numbers: write them as text");
        }
        _ if is_wanted => return Err("a column that is read holds dates or times: write them as text"),
        other => other.to_string().into(),
    })
}
