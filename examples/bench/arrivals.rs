//! Transactions that arrive at a rate, whatever becomes of those before: clients that don't wait for each other.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    load::scattered_id,
    wire::{Call, Wire},
};

/// How long a client waits for its answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at who has arrived meanwhile.
const TICK: Duration = Duration::from_millis(4);

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

    async fn send(&self, begun: Instant, ended: UnboundedSender<Arrival>) {
        let wires = self.wires.len() as u64;
        let mut sent = 0;
        let mut tick = tokio::time::interval(TICK);
        let mut since = Duration::ZERO;
        // Also when this process is so late that the last of them are due after their time.
        while since < self.lasts {
            tick.tick().await;
            since = begun.elapsed().min(self.lasts);
            let due = (since.as_secs_f64() * self.per_s) as u64;
            for (nth, wire) in self.wires.iter().enumerate() {
                let mine = (sent..due).filter(|number| number % wires == nth as u64);
                let calls: Vec<_> = mine.map(|it| self.one(it, begun, &ended)).collect();
                if !calls.is_empty() {
                    wire.call(calls);
                }
            }
            sent = due.max(sent);
        }
    }

    fn one(&self, number: u64, begun: Instant, ended: &UnboundedSender<Arrival>) -> Call {
        Call {
            id: scattered_id(self.prefix, number),
            begun,
            // By the plan: an arrival that this process is late with has waited all the same.
            at: Duration::from_secs_f64(number as f64 / self.per_s),
            ended: ended.clone(),
        }
    }
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
