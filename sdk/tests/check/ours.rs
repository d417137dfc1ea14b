//! The participants that this crate makes keep the contract, too.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tercet_sdk::{
    participant::{
        Branch, Later, MemoryFence, Participant, Progress, Remote, Resource, TryError, refuse,
    },
    proto::participant::v1::Payload,
    testing::{CheckOptions, check},
};

#[derive(Clone, PartialEq, prost::Message)]
struct Reserve {
    #[prost(int64, tag = "1")]
    count: i64,
}

#[derive(Clone, Default)]
struct Stock {
    free: i64,
    held: i64,
    used: i64,
}

struct Reservation;

impl Resource<Stock> for Reservation {
    const NAME: &'static str = "reserve";
    type Request = Reserve;
    type Held = Reserve;

    async fn on_try(&self, db: &mut Stock, _: &Branch, r: Reserve) -> Result<Reserve, TryError> {
        if db.free < r.count {
            return Err(refuse("OUT_OF_STOCK"));
        }
        db.free -= r.count;
        db.held += r.count;
        Ok(r)
    }

    async fn on_confirm(&self, db: &mut Stock, _: &Branch, held: Reserve) -> Result<(), Later> {
        db.held -= held.count;
        db.used += held.count;
        Ok(())
    }

    async fn on_cancel(&self, db: &mut Stock, _: &Branch, held: Reserve) -> Result<(), Later> {
        db.held -= held.count;
        db.free += held.count;
        Ok(())
    }
}

fn options(resource: &str) -> CheckOptions {
    CheckOptions::new(resource, Payload::message(&Reserve { count: 1 }))
}

#[tokio::test]
async fn a_resource_beside_its_fence_keeps_every_rule_and_its_stock() {
    let fence = MemoryFence::new(Stock {
        free: 100,
        ..Stock::default()
    });
    let participant = Participant::new("inventory", fence.clone()).resource(Reservation);
    let report = check(participant.into_service().unwrap(), options("reserve")).await;
    report.assert_holds();

    let stock = fence.read(Stock::clone).await;
    assert_eq!(
        stock.held, 0,
        "all that was reserved is confirmed or released"
    );
    assert_eq!(stock.free + stock.used, 100);
    assert!(stock.used > 0);
}

/// Work elsewhere, which takes its time: the first call of each kind is answered PROCESSING.
#[derive(Default)]
struct Elsewhere {
    known: Mutex<HashMap<(String, &'static str), Reserve>>,
}

impl Elsewhere {
    /// None the first time: it is only begun.
    fn second_time(&self, branch: &Branch, what: &'static str, r: Reserve) -> Progress<Reserve> {
        let mut known = self.known.lock().unwrap();
        let key = (branch.idempotency_key(), what);
        match known.insert(key, r.clone()) {
            Some(_) => Progress::Done(r),
            None => Progress::Processing {
                retry_after: Duration::from_millis(1),
            },
        }
    }
}

impl Remote for Elsewhere {
    const NAME: &'static str = "charge";
    type Request = Reserve;
    type Held = Reserve;

    async fn on_try(&self, b: &Branch, r: Reserve) -> Result<Progress<Reserve>, TryError> {
        Ok(self.second_time(b, "try", r))
    }

    async fn on_confirm(&self, b: &Branch, held: Reserve) -> Result<Progress<()>, Later> {
        Ok(done(&self.second_time(b, "confirm", held)))
    }

    async fn on_cancel(
        &self,
        b: &Branch,
        request: Reserve,
        _: Option<Reserve>,
    ) -> Result<Progress<()>, Later> {
        Ok(done(&self.second_time(b, "cancel", request)))
    }
}

fn done(progress: &Progress<Reserve>) -> Progress<()> {
    match *progress {
        Progress::Done(_) => Progress::Done(()),
        Progress::Processing { retry_after } => Progress::Processing { retry_after },
    }
}

#[tokio::test(start_paused = true)]
async fn remote_work_that_takes_its_time_keeps_every_rule() {
    let participant =
        Participant::new("payment", MemoryFence::new(())).remote(Elsewhere::default());
    let report = check(participant.into_service().unwrap(), options("charge")).await;
    report.assert_holds();
}
