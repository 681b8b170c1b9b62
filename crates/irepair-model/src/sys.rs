//! The one place with `unsafe`: mapping checkpoint files and loading libtorch's CUDA half.
#![expect(unsafe_code, reason = "memory maps and dynamic loading have no safe interface")]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

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
