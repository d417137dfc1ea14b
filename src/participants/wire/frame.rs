//! A message as gRPC frames it: one byte that says whether it is compressed, its length in four
//! bytes, itself.

use prost::{
    Message,
    bytes::{Buf as _, Bytes, BytesMut},
};
use tonic::Status;

use crate::participants::fault::Fault;

const PREFIX_BYTES: usize = 5;

/// Of a message.
pub(in crate::participants) fn framed(message: &impl Message) -> Bytes {
    let mut frame = prefix(message.encoded_len());
    let encoded = message.encode(&mut frame);
    encoded.expect("a Vec has room");
    frame.into()
}

/// Of a message that is encoded already.
pub(in crate::participants) fn framed_bytes(message: &[u8]) -> Bytes {
    let mut frame = prefix(message.len());
    frame.extend_from_slice(message);
    frame.into()
}

fn prefix(len: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX_BYTES + len);
    frame.push(0);
    let len = u32::try_from(len).expect("payloads have a limit far below");
    frame.extend_from_slice(&len.to_be_bytes());
    frame
}

/// The one message of a reply, in as many pieces as it comes. It takes no more memory than has come,
/// whatever length was announced.
#[derive(Default)]
pub(super) struct Incoming {
    /// Usually all there is.
    first: Bytes,
    /// Everything, once there is more.
    joined: BytesMut,
}

impl Incoming {
    /// Refuses what can't be the beginning of one uncompressed message of at most this many bytes.
    pub(super) fn push(&mut self, piece: Bytes, bytes_max: usize) -> Result<(), Fault> {
        if self.bytes().is_empty() {
            self.first = piece;
        } else {
            let first = std::mem::take(&mut self.first);
            self.joined.extend_from_slice(&first);
            self.joined.extend_from_slice(&piece);
        }
        match self.bytes().first() {
            None | Some(0) => {}
            Some(1) => {
                return Err(unreadable(
                    "the reply is compressed, which nobody asked for",
                ));
            }
            Some(flag) => {
                return Err(unreadable(format!(
                    "the reply begins with {flag}, not with 0"
                )));
            }
        }
        match self.announced() {
            Some(len) if len > bytes_max => Err(Fault::TooLarge { bytes_max }),
            Some(len) if self.bytes().len() > PREFIX_BYTES + len => {
                Err(unreadable("the reply has more than one message"))
            }
            _ => Ok(()),
        }
    }

    /// The message, when all of it has come.
    pub(super) fn message(self) -> Result<Bytes, Fault> {
        match self.announced() {
            None if self.bytes().is_empty() => Err(unreadable("the reply has no message")),
            Some(len) if self.bytes().len() == PREFIX_BYTES + len => {
                let mut message = match self.first.is_empty() {
                    true => self.joined.freeze(),
                    false => self.first,
                };
                message.advance(PREFIX_BYTES);
                Ok(message)
            }
            _ => Err(unreadable("the reply is cut short")),
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

fn unreadable(why: impl Into<String>) -> Fault {
    Fault::Status(Status::internal(why))
}
