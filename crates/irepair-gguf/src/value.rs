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
    Floats(Vec<f32>),
    /// A list of truth values.
    Bools(Vec<bool>),
}

const TEXT: u32 = 8;
const LIST: u32 = 9;
/// Bytes of a value by type number; 0 for text and list.
const N_BYTES: [usize; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

fn n_bytes(reader: &Reader, kind: u32, key: &str) -> Result<usize> {
    let known = N_BYTES.get(kind as usize).filter(|n| **n > 0);
    known.copied().ok_or_else(|| reader.broken(key, format!("value type {kind} does not exist")))
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
        let n = n_bytes(reader, kind, key)?;
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
            _ => return Err(reader.broken(key, format!("truth value {bits}, not 0 or 1"))),
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
        reader.wants(n, n_bytes(reader, kind, key)? as u64, key)?;
        let (mut integers, mut floats, mut bools) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..n {
            match Self::number(reader, kind, key)? {
                // An integer over i64 is cut to the largest: no list has ids or counts of that size.
                Self::Integer(n) => integers.push(i64::try_from(n).unwrap_or(i64::MAX)),
                // Shortest decimals lead back to the float of 32 bits.
                Self::Float(x) => floats.push(x as f32),
                Self::Bool(on) => bools.push(on),
                _ => {}
            }
        }
        Ok(match kind {
            6 | 12 => Self::Floats(floats),
            7 => Self::Bools(bools),
            _ => Self::Integers(integers),
        })
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
