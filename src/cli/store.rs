//! `tercet store`: for whoever looks after one.
use super::Problem;
use clap::Subcommand;
use std::{process::ExitCode, sync::Arc};
use tercet::{
    config::StoreLocation,
    store::{MemoryStore, Store as _},
};
/// Store.
#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Verify.
    Verify,
}
impl Store {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        Ok(ExitCode::SUCCESS)
    }
}
pub(super) fn open(location: &StoreLocation) -> Result<Arc<dyn tercet::store::Store>, Problem> {
    let _ = location;
    let realm = tercet_core::ids::Realm::parse("memory").unwrap();
    Ok(Arc::new(MemoryStore::new(realm)))
}
