//! Devices and number types by name; asking for what is not there is an error, never a quiet fallback.

use tch::{Cuda, Device, Kind};

use crate::{Error, Result, sys};

/// Reads `cpu`, `cuda` or `cuda:N` and makes sure that the device is there.
///
/// # Errors
/// [`Error::UnknownName`] for any other word, [`Error::NoDevice`] when libtorch has no such device.
pub fn parse_device(name: &str) -> Result<Device> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let unknown = || Error::UnknownName { what: "device", want: "cpu, cuda or cuda:N", got: name.to_owned() };
    let index = match name.strip_prefix("cuda") {
        Some("") => 0,
        Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse().ok()).ok_or_else(unknown)?,
        None => return Err(unknown()),
    };
    sys::load_cuda();
    let found = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    if (index as i64) < found {
        return Ok(Device::Cuda(index));
    }
    let found = if found == 0 { "cpu only".to_owned() } else { format!("cpu and {found} CUDA device(s)") };
    Err(Error::NoDevice { device: name.to_owned(), found })
}

/// Reads `f32` or `bf16`, the types a model may compute in.
///
/// # Errors
/// [`Error::UnknownName`] for any other word.
pub fn parse_dtype(name: &str) -> Result<Kind> {
    match name {
        "f32" => Ok(Kind::Float),
        "bf16" => Ok(Kind::BFloat16),
        _ => Err(Error::UnknownName { what: "dtype", want: "f32 or bf16", got: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use irepair_core::{Diagnose, ExitKind};

    #[test]
    fn names_are_read_exactly() {
        assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
        for bad in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert_eq!(parse_device(bad).unwrap_err().diagnostic().exit, ExitKind::Usage, "{bad}");
        }
        assert_eq!(parse_dtype("bf16").unwrap(), Kind::BFloat16);
        assert!(parse_dtype("int8").is_err());
    }

    #[test]
    fn a_missing_cuda_device_is_refused_not_replaced() {
        let error = parse_device("cuda:999").unwrap_err();
        assert_eq!(error.diagnostic().exit, ExitKind::Device);
        assert_eq!(error.to_string(), "device `cuda:999` is not available");
    }
}
