//! Version, checksum and length around a body.

use prost::{
    Message,
    bytes::{Buf, Bytes},
};

use super::DecodeError;

/// Of what is written.
pub(super) const VERSION: u8 = 1;
/// What stands before the body: version, checksum, length.
const HEADER_BYTES: usize = 1 + CHECKSUM_BYTES + LENGTH_BYTES;

const CHECKSUM_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;

/// A message with its header before it.
pub(in crate::store) fn seal(message: &impl Message) -> Vec<u8> {
    framed(message.encoded_len(), |bytes| message.encode_raw(bytes))
}

/// Bytes as a body, whatever they are.
#[cfg(test)]
pub(in crate::store) fn seal_bytes(body: &[u8]) -> Vec<u8> {
    framed(body.len(), |bytes| bytes.extend_from_slice(body))
}

/// The body, if it is whole.
pub(in crate::store) fn open(mut bytes: Bytes) -> Result<Bytes, DecodeError> {
    let len = framed_len(&bytes).ok_or(DecodeError::TooShort(bytes.len()))?;
    if bytes[0] != VERSION {
        return Err(DecodeError::Version(bytes[0]));
    }
    if len != bytes.len() {
        return Err(DecodeError::Length {
            said: len - HEADER_BYTES,
            found: bytes.len() - HEADER_BYTES,
        });
    }
    let found = checksum(&bytes);
    let said = (&bytes[1..=CHECKSUM_BYTES]).get_u32_le();
    if said != found {
        return Err(DecodeError::Checksum { said, found });
    }
    bytes.advance(HEADER_BYTES);
    Ok(bytes)
}

/// How many bytes header and body have together, by what the header says; none without a header.
pub(in crate::store) fn framed_len(start: &[u8]) -> Option<usize> {
    let header = start.get(..HEADER_BYTES)?;
    let said = (&header[1 + CHECKSUM_BYTES..]).get_u32_le();
    usize::try_from(said).ok()?.checked_add(HEADER_BYTES)
}

/// The body that `write` appends, behind its header. `expected_bytes` spares it moving while it grows.
pub(super) fn framed(expected_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + expected_bytes);
    bytes.push(VERSION);
    bytes.extend_from_slice(&[0; CHECKSUM_BYTES + LENGTH_BYTES]);
    write(&mut bytes);
    // Limits at the door keep a record far below 4 GiB; were one larger, its length would not match.
    let said = u32::try_from(bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    bytes[1 + CHECKSUM_BYTES..HEADER_BYTES].copy_from_slice(&said.to_le_bytes());
    let checksum = checksum(&bytes);
    bytes[1..=CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn checksum(bytes: &[u8]) -> u32 {
    let version = crc32c::crc32c(&bytes[..1]);
    crc32c::crc32c_append(version, &bytes[1 + CHECKSUM_BYTES..])
}
