//! Lets libraries that look for `getrandom` while they run find the one of `simulate`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bin=simulate=-Wl,--export-dynamic-symbol=getrandom");
}
