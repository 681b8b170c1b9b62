//! The one place with `unsafe`: mapping checkpoint files, filling tensors from them, telling the allocator what to
//! keep, loading libtorch's CUDA half.
#![expect(unsafe_code, reason = "memory maps, tensor memory and dynamic loading have no safe interface")]

use std::fs::File;

use memmap2::Mmap;
use tch::{Device, Kind, Tensor};

/// Maps a file for reading.
///
/// Sound as long as the file does not change while it is mapped; we map checkpoints, read them once and drop the map,
/// but for weights that stay in their files (`checkpoint/in_files.rs`). A file truncated under us ends the process with
/// SIGBUS instead of giving wrong bytes.
pub(crate) fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: see above.
    unsafe { Mmap::map(file) }
}

/// Lets the system drop the pages of `part`, which were read and are not needed again; they may be read again.
///
/// Without this a checkpoint of the size of half the memory fills all of it: once as file pages, once as tensors.
pub(crate) fn release(map: &Mmap, part: &[u8]) {
    let offset = (part.as_ptr() as usize).saturating_sub(map.as_ptr() as usize);
    if part.is_empty() || offset + part.len() > map.len() {
        return;
    }
    // SAFETY: the map is read-only and backed by a file, so dropped pages come back with the same bytes. That it fails
    // is no error: it only saves memory.
    #[cfg(unix)]
    drop(unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len()) });
}

/// How many bytes a tensor's values take; none unless they lie contiguous in the CPU's memory.
fn n_bytes(tensor: &Tensor) -> Option<usize> {
    let is_here = tensor.device() == Device::Cpu && tensor.is_contiguous() && tensor.numel() > 0;
    is_here.then(|| tensor.numel() * tensor.kind().elt_size_in_bytes())
}

/// The bytes of a tensor's values, to be written over; none unless it lies contiguous in the CPU's memory.
///
/// libtorch's own way makes a tensor of the bytes first: a second allocation for every chunk, which fragments the
/// memory of the first.
pub(crate) fn bytes_mut(tensor: &mut Tensor) -> Option<&mut [u8]> {
    let n_bytes = n_bytes(tensor)?;
    // SAFETY: the values lie in one run of `n_bytes` bytes from `data_ptr`, which libtorch's allocator gave out; the
    // slice borrows the tensor for as long as it is there, and nothing else reads a tensor that is being made; every
    // pattern of bits is a value of these types.
    Some(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), n_bytes) })
}

/// The bytes of a tensor's values; none unless it lies contiguous in the CPU's memory. Nothing may write to them while
/// the slice is there.
pub(crate) fn bytes(tensor: &Tensor) -> Option<&[u8]> {
    let n_bytes = n_bytes(tensor)?;
    // SAFETY: the values lie in one run of `n_bytes` bytes from `data_ptr`; the slice borrows the tensor for as long as
    // it is there, and the functions that take it read one tensor and write to another that they have just made.
    Some(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), n_bytes) })
}

/// Asks the system to read a part of a map before it is used.
pub(crate) fn prefetch(map: &Mmap, part: &[u8]) {
    let offset = (part.as_ptr() as usize).saturating_sub(map.as_ptr() as usize);
    // That it fails is no error: the part is then read when it is used.
    #[cfg(unix)]
    if !part.is_empty() && offset + part.len() <= map.len() {
        drop(map.advise_range(memmap2::Advice::WillNeed, offset, part.len()));
    }
}

/// A tensor whose values are `bytes`, where these lie as its type wants them. It must never be written to: the bytes
/// are those of a file, mapped for reading alone, and a write would end the process.
pub(crate) fn tensor_over(bytes: &'static [u8], shape: &[i64], kind: Kind) -> Option<Tensor> {
    let size = kind.elt_size_in_bytes();
    let n: i64 = shape.iter().product();
    if bytes.is_empty() || !(bytes.as_ptr() as usize).is_multiple_of(size) || bytes.len() != n as usize * size {
        return None;
    }
    let strides: Vec<i64> = (0..shape.len()).map(|dim| shape[dim + 1..].iter().product()).collect();
    // SAFETY: `bytes` live as long as the process, hold as many values as the shape has, and are aligned; every pattern
    // of bits is a value of these types.
    unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &strides, kind, Device::Cpu) }.ok()
}

/// Lets the C allocator keep what libtorch frees, up to tensors of 1 GiB, for the tensors of the next step, until
/// [`return_freed_memory`].
///
/// Left alone it gives every tensor over 32 MiB back to the system, and the end of its heap once 64 MiB of it are free:
/// each step then waits for tens of thousands of pages to be cleared again. Does nothing where the allocator is not
/// glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers that the allocator reads; any value is allowed.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        // Read as a size: the largest there is.
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

/// Gives the system the memory that [`keep_freed_memory`] kept. Whoever asks the system how much is free calls this
/// first: it counts what an allocator keeps as used.
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: touches only memory that nothing uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Ends the process without running destructors: an ordinary exit takes libtorch apart while other threads compute in
/// it, and crashes.
pub fn exit_at_once(code: i32) -> ! {
    #[cfg(unix)]
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe {
        libc::_exit(code)
    }
    #[cfg(not(unix))]
    std::process::exit(code)
}

/// Loads `libtorch_cuda` into the process if it lies where the loader looks.
///
/// The linker drops that library because no symbol of it is used by name, so without this a binary sees no CUDA device
/// even on a machine that has one. A missing library is no error: then there is no CUDA here.
pub(crate) fn load_cuda() {
    #[cfg(target_os = "linux")]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: the library's initialisers only register kernels with libtorch; it is never unloaded.
        if let Ok(library) = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
            std::mem::forget(library);
        }
    }
}

/// `major.minor.patch` of the libtorch in this process, by its own word; none where it does not say.
pub fn libtorch_version() -> Option<String> {
    #[cfg(unix)]
    {
        type Version = unsafe extern "C" fn() -> u64;
        let process = libloading::os::unix::Library::this();
        // SAFETY: libtorch's C interface declares this function so (`inductor/aoti_torch/c/shim.h`); it returns a
        // constant.
        let version = unsafe { process.get::<Version>(b"aoti_torch_abi_version").ok()?() };
        let [major, minor, patch, ..] = version.to_be_bytes();
        Some(format!("{major}.{minor}.{patch}"))
    }
    #[cfg(not(unix))]
    None
}
