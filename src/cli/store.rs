//! `tercet store`: for whoever looks after one. The coordinator that uses it must be stopped.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{Args, Subcommand};
use serde_json::json;
use tercet::{
    config::StoreLocation,
    store::{self, ExportError, Exported, MemoryStore, OpenError, SledStore, Verified},
};
use tercet_core::ids::Realm;

use super::{
    Problem,
    output::{self, Format},
};

/// How often it is said how far it has come, in records.
const PROGRESS_EVERY: u64 = 100_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Read everything there is, and say what is wrong with it. Exit code 0: nothing.
    Verify {
        #[command(flatten)]
        place: Place,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        output: Format,
    },
    /// Write all records to a file: a backup, or the way to another store.
    Export {
        #[command(flatten)]
        place: Place,
        /// The file, which must not exist; `-` is standard output.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Read an export into an empty or new store.
    Import {
        #[command(flatten)]
        place: Place,
        /// The file; `-` is standard input.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

/// Which store.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The store: sled:DIRECTORY.
    #[arg(
        long,
        value_name = "STORE",
        env = "TERCET_STORE",
        default_value = "sled:./tercet-data"
    )]
    store: StoreLocation,
}

impl Place {
    fn directory(&self) -> Result<&Path, Problem> {
        match &self.store {
            StoreLocation::Sled(directory) => Ok(directory),
            StoreLocation::Memory => Err(Problem::new(
                "a store in memory has no files",
                "name one with --store sled:DIRECTORY",
            )),
        }
    }
}

impl Store {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let sound = match self {
            Self::Verify { place, output } => verify(place.directory()?, output)?,
            Self::Export { place, file } => export(place.directory()?, &file)?,
            Self::Import { place, file } => {
                import(place.directory()?, &file)?;
                true
            }
        };
        Ok(if sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Opens a store to serve from it.
pub(super) fn open(location: &StoreLocation) -> Result<Arc<dyn store::Store>, Problem> {
    match location {
        StoreLocation::Memory => {
            // Nothing is left of an earlier one, so neither may its name be.
            let realm = Realm::parse(&format!("memory-{}", uuid::Uuid::now_v7()));
            Ok(Arc::new(MemoryStore::new(
                realm.expect("letters, digits and -"),
            )))
        }
        StoreLocation::Sled(directory) => {
            Ok(Arc::new(SledStore::open(directory).map_err(of_store)?))
        }
    }
}

/// The store's errors say themselves what to do.
fn of_store(error: OpenError) -> Problem {
    Problem::new(error.to_string(), "")
}

fn verify(directory: &Path, format: Format) -> Result<bool, Problem> {
    let verified = store::verify(directory, &mut progress).map_err(of_store)?;
    match format {
        Format::Json => output::json(&json!({
            "sound": verified.is_sound(),
            "realm": verified.realm.as_str(),
            "format": verified.format,
            "epoch": verified.epoch,
            "boot": verified.boot,
            "records": verified.records,
            "unfinished": verified.unfinished,
            "diskBytes": verified.disk_bytes,
            "problemCount": verified.problem_count,
            "problems": verified.problems,
        }))?,
        Format::Table => output::text(&facts(&verified))?,
    }
    Ok(verified.is_sound())
}

fn facts(it: &Verified) -> String {
    let mut text = format!(
        "realm       {}\nformat      {}\nepoch       {}\nopened      {} times\nrecords     {}\n\
         unfinished  {}\ndisk        {} bytes\nproblems    {}\n",
        it.realm,
        it.format,
        it.epoch,
        it.boot,
        it.records,
        it.unfinished,
        it.disk_bytes,
        it.problem_count,
    );
    for problem in &it.problems {
        text.push_str(&format!("  {problem}\n"));
    }
    text
}

/// True when every record is in the export.
fn export(directory: &Path, file: &Path) -> Result<bool, Problem> {
    let exported = if file == Path::new("-") {
        store::export(directory, &mut BufWriter::new(io::stdout()), &mut progress)
    } else {
        export_to_file(directory, file)?
    };
    let exported = exported.map_err(|error| Problem::new(error.to_string(), ""))?;
    eprintln!("{} records exported", exported.records);
    for it in &exported.left_out {
        let id = it
            .id
            .as_ref()
            .map_or("a record without an id", |id| id.as_str());
        eprintln!("left out: {id}: {}", it.reason);
    }
    Ok(exported.left_out.is_empty())
}

/// Durable when it returns; a file that isn't whole is removed.
fn export_to_file(directory: &Path, path: &Path) -> Result<Result<Exported, ExportError>, Problem> {
    let wrong = |error: io::Error| {
        let what = format!("{} can't be written: {error}", path.display());
        Problem::new(
            what,
            "name a new file in a directory that can be written, with room",
        )
    };
    let mut file = BufWriter::new(File::create_new(path).map_err(wrong)?);
    let exported = store::export(directory, &mut file, &mut progress);
    let synced = file.flush().and_then(|()| file.get_ref().sync_all());
    if exported.is_err() || synced.is_err() {
        drop(std::fs::remove_file(path));
    }
    synced.map_err(wrong)?;
    Ok(exported)
}

fn import(directory: &Path, file: &Path) -> Result<(), Problem> {
    let mut from: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|error| {
            let what = format!("{} can't be read: {error}", file.display());
            Problem::new(what, "name an export with --file, or - for standard input")
        })?)
    };
    let imported = store::import(directory, &mut BufReader::new(&mut from), &mut progress);
    let imported = imported.map_err(|error| Problem::new(error.to_string(), ""))?;
    let (records, realm) = (imported.records, imported.realm);
    eprintln!("{records} records of realm {realm} imported");
    Ok(())
}

fn progress(records: u64) {
    if records.is_multiple_of(PROGRESS_EVERY) {
        eprintln!("{records} records");
    }
}
