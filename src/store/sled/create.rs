//! Making a store, in steps that may be interrupted anywhere: the sidecar says first that a store is about
//! to be made, and that there is one only when all of it is durable. Until then nothing was ever
//! acknowledged, so the next start makes anew what it can't use.

use std::{fs, io, path::Path};

use sled::Db;
use uuid::Uuid;

use super::{
    keys,
    medium::Medium,
    meta::Meta,
    open::{OpenError, damaged, disk, io_error, save},
    sidecar::{FORMAT, Phase, Sidecar, sync_dir},
};

/// Writes down that a store is about to be made here, so that an interrupted creation is told from a
/// lost database.
pub(super) fn announce(dir: &Path) -> Result<Sidecar, OpenError> {
    if dir.join("db").exists() {
        let path = Sidecar::path(dir);
        return Err(damaged(&path)("it is missing beside a database".into()));
    }
    for entry in dir.read_dir().map_err(io_error("reading", dir))? {
        let entry = entry.map_err(io_error("reading", dir))?;
        let name = entry.file_name();
        // A volume of its own comes with this one.
        if name != "lost+found" && !name.to_string_lossy().starts_with("tercet.") {
            return Err(OpenError::Foreign(dir.to_owned()));
        }
    }
    let mut sidecar = Sidecar {
        format: FORMAT,
        store: Uuid::new_v4().to_string(),
        realm: Uuid::new_v4().to_string(),
        epoch: 1,
        ..Sidecar::default()
    };
    sidecar.set_phase(Phase::Creating);
    save(&sidecar, dir)?;
    Ok(sidecar)
}

/// What was begun and never used: the sidecar says that the store was still being created.
pub(super) fn remove_database(dir: &Path) -> Result<(), OpenError> {
    for entry in dir.read_dir().map_err(io_error("reading", dir))? {
        let path = entry.map_err(io_error("reading", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let removed = match &*name {
            "blobs" => fs::remove_dir_all(&path),
            "db" | "conf" => fs::remove_file(&path),
            name if name.starts_with("snap.") => fs::remove_file(&path),
            _ => Ok(()),
        };
        removed.map_err(io_error("removing", &path))?;
    }
    Ok(())
}

/// The first batch.
pub(super) fn create(
    dir: &Path,
    db: &Db,
    medium: &Medium,
    sidecar: &Sidecar,
) -> Result<Meta, OpenError> {
    if !db.is_empty() {
        let reason = "it holds something, but no tercet store";
        return Err(damaged(&dir.join("db"))(reason.into()));
    }
    let meta = Meta {
        store: sidecar.store.clone(),
        settled: 1,
        ..Meta::default()
    };
    let mut batch = sled::Batch::default();
    batch.insert(keys::META, meta.to_bytes());
    medium.write(db, batch).map_err(disk(dir))?;
    Ok(meta)
}

/// All files and names of a new store, whichever start has made them: one that was interrupted may
/// have left them in memory only.
pub(super) fn sync_all(dir: &Path, db: &Db, medium: &Medium) -> Result<(), OpenError> {
    medium.sync(db).map_err(disk(dir))?;
    sync(&dir.join("conf"))?;
    sync(&dir.join("blobs"))?;
    sync(dir)?;
    sync_parents(dir)
}

/// The directory's own name, and the names of those it lies in: they may all be new.
fn sync_parents(dir: &Path) -> Result<(), OpenError> {
    let dir = dir.canonicalize().map_err(io_error("finding", dir))?;
    for parent in dir.ancestors().skip(1) {
        match sync_dir(parent) {
            // One that this process can't read is none that it has made.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            synced => synced.map_err(io_error("syncing", parent))?,
        }
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), OpenError> {
    sync_dir(path).map_err(io_error("syncing", path))
}
