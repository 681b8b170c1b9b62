//! `fault.toml` of a model with planted faults.

use std::path::Path;

use irepair_fault::{FAULT_FILE, Faults};

use super::shared::{put, said};

/// Accepted faults read back equal after writing, and each is one that its operator takes.
///
/// # Panics
/// If that does not hold.
pub fn run(dir: &Path, data: &[u8]) {
    let path = put(dir, FAULT_FILE, data);
    match Faults::read(&path) {
        Ok(faults) => {
            assert!(!faults.units().is_empty(), "no unit is faulty");
            assert!(faults.faults.iter().all(|fault| fault.check().is_ok()));
            let written = faults.to_toml().expect("faults are TOML");
            let again = Faults::read(&put(dir, FAULT_FILE, written.as_bytes()));
            let again = again.unwrap_or_else(|error| panic!("refused when written again: {error:?}\n{written}"));
            assert_eq!(again, faults);
        }
        Err(error) => said(&error),
    }
}
