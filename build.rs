//! Compiles `proto/` into Rust with protox, so that no `protoc` has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 5] = [
    "tercet/participant/v1/participant.proto",
    "tercet/participant/v1/session.proto",
    "tercet/v1/transaction.proto",
    "tercet/v1/coordinator.proto",
    "tercet/v1/error_reason.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Served by reflection, and read by the command line to map JSON to messages.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::proto::Counted")
        .extern_path(
            ".tercet.participant.v1.SessionCalls",
            "crate::proto::SessionCalls",
        )
        .compile_fds(descriptors)?;
    Ok(())
}
