//! What may be configured, what may be called, and changing it while calls are made.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tercet::participants::{
    Connector, GrpcParticipants, ParticipantConfig, Participants as _, ParticipantsConfig,
    TargetError,
};
use tercet_core::{
    answer::{Answer, QueryAnswer},
    ids::ParticipantName,
    operation::Operation,
    transaction::Target,
};
use tokio::{net::TcpStream, sync::mpsc};

use crate::support::{
    Stub, config, outgoing, participants, read_request, shop_methods, socket, stock,
};

fn with(endpoints: &[&str]) -> ParticipantsConfig {
    let endpoints = endpoints.iter().map(ToString::to_string).collect();
    let name = ParticipantName::parse("stock").unwrap();
    ParticipantsConfig {
        participants: [(name, ParticipantConfig::new(endpoints))].into(),
        ..ParticipantsConfig::default()
    }
}

fn refused(config: &ParticipantsConfig) -> String {
    let error = config.validate().expect_err("it was accepted");
    assert_eq!(
        GrpcParticipants::new(config, Connector::tcp()).err(),
        Some(error.clone())
    );
    error.to_string()
}

#[test]
fn a_bad_endpoint_is_named_with_what_to_write_instead() {
    for (endpoint, told) in [
        ("stock:7070", "no scheme; write http://HOST:PORT"),
        ("https://stock:7070", "https is not supported yet"),
        ("ftp://stock:7070", "scheme \"ftp\" is not supported"),
        ("http://", "write http://HOST:PORT"),
        ("http://sto ck", "write http://HOST:PORT"),
        ("http://user:secret@stock:7070", "is no host and port"),
        ("http://stock:99999", "is no host and port"),
        ("http://stock:0", "is no host and port"),
        (
            "http://stock:7070/v1",
            "must end after the port, without \"/v1\"",
        ),
        ("", "write http://HOST:PORT"),
    ] {
        let error = refused(&with(&[endpoint]));
        let owner = format!("endpoint {endpoint:?} of participant stock can't be used");
        assert!(error.starts_with(&owner), "{error}");
        assert!(error.contains(told), "{error}");
        let allowed = ParticipantsConfig {
            allowed_endpoints: vec![endpoint.into()],
            ..ParticipantsConfig::default()
        };
        assert!(
            refused(&allowed).contains("of allowed_endpoints"),
            "{endpoint}"
        );
    }
}

#[test]
fn a_configuration_that_can_not_work_is_refused() {
    let none = refused(&with(&[]));
    assert!(none.contains("participant stock has no endpoint"), "{none}");

    let twice = refused(&with(&["http://Stock:7070", "http://stock:7070/"]));
    assert_eq!(
        twice,
        "endpoint http://stock:7070 stands twice in participant stock; remove one of them"
    );

    let many: Vec<_> = (1..=65)
        .map(|port| format!("http://stock:{port}"))
        .collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(refused(&with(&many)).contains("65 endpoints; at most 64"));

    let mut no_deadline = with(&["http://stock:7070"]);
    for participant in no_deadline.participants.values_mut() {
        participant.call_timeout_ms = 0;
    }
    assert!(refused(&no_deadline).contains("call_timeout_ms of participant stock is 0"));

    let no_payload = ParticipantsConfig {
        payload_bytes_max: 0,
        ..with(&["http://stock:7070"])
    };
    assert!(refused(&no_payload).contains("payload_bytes_max is 0"));
}

#[test]
fn good_endpoints_are_accepted() {
    let good = [
        "http://stock:7070",
        "http://10.0.0.1:80/",
        "http://[::1]:7070",
        "http://stock",
    ];
    assert_eq!(with(&good).validate(), Ok(()));
}

#[tokio::test]
async fn only_what_is_configured_can_be_called() {
    let calls = GrpcParticipants::new(&with(&["http://stock:7070"]), Connector::tcp()).unwrap();
    assert_eq!(calls.check(&stock()), Ok(()));
    assert_eq!(calls.check(&Target::Methods(shop_methods("stock"))), Ok(()));

    let unknown = Target::Contract {
        participant: ParticipantName::parse("payment").unwrap(),
        resource: "charge".into(),
    };
    let error = calls.check(&unknown).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no participant is named \"payment\"; configured are: stock"
    );
    // Known as a participant's endpoint, but not to be named directly.
    for endpoint in ["http://stock:7070", "http://evil:1", "not an endpoint"] {
        let target = Target::Methods(shop_methods(endpoint));
        let endpoint = endpoint.into();
        assert_eq!(
            calls.check(&target),
            Err(TargetError::NotAllowed { endpoint })
        );
    }
    let answer = calls
        .perform(outgoing(Operation::Try, unknown.clone()))
        .await;
    let Answer::NotSent(failure) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(&*failure.reason, "PARTICIPANT_NOT_FOUND");
    let answer = calls.query(outgoing(Operation::Try, unknown)).await;
    assert!(
        matches!(answer, QueryAnswer::Indeterminate(_)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn endpoints_are_replaced_at_run_time_and_a_bad_replacement_changes_nothing() {
    let (old, old_address) = Stub::default().serve().await;
    let (new, new_address) = Stub::default().serve().await;
    let calls = participants(&[old_address]);
    let confirm = || calls.perform(outgoing(Operation::Confirm, stock()));
    assert_eq!(confirm().await, Answer::Success(None));

    calls.replace(&with(&["https://stock"])).unwrap_err();
    assert_eq!(confirm().await, Answer::Success(None));
    assert_eq!((old.calls(), new.calls()), (2, 0));

    calls.replace(&config(&[new_address])).unwrap();
    assert_eq!(confirm().await, Answer::Success(None));
    assert_eq!((old.calls(), new.calls()), (2, 1));
}

#[tokio::test]
async fn an_endpoint_that_stays_keeps_its_connection() {
    // Its only connection is the first: a second one would not be accepted.
    let (told, mut came) = mpsc::channel(2);
    let address = socket(|mut stream| async move {
        for _ in 0..2 {
            read_request(&mut stream).await;
            told.send(()).await.unwrap();
        }
    });
    let address = address.await;
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let connector = Connector::new(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        TcpStream::connect(address)
    });
    let calls = GrpcParticipants::new(&config(&[address]), connector).unwrap();
    let try_it = || tokio::spawn(calls.perform(outgoing(Operation::Try, stock())));
    let under_way = try_it();
    came.recv().await.unwrap();
    calls.replace(&config(&[address])).unwrap();
    assert!(!under_way.is_finished());
    let after = try_it();
    came.recv().await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 1);
    under_way.abort();
    after.abort();
}
