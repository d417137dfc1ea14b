//! What sled leaves undone when the disk fails.
//!
//! A write that fails at the wrong moment sets sled's error and wakes nobody: whoever waits in `flush` for
//! that write waits for ever. Another `flush` finds the error and wakes everybody, so a thread looks
//! for it. And the last handle of a database panics when it can't sync: that thread has it.

use std::{
    io,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use sled::{Config, Db};

use super::settle::panic_text;

/// How often it looks for an error.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Ends when it is dropped, which has to come after all other handles of the database are gone; the
/// database is closed then.
#[derive(Debug)]
pub(super) struct Waker {
    /// None only while it is dropped.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waker {
    /// `config` is what the database was opened with: it learns of its error.
    pub(super) fn start(config: Config, db: Db) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let look = move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if config.global_error().is_err() {
                    // It fails at once. That is all it is for.
                    drop(db.flush());
                }
            }
        };
        let thread = thread::Builder::new().name("tercet-store-waker".into());
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread.spawn(look)?),
        })
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.stop = None;
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended {
            let error = panic_text(&*panic);
            tracing::error!(
                error,
                "closing the database failed; what was acknowledged is kept"
            );
        }
    }
}
