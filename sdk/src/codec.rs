//! Protobuf as the generated clients and servers read and write it: a message is taken out of tonic's
//! buffer, or put into it, in one piece. prost works byte by byte, and there every byte is a call that
//! looks for room.

use std::marker::PhantomData;

use prost::{
    Message,
    bytes::{Buf as _, BufMut as _},
};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Writes `T`, reads `U`.
pub(crate) struct Whole<T, U>(PhantomData<(T, U)>);

/// Its half that writes.
pub(crate) struct WholeEncoder<T>(PhantomData<T>);

/// Its half that reads.
pub(crate) struct WholeDecoder<U>(PhantomData<U>);

impl<T, U> Default for Whole<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Whole<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WholeEncoder<T>;
    type Decoder = WholeDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        WholeEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        WholeDecoder(PhantomData)
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

impl<U: Message + Default> Decoder for WholeDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let message = from.copy_to_bytes(from.remaining());
        let message = U::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }
}
