//! A whole file with a few changes, the same ones for the same number: what hits upon a reader's checks without a
//! guide.

/// What readers trip over: numbers out of range, halves of things, what terminals obey.
const PIECES: [&[u8]; 24] = [
    b"18446744073709551615",
    b"9223372036854775807",
    b"1000000000000000000",
    b"-1",
    b"0",
    b"1e308",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b"\"\"",
    b"[[[[[[[[",
    b"\\u0000",
    b"\\ud83d",
    b"\\u001b[2J",
    b"\x1b[2J",
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b"../",
    "\u{feff}\u{202e}🙂".as_bytes(),
    b"version https://git-lfs",
];

/// `bytes` with one to four changes that follow from `seed`.
pub(crate) fn changed(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n.max(1)
    };
    let mut bytes = bytes.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len() + 1);
        let end = (at + below(12)).min(bytes.len());
        match below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte ^= 1 << below(8)),
            // A number is where most checks are: the next one is another.
            4 => {
                let from = at + bytes[at..].iter().position(u8::is_ascii_digit).unwrap_or(0);
                let n = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(from..from + n, PIECES[below(12)].iter().copied());
            }
            _ => drop(bytes.splice(at..end, PIECES[below(PIECES.len())].iter().copied())),
        }
    }
    bytes
}
