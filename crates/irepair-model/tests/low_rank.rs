//! A repair of low rank becomes an adapter whose product is the change; anything else is refused by name.

use std::fs;

use irepair_core::Diagnose;
use irepair_model::{BlockModel, CausalLm, read_tensors, save_low_rank};
use tch::{Kind, Tensor, no_grad};

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;
use common::{FAMILIES, load, model};

fn noise(shape: [i64; 2], salt: f64) -> Tensor {
    let n = Tensor::arange(shape[0] * shape[1], (Kind::Float, tch::Device::Cpu));
    ((n + salt) * 12.9898).sin().view(shape) * 0.05
}

/// A base on disk, and a copy with changes of rank 2 in the matrices of its second block.
fn pair(family: &str, dir: &std::path::Path) -> (CausalLm, CausalLm) {
    model(family).save(&dir.join("base")).unwrap();
    let (base, repaired) = (load(&dir.join("base")), load(&dir.join("base")));
    no_grad(|| {
        for (i, parameter) in repaired.parameters().iter().enumerate() {
            if let (Some(irepair_core::BlockId(1)), &[rows, columns]) =
                (parameter.block, parameter.tensor.size().as_slice())
            {
                let change = noise([rows, 2], i as f64).matmul(&noise([2, columns], 0.5));
                parameter.tensor.shallow_clone().copy_(&(&parameter.tensor + change));
            }
        }
    });
    (base, repaired)
}

#[test]
fn the_product_of_the_factors_is_the_change() {
    for family in FAMILIES {
        let dir = tempfile::tempdir().unwrap();
        let (base, repaired) = pair(family, dir.path());
        for rank in [2, 3, 16] {
            let out = dir.path().join(format!("adapter-{rank}"));
            fs::create_dir(&out).unwrap();
            let found = save_low_rank(&base, &repaired, rank, &out).unwrap();
            let (tensors, _) = read_tensors(&out.join("adapter_model.safetensors")).unwrap();
            assert_eq!(tensors.len(), 2 * found.n_modules, "{family}");
            let config: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(out.join("adapter_config.json")).unwrap()).unwrap();
            assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_u64()), (Some(rank as u64), Some(rank as u64)));
            let inputs_first = config["fan_in_fan_out"].as_bool().unwrap();
            assert_eq!(inputs_first, family == "gpt2");
            for module in config["target_modules"].as_array().unwrap() {
                let module = module.as_str().unwrap();
                let of = |model: &CausalLm| {
                    let name = format!("{}.weight", module.strip_prefix(model.config().family.prefix).unwrap());
                    model.parameters().iter().find(|p| p.name == name).unwrap().tensor.detach()
                };
                let factor = |name: &str| &tensors[&format!("base_model.model.{module}.{name}.weight")];
                let (a, b) = (factor("lora_A"), factor("lora_B"));
                assert_eq!((a.size()[0], b.size()[1]), (rank as i64, rank as i64));
                let product = b.matmul(a);
                let product = if inputs_first { product.tr() } else { product };
                let far = (of(&base) + product - of(&repaired)).abs().max().double_value(&[]);
                assert!(far < 2e-7, "{family}, rank {rank}, {module}: {far}");
            }
        }
    }
}

#[test]
fn what_is_no_change_of_low_rank_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (base, repaired) = pair("llama", dir.path());
    let refused = |rank: usize, want: &str| {
        let said = save_low_rank(&base, &repaired, rank, dir.path()).unwrap_err().diagnostic().to_string();
        assert!(said.contains(want), "{said}");
        assert!(!dir.path().join("adapter_config.json").exists());
    };
    refused(1, "its change is not of rank 1");
    refused(17, "want: at most 16    got: 17");
    let norm = repaired.parameters().iter().find(|p| p.name.ends_with("input_layernorm.weight")).unwrap();
    no_grad(|| norm.tensor.shallow_clone().copy_(&(&norm.tensor + 0.5)));
    refused(2, &format!("`{}`", norm.name));
    let same = save_low_rank(&base, &base, 2, dir.path()).unwrap_err().diagnostic().to_string();
    assert!(same.contains("the models do not differ\n   at: ") && same.contains("/base\n"), "{same}");
    let other = save_low_rank(&base, &model("gpt2"), 2, dir.path()).unwrap_err().diagnostic().to_string();
    assert!(other.contains("other parameters"), "{other}");
}
