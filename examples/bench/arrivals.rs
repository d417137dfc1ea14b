//! Transactions that arrive at a rate, whatever becomes of those before: clients that don't wait for each other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{calls::is_refused, load::scattered_id, wire::Wire};

/// How long a client waits for its answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at who has arrived meanwhile.
const TICK: Duration = Duration::from_millis(1);

/// A flow of arrivals.
pub struct Flow<'a> {
    /// Shared by all, in turn.
    pub wires: &'a [Wire],
    /// Tells their ids from those of other flows.
    pub prefix: &'a str,
    pub per_s: f64,
    pub lasts: Duration,
}

/// What became of one.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Since the flow's beginning: when it was due to arrive, and when it was answered.
    pub at: Duration,
    pub answered: Duration,
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Succeeded,
    /// By the coordinator, which has too much in flight.
    Refused,
    /// No answer within [`PATIENCE`].
    GaveUp,
    /// Any other error.
    Failed,
}

impl Flow<'_> {
    /// Lets them come; returns when every one has its answer.
    pub async fn run(&self) -> Vec<Arrival> {
        let (sender, ended) = unbounded_channel();
        let begun = Instant::now();
        self.send(begun, sender).await;
        collect(ended).await
    }

    async fn send(&self, begun: Instant, sender: UnboundedSender<Arrival>) {
        let prefix: Arc<str> = self.prefix.into();
        let mut wires = self.wires.iter().cycle();
        let mut sent = 0;
        let mut tick = tokio::time::interval(TICK);
        let mut since = Duration::ZERO;
        // Also when this process is so late that the last of them are due after their time.
        while since < self.lasts {
            tick.tick().await;
            since = begun.elapsed().min(self.lasts);
            let due = (since.as_secs_f64() * self.per_s) as u64;
            for number in sent..due {
                let Some(wire) = wires.next() else { return };
                // By the plan: an arrival that this process is late with has waited all the same.
                let at = Duration::from_secs_f64(number as f64 / self.per_s);
                let id = scattered_id(&prefix, number);
                tokio::spawn(one(wire.clone(), id, begun, at, sender.clone()));
            }
            sent = due.max(sent);
        }
    }
}

async fn one(
    wire: Wire,
    id: String,
    begun: Instant,
    at: Duration,
    sender: UnboundedSender<Arrival>,
) {
    let ended = tokio::time::timeout(PATIENCE, wire.transact(&id)).await;
    let end = match ended {
        Err(_) => End::GaveUp,
        Ok(Ok(())) => End::Succeeded,
        Ok(Err(error)) if is_refused(&error) => End::Refused,
        Ok(Err(_)) => End::Failed,
    };
    let answered = begun.elapsed();
    // Whoever listens does so to the end.
    let _ = sender.send(Arrival { at, answered, end });
}

async fn collect(mut ended: UnboundedReceiver<Arrival>) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    while let Some(arrival) = ended.recv().await {
        arrivals.push(arrival);
    }
    arrivals
}

/// How many of these ended so.
pub fn count<'a>(arrivals: impl IntoIterator<Item = &'a Arrival>, end: End) -> u64 {
    arrivals.into_iter().filter(|it| it.end == end).count() as u64
}

/// Of those that ended so, from their arrival to their answer.
pub fn latencies<'a>(
    arrivals: impl IntoIterator<Item = &'a Arrival>,
    end: End,
) -> anyhow::Result<Histogram<u64>> {
    let mut latencies = Histogram::<u64>::new(3)?;
    for it in arrivals.into_iter().filter(|it| it.end == end) {
        let latency = it.answered.saturating_sub(it.at);
        latencies.record(u64::try_from(latency.as_micros())?)?;
    }
    Ok(latencies)
}
