//! SubmitTransaction past tonic: the one call that every transaction makes, and that is refused most.

use prost::bytes::Bytes;
use tonic::{Status, codegen::http::HeaderMap, metadata::MetadataMap};

use super::{coordinator::Coordinator, door::translated, limits::Limits};
use crate::{
    engine::Engine,
    http2::{HotCall, frame::framed},
    proto::decoded,
};

/// What answers it.
#[derive(Clone)]
pub struct Submits {
    coordinator: Coordinator,
    decode_bytes_max: usize,
    request_bytes_max: usize,
}

impl Submits {
    pub(super) fn new(engine: Engine, limits: Limits) -> Self {
        Self {
            decode_bytes_max: limits.decode_bytes_max(),
            request_bytes_max: limits.request_bytes_max,
            coordinator: Coordinator::new(engine, limits),
        }
    }
}

impl HotCall for Submits {
    const PATH: &'static str = "/tercet.v1.CoordinatorService/SubmitTransaction";

    fn message_bytes_max(&self) -> usize {
        self.decode_bytes_max
    }

    async fn answer(self, headers: HeaderMap, message: Bytes) -> Result<Bytes, Status> {
        let request = decoded(message).map_err(|status| {
            let ours = translated(&status, self.request_bytes_max);
            ours.unwrap_or(status)
        })?;
        let metadata = MetadataMap::from_headers(headers);
        let response = self.coordinator.submit(&metadata, request).await?;
        Ok(framed(&response))
    }
}
