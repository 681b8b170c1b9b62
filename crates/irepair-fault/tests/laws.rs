//! Laws of planted faults, on models of every family in every stored type.

use std::collections::BTreeMap;
use std::path::Path;

use irepair_arch::{Architecture, FAMILIES, Rows, Shape, Slot, UnitMap};
use irepair_core::spec::{Operator, UnitKind};
use irepair_core::weights::write_header;
use irepair_core::{Checkpoint, Unit, UnitList, float};
use irepair_fault::{Error, Fault, plant, undone};
use proptest::prelude::*;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use safetensors::Dtype;

/// A model of a family: two blocks, four heads.
fn architecture(family: usize) -> Architecture {
    let name = FAMILIES[family % FAMILIES.len()].name;
    let grouped = !["gpt2", "gpt-neo", "gpt-neox"].contains(&name);
    let shape = Shape::new(name, [2, 16, 4], 8, 7);
    Shape { n_kv_head: grouped.then_some(2), n_inner: Some(6), ..shape }.architecture().unwrap()
}

type Bytes = BTreeMap<String, Vec<u8>>;

/// Random weights for every parameter, under the names of whole models.
fn weights(of: &Architecture, dtype: Dtype, seed: u64) -> Bytes {
    let mut draws = ChaCha8Rng::seed_from_u64(seed);
    let tensor = |p: irepair_arch::Parameter| {
        let mut bytes = Vec::new();
        float::encode(dtype, (0..p.n_weights()).map(|_| draws.random_range(-1.0..1.0f32)), &mut bytes);
        (of.family.prefix.to_owned() + &p.name, bytes)
    };
    of.parameters().into_iter().map(tensor).collect()
}

/// Writes a model directory.
fn write(dir: &Path, of: &Architecture, dtype: &str, tensors: &Bytes) -> Checkpoint {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("config.json"), of.to_json()).unwrap();
    let mut file = Vec::new();
    let shapes: BTreeMap<String, Vec<usize>> =
        of.parameters().into_iter().map(|p| (of.family.prefix.to_owned() + &p.name, p.shape)).collect();
    let entries = tensors.iter().map(|(name, bytes)| {
        (name.as_str(), dtype.to_owned(), shapes.get(name).map_or(&[1][..], Vec::as_slice), bytes.len() as u64)
    });
    write_header(&mut file, serde_json::json!({}), entries).unwrap();
    tensors.values().for_each(|bytes| file.extend(bytes));
    std::fs::write(dir.join("model.safetensors"), file).unwrap();
    Checkpoint::open(dir).unwrap()
}

/// The tensors after a fault, all of them.
fn planted(of: &Architecture, dtype: Dtype, tensors: &Bytes, fault: &Fault) -> Result<Bytes, Error> {
    let dir = tempfile::tempdir().unwrap();
    let model = write(dir.path(), of, &format!("{dtype:?}"), tensors);
    let changed = plant(&model, of, fault)?;
    let mut all = tensors.clone();
    for (name, bytes) in changed {
        assert_ne!(all.insert(name, bytes).unwrap().len(), 0);
    }
    Ok(all)
}

/// Where two sets of tensors differ: indices of weights, by name.
fn differing(one: &Bytes, other: &Bytes, size: usize) -> Vec<(String, usize)> {
    let of = |(name, bytes): (&String, &Vec<u8>)| {
        let pairs = bytes.chunks(size).zip(other[name].chunks(size)).enumerate();
        pairs.filter(|(_, (a, b))| a != b).map(|(i, _)| (name.clone(), i)).collect::<Vec<_>>()
    };
    one.iter().flat_map(of).collect()
}

fn contained(map: &UnitMap, rows: &[Rows], name: &str, i: usize) -> bool {
    let is_there = |rows: &Rows| {
        let p = &map.parameters()[rows.parameter];
        name.ends_with(&p.name) && rows.runs(&p.shape).any(|run| run.contains(&i))
    };
    rows.iter().any(is_there)
}

/// A fault that fits the model: an operator, a strength that it takes, and units that it acts on.
fn fault(of: &Architecture, operator: Operator, pick: [usize; 3], seed: u64) -> Fault {
    let map = UnitMap::new(of);
    let kinds = operator.row().units;
    let units: Vec<Unit> = map.units(kinds[pick[0] % kinds.len()]).collect();
    let of_unit = |i: usize| units[i % units.len()];
    let scales = matches!(operator, Operator::ScaleKeys | Operator::ScaleValues);
    let units: UnitList = match operator {
        Operator::HeadSwap => {
            let block = pick[1] % 2;
            let (one, other) = (pick[2] % 4, (pick[2] + 1 + pick[1] % 3) % 4);
            format!("{block}.head.{one},{block}.head.{other}").parse().unwrap()
        }
        _ if scales && units[0].kind() == UnitKind::Half => format!("{}.mlp", pick[1] % 2).parse().unwrap(),
        _ => [of_unit(pick[1]), of_unit(pick[2])].into_iter().collect(),
    };
    let strength = match operator {
        Operator::SignFlip | Operator::HeadSwap => None,
        Operator::ScaleKeys | Operator::ScaleValues => Some(2.0),
        Operator::Noise => Some(0.5),
        Operator::BitFlip => Some(3.0),
        Operator::TrainIn => panic!("not planted here"),
    };
    Fault::new(units, operator, strength, seed)
}

fn dtype(i: usize) -> (Dtype, usize) {
    [(Dtype::F32, 4), (Dtype::F16, 2), (Dtype::BF16, 2)][i % 3]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn weights_outside_the_units_keep_their_bits_and_draws_are_of_the_seed(
        family in 0..20usize, kind in 0..3usize, operator in 0..6usize, pick in any::<[u16; 3]>(), seed in 0..5u64,
    ) {
        let (a, (dtype, size)) = (architecture(family), dtype(kind));
        let fault = fault(&a, Operator::ALL[operator], pick.map(usize::from), seed);
        let (map, before) = (UnitMap::new(&a), weights(&a, dtype, 1));
        let after = planted(&a, dtype, &before, &fault).unwrap();
        let rows = map.slice(fault.units.iter()).unwrap();
        let changed = differing(&before, &after, size);
        prop_assert!(!changed.is_empty());
        for (name, i) in changed {
            prop_assert!(contained(&map, &rows, &name, i), "{} of {name} changed under {fault:?}", i);
        }
        prop_assert_eq!(&after, &planted(&a, dtype, &before, &fault).unwrap());
    }

    #[test]
    fn twice_is_the_identity(
        family in 0..20usize, kind in 0..3usize, operator in 0..3usize, pick in any::<[u16; 3]>(), seed in 0..5u64,
    ) {
        let operator = [Operator::SignFlip, Operator::HeadSwap, Operator::BitFlip][operator];
        let (a, (dtype, _)) = (architecture(family), dtype(kind));
        let fault = fault(&a, operator, pick.map(usize::from), seed);
        let before = weights(&a, dtype, 2);
        let once = planted(&a, dtype, &before, &fault).unwrap();
        prop_assert_ne!(&once, &before);
        prop_assert_eq!(planted(&a, dtype, &once, &fault).unwrap(), before);
    }

    #[test]
    fn twice_and_then_half_the_length_is_the_identity(
        family in 0..20usize, kind in 0..3usize, values in any::<bool>(), pick in any::<[u16; 3]>(),
    ) {
        let (a, (dtype, _)) = (architecture(family), dtype(kind));
        let operator = if values { Operator::ScaleValues } else { Operator::ScaleKeys };
        let double = fault(&a, operator, pick.map(usize::from), 0);
        let half = Fault { strength: Some(0.5), ..double.clone() };
        let before = weights(&a, dtype, 3);
        let once = planted(&a, dtype, &before, &double).unwrap();
        prop_assert_eq!(planted(&a, dtype, &once, &half).unwrap(), before);
    }

    #[test]
    fn as_many_bits_are_flipped_as_asked_for(
        family in 0..20usize, kind in 0..3usize, unit in 0..4usize, n in 1..9u32, seed in 0..99u64,
    ) {
        let (a, (dtype, _)) = (architecture(family), dtype(kind));
        let units: UnitList = ["1", "0.attention", "1.head.2", "0.neuron.5"][unit].parse().unwrap();
        let fault = Fault::new(units, Operator::BitFlip, Some(f64::from(n)), seed);
        let before = weights(&a, dtype, 4);
        let after = planted(&a, dtype, &before, &fault).unwrap();
        let bits = before.values().flatten().zip(after.values().flatten()).map(|(a, b)| (a ^ b).count_ones());
        prop_assert_eq!(bits.sum::<u32>(), n);
    }
}

#[test]
fn noise_has_the_size_that_was_asked_for_and_another_seed_another_value() {
    let shape = Shape::new("gpt2", [1, 128, 4], 8, 7);
    let a = shape.architecture().unwrap();
    let before = weights(&a, Dtype::F32, 5);
    let noisy = |seed| {
        let fault = Fault::new("0.mlp".parse().unwrap(), Operator::Noise, Some(0.3), seed);
        planted(&a, Dtype::F32, &before, &fault).unwrap()
    };
    let after = noisy(0);
    let name = "transformer.h.0.mlp.c_fc.weight";
    let of = |all: &Bytes| float::decode(Dtype::F32, &all[name]).unwrap();
    let square = |values: Vec<f32>| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
    let noise: Vec<f32> = of(&after).iter().zip(of(&before)).map(|(a, b)| a - b).collect();
    let mean = noise.iter().map(|v| f64::from(*v)).sum::<f64>() / noise.len() as f64;
    let ratio = (square(noise) / square(of(&before))).sqrt();
    // 65,536 draws: a standard error of 0.3 % of the size, and of 0.0007 of the mean.
    assert!((ratio / 0.3 - 1.0).abs() < 0.015 && mean.abs() < 0.004, "{ratio}, {mean}");
    assert_ne!(noisy(1), after);
}

#[test]
fn operators_change_what_they_say() {
    let a = architecture(FAMILIES.iter().position(|family| family.name == "phi3").unwrap());
    let before = weights(&a, Dtype::F32, 6);
    let changed = |operator, units: &str, strength| {
        let fault = Fault::new(units.parse().unwrap(), operator, strength, 0);
        let after = planted(&a, Dtype::F32, &before, &fault).unwrap();
        let mut slots: BTreeMap<String, usize> = BTreeMap::new();
        for (name, _) in differing(&before, &after, 4) {
            *slots.entry(name.trim_start_matches("model.layers.").to_owned()).or_default() += 1;
        }
        slots.into_iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>()
    };
    let (gate_up, down) = ("1.mlp.gate_up_proj.weight", "1.mlp.down_proj.weight");
    assert_eq!(changed(Operator::ScaleKeys, "1.mlp", Some(0.0)), [format!("{gate_up} 96")], "gates alone");
    assert_eq!(changed(Operator::ScaleKeys, "1.neuron.2", Some(3.0)), [format!("{gate_up} 16")]);
    assert_eq!(changed(Operator::ScaleValues, "1.neuron.2", Some(3.0)), [format!("{down} 16")]);
    assert_eq!(changed(Operator::SignFlip, "1.neuron.0-5", None), [format!("{down} 96")]);
    assert_eq!(changed(Operator::SignFlip, "0.head.1", None), ["0.self_attn.o_proj.weight 64"]);
    assert_eq!(changed(Operator::SignFlip, "1", None), ["1.mlp.down_proj.weight 96", "1.self_attn.o_proj.weight 256"]);
    assert_eq!(changed(Operator::HeadSwap, "0.head.1,0.head.3", None), ["0.self_attn.o_proj.weight 128"]);
    assert_eq!(
        changed(Operator::Noise, "0.head.2-3", Some(1.0)),
        ["0.self_attn.o_proj.weight 128", "0.self_attn.qkv_proj.weight 256"],
        "keys and values of the whole group"
    );
    assert_eq!(
        changed(Operator::Noise, "0.head.2", Some(1.0)),
        ["0.self_attn.o_proj.weight 64", "0.self_attn.qkv_proj.weight 64"]
    );
}

#[test]
fn hostile_settings_and_models_are_refused_by_name() {
    let a = architecture(0);
    let before = weights(&a, Dtype::F32, 7);
    let refused = |units: &str, operator, strength| {
        let fault = Fault::new(units.parse().unwrap(), operator, strength, 0);
        planted(&a, Dtype::F32, &before, &fault).unwrap_err().to_string()
    };
    use Operator::{BitFlip, HeadSwap, Noise, ScaleKeys, SignFlip, TrainIn};
    for (units, operator, strength, said) in [
        ("2", Noise, Some(1.0), "the model has no unit `2`"),
        ("0.head.4", Noise, Some(1.0), "the model has no unit `0.head.4`"),
        ("0.neuron.6", SignFlip, None, "the model has no unit `0.neuron.6`"),
        ("0", Noise, None, "operator noise cannot have this strength"),
        ("0", Noise, Some(0.0), "operator noise cannot have this strength"),
        ("0", Noise, Some(f64::NAN), "operator noise cannot have this strength"),
        ("0", BitFlip, Some(0.5), "operator bit-flip cannot have this strength"),
        ("0", BitFlip, Some(f64::INFINITY), "operator bit-flip cannot have this strength"),
        ("0.neuron.3", BitFlip, Some(18.0), "operator bit-flip cannot have this strength"),
        ("0", BitFlip, Some(1e300), "operator bit-flip cannot have this strength"),
        ("0", SignFlip, Some(1.0), "operator sign-flip cannot have this strength"),
        ("0", HeadSwap, None, "operator head-swap does not act on this unit"),
        ("0.head.1", HeadSwap, None, "operator head-swap does not act on this unit"),
        ("0.head.1-3", HeadSwap, None, "operator head-swap does not act on this unit"),
        ("0.head.1,1.head.1", HeadSwap, None, "operator head-swap does not act on this unit"),
        ("0.attention", ScaleKeys, Some(2.0), "operator scale-keys does not act on this unit"),
        ("0", ScaleKeys, Some(2.0), "operator scale-keys does not act on this unit"),
        ("0.mlp", ScaleKeys, Some(1.0), "the fault changes no weight"),
        ("0", Noise, Some(1e39), "weights would not be finite"),
        ("0", TrainIn, None, "operator train-in cannot have this strength"),
        ("0", TrainIn, Some(1.5), "operator train-in cannot have this strength"),
        ("0,1.mlp", TrainIn, Some(8.0), "operator train-in does not act on this unit"),
        ("0", TrainIn, Some(8.0), "operator train-in cannot have this data"),
    ] {
        let got = refused(units, operator, strength);
        assert!(got.ends_with(said), "{units} {operator} {strength:?}: {got}");
    }
    let on_pairs = |operator, strength| {
        let fault = Fault { data: Some("0".repeat(64)), ..Fault::new("0".parse().unwrap(), operator, strength, 0) };
        planted(&a, Dtype::F32, &before, &fault).unwrap_err()
    };
    assert!(matches!(on_pairs(TrainIn, Some(8.0)), Error::Trains { operator: TrainIn }));
    assert!(matches!(on_pairs(SignFlip, None), Error::Data { operator: SignFlip, want: "none", .. }));
    let flip = Fault::new("1.head.0".parse().unwrap(), SignFlip, None, 0);
    let name = "transformer.h.1.attn.c_proj.weight";
    let with = |dtype: &str, change: &dyn Fn(&mut Bytes)| {
        let mut tensors = before.clone();
        change(&mut tensors);
        let dir = tempfile::tempdir().unwrap();
        plant(&write(dir.path(), &a, dtype, &tensors), &a, &flip).unwrap_err()
    };
    let lacks = with("F32", &|tensors| drop(tensors.remove(name)));
    assert!(matches!(lacks, Error::Misfit { tensor, .. } if tensor == "h.1.attn.c_proj.weight"));
    let integers = with("I32", &|_| ());
    assert!(matches!(integers, Error::Misfit { got, .. } if got == "I32"));
    let broken = with("F32", &|tensors| tensors.get_mut(name).unwrap()[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(matches!(broken, Error::NotFinite { n: 1, tensor } if tensor == name));
    // A config.json of another size.
    let dir = tempfile::tempdir().unwrap();
    let wide = Shape::new("gpt2", [2, 32, 4], 8, 7).architecture().unwrap();
    let other = plant(&write(dir.path(), &a, "F32", &before), &wide, &flip).unwrap_err();
    assert!(matches!(other, Error::Misfit { want, got, .. } if want == "[32, 32]" && got == "[16, 16]"));
    assert!(a.parameters().iter().any(|p| p.slot == Slot::Qkv));
}

#[test]
fn heads_of_several_blocks_swap_pair_by_pair() {
    let a = architecture(0);
    let before = weights(&a, Dtype::F32, 8);
    let swap = |units: &str, tensors: &Bytes| {
        planted(&a, Dtype::F32, tensors, &Fault::new(units.parse().unwrap(), Operator::HeadSwap, None, 0)).unwrap()
    };
    let both = swap("0.head.1,0.head.3,1.head.0,1.head.2", &before);
    assert_eq!(both, swap("1.head.0,1.head.2", &swap("0.head.3,0.head.1", &before)));
}

/// All numbers of a model of 32 bits, moved from `at` by `share` of the way to `to`.
fn moved(at: &Bytes, to: &Bytes, share: f32) -> Bytes {
    let numbers = |bytes: &[u8]| float::decode(Dtype::F32, bytes).unwrap();
    let tensor = |(name, bytes): (&String, &Vec<u8>)| {
        let (at, to, mut out) = (numbers(bytes), numbers(&to[name]), Vec::new());
        float::encode(Dtype::F32, at.iter().zip(to).map(|(at, to)| at + share * (to - at)), &mut out);
        (name.clone(), out)
    };
    at.iter().map(tensor).collect()
}

#[test]
fn a_repair_that_goes_back_undoes_the_fault_and_one_elsewhere_has_no_direction() {
    let dir = tempfile::tempdir().unwrap();
    for (i, family) in FAMILIES.iter().enumerate() {
        let a = architecture(i);
        let clean = weights(&a, Dtype::F32, 1);
        let fault = Fault::new("1.head.2".parse().unwrap(), Operator::Noise, Some(0.5), 3);
        let mutant = planted(&a, Dtype::F32, &clean, &fault).unwrap();
        let held = |name: &str, tensors: &Bytes| write(&dir.path().join(family.name).join(name), &a, "F32", tensors);
        let (clean_model, mutant_model) = (held("clean", &clean), held("mutant", &mutant));
        let cosine = |tensors: &Bytes| undone(&clean_model, &mutant_model, &held("repaired", tensors)).unwrap();
        for (share, want) in [(0.5, 1.0), (1.0, 1.0), (-2.0, -1.0)] {
            let found = cosine(&moved(&mutant, &clean, share)).unwrap();
            assert!((found - want).abs() < 1e-5, "{}: {found} for {share}", family.name);
        }
        assert_eq!(cosine(&mutant), None, "nothing was repaired");
        // Weights that the fault did not change do not count, alone or next to others.
        let elsewhere = |base: &Bytes| {
            let other = Fault::new("1.head.0".parse().unwrap(), Operator::Noise, Some(0.5), 4);
            planted(&a, Dtype::F32, base, &other).unwrap()
        };
        assert_eq!(cosine(&elsewhere(&mutant)), None);
        assert_eq!(cosine(&elsewhere(&moved(&mutant, &clean, 0.5))), cosine(&moved(&mutant, &clean, 0.5)));
        // Other noise in the same place is nearly at right angles to the way back.
        let other = Fault { seed: 5, ..fault.clone() };
        let beyond = cosine(&planted(&a, Dtype::F32, &mutant, &other).unwrap()).unwrap();
        assert!(beyond.abs() < 0.3, "{}: {beyond}", family.name);
    }
}
