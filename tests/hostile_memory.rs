//! What others send takes memory in proportion to its length, whatever it claims to be: measured by an
//! allocator that counts.
//!
//! One test, because the allocator counts for the whole process.

use std::{io::Write as _, path::Path, sync::Arc};

use dhat::{HeapStats, Profiler};
use http_body_util::Full;
use prost::{Message as _, bytes::Bytes, encode_length_delimiter};
use tercet::{
    config::Sources,
    engine::{Engine, EngineConfig, SystemClock},
    participants::{Connector, GrpcParticipants, ParticipantsConfig},
    proto::tercet::v1 as pb,
    rpc::{self, Limits},
    store::{ImportError, MemoryStore, SledStore, export, import},
};
use tonic::{Code, Status, body::Body, codegen::http};
use tower::ServiceExt as _;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const MIB: usize = 1024 * 1024;
/// Bytes of memory for one byte of protobuf. The worst are numbers and short texts: a byte or some on
/// the wire, and in memory their full width, and places for more of them.
const FACTOR: usize = 32;
/// The same for one byte of TOML, most of it in the parser.
const TOML_FACTOR: usize = 96;
/// What a request, a file or an export may need at all: for as many fields as any message has.
const BASE_BYTES: usize = 8 * MIB;

#[test]
fn what_is_sent_takes_memory_in_proportion_to_its_length() {
    let mut measured = Measured {
        factor: FACTOR,
        base: 0,
        rows: Vec::new(),
    };
    requests(&mut measured);
    exports(&mut measured);
    settings(&mut measured);
    measured.is_in_proportion();
}

/// What was sent, what it took, and what it may take.
struct Measured {
    factor: usize,
    /// Taken by what comes next without anything being sent.
    base: usize,
    rows: Vec<Row>,
}

struct Row {
    what: &'static str,
    took: usize,
    allowed: usize,
}

impl Measured {
    /// The most that was allocated at the same time while this was done.
    fn add(&mut self, what: &'static str, sent: usize, work: impl FnOnce()) {
        let profiler = Profiler::builder().testing().build();
        work();
        let took = HeapStats::get().max_bytes;
        drop(profiler);
        let factor = took as f64 / sent as f64;
        println!("{what:45} sent {sent:>8}, took {took:>9} ({factor:.1})");
        let allowed = self.base + BASE_BYTES + self.factor * sent;
        self.rows.push(Row {
            what,
            took,
            allowed,
        });
    }

    fn is_in_proportion(self) {
        for Row {
            what,
            took,
            allowed,
        } in self.rows
        {
            assert!(
                took <= allowed,
                "{what}: {took} bytes are more than {allowed}"
            );
        }
    }
}

/// Through the service as it is mounted, but for the socket.
fn requests(measured: &mut Measured) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    let participants = GrpcParticipants::new(&ParticipantsConfig::default(), Connector::tcp());
    let engine = Engine::new(
        Arc::new(MemoryStore::default()),
        Arc::new(participants.expect("nothing is configured")),
        Arc::new(SystemClock),
        EngineConfig::default(),
    );
    let service = rpc::service(engine, Limits::default());
    let mut send = |what, method: &str, said: u32, message: Vec<u8>| {
        let body = [&[0][..], &said.to_be_bytes(), &message].concat();
        let request = http::Request::post(format!("/tercet.v1.CoordinatorService/{method}"))
            .header("content-type", "application/grpc")
            .body(Body::new(Full::new(Bytes::from(body))));
        let call = service.clone().oneshot(request.expect("a request"));
        measured.add(what, message.len(), || {
            let answer = runtime.block_on(call).expect("it never fails");
            let status = Status::from_header_map(answer.headers()).expect("a status");
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        });
    };
    for (what, method, message) in messages() {
        let said = u32::try_from(message.len()).expect("it is short");
        send(what, method, said, message);
    }
    send(
        "a claim of 4 GiB",
        "SubmitTransaction",
        u32::MAX,
        b"x".to_vec(),
    );
    send(
        "a claim of 2 MiB",
        "SubmitTransaction",
        2 << 20,
        b"x".to_vec(),
    );
}

/// Messages that are short for what they become, as long as is read at all.
fn messages() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let labels = pb::TransactionOptions {
        labels: (0..20_000)
            .map(|it| (format!("{it:x}"), String::new()))
            .collect(),
        ..pb::TransactionOptions::default()
    };
    let intervals = pb::RetryPolicy {
        intervals: vec![prost_types::Duration::default(); MIB / 2 - 10],
        ..pb::RetryPolicy::default()
    };
    let with = |options| {
        let options = Some(options);
        let request = pb::SubmitTransactionRequest { options, ..order() };
        request.encode_to_vec()
    };
    let filter = pb::ListTransactionsRequest {
        filter: "type=a AND ".repeat(MIB / 11),
        page_token: "0".repeat(MIB / 2),
        ..pb::ListTransactionsRequest::default()
    };
    let commit = pb::CommitTransactionRequest {
        branch_ids: vec![String::new(); MIB],
        ..pb::CommitTransactionRequest::default()
    };
    let (one_branch, open_group) = (0x1a, 0x7b);
    vec![
        (
            "empty branches",
            "SubmitTransaction",
            [one_branch, 0].repeat(MIB),
        ),
        (
            "empty branches, within the limit",
            "SubmitTransaction",
            [one_branch, 0].repeat(MIB / 2),
        ),
        (
            "fields nobody knows",
            "SubmitTransaction",
            [0x78, 0].repeat(MIB),
        ),
        ("labels", "SubmitTransaction", with(labels)),
        (
            "retry intervals",
            "SubmitTransaction",
            with(pb::TransactionOptions {
                retry_policy: Some(intervals),
                ..pb::TransactionOptions::default()
            }),
        ),
        (
            "a group in a group in a group",
            "SubmitTransaction",
            [open_group].repeat(16_000),
        ),
        ("branch ids", "CommitTransaction", commit.encode_to_vec()),
        (
            "a filter and a token",
            "ListTransactions",
            filter.encode_to_vec(),
        ),
    ]
}

fn order() -> pb::SubmitTransactionRequest {
    pb::SubmitTransactionRequest {
        transaction_id: "order-7".into(),
        ..pb::SubmitTransactionRequest::default()
    }
}

/// Into an empty directory each; what opening one takes is measured first.
fn exports(measured: &mut Measured) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut empty = Vec::new();
    drop(SledStore::open(dir.path()).expect("it is opened"));
    export(dir.path(), &mut empty, &mut |_| {}).expect("it is exported");
    let (header, footer) = empty.split_at(usize::from(empty[0]) + 1);
    let after_header = |item: Vec<u8>| [header, &item, footer].concat();
    let history_line = [0x62, 0];
    let transaction = |fields: Vec<u8>| field(0x32, &fields);
    let files = [
        ("an export that claims 64 MiB", claim(64 << 20)),
        ("an export that claims 4 GiB", claim(1 << 32)),
        ("an item that claims 64 MiB", after_header(claim(64 << 20))),
        (
            "a record that claims 4 GiB",
            after_header(item(&[1, 0, 0, 0, 0, 255, 255, 255, 255])),
        ),
        (
            "a record of empty lines",
            after_header(item(&record(history_line.repeat(MIB)))),
        ),
        (
            "a record of empty branches",
            after_header(item(&record(transaction([0x42, 0].repeat(MIB))))),
        ),
        (
            "a record of retry intervals",
            after_header(item(&record(transaction(field(
                0x1a,
                &field(0x0a, &vec![1; MIB]),
            ))))),
        ),
    ];
    let read = |what, bytes: &[u8], measured: &mut Measured| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut result = None;
        measured.add(what, bytes.len(), || {
            result = Some(import(dir.path(), &mut &*bytes, &mut |_| {}));
        });
        result.expect("it was read")
    };
    read("an empty export", &empty, measured).expect("it is imported");
    measured.base = measured.rows.pop().map_or(0, |it| it.took);
    for (what, bytes) in files {
        let result = read(what, &bytes, measured);
        let damaged = matches!(result, Err(ImportError::Damaged { .. }));
        assert!(damaged, "{what}: {result:?}");
    }
    measured.base = 0;
}

fn claim(len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_length_delimiter(len as usize, &mut bytes).expect("there is room");
    bytes.extend(b"few bytes");
    bytes
}

/// A record of an export, whatever it is.
fn item(record: &[u8]) -> Vec<u8> {
    let content = field(0x12, record);
    let mut bytes = Vec::new();
    encode_length_delimiter(content.len(), &mut bytes).expect("there is room");
    bytes.extend(content);
    bytes
}

fn field(key: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![key];
    encode_length_delimiter(content.len(), &mut bytes).expect("there is room");
    bytes.extend(content);
    bytes
}

/// A body with its version, length and checksum.
fn record(body: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("it is short");
    let covered = [&[1][..], &len.to_le_bytes(), &body].concat();
    let checksum = crc32c::crc32c(&covered);
    [&covered[..1], &checksum.to_le_bytes(), &covered[1..]].concat()
}

fn settings(measured: &mut Measured) {
    measured.factor = TOML_FACTOR;
    let lines = |line: &dyn Fn(usize) -> String| (0..2_000).map(line).collect::<String>();
    let participant = |at| format!("[participants.p{at}]\nendpoints = 1\n");
    let files = [
        (
            "a file of settings nobody knows",
            lines(&|at| format!("k{at:x} = 1\n")),
        ),
        ("a file of participants", lines(&participant)),
        (
            "a file of one list",
            format!("drain = [{}]", "\"\",".repeat(MIB / 16)),
        ),
        (
            "a file of many lists",
            format!("drain = {}", "[".repeat(MIB / 8)),
        ),
        ("a file of 16 MiB", "#".repeat(16 * MIB)),
    ];
    for (what, text) in files {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("it is written");
        let read = text.len().min(MIB / 4);
        measured.add(what, read, || is_refused(file.path()));
    }
}

fn is_refused(file: &Path) {
    let sources = Sources {
        file: Some(file.to_owned()),
        ..Sources::default()
    };
    drop(sources.load().expect_err("no such settings"));
}
