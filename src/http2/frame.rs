//! A message as gRPC frames it: one byte that says whether it is compressed, its length in four
//! bytes, itself.

use prost::{
    Message,
    bytes::{Buf as _, Bytes, BytesMut},
};

const PREFIX_BYTES: usize = 5;

/// Of a message.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    framed_by(message.encoded_len(), |bytes| message.encode_raw(bytes))
}

/// Of a message that is encoded already.
pub(crate) fn framed_bytes(message: &[u8]) -> Bytes {
    framed_by(message.len(), |bytes| bytes.extend_from_slice(message))
}

/// Of the message that `write` appends. `expected_bytes` spares it moving while it grows.
pub(crate) fn framed_by(expected_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut frame = Vec::with_capacity(PREFIX_BYTES + expected_bytes);
    frame.extend_from_slice(&[0; PREFIX_BYTES]);
    write(&mut frame);
    let len = u32::try_from(frame.len() - PREFIX_BYTES);
    let len = len.expect("payloads have a limit far below");
    frame[1..PREFIX_BYTES].copy_from_slice(&len.to_be_bytes());
    frame.into()
}

/// Why something is not one uncompressed message: `the reply {it}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("is compressed, which nobody asked for")]
    Compressed,
    #[error("begins with {0}, not with 0")]
    Flag(u8),
    #[error("is too large")]
    TooLarge,
    #[error("has more than one message")]
    Several,
    #[error("has no message")]
    None,
    #[error("is cut short")]
    CutShort,
}

/// The one message of a stream, in as many pieces as it comes. It takes no more memory than has come,
/// whatever length was announced.
#[derive(Default)]
pub(crate) struct Incoming {
    /// Usually all there is.
    first: Bytes,
    /// Everything, once there is more.
    joined: BytesMut,
}

impl Incoming {
    /// Refuses what can't be the beginning of one uncompressed message of at most this many bytes.
    pub(crate) fn push(&mut self, piece: Bytes, bytes_max: usize) -> Result<(), Unreadable> {
        if self.bytes().is_empty() {
            self.first = piece;
        } else {
            let first = std::mem::take(&mut self.first);
            self.joined.extend_from_slice(&first);
            self.joined.extend_from_slice(&piece);
        }
        match self.bytes().first() {
            None | Some(0) => {}
            Some(1) => return Err(Unreadable::Compressed),
            Some(flag) => return Err(Unreadable::Flag(*flag)),
        }
        match self.announced() {
            Some(len) if len > bytes_max => Err(Unreadable::TooLarge),
            Some(len) if self.bytes().len() > PREFIX_BYTES + len => Err(Unreadable::Several),
            _ => Ok(()),
        }
    }

    /// The message, when all of it has come. Otherwise everything stays.
    pub(crate) fn message(&mut self) -> Result<Bytes, Unreadable> {
        match self.announced() {
            None if self.bytes().is_empty() => Err(Unreadable::None),
            Some(len) if self.bytes().len() == PREFIX_BYTES + len => {
                let mut message = self.take();
                message.advance(PREFIX_BYTES);
                Ok(message)
            }
            _ => Err(Unreadable::CutShort),
        }
    }

    /// All bytes that have come.
    pub(crate) fn take(&mut self) -> Bytes {
        match self.first.is_empty() {
            true => std::mem::take(&mut self.joined).freeze(),
            false => std::mem::take(&mut self.first),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self.first.is_empty() {
            true => &self.joined,
            false => &self.first,
        }
    }

    fn announced(&self) -> Option<usize> {
        let prefix = self.bytes().first_chunk::<PREFIX_BYTES>()?;
        let [_, len @ ..] = *prefix;
        Some(u32::from_be_bytes(len) as usize)
    }
}
