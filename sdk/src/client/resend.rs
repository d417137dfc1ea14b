//! Sends a call again, with the same ids and content, while its caller waits.
//!
//! Every call that changes something is idempotent by its ids, so a resend is safe; what must not
//! be lost on the way is that an earlier copy may have arrived. Once an attempt had no definite
//! answer, no later refusal turns the whole into a refusal: the earlier copy may still be on its
//! way. One refusal is an exception: TRANSACTION_ID_REUSED (and BRANCH_ID_REUSED) says that the
//! id stands for other content, so no copy of ours was or will be accepted, and to wait for that
//! id would be to take another's outcome for our own.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::error::{Error, Refused};
use crate::proto::v1::ErrorReason;

/// What a call may take beyond the wait it asks for: the way there and back.
pub(crate) const MARGIN: Duration = Duration::from_secs(1);

/// So that a coordinator in trouble isn't also kept busy by its clients.
const ATTEMPTS_MAX: u32 = 10;
const DELAY_FIRST: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// What all attempts together came to.
pub(crate) enum Answer<T> {
    Reply(T),
    /// For certain: none of the attempts had an effect.
    Refused(Refused),
    /// At least one attempt may have had an effect, or nobody knows.
    Unknown(Error),
}

/// How long to go on.
#[derive(Clone, Copy)]
pub(crate) struct Until {
    pub(crate) wait: Instant,
    /// No copy is sent after this time.
    pub(crate) protected: Option<Instant>,
}

impl Until {
    pub(crate) fn wait(wait: Duration) -> Self {
        Self {
            wait: from_now(wait),
            protected: None,
        }
    }
}

/// This long from now. A wait without an end in sight ends in a century: clocks end, too.
pub(crate) fn from_now(wait: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    Instant::now() + wait.min(CENTURY)
}

/// Calls `attempt` with the wait that is left, until it has a definite answer or the time is over.
pub(crate) async fn resend<T, F>(until: Until, mut attempt: impl FnMut(Duration) -> F) -> Answer<T>
where
    F: Future<Output = Result<T, Status>>,
{
    let mut unknown: Option<Error> = None;
    let mut number = 0;
    loop {
        number += 1;
        if until.protected.is_some_and(|end| Instant::now() >= end) {
            return Answer::Unknown(unknown.unwrap_or(Error::ProtectionOver));
        }
        let error = match once(until, &mut attempt).await {
            Ok(reply) => return Answer::Reply(reply),
            Err(error) => error,
        };
        let delay = delay(number, &error);
        let again =
            error.is_passing() && number < ATTEMPTS_MAX && Instant::now() + delay < until.wait;
        match error {
            Error::Refused(refused) if unknown.is_none() || is_of_other_content(&refused) => {
                if !again {
                    return Answer::Refused(refused);
                }
            }
            error if again => unknown = Some(error),
            error => return Answer::Unknown(error),
        }
        sleep(delay).await;
    }
}

async fn once<T, F>(until: Until, attempt: &mut impl FnMut(Duration) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Status>>,
{
    let left = until.wait.saturating_duration_since(Instant::now());
    match timeout(left + MARGIN, attempt(left)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(Error::indeterminate(
            Code::DeadlineExceeded,
            format!("no reply within {:?}", left + MARGIN),
        )),
    }
}

fn is_of_other_content(refused: &Refused) -> bool {
    refused.is(ErrorReason::TransactionIdReused) || refused.is(ErrorReason::BranchIdReused)
}

fn delay(number: u32, error: &Error) -> Duration {
    // At least what the coordinator asked for; the jitter keeps its clients from coming back all
    // at once.
    let asked = error.retry_delay().unwrap_or_default();
    asked + backoff(number)
}

/// Doubles from 0.1 s to 5 s, of which a random half is taken off.
pub(crate) fn backoff(number: u32) -> Duration {
    let full = DELAY_FIRST
        .saturating_mul(1 << number.saturating_sub(1).min(10))
        .min(DELAY_MAX);
    full * fastrand::u32(500..=1000) / 1000
}
