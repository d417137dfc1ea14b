//! SubmitTransaction past tonic: the one call that every transaction makes, and that is refused most.

use std::sync::Arc;

use parking_lot::Mutex;
use prost::{Message, bytes::Bytes};
use tonic::{Status, codegen::http::HeaderMap, metadata::MetadataMap};

use super::{coordinator::Coordinator, door::translated, limits::Limits};
use crate::{
    engine::{Engine, EngineError, Room},
    http2::{HotCall, Refusal, frame::framed},
    proto::decoded,
};

/// What answers it.
#[derive(Clone)]
pub struct Submits {
    coordinator: Coordinator,
    decode_bytes_max: usize,
    request_bytes_max: usize,
    full: Arc<Full>,
}

/// What everybody is told while there is no room: the last limit, and its words.
#[derive(Debug, Default)]
struct Full(Mutex<Option<(usize, Refusal)>>);

/// As much of a Submit as it takes to refuse it.
#[derive(Clone, PartialEq, Message)]
struct Glance {
    #[prost(string, tag = "1")]
    transaction_id: String,
    #[prost(bool, tag = "5")]
    validate_only: bool,
}

impl Submits {
    pub(super) fn new(engine: Engine, limits: Limits) -> Self {
        Self {
            decode_bytes_max: limits.decode_bytes_max(),
            request_bytes_max: limits.request_bytes_max,
            coordinator: Coordinator::new(engine, limits),
            full: Arc::default(),
        }
    }

    /// As [`Coordinator::refuse_unknown`], with nothing but the id read. A request that can't be read is let through
    /// as well.
    fn refuse_unknown(&self, message: &[u8]) -> Result<(), Refusal> {
        let Ok(glance) = Glance::decode(message) else {
            return Ok(());
        };
        if glance.validate_only {
            return Ok(());
        }
        let refused = self.coordinator.refuse_unknown(&glance.transaction_id);
        refused.map_err(|error| self.full.told(error))
    }

    async fn take(
        self,
        room: Option<Room>,
        headers: HeaderMap,
        message: Bytes,
    ) -> Result<Bytes, Status> {
        let request = decoded(message).map_err(|status| {
            let ours = translated(&status, self.request_bytes_max);
            ours.unwrap_or(status)
        })?;
        let metadata = MetadataMap::from_headers(headers);
        let response = self.coordinator.submit(room, &metadata, request).await?;
        Ok(framed(&response))
    }
}

impl Full {
    fn told(&self, error: EngineError) -> Refusal {
        let EngineError::InflightLimit { limit, .. } = error else {
            return Status::from(error).into();
        };
        let mut last = self.0.lock();
        match &*last {
            Some((its, refusal)) if *its == limit => refusal.clone(),
            _ => {
                let refusal = Refusal::from(Status::from(error));
                *last = Some((limit, refusal.clone()));
                refusal
            }
        }
    }
}

impl HotCall for Submits {
    const PATH: &'static str = "/tercet.v1.CoordinatorService/SubmitTransaction";

    fn message_bytes_max(&self) -> usize {
        self.decode_bytes_max
    }

    async fn answer(self, headers: HeaderMap, message: Bytes) -> Result<Bytes, Refusal> {
        // Under overload most requests are refused, so that has to cost little: it comes before they are read.
        let room = self.coordinator.room().await;
        if room.is_none() {
            self.refuse_unknown(&message)?;
        }
        // A transaction's way is a long one, and those that are refused need not carry it.
        Ok(Box::pin(self.take(room, headers, message)).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_that_is_kept_names_the_limit_of_the_moment() {
        let full = Full::default();
        for limit in [90, 90, 70, 90] {
            let error = || EngineError::InflightLimit {
                limit,
                retry_after: Duration::from_millis(500),
            };
            let told = full.told(error());
            let anew = Refusal::from(Status::from(error()));
            assert_eq!(format!("{told:?}"), format!("{anew:?}"));
        }
    }
}
