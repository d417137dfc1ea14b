//! The generated code that this crate commits is what `proto/` says today.
//!
//! A published crate can't read `../proto`, so the code is committed, and this test, which stays
//! out of the package, compares. `TERCET_REGENERATE=1 cargo test -p tercet-sdk --test generated`
//! writes it.

use std::{env, fs, path::Path};

const FILES: [&str; 5] = [
    "tercet/participant/v1/participant.proto",
    "tercet/participant/v1/session.proto",
    "tercet/v1/transaction.proto",
    "tercet/v1/coordinator.proto",
    "tercet/v1/error_reason.proto",
];
const GENERATED: [&str; 2] = ["tercet.participant.v1.rs", "tercet.v1.rs"];

#[test]
fn the_committed_code_is_what_the_protos_generate() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(FILES, [crate_root.join("../proto")]).unwrap();
    // The types of the coordinator's build.rs: both sides speak of the same ones.
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::codec::Whole")
        .out_dir(fresh.path())
        .compile_fds(descriptors)
        .unwrap();

    for name in GENERATED {
        let fresh = fs::read_to_string(fresh.path().join(name)).unwrap();
        let committed = crate_root.join("src/generated").join(name);
        if env::var_os("TERCET_REGENERATE").is_some() {
            fs::write(&committed, fresh).unwrap();
        } else {
            assert!(
                fs::read_to_string(&committed).is_ok_and(|text| text == fresh),
                "sdk/src/generated/{name} is not what proto/ generates; run \
                 TERCET_REGENERATE=1 cargo test -p tercet-sdk --test generated"
            );
        }
    }
}

#[test]
fn every_generated_package_is_committed() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut committed: Vec<String> = fs::read_dir(crate_root.join("src/generated"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    committed.sort();
    assert_eq!(committed, GENERATED);
}
