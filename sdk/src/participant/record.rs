//! What the SDK keeps in a fence row beside the state. Tags only ever grow: a row written by one
//! release is read by the next, and by the one before.

use prost::{Message as _, bytes::Bytes};
use tercet_core::fence::Row;

use super::{
    branch::BranchKey,
    fence::{FenceError, Record},
};
use crate::proto::participant::v1::Failure;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Body {
    /// Which resource the branch belongs to.
    #[prost(string, tag = "1")]
    pub(crate) resource: String,
    /// Remote work only: the payload of Try, for starting a lost job again.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) request: Option<Bytes>,
    /// The result of Try.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) held: Option<Bytes>,
    /// Why a remote Try was refused.
    #[prost(message, optional, tag = "4")]
    pub(crate) failure: Option<Failure>,
}

impl Body {
    pub(crate) fn decode_from(key: &BranchKey, record: &Record) -> Result<Self, FenceError> {
        Self::decode(&*record.body).map_err(|error| FenceError::RowInvalid {
            key: Box::new(key.clone()),
            what: error.to_string(),
        })
    }

    pub(crate) fn into_record(self, row: Row) -> Record {
        Record {
            row,
            body: self.encode_to_vec(),
        }
    }
}
