//! The one place with `unsafe`: mapping checkpoint files, filling tensors from them, loading libtorch's CUDA half.
#![expect(unsafe_code, reason = "memory maps, tensor memory and dynamic loading have no safe interface")]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use tch::{Device, Tensor};

/// Maps a file for reading.
///
/// Sound as long as nobody changes the file while it is mapped; we map checkpoints, read them once and drop the map. A
/// file truncated under us ends the process with SIGBUS instead of giving wrong bytes.
pub(crate) fn map_file(path: &Path) -> std::io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: see above; the map never outlives the function that reads it.
    unsafe { Mmap::map(&file) }
}

/// Lets the system drop the pages of `part`, which were read and are not needed again; reading them anew is allowed.
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

/// Writes `bytes` over those of a tensor, from byte `offset` of its values on; false, and nothing done, where they do not fit
/// or the tensor does not lie contiguous in the CPU's memory.
///
/// libtorch's own way makes a tensor of the bytes first: a second allocation for every piece, between which the memory of
/// the first falls to pieces.
pub(crate) fn overwrite(tensor: &mut Tensor, offset: usize, bytes: &[u8]) -> bool {
    let n_bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    let fits = offset.checked_add(bytes.len()).is_some_and(|end| end <= n_bytes);
    if !fits || tensor.device() != Device::Cpu || !tensor.is_contiguous() {
        return false;
    }
    // SAFETY: the values lie in one run of `n_bytes` bytes from `data_ptr`, of which the range written is a part; `bytes`
    // belong to a file's map, so the two cannot overlap; every pattern of bits is a value of these types.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), tensor.data_ptr().cast::<u8>().add(offset), bytes.len()) };
    true
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
