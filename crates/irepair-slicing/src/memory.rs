//! The state of a policy between steps.

use irepair_core::Sensitivities;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The only state of a policy. Saved with the checkpoint, it makes a resumed run equal to an uninterrupted one.
///
/// Its content depends on the policy: the estimate made before the first step (`fixed`), the last measured values
/// (`every-n`) or their running mean (`ema`). The other policies have no state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    held: Option<Vec<f64>>,
}

impl Memory {
    /// The sensitivities held, one per block; `None` before the first measurement.
    ///
    /// # Errors
    /// [`irepair_core::Error::BadSensitivity`] when a restored file has a value that is not finite or is negative.
    pub fn held(&self) -> Result<Option<Sensitivities>> {
        Ok(self.held.clone().map(Sensitivities::new).transpose()?)
    }

    pub(crate) fn hold(&mut self, sensitivities: &Sensitivities) {
        self.held = Some(sensitivities.values().to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_survives_a_file_bit_for_bit() {
        let mut memory = Memory::default();
        memory.hold(&Sensitivities::new(vec![0.1 + 0.2, 1e-300, 7.0]).unwrap());
        let text = serde_json::to_string(&memory).unwrap();
        assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), memory);
    }

    #[test]
    fn a_broken_file_is_refused() {
        let memory: Memory = serde_json::from_str(r#"{"held":[0.5,-1.0]}"#).unwrap();
        assert_eq!(memory.held().unwrap_err().to_string(), "sensitivity of block 1 is -1");
        assert!(serde_json::from_str::<Memory>(r#"{"hold":[]}"#).is_err());
    }
}
