//! What libtorch has and tch does not bind: products of matrices by the faster of its two libraries, and how much
//! memory its allocator has taken from a device.
//!
//! ```no_run,standalone_crate
//! use tch::{Device, Kind, Tensor};
//!
//! let x = Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
//! let weight = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));
//! assert_eq!(irepair_torch::linear(&x, &weight, None).size(), [4, 2]);
//! ```
#![expect(unsafe_code, reason = "a C++ file of our own is called: `shim.cpp`")]

use std::ptr;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

mod products;

pub use products::{Library, library, linear, linear_by_onednn};

unsafe extern "C" {
    fn irepair_has_onednn() -> bool;
    fn irepair_onednn_is_faster() -> bool;
    fn irepair_linear(x: *const C_tensor, weight: *const C_tensor, bias: *const C_tensor) -> *mut C_tensor;
    fn irepair_device_memory(index: i32, numbers: *mut i64) -> bool;
}

/// Whether this libtorch was built with oneDNN.
fn has_onednn() -> bool {
    // SAFETY: reads a constant.
    unsafe { irepair_has_onednn() }
}

/// Whether the processor is one on which oneDNN multiplies matrices faster than MKL.
fn is_onednn_faster() -> bool {
    static IS_FASTER: OnceLock<bool> = OnceLock::new();
    // SAFETY: reads what the processor says of itself.
    *IS_FASTER.get_or_init(|| unsafe { irepair_onednn_is_faster() })
}

/// `x weightᵀ + bias` by oneDNN, with gradients; none where libtorch refuses. Float32 matrices in the CPU's memory.
fn onednn_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
    // SAFETY: the pointers are of live tensors or null; the function throws nothing, and gives a new tensor or null.
    unsafe {
        let y = irepair_linear(x.as_ptr(), weight.as_ptr(), bias.map_or(ptr::null(), Tensor::as_ptr));
        (!y.is_null()).then(|| Tensor::from_ptr(y))
    }
}

/// Bytes of a device that libtorch's allocator has taken (`reserved`) and given to tensors (`allocated`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Taken from the device now.
    pub reserved: i64,
    /// The most that was taken at one time.
    pub peak_reserved: i64,
    /// In tensors now.
    pub allocated: i64,
    /// The most that was in tensors at one time.
    pub peak_allocated: i64,
}

/// What the allocator says of a CUDA device; none of a CPU, or before the first tensor.
pub fn device_memory(device: Device) -> Option<DeviceMemory> {
    let Device::Cuda(index) = device else { return None };
    let mut numbers = [0i64; 4];
    // SAFETY: the function writes four numbers there, or none and says so.
    let is_known = unsafe { irepair_device_memory(i32::try_from(index).ok()?, numbers.as_mut_ptr()) };
    let [reserved, peak_reserved, allocated, peak_allocated] = numbers;
    is_known.then_some(DeviceMemory { reserved, peak_reserved, allocated, peak_allocated })
}

/// Whether a tensor is one that oneDNN takes: float32, in the CPU's memory.
fn is_plain(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float
}
