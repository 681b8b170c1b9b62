//! Laws of the draws, of packing, of the tokenizer and of the file formats.

use std::collections::BTreeSet;

use irepair_data::{
    ClozeItem, EpochOrder, Pair, Sides, Tokenizer, pack, read_pairs, read_texts, without_replacement, write_jsonl,
    write_texts,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_epoch_is_a_permutation_however_it_is_cut(
        n in 1usize..40, batch_size in 1usize..50, seed: u64, shuffle: bool, first_step in 0u64..1_000,
    ) {
        let order = EpochOrder::new(n, seed, shuffle).unwrap();
        let n_steps = (3 * n).div_ceil(batch_size) as u64 + 1;
        let walk: Vec<usize> = (first_step..first_step + n_steps).flat_map(|s| order.batch(s, batch_size)).collect();
        let to_epoch = (n - (first_step as usize * batch_size) % n) % n;
        for epoch in walk[to_epoch..].chunks_exact(n) {
            prop_assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), n);
            prop_assert!(epoch.iter().all(|&i| i < n));
        }
    }

    #[test]
    fn a_draw_depends_on_seed_and_step_alone(n in 1usize..60, share in 0.0..=1.0, seed: u64, step: u64) {
        let n_drawn = (n as f64 * share) as usize;
        let draw = without_replacement(seed, step, n, n_drawn).unwrap();
        prop_assert_eq!(draw.iter().collect::<BTreeSet<_>>().len(), n_drawn);
        prop_assert!(draw.iter().all(|&i| i < n));
        prop_assert_eq!(draw, without_replacement(seed, step, n, n_drawn).unwrap());
    }

    #[test]
    fn packing_loses_less_than_a_window(docs in prop::collection::vec(prop::collection::vec(1u32..9, 0..20), 0..20), window in 1usize..16) {
        let windows = pack(&docs, 0, window);
        let stream: Vec<u32> = docs.iter().flat_map(|doc| doc.iter().copied().chain([0])).collect();
        prop_assert!(windows.iter().all(|w| w.len() == window));
        let packed = windows.concat();
        prop_assert!(stream.starts_with(&packed) && stream.len() - packed.len() < window);
    }

    #[test]
    fn any_text_survives_the_tokenizer(text in any::<String>()) {
        let tokenizer = Tokenizer::train_bpe(&["the mill by the river", "the river"], 270).unwrap();
        prop_assume!(!text.contains("<|endoftext|>"));
        prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap(), text);
    }

    #[test]
    fn any_pair_survives_its_file(parts in prop::collection::vec(any::<[String; 3]>(), 1..8)) {
        let pairs: Vec<Pair> =
            parts.into_iter().map(|[prompt, chosen, rejected]| Pair { prompt, chosen, rejected }).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.jsonl");
        write_jsonl(&path, &pairs).unwrap();
        prop_assert_eq!(read_pairs(&path, Sides::Both).unwrap(), pairs);
    }

    #[test]
    fn any_documents_survive_their_file(docs in prop::collection::vec("[a-z ]*[a-z](\n\n?[a-z<|>]+){0,3}", 1..8)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.txt");
        write_texts(&path, &docs).unwrap();
        prop_assert_eq!(read_texts(&path).unwrap(), docs);
    }

    #[test]
    fn a_cloze_item_is_its_text_again(words in prop::collection::vec("[a-zé'.]{1,8}", 2..9)) {
        let text = words.join(" ");
        let item = ClozeItem::split(&text).unwrap();
        prop_assert_eq!(item.text(), text);
        prop_assert_eq!(item.target.trim(), words.last().unwrap());
    }
}
