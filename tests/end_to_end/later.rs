//! Participants that finish later: remote work answered with PROCESSING, and its end reported.

use std::{sync::Arc, time::Duration};

use tercet::proto::tercet::{
    participant::v1::{
        BranchContext, Operation, QueryRequest, RecordState,
        participant_service_client::ParticipantServiceClient,
    },
    v1 as pb,
};
use tercet_sdk::{
    client::{Report, Submit, Transaction, TransactionState},
    participant::{Branch, Later, MemoryFence, Participant, Progress, Remote, TryError, refuse},
};
use tokio::sync::watch;
use tonic::{
    Code,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    account::Amount,
    coordinator::{PATIENCE, World, expect, order, place, success},
    services,
    wire::{Fault, Wire},
};

/// Charges at a provider that takes until it is told to go on; then yes, or no.
struct Charge {
    provider: watch::Receiver<Option<bool>>,
}

impl Remote for Charge {
    const NAME: &'static str = "charge";
    type Request = Amount;
    type Held = Amount;

    async fn on_try(&self, _: &Branch, ask: Amount) -> Result<Progress<Amount>, TryError> {
        let mut provider = self.provider.clone();
        let said = provider.wait_for(Option::is_some).await.map(|it| *it);
        match said {
            Ok(Some(true)) => Ok(Progress::Done(ask)),
            _ => Err(refuse("CARD_DECLINED")),
        }
    }

    async fn on_confirm(&self, _: &Branch, _: Amount) -> Result<Progress<()>, Later> {
        Ok(Progress::Done(()))
    }

    async fn on_cancel(
        &self,
        _: &Branch,
        _: Amount,
        _: Option<Amount>,
    ) -> Result<Progress<()>, Later> {
        Ok(Progress::Done(()))
    }
}

struct Payment {
    provider: watch::Sender<Option<bool>>,
    wire: Arc<Wire>,
}

/// A coordinator that knows the payment participant, too.
async fn world() -> (World, Payment) {
    let (provider, said) = watch::channel(None);
    let payment = Participant::new("payment", MemoryFence::new(()))
        .remote(Charge { provider: said })
        .answer_within(Duration::from_millis(50));
    let (listener, address) = services::listener().await;
    let server = Server::builder().add_service(payment.into_service().unwrap());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let (wire, address) = Wire::to("payment", address).await;
    let world = World::start_with(|config| place(config, "payment", address)).await;
    world.coordinator.meet(&wire).await;
    (world, Payment { provider, wire })
}

fn with_charge(id: &str) -> Submit {
    order(id).branch("payment", "charge", &Amount { count: 3 })
}

/// What the participant has recorded once it is as wanted.
async fn recorded(payment: &Payment, context: &BranchContext, wanted: RecordState) {
    let to = format!("http://{}", payment.wire.target());
    let mut client = ParticipantServiceClient::connect(to).await.unwrap();
    let ask = async {
        loop {
            let query = QueryRequest {
                context: Some(context.clone()),
            };
            if client.query(query).await.unwrap().into_inner().state() == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ask)
        .await
        .expect("the participant gets there");
}

#[tokio::test]
async fn remote_work_that_takes_longer_is_processing_and_then_found_done() {
    let (world, payment) = world().await;
    let caller = world.spawn(with_charge("o"));
    payment.wire.called(Operation::Try, 1).await;
    world
        .until("o", |it| {
            it.branch("b3")
                .unwrap()
                .as_message()
                .next_attempt_time
                .is_some()
        })
        .await;
    payment.provider.send_replace(Some(true));
    let placed = success(caller.await.unwrap());
    let charge = placed.branch("b3").unwrap();
    assert!(charge.as_message().query_attempts >= 1, "it was asked");
    assert_eq!(
        prost::Message::decode(&charge.try_result().unwrap().value[..]),
        Ok(Amount { count: 3 })
    );
    world.expect_used(5).await;
}

#[tokio::test]
async fn remote_work_that_is_refused_later_rolls_everything_back() {
    let (world, payment) = world().await;
    let caller = world.spawn(with_charge("o"));
    payment.wire.called(Operation::Try, 1).await;
    payment.provider.send_replace(Some(false));
    let refused = crate::coordinator::failed(caller.await.unwrap());
    assert_eq!(refused.reason, "CARD_DECLINED");
    world.end_of("o").await;
    world.expect_used(0).await;
}

#[tokio::test]
async fn a_reported_end_is_taken_at_once() {
    let (world, payment) = world().await;
    payment.wire.every(Operation::Query, Fault::Silent); // so that nothing but the report tells it
    let caller = world.spawn(with_charge("o"));
    payment.wire.called(Operation::Try, 1).await;
    let waits = |it: &Transaction| {
        it.branch("b3")
            .unwrap()
            .as_message()
            .next_attempt_time
            .is_some()
    };
    world.until("o", waits).await;
    let context = payment.wire.last_context();
    payment.provider.send_replace(Some(true));
    recorded(&payment, &context, RecordState::Tried).await;

    let report = |token: &str| Report {
        transaction_id: context.transaction_id.clone(),
        branch_id: context.branch_id.clone(),
        report_token: token.to_owned(),
        operation: tercet_sdk::client::Operation::Try,
        result: Ok(tercet_sdk::client::Payload {
            type_url: String::new(),
            value: prost::Message::encode_to_vec(&Amount { count: 3 }).into(),
        }),
    };
    let forged = world
        .client()
        .report_branch(report(&"0".repeat(32)))
        .await
        .unwrap_err();
    assert_eq!(forged.refused().unwrap().reason, "REPORT_TOKEN_INVALID");
    world
        .client()
        .report_branch(report(&context.report_token))
        .await
        .unwrap();
    success(caller.await.unwrap());
    world
        .client()
        .report_branch(report(&context.report_token))
        .await
        .unwrap();
    let events = world.client().events("o").await.unwrap();
    assert!(
        events
            .iter()
            .any(|it| it.actor == "participant" && it.branch_id == "b3"),
        "{events:?}"
    );
    assert_eq!(world.end_of("o").await.state(), TransactionState::Confirmed);
    world.expect_used(5).await;
}

#[tokio::test]
async fn a_reported_refusal_rolls_back() {
    let world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Processing);
    let caller = world.spawn(order("o"));
    world.money.wire.called(Operation::Try, 1).await;
    let context = world.money.wire.last_context();
    let report = pb::ReportBranchRequest {
        transaction_id: "o".into(),
        branch_id: "b2".into(),
        operation: Operation::Try.into(),
        outcome: tercet::proto::tercet::participant::v1::Outcome::Failed.into(),
        failure: Some(tercet::proto::tercet::participant::v1::Failure {
            reason: "CARD_DECLINED".into(),
            ..Default::default()
        }),
        report_token: context.report_token,
        result: None,
    };
    world.raw().report_branch(report.clone()).await.unwrap();
    let refused = crate::coordinator::failed(caller.await.unwrap());
    assert_eq!(refused.reason, "CARD_DECLINED");
    world.end_of("o").await;
    world.expect_used(0).await;

    let unknown = pb::ReportBranchRequest {
        branch_id: "b9".into(),
        ..report.clone()
    };
    expect(
        world.raw().report_branch(unknown).await,
        Code::NotFound,
        "BRANCH_NOT_FOUND",
    );
    let unknown = pb::ReportBranchRequest {
        transaction_id: "p".into(),
        ..report
    };
    expect(
        world.raw().report_branch(unknown).await,
        Code::NotFound,
        "TRANSACTION_NOT_FOUND",
    );
}
