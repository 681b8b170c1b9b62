//! Packing documents into windows of one length for pre-training.

/// Joins documents, each followed by `eos_id`, and cuts the stream into windows of exactly `window` tokens; what is
/// left over at the end is dropped.
///
/// Shapes: returns `n` windows of `window` tokens, `n = floor(sum(len + 1) / window)`; none when `window` is 0.
pub fn pack(docs: &[Vec<u32>], eos_id: u32, window: usize) -> Vec<Vec<u32>> {
    if window == 0 {
        return Vec::new();
    }
    let stream: Vec<u32> = docs.iter().flat_map(|doc| doc.iter().copied().chain([eos_id])).collect();
    stream.chunks_exact(window).map(<[u32]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_end_with_eos_and_run_on_across_windows() {
        assert_eq!(pack(&[vec![1, 2], vec![3], vec![4, 5]], 0, 3), [[1, 2, 0], [3, 0, 4]]);
        assert!(pack(&[vec![1]], 0, 3).is_empty());
        assert!(pack(&[vec![1]], 0, 0).is_empty());
    }
}
