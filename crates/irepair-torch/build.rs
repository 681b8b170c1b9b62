//! Compiles `src/shim.cpp` against the headers of the libtorch that torch-sys found.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cpp");
    // torch-sys says where the libraries are; the headers lie next to them, or where its own variable says.
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys says where libtorch is"));
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    let root = env::var_os("LIBTORCH_INCLUDE")
        .map_or_else(|| lib.parent().expect("libraries lie in a folder").to_owned(), PathBuf::from);
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let mut build = cc::Build::new();
    build.cpp(true).warnings(false).file("src/shim.cpp");
    build.include(root.join("include")).include(root.join("include/torch/csrc/api/include"));
    build.std("c++17").define("_GLIBCXX_USE_CXX11_ABI", abi.as_str()).opt_level(2);
    build.compile("irepair_torch");
    println!("cargo:rustc-link-search=native={}", lib.display());
    for library in ["torch_cpu", "c10"] {
        println!("cargo:rustc-link-lib={library}");
    }
}
