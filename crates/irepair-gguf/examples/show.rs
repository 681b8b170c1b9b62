//! What a GGUF file holds: its short metadata, and its tensors.
//!
//! `cargo run -p irepair-gguf --example show parity/gguf/smollm.gguf`

use irepair_gguf::{GgufFile, Value};

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "parity/gguf/smollm.gguf".into());
    let file = GgufFile::open(path.as_ref())?;
    for (key, value) in file.metadata() {
        match value {
            Value::Texts(list) => println!("{key}: {} strings", list.len()),
            Value::Integers(list) => println!("{key}: {} integers", list.len()),
            other => println!("{key}: {other:?}"),
        }
    }
    for (name, tensor) in file.tensors() {
        println!("{name}: {} {:?}", tensor.kind, tensor.shape);
    }
    Ok(())
}
