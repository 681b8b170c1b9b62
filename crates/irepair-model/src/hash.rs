//! One hash for all weights of a model, as they are in memory.

use irepair_core::fs::sha256_hex;

use crate::Parameter;
use crate::checkpoint::{bytes_of, chunks, dtype_of};

/// Weights hashed at a time.
const N_CHUNK: usize = 1 << 22;

/// SHA-256 over names, types, shapes and every bit of the parameters, in their order. The same file read on another
/// device has the same hash; a file that was replaced has another, whatever its name and date.
pub fn weights_sha256<'a>(parameters: impl IntoIterator<Item = &'a Parameter>) -> String {
    let mut hashes = String::new();
    for Parameter { name, tensor, .. } in parameters {
        hashes += &format!("{name} {:?} {:?}\n", tensor.kind(), tensor.size());
        for chunk in chunks(tensor, N_CHUNK) {
            hashes += &sha256_hex(&bytes_of(&chunk, dtype_of(tensor.kind())));
        }
    }
    sha256_hex(hashes.as_bytes())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, no_grad};

    use super::*;
    use crate::{Architecture, BlockModel, CausalLm};

    #[test]
    fn one_weight_changes_the_hash() {
        let model =
            |seed| CausalLm::random(Architecture::gpt2(2, 8, 2, 16, 11), seed, Device::Cpu, Kind::Float).unwrap();
        let first = model(1);
        let hash = weights_sha256(first.parameters());
        assert_eq!(hash, weights_sha256(model(1).parameters()));
        assert_ne!(hash, weights_sha256(model(2).parameters()));
        no_grad(|| drop(first.parameters()[3].tensor.view(-1).narrow(0, 2, 1).g_add_scalar_(1e-6)));
        assert_ne!(hash, weights_sha256(first.parameters()));
    }
}
