//! A repair whose weights do not fit into `--memory-budget`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use irepair_core::fs::sha256_file;
use irepair_model::{Architecture, CausalLm};
use tch::{Device, Kind};

fn run(args: &str, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_irepair")).current_dir(dir).args(args.split_whitespace()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn weights_that_do_not_fit_stay_in_their_files() {
    let held = tempfile::tempdir().unwrap();
    let dir = held.path();
    let gguf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../parity/gguf/smollm.gguf");
    fs::copy(gguf, dir.join("tiny.gguf")).unwrap();
    assert!(run("import tiny.gguf --out tiny", dir).status.success());
    // 20 million weights, 76 MiB, with the tokenizer of another model.
    let model = CausalLm::random(Architecture::gpt2(24, 256, 4, 64, 308), 1, Device::Cpu, Kind::Float).unwrap();
    fs::create_dir(dir.join("model")).unwrap();
    model.save(&dir.join("model")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(dir.join("tiny").join(name), dir.join("model").join(name)).unwrap();
    }
    let pair = |i: usize| format!("{{\"prompt\": \"{i}\", \"chosen\": \" kind {i}\", \"rejected\": \" left {i}\"}}\n");
    fs::write(dir.join("pairs.jsonl"), (0..12).map(pair).collect::<String>()).unwrap();
    fs::write(dir.join("texts.jsonl"), "{\"text\": \"Neutral words.\"}\n".repeat(8)).unwrap();

    let repair = |more: &str| {
        let args = "repair --model model --pairs pairs.jsonl --utility texts.jsonl --preset paper --policy blocks --only 2 \
                    --steps 2 --threads 1 --n-validation 2 --batch-size 2";
        run(&format!("{args} {more}"), dir)
    };
    let loaded = repair("--out loaded");
    assert!(loaded.status.success(), "{}", stderr(&loaded));
    let said = stderr(&loaded);
    let needed: f64 = said.split("memory: about ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let there = repair(&format!("--out there --memory-budget {}", needed - 0.03));
    assert!(there.status.success(), "{}", stderr(&there));
    assert!(stderr(&there).contains("do not fit and stay in their files"), "{}", stderr(&there));
    let hash = |out: &str| sha256_file(&dir.join(out).join("model.safetensors")).unwrap();
    assert_eq!(hash("there"), hash("loaded"));

    // Where everything changes nothing may stay, and there is too little even for two blocks.
    let tight = format!("--policy all --memory-budget {}", needed - 0.03);
    for more in [tight.as_str(), "--policy blocks --only 2 --memory-budget 0.1"] {
        let args = "repair --model model --pairs pairs.jsonl --utility texts.jsonl --preset paper --steps 2 --threads 1 \
                    --n-validation 2 --batch-size 1 --out refused";
        let refused = run(&format!("{args} {more}"), dir);
        assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("not enough memory"), "{}", stderr(&refused));
    }
}
