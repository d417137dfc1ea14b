//! The sidecar, behind the store's back.
#![allow(
    dead_code,
    reason = "each test file that includes this uses its own part of it"
)]

use std::{fs, path::Path};

use prost::Message;

/// With the tags that the store uses.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sidecar {
    #[prost(uint32, tag = "1")]
    pub(crate) format: u32,
    #[prost(string, tag = "2")]
    pub(crate) store: String,
    #[prost(string, tag = "3")]
    pub(crate) realm: String,
    #[prost(uint64, tag = "4")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) boot: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) mark: u64,
    #[prost(int32, tag = "7")]
    pub(crate) phase: i32,
}

pub(crate) const CREATING: i32 = 1;
pub(crate) const OPEN: i32 = 2;
pub(crate) const CLOSED: i32 = 3;
pub(crate) const IMPORTING: i32 = 4;

const HEADER_BYTES: usize = 9;

impl Sidecar {
    pub(crate) fn load(dir: &Path) -> Self {
        let bytes = fs::read(dir.join("tercet.store")).expect("it is there");
        Self::decode(&bytes[HEADER_BYTES..]).expect("it is whole")
    }

    pub(crate) fn save(&self, dir: &Path) {
        let body = self.encode_to_vec();
        let mut checked = vec![1];
        checked.extend_from_slice(&(body.len() as u32).to_le_bytes());
        checked.extend_from_slice(&body);
        let checksum = crc32c::crc32c(&checked).to_le_bytes();
        let bytes = [&checked[..1], &checksum, &checked[1..]].concat();
        fs::write(dir.join("tercet.store"), bytes).expect("it is written");
    }
}
