//! Finds a dead connection while calls wait on it, and while none does.

use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

const INTERVAL: Duration = Duration::from_secs(20);
/// How long an answer to a ping may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns when a ping has had no answer. Also ends a connection that can't say goodbye because
/// nobody reads it any more: it takes no pings.
pub(crate) async fn silence(mut pings: PingPong) {
    loop {
        sleep(INTERVAL).await;
        let answer = timeout(TIMEOUT, pings.ping(Ping::opaque())).await;
        if !matches!(answer, Ok(Ok(_))) {
            return;
        }
    }
}
