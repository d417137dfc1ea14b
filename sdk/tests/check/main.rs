//! The contract checker finds each planted fault, and nothing in a participant without one.
#![cfg(feature = "testing")]

mod mini;
#[cfg(feature = "participant")]
mod ours;

use mini::{Fault, Mini};
use tercet_sdk::{
    proto::participant::v1::{Operation, participant_service_server::ParticipantServiceServer},
    testing::{CheckOptions, CheckReport, Finding, Payload, check, check_at},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

async fn checked(mini: Mini) -> CheckReport {
    let options = CheckOptions::new("reserve", Payload::raw("", "1"));
    check(ParticipantServiceServer::new(mini), options).await
}

/// The names of the rules that a participant with this fault breaks.
async fn broken(fault: Fault) -> Vec<&'static str> {
    let report = checked(Mini::with(fault)).await;
    report.broken().map(|check| check.name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_correct_participant_keeps_every_rule_and_its_stock() {
    let mini = Mini::correct();
    let stock = mini.stock();
    checked(mini).await.assert_holds();
    let stock = stock.lock().unwrap();
    assert_eq!(
        stock.held, 0,
        "all that was reserved is confirmed or released"
    );
    assert_eq!(stock.free + stock.used, mini::STOCK);
}

#[tokio::test(start_paused = true)]
async fn a_participant_that_answers_processing_is_followed_by_query() {
    checked(Mini::slow()).await.assert_holds();
}

#[tokio::test(start_paused = true)]
async fn each_fault_breaks_the_rules_it_should_and_no_other() {
    for (fault, expected) in FAULTS {
        assert_eq!(broken(*fault).await, *expected, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_rule_is_broken_by_some_fault() {
    let report = checked(Mini::correct()).await;
    for check in report.checks {
        assert!(
            FAULTS.iter().any(|(_, names)| names.contains(&check.name)),
            "no fault breaks {}",
            check.name
        );
    }
}

/// Each fault, with every rule that it breaks.
const FAULTS: &[(Fault, &[&str])] = &[
    (
        Fault::RecordHidden,
        &[
            "try-recorded",
            "try-repeated-after-confirm",
            "confirm-repeated",
            "cancel-repeated",
            "results-kept",
            "try-reply-lost",
            "confirm-reply-lost",
            "cancel-reply-lost",
            "empty-cancel",
            "late-try-after-empty-cancel",
            "late-try-after-cancel",
            "try-racing-cancel",
            "confirm-after-cancel",
            "cancel-after-confirm",
            "lower-epoch",
            "query-unknown",
            "cancel-expired",
            "realms-separate",
            "ids-separate",
        ],
    ),
    (
        Fault::TryRunsAgain,
        &["try-repeated", "try-reply-lost", "try-concurrent"],
    ),
    (
        Fault::TryFailsAgain,
        &["try-repeated", "try-reply-lost", "try-concurrent"],
    ),
    (
        Fault::TryAfterConfirmReserves,
        &["try-repeated-after-confirm"],
    ),
    (
        Fault::ConfirmOnce,
        &[
            "confirm-repeated",
            "confirm-reply-lost",
            "confirm-concurrent",
        ],
    ),
    // The first Confirm's epoch isn't recorded either.
    (
        Fault::ConfirmNotRecorded,
        &[
            "try-repeated-after-confirm",
            "confirm-repeated",
            "confirm-reply-lost",
            "cancel-after-confirm",
            "epoch-raised",
        ],
    ),
    (
        Fault::CancelOnce,
        &[
            "cancel-repeated",
            "cancel-reply-lost",
            "cancel-concurrent",
            "empty-cancel",
        ],
    ),
    (
        Fault::CancelErasesRow,
        &[
            "cancel-repeated",
            "late-try-after-cancel",
            "try-racing-cancel",
            "confirm-after-cancel",
            "epoch-raised",
        ],
    ),
    (Fault::TryResultForgotten, &["results-kept"]),
    (Fault::ConfirmResultForgotten, &["results-kept"]),
    (
        Fault::StuckWhenDropped(Operation::Try),
        &["try-reply-lost", "try-racing-cancel"],
    ),
    (
        Fault::StuckWhenDropped(Operation::Confirm),
        &["confirm-reply-lost"],
    ),
    (
        Fault::StuckWhenDropped(Operation::Cancel),
        &["cancel-reply-lost"],
    ),
    (
        Fault::Unlocked(Operation::Try),
        &["try-concurrent", "try-racing-cancel"],
    ),
    (Fault::Unlocked(Operation::Confirm), &["confirm-concurrent"]),
    (
        Fault::EmptyCancelIsError,
        &[
            "empty-cancel",
            "cancel-expired",
            "realms-separate",
            "ids-separate",
        ],
    ),
    (
        Fault::EmptyCancelLeavesNothing,
        &[
            "empty-cancel",
            "late-try-after-empty-cancel",
            "cancel-expired",
            "realms-separate",
        ],
    ),
    (
        Fault::LateTryWins,
        &["late-try-after-empty-cancel", "late-try-after-cancel"],
    ),
    (
        Fault::LateTryHasOtherReason,
        &["late-try-after-empty-cancel", "late-try-after-cancel"],
    ),
    (Fault::ConfirmWithoutTry, &["confirm-without-try"]),
    (Fault::ConfirmAfterCancel, &["confirm-after-cancel"]),
    (Fault::CancelAfterConfirm, &["cancel-after-confirm"]),
    (Fault::EpochIgnored, &["lower-epoch", "epoch-raised"]),
    (Fault::EpochIsFailed, &["lower-epoch", "epoch-raised"]),
    (Fault::EpochNotRaised, &["epoch-raised"]),
    (Fault::QueryRecords, &["query-unknown"]),
    (Fault::QueryRaisesEpoch, &["query-keeps-epoch"]),
    (Fault::ExpiryIgnored, &["try-expired"]),
    (Fault::CancelExpires, &["cancel-expired"]),
    (Fault::RealmIgnored, &["realms-separate"]),
    (Fault::IdsJoined, &["ids-separate"]),
];

#[tokio::test(start_paused = true)]
async fn a_payload_that_is_refused_is_inconclusive_not_broken() {
    let options = CheckOptions::new("reserve", Payload::raw("", "1000000"));
    let report = check(ParticipantServiceServer::new(Mini::correct()), options).await;
    assert!(!report.holds());
    assert_eq!(report.broken().count(), 0, "{report}");
    let tried = &report.checks[0];
    let Finding::Inconclusive { why } = &tried.finding else {
        panic!("{tried:?}");
    };
    assert!(why.contains("FAILED OUT_OF_STOCK"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_report_reads_as_a_table_of_what_was_expected_and_what_was_seen() {
    let report = checked(Mini::with(Fault::ConfirmWithoutTry)).await;
    let table = report.to_string();
    let at = table.find("confirm-without-try").expect("a line for it");
    let lines: Vec<&str> = table[at..].lines().take(3).map(str::trim).collect();
    assert!(lines[0].contains("BROKEN"), "{table}");
    assert_eq!(
        lines[1],
        "expected      an error to Confirm without a Try, never SUCCESS"
    );
    assert!(lines[2].starts_with("seen          SUCCESS"), "{table}");
}

#[tokio::test]
async fn a_participant_is_checked_over_the_network_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = ParticipantServiceServer::new(Mini::correct());
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let options = CheckOptions::new("reserve", Payload::raw("", "1"));
    check_at(&url, options).await.unwrap().assert_holds();
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_not_a_table() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let options = CheckOptions::new("reserve", Payload::default());
    assert!(check_at(&url, options).await.is_err());
}
