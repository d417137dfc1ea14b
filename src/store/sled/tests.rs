//! The two threads, and readers beside them.

use tercet_core::transaction::State;

use super::{recent::Item, *};
use crate::store::fault::Promise;

/// What the threads begin with, before there are any.
pub(super) fn opened(dir: &Path) -> Opened {
    let opened = open::open(dir, &SledOptions::default(), Missing::Create);
    opened.expect("it is opened")
}

/// The first word on a record, at the place that its number is.
pub(super) fn item(number: u64, revision: u64) -> (Cursor, Item) {
    let id = TransactionId::parse(&format!("t{number}"));
    let record = Record {
        id: id.expect("a valid id"),
        revision,
        update_ms: revision as UnixMs,
        ..codec::tests::smallest()
    };
    let item = Item {
        id: record.id.clone(),
        entry: Some(Arc::new(Entry::of(&record))),
        batch: revision + 1,
        in_tree: false,
    };
    (number, item)
}

/// A commit of this record, and its answer.
pub(super) fn write(record: &Record) -> (Write, Promise) {
    let (reply, promise) = promise();
    let what = What::Commit(Entry::of(record));
    (Write { what, reply }, promise)
}

/// Says this revision of one record, durably, and makes it visible.
pub(super) fn say(workers: &mut Workers, revision: u64) {
    let (write, _promise) = write(&Record {
        revision,
        ..codec::tests::smallest()
    });
    workers.writer.queue.put(write);
    workers.writer.batch().expect("it is written");
}

/// Has the database have all that was said.
pub(super) fn settle(workers: &mut Workers) {
    let batch = workers.writer.batch;
    let settled = workers.settler.settle(batch, |_| ());
    settled.expect("it is settled");
}

#[tokio::test]
async fn what_could_not_be_made_durable_is_never_shown() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut opened = opened(dir.path());
    opened.journal = opened.journal.that_fails();
    let store = SledStore::start(opened).expect("it is started");
    let record = codec::tests::smallest();
    let id = record.id.clone();
    assert!(store.commit(Arc::new(record)).await.is_err());
    let found = store.shared.view.find(&id);
    assert!(matches!(found, Ok(Found::Nothing)));
}

/// A write is compared with what is stored before, and shown after.
#[test]
fn a_record_that_is_settled_while_its_next_revision_is_written_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut workers = Workers::of(opened(dir.path()));
    let (writer, settler) = (&mut workers.writer, &mut workers.settler);
    let unfinished = codec::tests::smallest();
    let mut finished = unfinished.clone();
    finished.revision += 1;
    finished.transaction.state = State::Canceled;
    finished.keep_until_ms = Some(7);

    let (first, _promise) = write(&unfinished);
    writer.queue.put(first);
    writer.batch().expect("it is written");
    let batch = writer.batch;
    let (second, _promise) = write(&finished);
    writer.queue.put(second);
    settler.settle(batch, |_| ()).expect("it is settled");
    writer.batch().expect("it is written");
    assert_eq!(writer.batch, batch + 1);
    settler.settle(batch + 1, |_| ()).expect("it is settled");
    drop(workers);
    let verified = verify(dir.path(), &mut |_| {}).expect("it is read");
    assert_eq!(verified.problems, [""; 0]);
    assert_eq!((verified.records, verified.unfinished), (1, 0));
}

/// Keys that nobody writes, between those of records; their last bytes lead astray.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_hold_up_no_listing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Arc::new(SledStore::open(dir.path()).expect("it is opened"));
    let record = codec::tests::smallest();
    let committed = store.commit(Arc::new(record.clone())).await;
    drop(committed.expect("it is durable"));
    let db = store.shared.view.db();
    let (low, high) = ([0; 8], (u64::MAX - 1).to_be_bytes());
    for (prefix, place, end) in [(b"R", low, high), (b"U", high, low), (b"K", low, high)] {
        let long = [&prefix[..], &place, &end].concat();
        let short = [&prefix[..], &high[..3]].concat();
        for key in [long, short] {
            db.insert(key, "no id").expect("it is written");
        }
    }
    let reader = Arc::clone(&store);
    let read = tokio::task::spawn_blocking(move || {
        let listed = reader.list(&Listing::All, None, 10)?;
        Ok::<_, StoreError>((
            listed,
            reader.unfinished(None, 10)?,
            reader.outlived(0, 10)?,
        ))
    });
    let read = tokio::time::timeout(std::time::Duration::from_secs(10), read).await;
    let read = read.expect("it ends").expect("it does not panic");
    let (listed, unfinished, outlived) = read.expect("they are read");
    let listed: Vec<_> = listed.iter().map(|(_, it)| &**it).collect();
    assert_eq!(
        (listed, unfinished, outlived),
        (vec![&record], vec![], vec![])
    );
}

#[tokio::test]
async fn after_a_read_has_failed_nothing_is_written_or_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = SledStore::open(dir.path()).expect("it is opened");
    let record = Arc::new(codec::tests::smallest());
    let failed = || Err(sled::Error::Unsupported("reading".into()));
    let broken = store
        .shared
        .with::<()>(|_| failed())
        .expect_err("it failed");
    assert_eq!(
        store.commit(record.clone()).await.err(),
        Some(broken.clone())
    );
    assert_eq!(store.read(&record.id).err(), Some(broken));
    drop(store);
    let store = SledStore::open(dir.path()).expect("it is opened again");
    assert_eq!(store.read(&record.id), Ok(None));
}
