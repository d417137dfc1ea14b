//! `tercet store export` and `import`: for backup, and for changing or compacting a store.
//!
//! An export is a header, the records in the order of their arrival, and a footer, each a
//! length-delimited protobuf message (`Item`) around bytes that carry their own checksum. Records are
//! taken as they are stored. Without its footer an export is not whole.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Read, Write},
    iter,
    path::{Path, PathBuf},
};

use prost::{Message, Oneof, bytes::Bytes};
use sled::Db;
use tercet_core::ids::{Realm, TransactionId};

use super::{
    entry::Entry,
    keys::{self, Place},
    open::{self, Missing, OpenError, Opened, SledOptions, damaged},
    sidecar::Phase,
    stage::Stage,
    view::{gather, places_in},
};
use crate::store::{
    Cursor,
    codec::{self, DecodeError, frame},
};

/// Of the file; a program refuses a higher one.
const EXPORT_FORMAT: u32 = 1;
/// No record is as long, with all the payloads it may have.
const ITEM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A batch of an import is written when it has this many bytes.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// What an export contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// How many records.
    pub records: u64,
    /// Those that could not be read; they are not in it.
    pub left_out: Vec<LeftOut>,
}

/// A record that could not be exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Whose; none when the store doesn't know either.
    pub id: Option<TransactionId>,
    /// What is wrong with it.
    pub reason: String,
}

/// Why an export was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store can't be opened or read.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The export can't be written.
    #[error("writing the export: {0}; what is written so far is not whole, remove it")]
    Write(#[source] io::Error),
}

/// What an import has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// How many records.
    pub records: u64,
    /// The realm of the exported store, which is this one's now.
    pub realm: Realm,
    /// Above that of every record.
    pub epoch: u64,
}

/// Why nothing was imported, or not all. A directory with a part of an import is refused until it is
/// removed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store can't be opened or written.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// There are records already.
    #[error(
        "{} already has {records} records of realm {realm}; import into an empty directory",
        path.display()
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// How many.
        records: u64,
        /// Whose.
        realm: Realm,
    },
    /// The export can't be read.
    #[error("reading the export, after record {record}: {source}")]
    Read {
        /// How many records were read before.
        record: u64,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Not an export, or one that was changed or cut.
    #[error("the export is damaged at record {record}: {reason}; use another copy of it")]
    Damaged {
        /// Counted from 1; 0 is the header.
        record: u64,
        /// What is wrong.
        reason: String,
    },
    /// Written by a newer program.
    #[error(
        "the export has format {0}, but this program knows formats up to {EXPORT_FORMAT}; use the newer program"
    )]
    Format(u32),
}

#[derive(Clone, PartialEq, Message)]
struct Item {
    #[prost(oneof = "Content", tags = "1, 2, 3")]
    content: Option<Content>,
}

/// Each with version, checksum and length before it.
#[derive(Clone, PartialEq, Oneof)]
enum Content {
    #[prost(bytes = "bytes", tag = "1")]
    Header(Bytes),
    #[prost(bytes = "bytes", tag = "2")]
    Record(Bytes),
    #[prost(bytes = "bytes", tag = "3")]
    Footer(Bytes),
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    realm: String,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    /// So that the importing store's boots are higher than any in the records.
    #[prost(uint64, tag = "4")]
    boot: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Footer {
    #[prost(uint64, tag = "1")]
    records: u64,
    /// CRC32C of all records one after the other.
    #[prost(fixed32, tag = "2")]
    checksum: u32,
}

/// Writes all records of the store in this directory, which no coordinator may be using. `progress` is
/// told, after each record, how many there were.
///
/// # Errors
/// When the store can't be opened or read any further, or the export can't be written.
pub fn export(
    dir: &Path,
    to: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported, ExportError> {
    let opened = open::open(dir, &SledOptions::default(), Missing::Refuse)?;
    let unreadable = |error: sled::Error| {
        let reason = format!("it can't be read: {error}");
        ExportError::Store(damaged(&dir.join("db"))(reason))
    };
    let header = Header {
        format: EXPORT_FORMAT,
        realm: opened.realm.to_string(),
        epoch: opened.sidecar.epoch,
        boot: opened.meta.boot,
    };
    write_item(to, Content::Header(frame::seal(&header).into()))?;
    let mut footer = Footer::default();
    let mut corrupt = BTreeMap::new();
    for place in arrivals(&opened.db) {
        let place = place.map_err(unreadable)?;
        let bytes = gather(place, |key| opened.db.get(key)).map_err(unreadable)?;
        let bytes = bytes.unwrap_or_default();
        if let Err(error) = codec::decode(bytes.clone()) {
            corrupt.insert(place.cursor, error.to_string());
            continue;
        }
        footer.count(&bytes);
        write_item(to, Content::Record(bytes))?;
        progress(footer.records);
    }
    write_item(to, Content::Footer(frame::seal(&footer).into()))?;
    to.flush().map_err(ExportError::Write)?;
    Ok(Exported {
        records: footer.records,
        left_out: left_out(&opened.db, &corrupt).map_err(unreadable)?,
    })
}

/// Reads an export into this directory, which must not exist, be empty, or have a store without
/// records. `progress` is told, after each record, how many there were.
///
/// The store gets the realm of the export and a higher epoch. It is usable only after all of it is
/// there.
///
/// # Errors
/// [`ImportError`]; for a fault of the export it names the record.
pub fn import(
    dir: &Path,
    from: &mut dyn Read,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, ImportError> {
    let mut items = Items::new(from);
    let (header, realm) = items.header()?;
    let mut opened = open::open(dir, &SledOptions::default(), Missing::Create)?;
    if opened.meta.records > 0 {
        return Err(ImportError::NotEmpty {
            path: dir.to_owned(),
            records: opened.meta.records,
            realm: opened.realm,
        });
    }
    opened.sidecar.realm = realm.to_string();
    opened.sidecar.epoch = items.raised("epoch", header.epoch)?;
    opened.save(Phase::Importing)?;
    while let Some(batch) = items.batch()? {
        adopt(&mut opened, &batch, items.footer.records)?;
        progress(items.footer.records);
        let newest = batch.iter().map(|it| it.epoch).max().unwrap_or_default();
        let above = items.raised("epoch", newest)?;
        opened.sidecar.epoch = opened.sidecar.epoch.max(above);
    }
    opened.meta.boot = opened.meta.boot.max(header.boot);
    opened.boot()?;
    opened.save(Phase::Closed)?;
    Ok(Imported {
        records: items.footer.records,
        realm,
        epoch: opened.sidecar.epoch,
    })
}

/// Writes one batch of an import; `last` is the number of its last record.
fn adopt(opened: &mut Opened, batch: &[Entry], last: u64) -> Result<(), ImportError> {
    let unreadable = |error: sled::Error| damaged(&opened.dir.join("db"))(error.to_string());
    let mut stage = Stage::new(&opened.ids, opened.meta.clone());
    for (before_last, entry) in (0..batch.len() as u64).rev().zip(batch) {
        if !stage.adopt(entry).map_err(unreadable)? {
            let reason = format!("transaction {} stands there twice", entry.id);
            let record = last - before_last;
            return Err(ImportError::Damaged { record, reason });
        }
    }
    let finished = stage.finish(opened.meta.settled);
    let (piece, meta) = finished.map_err(unreadable)?;
    Ok(opened.write(piece, meta)?)
}

impl Footer {
    fn count(&mut self, record: &[u8]) {
        self.records += 1;
        self.checksum = crc32c::crc32c_append(self.checksum, record);
    }
}

fn write_item(to: &mut dyn Write, content: Content) -> Result<(), ExportError> {
    let content = Some(content);
    let bytes = Item { content }.encode_length_delimited_to_vec();
    to.write_all(&bytes).map_err(ExportError::Write)
}

/// All places, in the order of arrival.
fn arrivals(db: &Db) -> impl Iterator<Item = sled::Result<Place>> {
    let alone = db.range(keys::records(0..Cursor::MAX)).map(|entry| {
        let (key, _) = entry?;
        Ok(Place::alone(keys::cursor(&key).unwrap_or_default()))
    });
    let packed = db.range(keys::packs(0..Cursor::MAX));
    let packed = packed.flat_map(|entry| match entry {
        Ok((key, value)) => places_in(&key, value).into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    let (mut alone, mut packed) = (alone.peekable(), packed.peekable());
    let next = |peeked: Option<&sled::Result<Place>>| match peeked {
        Some(Ok(place)) => place.cursor,
        Some(Err(_)) => 0,
        None => Cursor::MAX,
    };
    iter::from_fn(move || {
        if next(alone.peek()) <= next(packed.peek()) {
            alone.next()
        } else {
            packed.next()
        }
    })
}

/// The ids of records that can't be read are found by looking for their places.
fn left_out(db: &Db, corrupt: &BTreeMap<Cursor, String>) -> sled::Result<Vec<LeftOut>> {
    let (mut left_out, mut named) = (Vec::new(), HashSet::new());
    if corrupt.is_empty() {
        return Ok(left_out);
    }
    for entry in db.range(keys::ids()) {
        let (key, value) = entry?;
        let Some(place) = Place::of_value(&value) else {
            continue;
        };
        // A pack that can't be read has one place for all its records.
        let there = gather(place, |key| db.get(key))?.is_some();
        let at = place.pack.filter(|_| !there).unwrap_or(place.cursor);
        if let Some(reason) = corrupt.get(&at) {
            named.insert(at);
            let id = keys::read_id_key(&key).map(|(_, id)| id);
            let reason = reason.clone();
            left_out.push(LeftOut { id, reason });
        }
    }
    let nameless = corrupt.iter().filter(|(at, _)| !named.contains(at));
    left_out.extend(nameless.map(|(_, reason)| {
        let (id, reason) = (None, reason.clone());
        LeftOut { id, reason }
    }));
    Ok(left_out)
}

/// An export, read item by item.
struct Items<'a> {
    from: &'a mut dyn Read,
    /// What was read so far.
    footer: Footer,
    /// Of the record that comes next; 0 for the header.
    number: u64,
    ended: bool,
}

impl<'a> Items<'a> {
    fn new(from: &'a mut dyn Read) -> Self {
        let footer = Footer::default();
        Self {
            from,
            footer,
            number: 0,
            ended: false,
        }
    }

    fn header(&mut self) -> Result<(Header, Realm), ImportError> {
        let Some(Content::Header(bytes)) = self.item()? else {
            return Err(self.damaged("it doesn't begin with the header of an export".into()));
        };
        let header: Header = self.message(bytes)?;
        if header.format > EXPORT_FORMAT {
            return Err(ImportError::Format(header.format));
        }
        self.raised("epoch", header.epoch)?;
        self.raised("boot", header.boot)?;
        let realm = Realm::parse(&header.realm);
        let realm = realm.map_err(|error| self.damaged(format!("its realm: {error}")))?;
        self.number = 1;
        Ok((header, realm))
    }

    /// The next records; none after the footer, which has to agree with them.
    fn batch(&mut self) -> Result<Option<Vec<Entry>>, ImportError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while !self.ended && bytes < BATCH_BYTES {
            match self.item()? {
                Some(Content::Record(record)) => {
                    bytes += record.len();
                    batch.push(self.record(record)?);
                }
                Some(Content::Footer(footer)) => self.end(footer)?,
                Some(Content::Header(_)) => return Err(self.damaged("a second header".into())),
                None => return Err(self.damaged("it ends here, without a footer".into())),
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn record(&mut self, bytes: Bytes) -> Result<Entry, ImportError> {
        let record = codec::decode(bytes.clone());
        let record = record.map_err(|error| self.damaged(error.to_string()))?;
        self.footer.count(&bytes);
        self.number += 1;
        Ok(Entry::with(&record, bytes))
    }

    fn end(&mut self, bytes: Bytes) -> Result<(), ImportError> {
        let footer: Footer = self.message(bytes)?;
        if footer != self.footer {
            let (said, found) = (footer.records, self.footer.records);
            let reason = format!("the footer stands for {said} records, not for these {found}");
            return Err(self.damaged(reason));
        }
        if self.item()?.is_some() {
            return Err(self.damaged("something follows the footer".into()));
        }
        self.ended = true;
        Ok(())
    }

    fn item(&mut self) -> Result<Option<Content>, ImportError> {
        let Some(len) = self.item_len()? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = self.from.take(len).read_to_end(&mut bytes);
        read.map_err(|source| self.unreadable(source))?;
        if (bytes.len() as u64) < len {
            return Err(self.damaged("it ends in the middle of it".into()));
        }
        let item = Item::decode(Bytes::from(bytes));
        let item = item.map_err(|error| self.damaged(error.to_string()))?;
        let unknown = || self.damaged("it is neither header, record nor footer".into());
        item.content.map(Some).ok_or_else(unknown)
    }

    /// None at the end.
    fn item_len(&mut self) -> Result<Option<u64>, ImportError> {
        let mut len = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let mut byte = [0];
            match self.from.read_exact(&mut byte) {
                Ok(()) => len |= u64::from(byte[0] & 0x7f) << shift,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && shift == 0 => {
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.damaged("it ends in the middle of it".into()));
                }
                Err(source) => return Err(self.unreadable(source)),
            }
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        if len > ITEM_BYTES_MAX {
            return Err(self.damaged(format!("it claims to have {len} bytes")));
        }
        Ok(Some(len))
    }

    /// One more, for a store that goes on from here.
    fn raised(&self, what: &'static str, number: u64) -> Result<u64, ImportError> {
        let raised = codec::counted(what, number.saturating_add(1));
        raised.map_err(|error| self.damaged(error.to_string()))
    }

    fn message<T: Message + Default>(&self, bytes: Bytes) -> Result<T, ImportError> {
        let body = frame::open(bytes);
        let message = body.and_then(|body| T::decode(body).map_err(DecodeError::from));
        message.map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, reason: String) -> ImportError {
        let record = self.number;
        ImportError::Damaged { record, reason }
    }

    fn unreadable(&self, source: io::Error) -> ImportError {
        let record = self.footer.records;
        ImportError::Read { record, source }
    }
}

#[cfg(test)]
mod tests;
