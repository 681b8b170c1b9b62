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
