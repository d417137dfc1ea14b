//! What is measured of calls.
//!
//! [`CALL_SECONDS`] is a histogram. `metrics-exporter-prometheus` renders it as a summary whose
//! quantiles include 0.999 unless buckets are set; with buckets use [`CALL_SECONDS_BUCKETS`], which
//! are fine enough around a deadline of three seconds for a p99.9.

use std::{sync::Arc, time::Duration};

use metrics::{Histogram, SharedString, Unit};
use parking_lot::RwLock;
use tercet_core::answer::{Answer, QueryAnswer};

/// Histogram of a call's duration, every endpoint it tried included; labels `participant` (its
/// name, or `uri` for every endpoint that a target names directly), `operation` (`try`, `confirm`,
/// `cancel`, `query`) and `outcome`.
pub const CALL_SECONDS: &str = "tercet_participant_call_seconds";
/// Counter of calls that left open what happened; labels `participant`, `operation` and `reason`.
pub const INDETERMINATE: &str = "tercet_participant_indeterminate_total";
/// Gauge of the sessions that are open; label `participant`.
pub const SESSIONS: &str = "tercet_participant_sessions";
/// Upper bounds in seconds, where an exporter wants buckets.
pub const CALL_SECONDS_BUCKETS: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 2.5, 3.0, 5.0, 10.0, 60.0,
];

/// Tells the exporter what the numbers mean.
pub fn describe() {
    metrics::describe_histogram!(
        CALL_SECONDS,
        Unit::Seconds,
        "Duration of calls to participants"
    );
    metrics::describe_counter!(
        INDETERMINATE,
        Unit::Count,
        "Calls to participants that left open what happened"
    );
    metrics::describe_gauge!(
        SESSIONS,
        Unit::Count,
        "Sessions that participants have open"
    );
}

/// What is measured of an answer.
pub(super) trait Measured {
    /// The label, and the reason when it is indeterminate.
    fn outcome(&self) -> (&'static str, Option<&Arc<str>>);
}

impl Measured for Answer {
    fn outcome(&self) -> (&'static str, Option<&Arc<str>>) {
        match self {
            Answer::Success(_) => ("success", None),
            Answer::Failed(_) => ("failed", None),
            Answer::Processing { .. } => ("processing", None),
            Answer::NotSent(_) => ("not_sent", None),
            Answer::TooLarge(failure) | Answer::Indeterminate(failure) => {
                ("indeterminate", Some(&failure.reason))
            }
        }
    }
}

impl Measured for QueryAnswer {
    fn outcome(&self) -> (&'static str, Option<&Arc<str>>) {
        match self {
            QueryAnswer::Recorded(_) => ("recorded", None),
            QueryAnswer::Unclear => ("unclear", None),
            QueryAnswer::TooLarge(failure) | QueryAnswer::Indeterminate(failure) => {
                ("indeterminate", Some(&failure.reason))
            }
        }
    }
}

/// Notes how many sessions a participant has open.
pub(super) fn sessions(participant: &Arc<str>, open: usize) {
    let participant = SharedString::from_shared(Arc::clone(participant));
    metrics::gauge!(SESSIONS, "participant" => participant).set(open as f64);
}

/// The measures of one participant. Its histograms are looked up once, by the recorder that is
/// installed by then: to build and hash their labels would cost more than to record.
pub(super) struct Measures {
    participant: SharedString,
    seconds: RwLock<Vec<Seconds>>,
}

/// The histogram of calls with this operation and outcome.
struct Seconds {
    labels: [&'static str; 2],
    histogram: Histogram,
}

impl Measures {
    /// Of this participant; of none, for an endpoint that a target names directly.
    pub(super) fn of(participant: Option<&Arc<str>>) -> Self {
        let participant = participant.map_or(SharedString::const_str("uri"), |name| {
            SharedString::from_shared(Arc::clone(name))
        });
        Self {
            participant,
            seconds: RwLock::default(),
        }
    }

    /// Counts one call that has ended. Reasons are gRPC codes and our own, so labels stay few.
    pub(super) fn record(&self, operation: &'static str, took: Duration, answer: &impl Measured) {
        let (outcome, reason) = answer.outcome();
        self.record_seconds([operation, outcome], took);
        if let Some(reason) = reason {
            let reason = SharedString::from_shared(Arc::clone(reason));
            metrics::counter!(INDETERMINATE, "participant" => self.participant.clone(),
                "operation" => operation, "reason" => reason)
            .increment(1);
        }
    }

    fn record_seconds(&self, labels: [&'static str; 2], took: Duration) {
        if let Some(known) = self.seconds.read().iter().find(|it| it.labels == labels) {
            return known.histogram.record(took);
        }
        let [operation, outcome] = labels;
        let histogram = metrics::histogram!(CALL_SECONDS, "participant" => self.participant.clone(),
            "operation" => operation, "outcome" => outcome);
        histogram.record(took);
        // Two at the same time may both add it, and the first is found from then on.
        self.seconds.write().push(Seconds { labels, histogram });
    }
}
