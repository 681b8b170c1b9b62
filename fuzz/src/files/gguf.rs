//! GGUF files.

use std::fs;
use std::path::Path;

use irepair_data::Tokenizer;
use irepair_gguf::{Conversion, Export, GgufFile};

use super::shared::{put, said};

/// Values of a tensor that are read: enough for a few blocks of every type.
const N_VALUES: usize = 1 << 12;

/// Every tensor of an accepted file can be read; the written directory has all weights and a tokenizer that loads or
/// returns a named error; a refusal leaves no `config.json`. An export of the directory changes no tensor, and is read
/// again.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let file = match GgufFile::open(&put(dir, "fuzzed.gguf", data)) {
        Ok(file) => file,
        Err(error) => return said(&error),
    };
    let mut values = file.values().expect("just read");
    for info in file.tensors().values() {
        let n = info.shape.iter().product::<usize>().min(N_VALUES);
        values.read(info, 0, &mut vec![0.0; n]).expect("inside the file");
    }
    let conversion = match Conversion::plan(&file) {
        Ok(conversion) => conversion,
        Err(error) => return said(&error),
    };
    let out = dir.join("out");
    match conversion.write(&out, &mut |_| {}) {
        Ok(()) => {
            let n_bytes = fs::metadata(out.join("model.safetensors")).expect("just written").len();
            assert!(n_bytes > 4 * conversion.summary().n_weights && out.join("config.json").exists());
            if let Err(error) = Tokenizer::load(&out) {
                said(&error);
            }
            let export = Export::plan(&conversion, &out, &mut |_| {}).expect("just written");
            assert!(export.summary().changed.is_empty());
            let again = dir.join("again.gguf");
            export.write(&again, &mut |_| {}).expect("a new file");
            let written = GgufFile::open(&again).expect("just written");
            assert!(written.tensors().keys().eq(file.tensors().keys()));
            Conversion::plan(&written).expect("the same model");
            fs::remove_file(&again).expect("just written");
        }
        Err(error) => {
            assert!(!out.join("config.json").exists(), "a directory that is not whole looks whole");
            said(&error);
        }
    }
    fs::remove_dir_all(&out).expect("the target's own directory");
}
