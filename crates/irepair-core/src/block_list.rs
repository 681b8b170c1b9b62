//! Lists of blocks as users write them, and the blocks of a model that a policy may choose from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{BlockId, BlockSlice, Error, MAX_BLOCKS, Result};

/// Blocks as given by a flag or a key: numbers and ranges such as `0,3-5`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlockList(BlockSlice);

impl BlockList {
    /// The blocks of a model of `n_blocks` that are in `only` and not in `exclude`; every block where neither is given.
    ///
    /// # Errors
    /// [`Error::NoSuchBlock`] when a list names a block that the model lacks; [`Error::NoBlockLeft`].
    ///
    /// # Source
    /// METHOD §5 [O].
    pub fn eligible(only: Option<&Self>, exclude: Option<&Self>, n_blocks: usize) -> Result<BlockSlice> {
        for (key, list) in [("only", only), ("exclude", exclude)] {
            if let Some(BlockId(block)) = list.and_then(|list| list.0.iter().last()).filter(|last| last.0 >= n_blocks) {
                return Err(Error::NoSuchBlock { key, block, n_blocks });
            }
        }
        let has = |list: &Self, block: usize| list.0.contains(BlockId(block));
        let kept =
            |&block: &usize| only.is_none_or(|list| has(list, block)) && !exclude.is_some_and(|list| has(list, block));
        let left = BlockSlice::from_indices((0..n_blocks).filter(kept));
        if left.is_empty() { Err(Error::NoBlockLeft) } else { Ok(left) }
    }
}

impl FromStr for BlockList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::BadBlockList { got: text.to_owned() };
        let number = |part: &str| part.trim().parse::<usize>().ok().filter(|n| *n < MAX_BLOCKS).ok_or_else(refuse);
        let mut blocks = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(refuse());
            }
            blocks.extend(first..=last);
        }
        Ok(Self(BlockSlice::from_indices(blocks)))
    }
}

impl TryFrom<String> for BlockList {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<BlockList> for String {
    fn from(list: BlockList) -> Self {
        list.to_string()
    }
}

impl From<BlockSlice> for BlockList {
    fn from(blocks: BlockSlice) -> Self {
        Self(blocks)
    }
}

/// Three blocks and more in a row are written as a range.
impl fmt::Display for BlockList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks: Vec<usize> = self.0.iter().map(|block| block.0).collect();
        for (i, run) in blocks.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match run {
                [first, _, .., last] => write!(f, "{comma}{first}-{last}")?,
                run => write!(f, "{comma}{}", BlockSlice::from_indices(run.iter().copied()))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> BlockList {
        text.parse().unwrap()
    }

    #[test]
    fn lists_and_ranges_are_read_and_written() {
        for (text, written) in [("0,3-5", "0,3-5"), ("5, 4,3 ,0", "0,3-5"), ("1-2", "1,2"), ("7-7,1", "1,7")] {
            assert_eq!(list(text).to_string(), written);
            assert_eq!(list(written), list(text));
        }
        assert_eq!(serde_json::to_string(&list("0,3-5")).unwrap(), "\"0,3-5\"");
        assert!(serde_json::from_str::<BlockList>("\"5-3\"").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ",", "1,", "-1", "3-", "5-3", "a", "1.5", "1-2-3", "10000", "0-99999999999"] {
            assert!(matches!(text.parse::<BlockList>(), Err(Error::BadBlockList { .. })), "{text}");
        }
    }

    #[test]
    fn eligible_blocks_are_of_the_model() {
        let eligible = |only: &str, exclude: &str, n| {
            let given = |text: &str| (!text.is_empty()).then(|| list(text));
            BlockList::eligible(given(only).as_ref(), given(exclude).as_ref(), n).map(|blocks| blocks.to_string())
        };
        assert_eq!(eligible("", "", 3).unwrap(), "0,1,2");
        assert_eq!(eligible("", "0", 3).unwrap(), "1,2");
        assert_eq!(eligible("1-2", "2", 3).unwrap(), "1");
        assert!(matches!(eligible("1,3", "", 3), Err(Error::NoSuchBlock { key: "only", block: 3, n_blocks: 3 })));
        assert!(matches!(eligible("", "7", 3), Err(Error::NoSuchBlock { key: "exclude", .. })));
        assert!(matches!(eligible("1", "0-1", 3), Err(Error::NoBlockLeft)));
    }
}
