//! Messages as they are read and written.
//!
//! 1. One with more fields than any of ours has is refused: a request of 1 MiB that is nothing but empty
//!    branches would take hundreds of MiB once it is decoded.
//! 2. A message is taken out of tonic's buffer, or put into it, in one piece. prost works byte by byte,
//!    and there every byte is a call that looks for room.

use std::{any::TypeId, marker::PhantomData};

use prost::{
    Message,
    bytes::{Buf as _, BufMut as _, Bytes},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{fields::fields, proto::tercet::participant::v1::OpenSessionRequest};

/// Above the longest page of transactions that can be configured.
const FIELDS_MAX: usize = 16 * 1024;

/// Protobuf, with its fields counted before it is decoded.
pub(crate) struct Counted<T, U>(PhantomData<(T, U)>);

/// Its half that writes.
pub(crate) struct WholeEncoder<T>(PhantomData<T>);

/// Its half that reads.
pub(crate) struct CountedDecoder<U>(PhantomData<U>);

impl<T, U> Default for Counted<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Counted<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WholeEncoder<T>;
    type Decoder = CountedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        WholeEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountedDecoder(PhantomData)
    }
}

impl<T: Message> Encoder for WholeEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message.encode_to_vec());
        Ok(())
    }
}

impl<U: Message + Default + 'static> Decoder for CountedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        decoded(from.copy_to_bytes(from.remaining())).map(Some)
    }
}

/// The message in these bytes, with its fields counted before.
pub(crate) fn decoded<U: Message + Default + 'static>(bytes: Bytes) -> Result<U, Status> {
    let found = fields(&bytes, lists::<U>());
    if found > FIELDS_MAX {
        // The code that tonic itself gives to bytes that can't be decoded.
        return Err(Status::internal(format!(
            "it has {found} fields; no message has more than {FIELDS_MAX}"
        )));
    }
    U::decode(bytes).map_err(|error| Status::internal(error.to_string()))
}

/// Fields of this message whose own fields may come in great number: they are counted with its own.
fn lists<U: 'static>() -> &'static [usize] {
    const HELLO_AND_REPLIES: &[usize] = &[1, 2];
    if TypeId::of::<U>() == TypeId::of::<OpenSessionRequest>() {
        HELLO_AND_REPLIES
    } else {
        &[]
    }
}
