//! Promises about work outside of the fence's database.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use tercet_sdk::{
    participant::{Branch, Later, Participant, Progress, Remote, TryError, refuse},
    proto::participant::v1::{BranchContext, Outcome, RecordState},
};
use tokio::sync::{Semaphore, watch};
use tonic::Code;

use crate::{
    bench::{Answer, Bench, Reserve, bench, branch, context, faulty, reserve},
    databases::{Database, Shelf},
};

/// Long enough for every job that nothing holds up.
const PATIENT: Duration = Duration::from_secs(10);
/// For jobs that are held up.
const IMPATIENT: Duration = Duration::from_millis(30);

pub async fn remote_work_is_done_once_and_its_result_is_kept<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::open());
    let bench = process(&database, &provider, PATIENT);
    let (kept, dropped) = (charge("order-1"), charge("order-2"));
    for _ in 0..3 {
        for tx in [&kept, &dropped] {
            assert_eq!(
                bench.r#try(tx, &reserve(7)).await.unwrap().result,
                Some(reserve(7))
            );
        }
    }
    assert_eq!(bench.state(&kept).await, RecordState::Tried);
    assert!(bench.query(&kept).await.unwrap().try_result.is_some());
    for _ in 0..3 {
        assert!(bench.confirm(&kept).await.unwrap().is_success());
        assert!(bench.cancel(&dropped).await.unwrap().is_success());
    }
    assert_eq!(provider.log_of(&kept), ["reserve", "use"]);
    assert_eq!(provider.log_of(&dropped), ["reserve", "release with held"]);
    assert_eq!(bench.state(&kept).await, RecordState::Confirmed);
    assert_eq!(bench.state(&dropped).await, RecordState::Canceled);
}

pub async fn slow_remote_work_is_processing_until_it_ends<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::closed());
    let bench = process(&database, &provider, IMPATIENT);
    let tx = charge("order-1");
    for _ in 0..2 {
        let answer = bench.r#try(&tx, &reserve(7)).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Processing);
    }
    let recorded = bench.query(&tx).await.unwrap();
    assert_eq!(recorded.state(), RecordState::Trying);
    assert!(recorded.retry_after.is_some());
    assert_eq!(
        bench.confirm(&tx).await.unwrap_err().code(),
        Code::FailedPrecondition
    );

    provider.open_gate();
    while bench.r#try(&tx, &reserve(7)).await.unwrap().outcome == Outcome::Processing {}
    assert_eq!(bench.state(&tx).await, RecordState::Tried);
    assert_eq!(provider.log_of(&tx), ["reserve"]);
}

pub async fn a_try_that_ends_after_its_cancel_is_undone<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::closed());
    let bench = process(&database, &provider, IMPATIENT);
    let tx = charge("order-1");
    assert_eq!(
        bench.r#try(&tx, &reserve(7)).await.unwrap().outcome,
        Outcome::Processing
    );
    assert_eq!(
        bench.cancel(&tx).await.unwrap().outcome,
        Outcome::Processing
    );
    assert_eq!(bench.state(&tx).await, RecordState::Canceling);
    assert!(
        bench
            .r#try(&tx, &reserve(7))
            .await
            .unwrap()
            .failed_for("BRANCH_FENCED")
    );
    assert_eq!(
        bench.confirm(&tx).await.unwrap_err().code(),
        Code::FailedPrecondition
    );

    provider.open_gate();
    cancel_until_done(&bench, &tx).await;
    assert_eq!(bench.state(&tx).await, RecordState::Canceled);
    // One after the other, and what the Try held was there for the Cancel.
    assert_eq!(provider.log_of(&tx), ["reserve", "release with held"]);
}

pub async fn a_cancel_and_a_finishing_job_never_leave_a_reservation<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::open());
    let bench = process(&database, &provider, PATIENT);
    for round in 0..25 {
        let tx = charge(&format!("race-{round}"));
        let (trier, canceler) = (bench.clone(), bench.clone());
        let (tried_tx, canceled_tx) = (tx.clone(), tx.clone());
        let tried = tokio::spawn(async move { trier.r#try(&tried_tx, &reserve(7)).await.unwrap() });
        let canceled =
            tokio::spawn(async move { cancel_until_done(&canceler, &canceled_tx).await });
        canceled.await.unwrap();
        let tried = tried.await.unwrap();
        assert!(
            tried.is_success() || tried.failed_for("BRANCH_FENCED"),
            "{tried:?}"
        );
        assert_ne!(
            provider.log_of(&tx).last(),
            Some(&"reserve"),
            "round {round}"
        );
        assert_eq!(bench.state(&tx).await, RecordState::Canceled);
    }
}

pub async fn a_lost_job_is_started_again_by_the_next_call<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::open());
    let crashed = process(&database, &provider, IMPATIENT);
    let tx = charge("order-1");
    let answer = crashed.r#try(&tx, &faulty("cut off before")).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Processing);

    let restarted = process(&database, &provider, PATIENT);
    assert_eq!(restarted.state(&tx).await, RecordState::Trying);
    provider.heal();
    let answer = restarted.r#try(&tx, &reserve(0)).await.unwrap();
    // With the request as it was first sent, which the row kept.
    assert_eq!(answer.result, Some(faulty("cut off before")));
    assert_eq!(provider.log_of(&tx), ["reserve"]);
}

pub async fn a_cancel_undoes_a_try_that_a_crash_cut_off<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::open());
    let crashed = process(&database, &provider, IMPATIENT);
    let tx = charge("order-1");
    let answer = crashed.r#try(&tx, &faulty("cut off after")).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Processing);

    let restarted = process(&database, &provider, PATIENT);
    assert!(restarted.cancel(&tx).await.unwrap().is_success());
    assert_eq!(provider.log_of(&tx), ["reserve", "release"]);
    assert_eq!(restarted.state(&tx).await, RecordState::Canceled);
}

pub async fn a_refused_remote_try_is_kept_and_repeated_as_refused<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::open());
    let bench = process(&database, &provider, PATIENT);
    let tx = charge("order-1");
    for _ in 0..2 {
        let refused = bench.r#try(&tx, &faulty("refuse")).await.unwrap();
        assert!(refused.failed_for("CARD_DECLINED"), "{refused:?}");
    }
    let recorded = bench.query(&tx).await.unwrap();
    assert_eq!(recorded.state(), RecordState::TryFailed);
    assert_eq!(recorded.failure.unwrap().reason, "CARD_DECLINED");
    assert!(bench.cancel(&tx).await.unwrap().is_success());
    assert_eq!(
        provider.log_of(&tx),
        ["decline"],
        "asked once, and nothing to release"
    );
    assert!(
        bench
            .r#try(&tx, &reserve(7))
            .await
            .unwrap()
            .failed_for("BRANCH_FENCED")
    );
}

pub async fn an_error_of_remote_work_is_no_outcome_and_is_tried_again<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::open());
    let bench = process(&database, &provider, PATIENT);
    for (fault, code) in [
        ("fail once", Code::Unavailable),
        ("panic once", Code::Internal),
    ] {
        let tx = charge(&fault.replace(' ', "-"));
        let status = bench.r#try(&tx, &faulty(fault)).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert_eq!(bench.state(&tx).await, RecordState::Trying);
        assert!(bench.r#try(&tx, &faulty(fault)).await.unwrap().is_success());
    }
    let tx = charge("processing-once");
    let owned = bench.r#try(&tx, &faulty("processing once")).await.unwrap();
    assert_eq!(owned.outcome, Outcome::Processing);
    assert!(
        bench
            .r#try(&tx, &faulty("processing once"))
            .await
            .unwrap()
            .is_success()
    );
}

pub async fn a_job_of_another_process_that_ends_after_the_cancel_undoes_itself<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::closed());
    let slow = process(&database, &provider, IMPATIENT);
    let tx = charge("order-1");
    assert_eq!(
        slow.r#try(&tx, &reserve(7)).await.unwrap().outcome,
        Outcome::Processing
    );
    let other = process(&database, &provider, PATIENT);
    assert!(other.cancel(&tx).await.unwrap().is_success());
    assert_eq!(provider.log_of(&tx), ["release"]);

    provider.open_gate();
    provider
        .log_until(&tx, ["release", "reserve", "release with held"])
        .await;
    assert_eq!(other.state(&tx).await, RecordState::Canceled);
}

pub async fn an_undoing_that_fails_is_repeated<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::closed());
    let slow = process(&database, &provider, IMPATIENT);
    let tx = charge("order-1");
    let request = faulty("fail the undoing once");
    assert_eq!(
        slow.r#try(&tx, &request).await.unwrap().outcome,
        Outcome::Processing
    );
    let other = process(&database, &provider, PATIENT);
    assert!(other.cancel(&tx).await.unwrap().is_success());

    provider.open_gate();
    provider
        .log_until(&tx, ["release", "reserve", "release with held"])
        .await;
}

pub async fn a_branch_of_one_resource_is_closed_to_others<D: Database>() {
    let (database, provider) = (D::fresh().await, Provider::open());
    let (stock, payment) = (bench(&database), process(&database, &provider, PATIENT));
    assert!(
        stock
            .r#try(&branch("order-1"), &reserve(1))
            .await
            .unwrap()
            .is_success()
    );
    let tx = charge("order-1");
    let answers = [
        payment.r#try(&tx, &reserve(1)).await.map(|_| ()),
        payment.confirm(&tx).await.map(|_| ()),
        payment.cancel(&tx).await.map(|_| ()),
        payment.query(&tx).await.map(|_| ()),
    ];
    for answer in answers {
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(database.shelf().await, Shelf::of(1, 0));
    assert!(provider.log_of(&tx).is_empty());
}

/// A process of the participant: its fence is shared, its jobs are not.
fn process<D: Database>(database: &D, provider: &Provider, wait: Duration) -> Bench<D::Fence> {
    let participant = Participant::new("payment", database.fence());
    Bench::of(participant.remote(provider.clone()).answer_within(wait))
}

fn charge(transaction_id: &str) -> BranchContext {
    context("charge", transaction_id)
}

async fn cancel_until_done<F: tercet_sdk::participant::Fence>(
    bench: &Bench<F>,
    tx: &BranchContext,
) -> Answer {
    loop {
        let answer = bench.cancel(tx).await.unwrap();
        if answer.outcome != Outcome::Processing {
            assert!(answer.is_success(), "{answer:?}");
            return answer;
        }
    }
}

/// A payment provider that does what it is told, as often as it is told, and keeps a log. It does
/// not fence: a reservation after a release stays.
#[derive(Clone)]
struct Provider {
    log: Arc<watch::Sender<HashMap<String, Vec<&'static str>>>>,
    faulted: Arc<Mutex<HashMap<String, bool>>>,
    gate: Arc<Semaphore>,
}

impl Provider {
    fn closed() -> Self {
        Self {
            log: Arc::new(watch::channel(HashMap::new()).0),
            faulted: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn open() -> Self {
        let provider = Self::closed();
        provider.open_gate();
        provider
    }

    /// Lets every Try through from now on.
    fn open_gate(&self) {
        self.gate.add_permits(1000);
    }

    /// No faults any more.
    fn heal(&self) {
        for healed in self.faulted.lock().unwrap().values_mut() {
            *healed = true;
        }
    }

    fn log_of(&self, tx: &BranchContext) -> Vec<&'static str> {
        self.log
            .borrow()
            .get(&key_of(tx))
            .cloned()
            .unwrap_or_default()
    }

    async fn log_until<const N: usize>(&self, tx: &BranchContext, expected: [&'static str; N]) {
        let mut log = self.log.subscribe();
        let reached = log.wait_for(|log| log.get(&key_of(tx)).is_some_and(|l| **l == expected));
        tokio::time::timeout(PATIENT, reached)
            .await
            .unwrap()
            .unwrap();
    }

    fn write(&self, branch: &Branch, line: &'static str) {
        self.log
            .send_modify(|log| log.entry(branch.idempotency_key()).or_default().push(line));
    }

    /// Whether the fault of this branch strikes: only the first time, and unless healed.
    fn strikes(&self, branch: &Branch) -> bool {
        let mut faulted = self.faulted.lock().unwrap();
        let healed = faulted.entry(branch.idempotency_key()).or_insert(false);
        !std::mem::replace(healed, true)
    }
}

fn key_of(tx: &BranchContext) -> String {
    format!("{}/{}/{}", tx.realm, tx.transaction_id, tx.branch_id)
}

impl Remote for Provider {
    const NAME: &'static str = "charge";
    type Request = Reserve;
    type Held = Reserve;

    async fn on_try(&self, b: &Branch, r: Reserve) -> Result<Progress<Reserve>, TryError> {
        match &*r.fault {
            "refuse" => {
                self.write(b, "decline");
                return Err(refuse("CARD_DECLINED"));
            }
            "cut off before" if self.strikes(b) => pending().await,
            "cut off after" if self.strikes(b) => {
                self.write(b, "reserve");
                pending().await
            }
            "fail once" if self.strikes(b) => return Err(TryError::indeterminate("timed out")),
            "panic once" if self.strikes(b) => panic!("as the request asked"),
            "processing once" if self.strikes(b) => {
                let retry_after = Duration::from_millis(150);
                return Ok(Progress::Processing { retry_after });
            }
            _ => {}
        }
        let _through = self.gate.acquire().await?;
        self.write(b, "reserve");
        Ok(Progress::Done(r))
    }

    async fn on_confirm(&self, b: &Branch, _: Reserve) -> Result<Progress<()>, Later> {
        self.write(b, "use");
        Ok(Progress::Done(()))
    }

    async fn on_cancel(
        &self,
        b: &Branch,
        request: Reserve,
        held: Option<Reserve>,
    ) -> Result<Progress<()>, Later> {
        assert_ne!(request, Reserve::default(), "the request is always there");
        if request.fault == "fail the undoing once" && held.is_some() && self.strikes(b) {
            return Err(Later::indeterminate("timed out"));
        }
        let line = if held.is_some() {
            "release with held"
        } else {
            "release"
        };
        self.write(b, line);
        Ok(Progress::Done(()))
    }
}
