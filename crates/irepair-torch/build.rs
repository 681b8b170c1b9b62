//! Compiles `src/shim.cpp` against the headers of the libtorch that torch-sys found.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cpp");
    for name in ["LIBTORCH", "LIBTORCH_INCLUDE"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let given = |name: &str| env::var_os(name).map(PathBuf::from);
    // torch-sys says where the libraries are, on Linux and macOS; the headers lie where it looks for them too.
    let lib =
        given("DEP_TCH_LIBTORCH_LIB").or_else(|| Some(given("LIBTORCH")?.join("lib"))).expect("LIBTORCH is not set");
    let roots = [given("LIBTORCH_INCLUDE"), lib.parent().map(PathBuf::from), given("LIBTORCH")];
    let root = roots.into_iter().flatten().find(|root| root.join("include/ATen/core/Tensor.h").exists());
    let root = root.expect("libtorch's headers are not where LIBTORCH or LIBTORCH_INCLUDE says");
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
