//! A record as bytes: what stands on the disk and in an export.
//!
//! ```text
//! version 1 byte | CRC32C 4 bytes | length of the body 4 bytes | body: protobuf
//! ```
//!
//! Numbers are little-endian. The checksum covers everything but itself, so that no single flipped
//! bit, and no other damage of up to 32 bits in a row, is read as a record.
//!
//! The body is described by the types in `wire`, which read it; `write` writes it from the domain itself,
//! since that is done for every commit. A field keeps its tag for ever, a tag that goes out
//! of use is not given again. Enumerations are explicit numbers from 1; an unknown one is an error,
//! never a default. What decodes is also held against
//! [`well_formed`](tercet_core::check::well_formed): a record that can't be is not handed out.
//!
//! The same header stands before what a store says of itself.
//!
//! # Size
//!
//! Without its payloads a record has at most [`BARE_BYTES_MAX`], because names, labels, branches and
//! history lines are limited at the door and by the engine, which cuts the texts of failures. Each
//! payload has at most 64 KiB besides. This module takes whatever it is given.

pub(super) mod frame;
mod numbers;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod wire;
mod write;

use prost::{Message as _, bytes::Bytes};
use tercet_core::{check::Violation, ids::IdError};

use super::{Record, UnixMs};
use crate::{fields::fields, message::Message};

/// The most bytes a record has without its payloads.
pub const BARE_BYTES_MAX: usize = 64 * 1024;
/// Fields of a record, those of its transaction among them: many times what its branches, attentions and
/// lines of history can be. One more may take two bytes here and some hundred in memory.
const FIELDS_MAX: usize = 4096;
/// Most records are shorter than this. With their header it stays below 1 KiB: to get more at once costs
/// several times as much.
const EXPECTED_BYTES: usize = 1000;
/// What counts up by one never comes here, and readers of the API have no more than 63 bits for it.
const COUNTED_MAX: u64 = i64::MAX.unsigned_abs();

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    /// Shorter than a header.
    #[error("{0} bytes are too few")]
    TooShort(usize),
    /// Written by a program that knows more than this one, or something else altogether.
    #[error("its version is {0}; this program reads version {current}", current = frame::VERSION)]
    Version(u8),
    /// Something is missing at the end, or too much.
    #[error("its body has {found} bytes, but its header says {said}")]
    Length {
        /// What the header says.
        said: usize,
        /// What is there.
        found: usize,
    },
    /// Not what was written.
    #[error("its checksum is {found:08x}, but its header says {said:08x}")]
    Checksum {
        /// What the header says.
        said: u32,
        /// What the bytes have.
        found: u32,
    },
    /// The body is no protobuf.
    #[error("its body can't be parsed: {0}")]
    Wire(#[from] prost::DecodeError),
    /// More than any record has.
    #[error("it has {0} fields; at most {FIELDS_MAX} are allowed")]
    TooManyFields(usize),
    /// Lines of history that don't stand in the order in which they were written.
    #[error("its history is not in the order of revisions, or goes past its own")]
    History,
    /// A field that is never left out.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A number without a meaning.
    #[error("{number} is no {what}")]
    Number {
        /// What it should be.
        what: &'static str,
        /// What it is.
        number: u64,
    },
    /// A name outside its alphabet.
    #[error("the {what} {text:?} is not valid: {source}")]
    Id {
        /// What it names.
        what: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        source: IdError,
    },
    /// A record that can't be.
    #[error(transparent)]
    Impossible(#[from] Violation),
}

/// A record as bytes.
pub(super) fn encode(record: &Record) -> Vec<u8> {
    frame::framed(EXPECTED_BYTES, |body| {
        write::record(&mut Message::at_end(body), record);
    })
}

/// The record that these bytes are.
///
/// # Errors
/// [`DecodeError`] says what is wrong with them; no bytes are read as a record that was not written.
pub(super) fn decode(bytes: Bytes) -> Result<Record, DecodeError> {
    let body = frame::open(bytes)?;
    let fields = fields(&body, &[wire::TRANSACTION_TAG]);
    if fields > FIELDS_MAX {
        return Err(DecodeError::TooManyFields(fields));
    }
    read::record(wire::Record::decode(body)?)
}

/// A number that was counted up to; what is near the end of its 64 bits was not.
pub(super) fn counted(what: &'static str, number: u64) -> Result<u64, DecodeError> {
    if number > COUNTED_MAX {
        return Err(DecodeError::Number { what, number });
    }
    Ok(number)
}

/// What a store has to know of a record to put another in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) revision: u64,
    pub(super) epoch: u64,
    pub(super) finished: bool,
    pub(super) keep_until_ms: Option<UnixMs>,
    pub(super) business_key: String,
}

/// The head alone, without building the rest.
///
/// # Errors
/// As [`decode`], as far as it reads.
pub(super) fn decode_head(bytes: Bytes) -> Result<Head, DecodeError> {
    read::head(wire::Head::decode(frame::open(bytes)?)?)
}
