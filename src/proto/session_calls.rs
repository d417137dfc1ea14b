//! Calls over a session, which are written one by one, when each is made, and not as messages.

use prost::{Message, bytes::Bytes};

/// `tercet.participant.v1.SessionCalls`, with each call as the bytes of its SessionCall: the same on the wire.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SessionCalls {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub calls: Vec<Bytes>,
}
