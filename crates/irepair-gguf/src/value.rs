//! Metadata values.

use crate::Result;
use crate::read::Reader;

/// A metadata value. Integers of all widths become one type, and so do floats.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer.
    Integer(i128),
    /// A float; one of 32 bits is the shortest decimal number that rounds to it: 1e-5, not 9.99999974737875e-6.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A string.
    Text(String),
    /// A list of strings.
    Texts(Vec<String>),
    /// A list of integers.
    Integers(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f64>),
    /// A list of truth values.
    Bools(Vec<bool>),
}

const TEXT: u32 = 8;
const LIST: u32 = 9;

/// Bytes of a number type; none for text, list and what does not exist.
fn n_bytes(kind: u32) -> Option<usize> {
    Some(match kind {
        0 => 1,
        1 => 1,
        2 => 2,
        3 => 2,
        4 => 4,
        5 => 4,
        6 => 4,
        7 => 1,
        10 => 8,
        11 => 8,
        12 => 8,
        _ => return None,
    })
}

impl Value {
    /// Reads the type and the value of `key`.
    pub(crate) fn read(reader: &mut Reader, key: &str) -> Result<Self> {
        let kind = reader.u32(key)?;
        match kind {
            TEXT => Ok(Self::Text(reader.text(key)?)),
            LIST => Self::list(reader, key),
            _ => Self::number(reader, kind, key),
        }
    }

    fn number(reader: &mut Reader, kind: u32, key: &str) -> Result<Self> {
        let n = n_bytes(kind).ok_or_else(|| reader.broken(key, format!("value type {kind} does not exist")))?;
        let mut wide = [0; 8];
        reader.fill(&mut wide[..n], key)?;
        let bits = u64::from_le_bytes(wide);
        Ok(match kind {
            0 | 2 | 4 | 10 => Self::Integer(bits.into()),
            1 => Self::Integer((bits as i8).into()),
            3 => Self::Integer((bits as i16).into()),
            5 => Self::Integer((bits as i32).into()),
            11 => Self::Integer((bits as i64).into()),
            6 => Self::Float(shortest(f32::from_bits(bits as u32))),
            12 => Self::Float(f64::from_bits(bits)),
            _ if bits < 2 => Self::Bool(bits == 1),
            _ => return Err(reader.broken(key, format!("truth value {bits}, where 0 or 1 is wanted"))),
        })
    }

    fn list(reader: &mut Reader, key: &str) -> Result<Self> {
        let kind = reader.u32(key)?;
        let n = reader.u64(key)?;
        if kind == LIST {
            return Err(reader.broken(key, "a list of lists"));
        }
        if kind == TEXT {
            reader.wants(n, 8, key)?;
            return Ok(Self::Texts((0..n).map(|_| reader.text(key)).collect::<Result<_>>()?));
        }
        let size = n_bytes(kind).ok_or_else(|| reader.broken(key, format!("value type {kind} does not exist")))?;
        reader.wants(n, size as u64, key)?;
        let values = (0..n).map(|_| Self::number(reader, kind, key));
        match kind {
            6 | 12 => {
                let float = |value| if let Self::Float(float) = value { float } else { f64::NAN };
                Ok(Self::Floats(values.map(|value| value.map(float)).collect::<Result<_>>()?))
            }
            7 => Ok(Self::Bools(values.map(|value| Ok(value? == Self::Bool(true))).collect::<Result<_>>()?)),
            _ => {
                // An integer over i64 is cut to the largest: no list has ids or counts of that size.
                let integer =
                    |value| if let Self::Integer(n) = value { i64::try_from(n).unwrap_or(i64::MAX) } else { 0 };
                Ok(Self::Integers(values.map(|value| value.map(integer)).collect::<Result<_>>()?))
            }
        }
    }

    /// The value in a few words, for a message.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Integer(n) => n.to_string(),
            Self::Float(x) => x.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::Text(text) => format!("`{}`", irepair_core::printable(text)),
            Self::Texts(list) => format!("a list of {} strings", list.len()),
            Self::Integers(list) => format!("a list of {} integers", list.len()),
            Self::Floats(list) => format!("a list of {} floats", list.len()),
            Self::Bools(list) => format!("a list of {} truth values", list.len()),
        }
    }
}

/// The shortest decimal number that rounds to `x`.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_is_the_number_that_was_meant() {
        assert_eq!([1e-5, 0.1, 1e5, f32::MIN_POSITIVE].map(shortest), [1e-5, 0.1, 1e5, 1.1754944e-38]);
        assert!(shortest(f32::INFINITY).is_infinite() && shortest(f32::NAN).is_nan());
    }
}
