//! Compiles the `.proto` files in pure Rust: no system `protoc`, no network.

use std::error::Error;

const FILES: [&str; 4] = [
    "proto/conveyor/v1/log.proto",
    "proto/conveyor/v1/raft.proto",
    "proto/conveyor/v1/control.proto",
    "proto/conveyor/v1/flight.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
