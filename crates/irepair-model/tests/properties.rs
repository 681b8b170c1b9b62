//! Laws of the model and its files (STYLE: any padding, save and load; METHOD §1, §2), on random models of two blocks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use irepair_core::{BlockId, BlockSlice, Diagnose, PaddedTokens, Scope};
use irepair_model::{CausalLm, Decoding, Error, Family, ModelConfig, TokenBatch};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor, no_grad};

const FAMILIES: [Family; 2] = [Family::Gpt2, Family::GptNeo];
const N_VOCAB: u32 = 19;

fn config(family: Family) -> ModelConfig {
    match family {
        Family::Gpt2 => ModelConfig::gpt2(2, 16, 2, 32, N_VOCAB as usize),
        Family::GptNeo => ModelConfig::gpt_neo(2, 16, 2, 32, N_VOCAB as usize, 4),
    }
}

/// Weights large enough that the text decides the next token, whatever a fresh model starts from.
fn model(family: Family) -> CausalLm {
    // Tests run beside each other; threads inside an operation this small only wait for one another.
    tch::set_num_threads(1);
    let model = CausalLm::random(config(family), 5, Device::Cpu, Kind::Float).unwrap();
    no_grad(|| {
        for (i, parameter) in model.parameters().iter().enumerate() {
            let n = Tensor::arange(parameter.tensor.numel() as i64, (Kind::Double, Device::Cpu));
            let noise = ((n * 12.9898 + i as f64).sin() * 43758.5453).frac().view_as(&parameter.tensor);
            parameter.tensor.shallow_clone().copy_(&(noise * 0.3));
        }
    });
    model
}

fn bits(model: &CausalLm) -> Vec<Vec<u32>> {
    let of = |t: &Tensor| Vec::<f32>::try_from(t.detach().view(-1)).unwrap().into_iter().map(f32::to_bits).collect();
    model.parameters().iter().map(|p| of(&p.tensor)).collect()
}

/// Logits at the real tokens of one row.
fn logits_of(model: &CausalLm, padded: &PaddedTokens, row: i64) -> Vec<f32> {
    let batch = TokenBatch::new(padded, Device::Cpu);
    let logits = no_grad(|| model.logits(&batch));
    assert!(logits.isfinite().all().int64_value(&[]) == 1, "pads are finite too");
    let real = batch.real.select(0, row);
    Vec::try_from(logits.select(0, row).index(&[Some(&real)]).view(-1)).unwrap()
}

fn assert_near(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    let far = got.iter().zip(want).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0f32, f32::max);
    assert!(far <= 1e-5, "off by {far:e}");
}

fn texts() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..N_VOCAB, 1..12), 1..5)
}

// ---- the forward pass ---------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn logits_do_not_depend_on_padding_or_neighbours(rows in texts(), cut in 0usize..12, neo: bool) {
        let model = model(FAMILIES[usize::from(neo)]);
        let (right, left) = (PaddedTokens::right_padded(&rows, 0).unwrap(), PaddedTokens::left_padded(&rows, 7).unwrap());
        // Prompts to the left, continuations to the right: pads on both sides.
        let split = |row: &Vec<u32>| cut.min(row.len());
        let prompts: Vec<Vec<u32>> = rows.iter().map(|r| r[..split(r)].to_vec()).collect();
        let continuations: Vec<Vec<u32>> = rows.iter().map(|r| r[split(r)..].to_vec()).collect();
        let both = PaddedTokens::prompted(&prompts, &continuations, 3).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let alone = PaddedTokens::right_padded(std::slice::from_ref(row), 0).unwrap();
            let want = logits_of(&model, &alone, 0);
            for padded in [&right, &left, &both] {
                assert_near(&logits_of(&model, padded, i as i64), &want);
            }
        }
    }

    #[test]
    fn a_token_sees_only_what_came_before(row in prop::collection::vec(0..N_VOCAB, 2..12), last in 0..N_VOCAB, neo: bool) {
        let model = model(FAMILIES[usize::from(neo)]);
        let mut other = row.clone();
        *other.last_mut().unwrap() = last;
        let of = |row: Vec<u32>| logits_of(&model, &PaddedTokens::right_padded(&[row], 0).unwrap(), 0);
        let n = (row.len() - 1) * N_VOCAB as usize;
        assert_near(&of(row)[..n], &of(other)[..n]);
    }

    #[test]
    fn generation_is_unaffected_by_left_padding(rows in texts(), neo: bool) {
        let model = model(FAMILIES[usize::from(neo)]);
        let together = model.generate(&rows, 5, Decoding::Greedy, Some(2)).unwrap();
        for (row, want) in rows.iter().zip(together) {
            prop_assert_eq!(&model.generate(std::slice::from_ref(row), 5, Decoding::Greedy, Some(2)).unwrap()[0], &want);
        }
    }
}

#[test]
fn generating_changes_no_weight() {
    for family in FAMILIES {
        let model = model(family);
        let before = bits(&model);
        model.generate(&[vec![1, 2], vec![3]], 6, Decoding::Greedy, None).unwrap();
        model.generate(&[vec![1]], 6, Decoding::Nucleus { top_p: 0.9, temperature: 1.0, seed: 1 }, None).unwrap();
        assert!(bits(&model) == before);
    }
}

#[test]
fn the_same_seed_makes_the_same_model() {
    for family in FAMILIES {
        let make = |seed| bits(&CausalLm::random(config(family), seed, Device::Cpu, Kind::Float).unwrap());
        assert!(make(1) == make(1));
        assert!(make(1) != make(2));
    }
}

#[test]
fn a_duplicate_has_weights_of_its_own() {
    for family in FAMILIES {
        let model = model(family);
        let copy = model.duplicate().unwrap();
        assert!(bits(&model) == bits(&copy));
        let before = bits(&copy);
        no_grad(|| model.parameters().iter().for_each(|p| drop(p.tensor.shallow_clone().g_add_scalar_(1.0))));
        assert!(bits(&copy) == before);
        // The head of the copy is the copy's embedding.
        let batch = PaddedTokens::right_padded(&[vec![1, 2, 3]], 0).unwrap();
        no_grad(|| drop(copy.parameters()[0].tensor.shallow_clone().g_mul_scalar_(0.0)));
        assert!(logits_of(&copy, &batch, 0).iter().all(|&z| z == 0.0));
    }
}

// ---- who may change -----------------------------------------------------------------------------------------------

#[test]
fn gradients_reach_the_scope_and_nothing_else() {
    let batch = TokenBatch::new(&PaddedTokens::right_padded(&[vec![3, 1, 4, 1, 5]], 0).unwrap(), Device::Cpu);
    for family in FAMILIES {
        let model = model(family);
        let loss = |scope: &Scope| {
            model.train_only(scope);
            model.gradients(&model.logits(&batch).square().mean(Kind::Float))
        };
        let all = loss(&Scope::Everything).unwrap();
        assert_eq!(all.len(), model.parameters().len());
        for slice in [vec![0], vec![1], vec![0, 1]] {
            let slice = BlockSlice::from_indices(slice);
            let gradients = loss(&Scope::Blocks(slice.clone())).unwrap();
            for (index, gradient) in &gradients {
                assert!(model.parameters()[*index].block.is_some_and(|b| slice.contains(b)));
                // The slice changes which gradients are computed, not what they are.
                let full = &all.iter().find(|(i, _)| i == index).unwrap().1;
                let far = (gradient - full).abs().max().double_value(&[]);
                assert!(far <= 1e-6 * full.abs().max().double_value(&[]).max(1.0), "{far:e}");
            }
            let n_of = |b: BlockId| model.parameters().iter().filter(|p| p.block == Some(b)).count();
            assert_eq!(gradients.len(), slice.iter().map(n_of).sum::<usize>());
            assert!(model.parameters().iter().all(|p| !p.tensor.grad().defined()), "nothing is stored");
        }
        model.freeze();
        assert!(model.gradients(&model.logits(&batch).sum(Kind::Float)).is_err(), "no parameter wants a gradient");
    }
}

// ---- files --------------------------------------------------------------------------------------------------------

/// Every file of a directory, by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    fs::read_dir(dir).unwrap().map(read).collect()
}

fn load(dir: &Path) -> CausalLm {
    CausalLm::load(dir, Device::Cpu, Kind::Float).unwrap().0
}

/// Splits the one weights file of `dir` in two, with an index, as large checkpoints come.
fn shard(dir: &Path) {
    let whole = dir.join("model.safetensors");
    let (tensors, metadata) = irepair_model::read_tensors(&whole).unwrap();
    let shard_of = |name: &str| format!("model-0000{}-of-00002.safetensors", 1 + usize::from(name.contains(".h.1.")));
    let mut map = serde_json::Map::new();
    for file in [shard_of(""), shard_of(".h.1.")] {
        let part: Vec<_> =
            tensors.iter().filter(|(name, _)| shard_of(name) == file).map(|(n, t)| (n.clone(), t)).collect();
        irepair_model::write_tensors(&dir.join(&file), &part, metadata.clone()).unwrap();
        part.iter().for_each(|(name, _)| drop(map.insert(name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::remove_file(whole).unwrap();
}

#[test]
fn save_load_save_gives_identical_files() {
    for family in FAMILIES {
        for sharded in [false, true] {
            let dirs = [0; 3].map(|_| tempfile::tempdir().unwrap());
            let [first, second, third] = dirs.each_ref().map(|d| d.path());
            let made = model(family);
            made.save(first).unwrap();
            fs::write(first.join("tokenizer.json"), "{}").unwrap();
            if sharded {
                shard(first);
            }
            let loaded = load(first);
            assert!(bits(&loaded) == bits(&made));
            loaded.save(second).unwrap();
            assert_eq!(files(second).keys().collect::<Vec<_>>(), files(first).keys().collect::<Vec<_>>());
            assert!(files(second) == files(first), "{family:?}, sharded {sharded}");
            // Onto itself, and on from there.
            load(second).save(second).unwrap();
            load(second).save(third).unwrap();
            assert!(files(third) == files(first));
        }
    }
}

#[test]
fn a_changed_weight_changes_its_bytes_alone() {
    let dirs = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let [first, second] = dirs.each_ref().map(|d| d.path());
    model(Family::Gpt2).save(first).unwrap();
    let changed = load(first);
    let parameter = changed.parameters().iter().find(|p| p.name == "h.1.mlp.c_fc.bias").unwrap();
    no_grad(|| drop(parameter.tensor.shallow_clone().fill_(0.25)));
    changed.save(second).unwrap();
    let (before, _) = irepair_model::read_tensors(&first.join("model.safetensors")).unwrap();
    let (after, _) = irepair_model::read_tensors(&second.join("model.safetensors")).unwrap();
    let differing: Vec<_> = before.keys().filter(|name| before[*name] != after[*name]).collect();
    assert_eq!(differing, ["transformer.h.1.mlp.c_fc.bias"]);
}

// ---- hostile and broken files -------------------------------------------------------------------------------------

/// A saved GPT-2 to break.
fn victim() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    model(Family::Gpt2).save(dir.path()).unwrap();
    dir
}

/// What loading says, with the directory's own path taken out.
fn complaint(dir: &Path) -> String {
    match CausalLm::load(dir, Device::Cpu, Kind::Float) {
        Ok(_) => panic!("loaded"),
        Err(error) => error
            .diagnostic()
            .to_string()
            .replace(&format!("{}/", dir.display()), "")
            .replace(&dir.display().to_string(), "DIR"),
    }
}

fn rewrite(dir: &Path, change: impl FnOnce(&mut std::collections::HashMap<String, Tensor>)) {
    let path = dir.join("model.safetensors");
    let (mut tensors, metadata) = irepair_model::read_tensors(&path).unwrap();
    change(&mut tensors);
    let tensors: Vec<_> = tensors.iter().map(|(n, t)| (n.clone(), t)).collect();
    irepair_model::write_tensors(&path, &tensors, metadata).unwrap();
}

const FETCH: &str = "\n help: fetch the file again, then compare its size";

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let dir = victim();
    rewrite(dir.path(), |tensors| {
        let transposed = tensors["transformer.h.1.attn.c_attn.weight"].tr().contiguous();
        tensors.insert("transformer.h.1.attn.c_attn.weight".into(), transposed);
    });
    assert_eq!(
        complaint(dir.path()),
        "error: checkpoint tensor has the wrong shape\n   at: model.safetensors, tensor \
         `transformer.h.1.attn.c_attn.weight`\n want: [16, 48]    got: [48, 16]\n help: config.json and the weights \
         belong to different models, or a projection was stored transposed"
    );
}

#[test]
fn a_missing_tensor_is_named() {
    let dir = victim();
    rewrite(dir.path(), |tensors| drop(tensors.remove("transformer.h.0.ln_2.bias")));
    assert_eq!(
        complaint(dir.path()),
        "error: checkpoint lacks a tensor\n   at: DIR, tensor `h.0.ln_2.bias`\n help: the files do not hold the model \
         that config.json describes: a shard or the right config is missing"
    );
}

#[test]
fn a_type_we_do_not_read_is_named() {
    let dir = victim();
    let path = dir.path().join("model.safetensors");
    let header = r#"{"transformer.ln_f.bias":{"dtype":"F64","shape":[16],"data_offsets":[0,128]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 128]);
    fs::write(path, bytes).unwrap();
    assert_eq!(
        complaint(dir.path()),
        "error: checkpoint tensor has an unsupported type\n   at: model.safetensors, tensor `transformer.ln_f.bias`\n \
         want: F32, F16 or BF16    got: F64\n help: re-save the checkpoint in one of those types"
    );
}

#[test]
fn what_is_no_weights_file_is_called_by_its_name() {
    let dir = victim();
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n".to_vec();
    let short = "its size is not what its header says: a copy or download was cut short";
    let page = "an HTML or XML page, not the weights: the download failed";
    let pickle = "a pickle checkpoint under a safetensors name";
    for (bytes, reason) in [
        (lfs, "a git-lfs pointer, not the weights: fetch the large file"),
        (b"<!DOCTYPE html><html>404</html>".to_vec(), page),
        (b"\n  <?xml version=\"1.0\"?>".to_vec(), page),
        (b"PK\x03\x04 archive/data.pkl".to_vec(), pickle),
        (b"\x80\x02}q\x00(X\x0a".to_vec(), pickle),
        (whole[..whole.len() - 1].to_vec(), short),
        (whole[..whole.len() / 2].to_vec(), short),
        (whole[..40].to_vec(), "not a safetensors file: invalid header length"),
        (whole[..5].to_vec(), "not a safetensors file: header too small"),
        (vec![], "the file is empty"),
        ([u64::MAX.to_le_bytes().as_slice(), b"{}"].concat(), "not a safetensors file: header too large"),
    ] {
        fs::write(&path, bytes).unwrap();
        let want = format!("error: model file is unreadable: {reason}\n   at: model.safetensors{FETCH}");
        assert_eq!(complaint(dir.path()), want);
    }
}

#[test]
fn a_pickle_alone_is_not_opened() {
    let dir = victim();
    fs::rename(dir.path().join("model.safetensors"), dir.path().join("pytorch_model.bin")).unwrap();
    assert_eq!(
        complaint(dir.path()),
        format!(
            "error: model file is unreadable: pickle checkpoints can run code when opened and are not read\n   at: \
             pytorch_model.bin{FETCH}"
        )
    );
}

#[test]
fn a_missing_file_is_named_with_what_a_model_directory_holds() {
    let help = "\n help: give a Hugging Face model directory: config.json, model.safetensors (or shards with \
                model.safetensors.index.json) and tokenizer.json";
    let dir = victim();
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    assert_eq!(complaint(dir.path()), format!("error: model file is missing\n   at: model.safetensors{help}"));
    fs::remove_file(dir.path().join("config.json")).unwrap();
    assert_eq!(complaint(dir.path()), format!("error: model file is missing\n   at: config.json{help}"));

    let dir = victim();
    shard(dir.path());
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    let want = format!("error: model file is missing\n   at: model-00002-of-00002.safetensors{help}");
    assert_eq!(complaint(dir.path()), want);
}

#[test]
fn an_index_cannot_reach_outside_its_directory() {
    let dir = victim();
    let outside = dir.path().parent().unwrap().join("x.safetensors");
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    let at = format!("\n   at: model.safetensors.index.json{FETCH}");
    for name in ["../x.safetensors", "/etc/x.safetensors", "a/x.safetensors", "..", "", "x.bin"] {
        fs::write(&index, serde_json::json!({"weight_map": {"wte.weight": name}}).to_string()).unwrap();
        let reason = format!("shard name `{name}` is not a safetensors file of this directory");
        assert_eq!(complaint(dir.path()), format!("error: model file is unreadable: {reason}{at}"));
        assert!(!outside.exists());
    }
    for (text, reason) in [
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        ("{}", "no `weight_map`"),
        (r#"{"weight_map": {}}"#, "`weight_map` is empty"),
        (r#"{"weight_map": {"wte.weight": 7}}"#, "shard name `` is not a safetensors file of this directory"),
    ] {
        fs::write(&index, text).unwrap();
        assert_eq!(complaint(dir.path()), format!("error: model file is unreadable: {reason}{at}"));
    }
}

#[test]
fn a_config_we_cannot_compute_is_refused_by_key() {
    let dir = victim();
    let path = dir.path().join("config.json");
    let original: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let with = |key: &str, value: serde_json::Value| {
        let mut config = original.clone();
        config[key] = value;
        fs::write(&path, config.to_string()).unwrap();
        complaint(dir.path())
    };
    assert_eq!(
        with("model_type", "llama".into()),
        "error: unsupported model setting\n   at: config.json, key `model_type`\n want: gpt2 or gpt_neo    got: llama\n \
         help: GPT-2 and GPT-Neo causal language models are supported"
    );
    for (key, value, want) in [
        ("n_head", 3.into(), "want: a divisor of 16    got: 3"),
        ("n_embd", 0.into(), "want: a whole number of at least 1    got: 0"),
        ("n_positions", (1_u64 << 40).into(), "want: a whole number of at least 1    got: 1099511627776"),
        ("vocab_size", serde_json::Value::Null, "want: a whole number of at least 1    got: null"),
        ("activation_function", "mish".into(), "got: mish"),
        ("tie_word_embeddings", "yes".into(), "want: true or false    got: \"yes\""),
    ] {
        let said = with(key, value);
        assert!(said.contains(&format!("key `{key}`")) && said.contains(want), "{said}");
    }
    fs::write(&path, "[1]").unwrap();
    assert!(
        complaint(dir.path()).starts_with("error: model file is unreadable: not a JSON object\n   at: config.json")
    );
}

#[test]
fn a_broken_load_leaves_the_files_as_they_were() {
    let dir = victim();
    fs::write(dir.path().join("model.safetensors"), b"version https://git-lfs").unwrap();
    let before = files(dir.path());
    complaint(dir.path());
    assert!(files(dir.path()) == before);
}

#[test]
fn too_many_positions_are_refused_with_both_numbers() {
    let model = model(Family::Gpt2);
    assert!(model.check_length(32).is_ok());
    let error = model.generate(&[vec![1; 30]], 3, Decoding::Greedy, None).unwrap_err();
    assert!(matches!(error, Error::ContextOverflow { n_positions: 32, got: 33 }));
    assert_eq!(
        error.diagnostic().to_string(),
        "error: text is longer than the model's context\n want: at most 32 positions    got: 33\n help: shorten the text \
         or lower --max-prompt / --max-continuation"
    );
}
