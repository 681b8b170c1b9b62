//! Files that are cut short, contradict themselves or ask for more than there is: refused by name, nothing written.

use std::fs;
use std::path::{Path, PathBuf};

use irepair_core::{Diagnose, ExitKind};
use irepair_gguf::{Conversion, Error, GgufFile};

fn golden(name: &str) -> Vec<u8> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf").join(name);
    fs::read(path).unwrap()
}

/// What is said of a file with these bytes; none when it can be converted.
fn said(bytes: &[u8]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let out = dir.path().join("out");
    let done = GgufFile::open(&path).and_then(|file| Conversion::plan(&file)?.write(&out, &mut |_| {}));
    assert_eq!(done.is_ok(), out.join("config.json").exists(), "a directory with a config.json is whole");
    let error = done.err()?;
    let diagnostic = error.diagnostic();
    assert!(diagnostic.exit == ExitKind::Data, "{diagnostic}");
    Some(diagnostic.to_string())
}

fn refused(bytes: &[u8], want: &str) {
    let got = said(bytes).expect(want);
    assert!(got.contains(want), "want: {want}\ngot: {got}");
}

/// The index after the first occurrence of `text`.
fn after(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap() + text.len()
}

/// `bytes` with `new` written over the byte at `at` and those after it.
fn with(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = golden("smollm.gguf");
    assert_eq!(said(&whole), None);
    for n in (0..whole.len()).step_by(97) {
        let what = said(&whole[..n]).unwrap_or_else(|| panic!("{n} bytes of {} are accepted", whole.len()));
        assert!(n > 3 || what.contains("file is not GGUF"), "{what}");
    }
}

#[test]
fn other_formats_are_named() {
    refused(b"", "the file is empty");
    refused(b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer");
    refused(b"<!doctype html>", "HTML or XML page");
    let whole = golden("smollm.gguf");
    refused(&with(&whole, 4, &1u32.to_le_bytes()), "little-endian version 2 or 3    got: 1");
    refused(&with(&whole, 4, &3u32.to_be_bytes()), "got: big-endian version 3");
}

#[test]
fn counts_and_lengths_beyond_the_file_take_no_memory() {
    let whole = golden("smollm.gguf");
    for (at, place) in [(8, "number of tensors"), (16, "number of metadata keys"), (24, "metadata key")] {
        for n in [1u64 << 32, u64::MAX / 2, u64::MAX] {
            refused(&with(&whole, at, &n.to_le_bytes()), &format!("`{place}`"));
        }
    }
    let list = after(&whole, "tokenizer.ggml.tokens") + 8;
    refused(&with(&whole, list, &u64::MAX.to_le_bytes()), "`tokenizer.ggml.tokens`");
    refused(&with(&whole, list - 4, &9u32.to_le_bytes()), "a list of lists");
    refused(&with(&whole, list - 4, &77u32.to_le_bytes()), "value type 77 does not exist");
    refused(&with(&whole, list - 8, &77u32.to_le_bytes()), "value type 77 does not exist");
}

#[test]
fn tensors_lie_in_the_file_apart_and_aligned() {
    let whole = golden("smollm.gguf");
    // Dimensions, sizes, type, offset.
    let at = after(&whole, "blk.0.attn_v.weight");
    refused(&with(&whole, at, &5u32.to_le_bytes()), "5 dimensions, not 1 to 4");
    refused(&with(&whole, at + 4, &0u64.to_le_bytes()), "impossible shape");
    refused(&with(&whole, at + 4, &(1u64 << 63).to_le_bytes()), "impossible shape");
    refused(&with(&whole, at + 4, &33u64.to_le_bytes()), "rows of 33 values");
    refused(&with(&whole, at + 12, &(1u64 << 40).to_le_bytes()), "the file ends before the tensor does");
    // Every type of the Python package `gguf` that is not read.
    for (number, name) in [
        (9u32, "Q8_1"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (24, "I8"),
        (25, "I16"),
        (26, "I32"),
        (27, "I64"),
        (28, "F64"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
        (40, "NVFP4"),
        (41, "Q1_0"),
        (99, "type number 99"),
    ] {
        refused(&with(&whole, at + 20, &number.to_le_bytes()), &format!("got: {name}"));
    }
    refused(&with(&whole, at + 24, &33u64.to_le_bytes()), "not at a multiple of 32");
    refused(&with(&whole, at + 24, &0u64.to_le_bytes()), "overlaps the tensor");
    refused(&with(&whole, at + 24, &(u64::MAX - 31).to_le_bytes()), "the file ends before the tensor does");
    let name = at - "blk.0.attn_v.weight".len();
    refused(&with(&whole, name, b"blk.0.attn_q"), "the tensor occurs twice");
    refused(&with(&whole, name, b"blk.0.attn_x"), "want: shape [16, 32]    got: nothing");
    refused(&with(&whole, name, &[0xff]), "text that is not UTF-8");
}

#[test]
fn what_would_change_the_model_is_refused_by_key() {
    let whole = golden("smollm.gguf");
    let over = |key: &str, new: &str| with(&whole, after(&whole, key) - key.len(), new.as_bytes());
    refused(&over("llama.block_count", "llama.block_coun_"), "metadata `llama.block_coun_`");
    refused(&over("llama.context_length", "llama.feed_forward_l"), "metadata `llama.");
    let number = |key: &str, n: u32| with(&whole, after(&whole, key) + 4, &n.to_le_bytes());
    refused(&number("llama.block_count", 3), "tensor `blk.2.attn_norm.weight`");
    refused(&number("llama.block_count", 1), "want: no such tensor");
    refused(&number("llama.block_count", u32::MAX), "metadata `llama.block_count`");
    refused(&number("llama.attention.head_count", 3), "want: a divisor of the 3 heads");
    refused(&number("llama.attention.head_count_kv", 4), "tensor `blk.0.attn_k.weight`");
    refused(&number("llama.attention.head_count_kv", 0), "metadata `llama.attention.head_count_kv`");
    refused(&number("llama.rope.dimension_count", 6), "want: 8, the width of a head");
    refused(&number("llama.vocab_size", 300), "metadata `llama.vocab_size`");
    refused(&number("llama.rope.freq_base", f32::NAN.to_bits()), "want: a positive number");
    refused(&number("tokenizer.ggml.eos_token_id", 340), "want: an id below 340");
    refused(&over("tokenizer.ggml.model", "tokenizer.ggml.madel"), "metadata `tokenizer.ggml.model`");
    let text = |key: &str, new: &str| with(&whole, after(&whole, key) + 12, new.as_bytes());
    refused(
        &text("general.architecture", "gemma"),
        "want: one of `llama`, `qwen2`, `qwen3`, `gemma2`, `gemma3`, `phi3`    got: `gemma`",
    );
    refused(&text("tokenizer.ggml.model", "bert"), "want: `gpt2`");
    refused(
        &text("tokenizer.ggml.pre", "smolly"),
        "want: one of `gpt-2`, `smollm`, `llama-bpe`, `qwen2`    got: `smolly`",
    );
}

/// `bytes` with one more metadata key: type number and value as stored. A filler key keeps the tensor data aligned.
fn with_key(bytes: &[u8], key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let stored = |key: &str, kind: u32, value: &[u8]| {
        let n = (key.len() as u64).to_le_bytes();
        [&n[..], key.as_bytes(), &kind.to_le_bytes(), value].concat()
    };
    let mut keys = stored(key, kind, value);
    let filler = vec![b'x'; 64 - (keys.len() + stored("general.filler", 8, &[0; 8]).len()) % 32];
    keys.extend(stored("general.filler", 8, &text_value(std::str::from_utf8(&filler).unwrap())));
    let n_keys = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 2;
    [&bytes[..16], &n_keys.to_le_bytes(), &keys, &bytes[24..]].concat()
}

fn text_value(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn settings_that_would_change_the_model_are_not_ignored() {
    let whole = golden("smollm.gguf");
    let layout = |name: &str| with_key(&whole, "llama.tensor_data_layout", 8, &text_value(name));
    assert_eq!(said(&layout("Meta AI original pth")), None);
    refused(&layout("reference"), "metadata `llama.tensor_data_layout`");
    // A factor counts with Llama 3's factors too: a file with both says two things.
    let scaled = golden("llama-bpe.gguf");
    let factor = |x: f32| with_key(&scaled, "llama.rope.scaling.factor", 6, &x.to_le_bytes());
    assert_eq!(said(&factor(1.0)), None);
    refused(&factor(2.0), "metadata `llama.rope.scaling.type`");
}

#[test]
fn other_architectures_and_their_settings_are_refused_by_key() {
    let number = |bytes: &[u8], key: &str, n: u32| with(bytes, after(bytes, key) + 4, &n.to_le_bytes());
    let (gemma2, gemma3, phi3, qwen2) =
        (golden("gemma2.gguf"), golden("gemma3.gguf"), golden("phi3.gguf"), golden("qwen2-arch.gguf"));
    for whole in [&gemma2, &gemma3, &phi3, &qwen2] {
        assert_eq!(said(whole), None);
    }
    // A key of one architecture is none of another's.
    let window =
        |bytes: &[u8], arch: &str| with_key(bytes, &format!("{arch}.attention.sliding_window"), 4, &[9, 0, 0, 0]);
    refused(&window(&qwen2, "qwen2"), "metadata `qwen2.attention.sliding_window`");
    let pattern = |n: u32| with_key(&gemma3, "gemma3.attention.sliding_window_pattern", 4, &n.to_le_bytes());
    assert_eq!(said(&pattern(6)), None);
    refused(&pattern(4), "want: 6: one of so many blocks has no window");
    let list = [&7u32.to_le_bytes()[..], &7u64.to_le_bytes(), &[1, 1, 1, 1, 1, 0, 1]].concat();
    assert_eq!(said(&with_key(&gemma3, "gemma3.attention.sliding_window_pattern", 9, &list)), None);
    refused(&number(&gemma2, "gemma2.attn_logit_softcapping", 0), "metadata `gemma2.attn_logit_softcapping`");
    refused(&with_key(&gemma2, "gemma2.rope.scaling.factor", 6, &2f32.to_le_bytes()), "`gemma2.rope.scaling.type`");
    refused(&with_key(&gemma3, "gemma3.expert_count", 4, &[8, 0, 0, 0]), "metadata `gemma3.expert_count`");
    refused(&number(&phi3, "phi3.rope.dimension_count", 10), "want: an even number up to 8");
    refused(&number(&phi3, "phi3.rope.dimension_count", 6), "tensor `rope_factors_long.weight`");
    refused(&number(&phi3, "phi3.rope.scaling.attn_factor", 1f32.to_bits()), "`phi3.rope.scaling.attn_factor`");
    refused(&number(&phi3, "phi3.rope.scaling.original_context_length", 1), "`phi3.rope.scaling.attn_factor`");
    refused(&with_key(&phi3, "phi3.rope.scaling.type", 8, &text_value("yarn")), "want: `longrope`");
    let infinite = |name: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &phi3).unwrap();
        let at = GgufFile::open(file.path()).unwrap().tensors()[name].offset as usize;
        with(&phi3, at, &f32::INFINITY.to_le_bytes())
    };
    refused(&infinite("rope_factors_short.weight"), "want: positive numbers");
    // A norm's value that no weight and 1 add up to.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &gemma2).unwrap();
    let at = GgufFile::open(file.path()).unwrap().tensors()["output_norm.weight"].offset as usize;
    refused(&with(&gemma2, at, &1e-20f32.to_le_bytes()), "want: weights to which 1 was added");
}

#[test]
fn sentencepiece_that_would_give_other_ids_is_refused() {
    let whole = golden("llama-spm.gguf");
    let bool_key = |key: &str| with_key(&whole, key, 7, &[1]);
    refused(&bool_key("tokenizer.ggml.remove_extra_whitespaces"), "want: none: texts are not normalised");
    refused(&bool_key("tokenizer.ggml.escapes"), "metadata `tokenizer.ggml.escapes`");
    let map = [&0u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[7]].concat();
    refused(&with_key(&whole, "tokenizer.ggml.precompiled_charsmap", 9, &map), "precompiled_charsmap");
    let over = |key: &str, new: &str| with(&whole, after(&whole, key) - key.len(), new.as_bytes());
    refused(&over("tokenizer.ggml.scores", "tokenizer.ggml.merges"), "metadata `tokenizer.ggml.scores`");
    refused(&over("<0x41>", "<0x4_>"), "want: a token for every byte    got: `no <0x41>`");
    let scores = after(&whole, "tokenizer.ggml.scores") + 16;
    refused(&with(&whole, scores + 4 * 300, &f32::NAN.to_le_bytes()), "metadata `tokenizer.ggml.scores`");
    // Two merged tokens with the score of the first.
    let first = whole[scores + 4 * 259..][..4].to_vec();
    refused(&with(&whole, scores + 4 * 260, &first), "want: different scores for tokens that merges make");
    // A token of two characters, the first of which is no token.
    let bell = with(&whole, after(&whole, "\u{2}\0\0\0\0\0\0\0er") - 2, b"\x07");
    refused(&bell, "want: a token for every character of a token");
}

#[test]
fn an_output_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.gguf"), golden("smollm.gguf")).unwrap();
    let file = GgufFile::open(&dir.path().join("model.gguf")).unwrap();
    let out = dir.path().join("out");
    let conversion = Conversion::plan(&file).unwrap();
    conversion.write(&out, &mut |_| {}).unwrap();
    assert!(matches!(conversion.write(&out, &mut |_| {}), Err(Error::File(irepair_core::Error::OutExists { .. }))));
    fs::create_dir(dir.path().join("notes")).unwrap();
    fs::write(dir.path().join("notes/mine.txt"), "mine").unwrap();
    assert!(matches!(
        conversion.write(&dir.path().join("notes"), &mut |_| {}),
        Err(Error::File(irepair_core::Error::OutExists { .. }))
    ));
    // What a process that was killed left is finished.
    fs::create_dir(dir.path().join("half")).unwrap();
    irepair_core::mark_unfinished(&dir.path().join("half"), "irepair import").unwrap();
    fs::write(dir.path().join("half/model.safetensors"), "half").unwrap();
    conversion.write(&dir.path().join("half"), &mut |_| {}).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(dir.path().join("half").join(name)).unwrap());
    }
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let mut whole = golden("smollm.gguf");
    let n = whole.len();
    // The last tensor of the file ends with a value of 32 bits or a block: an infinite one, and the scale of a block.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &whole).unwrap();
    let read = GgufFile::open(file.path()).unwrap();
    let (name, info) = read.tensors().iter().find(|(_, info)| info.kind.n_values() == 1).unwrap();
    let at = info.offset as usize;
    assert!(at + 4 <= n);
    whole[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    refused(&whole, &format!("tensor `{name}`"));
}

#[test]
fn changed_bytes_are_refused_by_name_or_make_a_whole_directory() {
    let whole = golden("smollm.gguf");
    let head = after(&whole, "blk.1.ffn_down.weight") + 32;
    let mut state = 7u64;
    let mut draw = |n: usize| {
        // Numbers of a linear congruential generator: the same at every run.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut n_refused = 0;
    for _ in 0..600 {
        let mut bytes = whole.clone();
        for _ in 0..1 + draw(3) {
            bytes[draw(head)] = [0, 1, 0x7f, 0x80, 0xff][draw(5)];
        }
        n_refused += usize::from(said(&bytes).is_some());
    }
    assert!(n_refused > 300, "{n_refused} of 600 are refused");
}
