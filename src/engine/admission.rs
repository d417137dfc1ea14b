//! How much may be in flight, new work and recovery apart, so that neither starves the other.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{EngineConfig, EngineError};

/// What a new caller is told to wait when too much is in flight.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The right to be in flight; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

pub(super) struct Admission {
    inflight_max: usize,
    new: Arc<Semaphore>,
    recovery: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new(config: &EngineConfig) -> Self {
        Self {
            inflight_max: config.inflight_max,
            new: Arc::new(Semaphore::new(config.inflight_max)),
            recovery: Arc::new(Semaphore::new(config.recovery_inflight_max)),
        }
    }

    /// Room for a new transaction, or a refusal at once: new work never queues here.
    pub(super) fn admit_new(&self) -> Result<Permit, EngineError> {
        Arc::clone(&self.new)
            .try_acquire_owned()
            .map(Permit)
            .map_err(|_| EngineError::InflightLimit {
                limit: self.inflight_max,
                retry_after: RETRY_AFTER,
            })
    }

    /// Room for a transaction that is due; waits for it.
    pub(super) async fn admit_due(&self) -> Permit {
        let permit = Arc::clone(&self.recovery).acquire_owned().await;
        Permit(permit.expect("the semaphore is never closed"))
    }

    /// New transactions in flight.
    pub(super) fn inflight(&self) -> usize {
        self.inflight_max - self.new.available_permits()
    }
}
