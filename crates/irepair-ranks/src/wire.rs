//! What stands on a connection: frames, each of a kind, a number and bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Bytes read at a time: a length that is a lie takes no memory before its bytes have come.
const CHUNK: usize = 1 << 20;

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Bytes of the exchange of this number.
    Data(u64, Vec<u8>),
    /// "I am here."
    Beat,
    /// The sender failed.
    Failed(Failure),
    /// The sender has finished.
    Bye,
}

/// How a rank failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code of its process.
    pub(crate) exit: u8,
    /// True when it shows its message itself.
    pub(crate) shown: bool,
    pub(crate) message: String,
}

const DATA: u8 = 1;
const BEAT: u8 = 2;
const FAILED: u8 = 3;
const BYE: u8 = 4;

fn write(mut to: impl Write, kind: u8, number: u64, bytes: &[u8]) -> io::Result<()> {
    let mut head = [0; 17];
    head[0] = kind;
    head[1..9].copy_from_slice(&number.to_le_bytes());
    head[9..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    to.write_all(&head)?;
    to.write_all(bytes)
}

/// Writes the bytes of exchange `number`.
pub(crate) fn write_data(to: impl Write, number: u64, bytes: &[u8]) -> io::Result<()> {
    write(to, DATA, number, bytes)
}

/// Writes "I am here."
pub(crate) fn write_beat(to: impl Write) -> io::Result<()> {
    write(to, BEAT, 0, &[])
}

/// Writes that this rank failed.
pub(crate) fn write_failed(to: impl Write, Failure { exit, shown, message }: &Failure) -> io::Result<()> {
    write(to, FAILED, u64::from(*exit) | u64::from(*shown) << 8, message.as_bytes())
}

/// Writes that this rank has finished.
pub(crate) fn write_bye(to: impl Write) -> io::Result<()> {
    write(to, BYE, 0, &[])
}

/// Reads a frame; `heard` is called whenever bytes have come.
pub(crate) fn read(mut from: impl Read, mut heard: impl FnMut()) -> io::Result<Frame> {
    let mut head = [0; 17];
    from.read_exact(&mut head)?;
    heard();
    let number = |at: usize| head[at..at + 8].iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let (kind, n, mut left) = (head[0], number(1), number(9));
    let mut bytes = Vec::new();
    while left > 0 {
        let (start, take) = (bytes.len(), left.min(CHUNK as u64) as usize);
        bytes.resize(start + take, 0);
        from.read_exact(&mut bytes[start..])?;
        left -= take as u64;
        heard();
    }
    match kind {
        DATA => Ok(Frame::Data(n, bytes)),
        BEAT => Ok(Frame::Beat),
        FAILED => {
            let message = String::from_utf8_lossy(&bytes).into_owned();
            Ok(Frame::Failed(Failure { exit: n as u8, shown: n >> 8 == 1, message }))
        }
        BYE => Ok(Frame::Bye),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not an irepair that speaks there")),
    }
}

/// Longest line of those that meet: they are read from whoever connects.
const MOST_LINE: usize = 1 << 16;

/// Writes one line of JSON, by which processes meet.
pub(crate) fn write_line(mut to: &TcpStream, value: &impl serde::Serialize) -> io::Result<()> {
    let line = serde_json::to_string(value)? + "\n";
    to.write_all(line.as_bytes())
}

/// Reads one line of JSON, a byte at a time: what follows belongs to frames.
pub(crate) fn read_line<T: serde::de::DeserializeOwned>(mut from: &TcpStream) -> io::Result<T> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < MOST_LINE {
        from.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return serde_json::from_slice(&line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e));
        }
        line.extend(byte);
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write_frame(to: &mut Vec<u8>, frame: &Frame) -> io::Result<()> {
        match frame {
            Frame::Data(number, bytes) => write_data(to, *number, bytes),
            Frame::Beat => write_beat(to),
            Frame::Failed(failure) => write_failed(to, failure),
            Frame::Bye => write_bye(to),
        }
    }

    /// The frames of a connection that closes after these bytes.
    fn frames(mut wire: &[u8]) -> Vec<Frame> {
        std::iter::from_fn(|| read(&mut wire, || ()).ok()).collect()
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let failure = (any::<u8>(), any::<bool>(), "\\PC{0,20}");
        prop_oneof![
            (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(n, bytes)| Frame::Data(n, bytes)),
            Just(Frame::Beat),
            failure.prop_map(|(exit, shown, message)| Frame::Failed(Failure { exit, shown, message })),
            Just(Frame::Bye),
        ]
    }

    proptest! {
        #[test]
        fn a_connection_that_breaks_anywhere_gives_the_frames_before_and_no_other(
            sent in proptest::collection::vec(frame(), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let (mut wire, mut ends) = (Vec::new(), Vec::new());
            for frame in &sent {
                write_frame(&mut wire, frame).unwrap();
                ends.push(wire.len());
            }
            let cut = cut.index(wire.len() + 1);
            let n_whole = ends.iter().filter(|end| **end <= cut).count();
            prop_assert_eq!(&frames(&wire[..cut])[..], &sent[..n_whole]);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(
            kind in 0u8..6,
            length in prop_oneof![0u64..50, any::<u64>()],
            rest in proptest::collection::vec(any::<u8>(), 0..90),
        ) {
            let wire = [&[kind], &rest[..rest.len().min(8)], &length.to_le_bytes(), &rest].concat();
            for frame in frames(&wire) {
                if let Frame::Data(_, bytes) = frame {
                    prop_assert!(bytes.len() < wire.len());
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut wire = Vec::new();
        let long = vec![7; CHUNK + 3];
        write_data(&mut wire, 4, &long).unwrap();
        write_beat(&mut wire).unwrap();
        let failure = Failure { exit: 5, shown: true, message: "no".into() };
        write_failed(&mut wire, &failure).unwrap();
        write_bye(&mut wire).unwrap();
        let (mut wire, mut n_heard) = (&wire[..], 0);
        let mut next = || read(&mut wire, || n_heard += 1).unwrap();
        let found = [next(), next(), next(), next()];
        assert_eq!(found, [Frame::Data(4, long), Frame::Beat, Frame::Failed(failure), Frame::Bye]);
        assert_eq!(n_heard, 4 + 2 + 1);
    }

    #[test]
    fn a_length_that_is_a_lie_takes_no_memory() {
        let mut wire = vec![DATA];
        wire.extend(0u64.to_le_bytes());
        wire.extend(u64::MAX.to_le_bytes());
        wire.extend([1, 2, 3]);
        assert_eq!(read(&wire[..], || ()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        wire[0] = 9;
        wire[9..17].fill(0);
        assert_eq!(read(&wire[..], || ()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
